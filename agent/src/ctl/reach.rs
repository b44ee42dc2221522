//! Finds the masters of the cluster through the database, and calls their control ports.
//! Prints nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use wa_core::id::Role;
use wa_core::judgement::unit_of;
use wa_core::time::Instant;

use crate::api::control::{ClusterStatus, ControlError, Explanation, path};
use crate::api::look::{KnownMaster, Look};
use crate::config::{self, DatabaseSettings, Settings};
use crate::db::Db;
use crate::member::masters::{self, ANSWER_WITHIN, ASKED_MAX};
use crate::net::client::InternalClient;
use crate::net::doer::{At, DeedError, Doer, Given, NONCE_WITHIN};
use crate::net::keys::{self, Keys};
use crate::sys::{clock, look_socket};

/// The host agent of this machine answers from memory.
const HOST_WITHIN: Duration = Duration::from_secs(2);

/// Masters of one machine that are looked for by the configuration alone.
const OWN_MASTERS_MAX: u16 = 4;

/// A nonce that came longer ago is not used any more: it is good for 10 s, and the call takes a moment.
const NONCE_FRESH: Duration = Duration::from_secs(5);

/// What to type where nobody knows what came of a call.
const UNKNOWN: &str = "Whether it was done is not known. See wa-agent status, wa-agent audit, and the journal of that master; then type it \
     again if it is missing";

/// The cluster as an operator reaches it.
pub struct Cluster {
    pub settings: Settings,
    /// For looks. What they show opens looks and nothing else.
    client: InternalClient,
    /// For what changes something: it sends no secret.
    doer: Doer,
    /// Where the cluster key was read from.
    pub key_file: Option<PathBuf>,
    /// Masters as the database knows them: name, milliseconds since its last beat.
    known: Vec<(String, u64)>,
    /// Control URLs of all registered masters, the freshest beat first.
    pub masters: Vec<String>,
    /// Why the database could not say where the masters are.
    pub database_error: Option<String>,
    /// This machine has the webapps' part of the key: it may look.
    looks_only: bool,
    /// What a master said that answered, and refused the key.
    refusal: Mutex<Option<String>>,
    /// Why a deed was not asked for, not done, or has no answer: each reason once.
    undone: Mutex<BTreeSet<(Rank, String)>>,
}

/// Most reasons that are shown.
const REASONS_MAX: usize = 5;

/// What is told first of several masters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Nobody knows whether it was done.
    Unknown,
    /// A master said why not.
    Refused,
    /// It is there, and not primary.
    NotPrimary,
    /// What answers is no master of this cluster as it is now.
    NotAsked,
}

/// What came of a deed at one master.
enum Done<T> {
    Said(T),
    /// It was not done there, and why not is kept: another master may be asked.
    No,
    /// Nobody knows whether it was done. Another master that does it, too, would do it twice.
    Unknown,
}

/// Who types, and where, for the record: not proof of anything.
pub fn who() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    let uid = || format!("uid {}", nix::unistd::getuid());
    let host = nix::unistd::gethostname().ok();
    let host = host.and_then(|name| name.into_string().ok());
    format!("{}@{}", user.unwrap_or_else(uid), host.unwrap_or_default())
}

/// Who runs this, by the account.
pub fn user_name() -> String {
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    user.map_or_else(|| format!("uid {uid}"), |user| user.name)
}

/// The command line, as it can be typed again.
pub fn typed() -> String {
    let words = std::env::args().skip(1).map(|word| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:+@,".contains(c);
        match !word.is_empty() && word.chars().all(plain) {
            true => word,
            false => format!("'{}'", word.replace('\'', r"'\''")),
        }
    });
    format!("wa-agent {}", words.collect::<Vec<_>>().join(" "))
}

/// The configuration to use: the one named, the packages', or that of a running `wa-agent dev`.
pub fn config_file(named: Option<&Path>) -> Option<PathBuf> {
    if let Some(named) = named {
        return Some(named.to_path_buf());
    }
    let packaged = Path::new("/etc/wa-agent/wa-agent.toml");
    let dev = crate::dev::state_directory(None).join("wa-agent.toml");
    [packaged.to_path_buf(), dev]
        .into_iter()
        .find(|path| path.exists())
}

/// What somebody knows of masters that do not answer, and what to type where.
fn silent(who: &str, known: &[(String, u64)]) -> String {
    let ages = known.iter().map(|(node, age_ms)| {
        let age = Duration::from_secs(age_ms / 1000);
        format!("{node} (last beat {} ago)", humantime::format_duration(age))
    });
    let start = known.first().map_or_else(String::new, |(node, _)| {
        let host = node.rsplit_once(':').map_or("", |(host, _)| host);
        format!("; type on {host}: systemctl start {}", unit_of(node))
    });
    format!(
        "no master answers. {who} knows {}. API traffic goes on, but nothing fails over until one is started{start}",
        ages.collect::<Vec<_>>().join(", ")
    )
}

/// Where this machine's own masters would be by its configuration: there may be no host agent that remembers any (`dev`).
fn own_masters(file: &Path) -> Vec<String> {
    let own = (1..=OWN_MASTERS_MAX).map(|n| config::load(Role::Master, n, Some(file)));
    let own = own.filter_map(Result::ok).map(|loaded| loaded.settings);
    own.map(|own| masters::control_url(own.advertise, own.ports.control))
        .collect()
}

impl Cluster {
    /// Reads the configuration and asks the database for the masters.
    ///
    /// # Errors
    /// When there is no usable configuration.
    pub async fn find(named: Option<&Path>) -> anyhow::Result<Self> {
        let file = config_file(named).context(
            "no configuration: neither /etc/wa-agent/wa-agent.toml nor a running `wa-agent dev` was found; name one with --config FILE",
        )?;
        // A machine with webapps only has a webapp's part of the key: enough to look.
        let loaded = config::load(Role::Master, 1, Some(&file))
            .or_else(|error| config::load(Role::Webapp, 1, Some(&file)).map_err(|_| error));
        // Who cannot read the key may look by other means, and change nothing.
        let loaded = loaded.map_err(|error| match config::secrets_hidden(&file) {
            true => anyhow::anyhow!(
                "only who can read the cluster key may do this, and {} cannot: type sudo {}",
                user_name(),
                typed()
            ),
            false => error.into(),
        })?;
        let key_file = loaded.origins.get("cluster.key_file");
        let key_file = key_file.map(|(_, origin)| PathBuf::from(origin));
        let settings = loaded.settings;
        let keys = Keys::of(&settings.cluster_key);
        let looks_only = keys::is_for_webapps(settings.cluster_key.current().expose_secret());
        let mut cluster = Self {
            looks_only,
            refusal: Mutex::default(),
            undone: Mutex::default(),
            settings,
            client: InternalClient::of_looks(&keys),
            doer: Doer::new(&keys),
            key_file,
            known: Vec::new(),
            masters: Vec::new(),
            database_error: None,
        };
        // The reason, such as a name server that does not answer, is to come before the time is over.
        let database = DatabaseSettings {
            connect_timeout: ANSWER_WITHIN * 9 / 10,
            ..cluster.settings.database.clone()
        };
        let nodes = tokio::time::timeout(ANSWER_WITHIN, async {
            Db::connect(&database, 1).await?.nodes().await
        });
        match nodes.await {
            Ok(Ok(mut nodes)) => {
                nodes.retain(|n| n.registration.role == Role::Master);
                nodes.sort_by_key(|n| n.beat_age_ms);
                let urls = nodes.iter().map(|n| n.registration.control_url());
                cluster.masters = urls.collect();
                let known = |n: &crate::db::node::Registered| {
                    (n.registration.node.as_str().to_owned(), n.beat_age_ms)
                };
                cluster.known = nodes.iter().map(known).collect();
            }
            Ok(Err(error)) => cluster.database_error = Some(error.brief()),
            Err(_) => cluster.database_error = Some("the database did not answer in time".into()),
        }
        if cluster.database_error.is_some() {
            cluster.ask_host().await;
            if cluster.masters.is_empty() {
                cluster.masters = own_masters(&file);
            }
        }
        Ok(cluster)
    }

    /// Takes the masters that the host agent of this machine knows of, if one runs here.
    async fn ask_host(&mut self) {
        let Ok(question) = serde_json::to_string(&Look::Masters) else {
            return;
        };
        let path = Path::new(look_socket::PATH);
        let Ok(answer) = look_socket::ask(path, &question, HOST_WITHIN).await else {
            return;
        };
        self.take(serde_json::from_slice(&answer).unwrap_or_else(|_| Ok(Vec::new())));
    }

    fn take(&mut self, said: Result<Vec<KnownMaster>, String>) {
        let known = said.unwrap_or_default();
        self.masters = known.iter().map(|m| m.control_url.clone()).collect();
        self.known = known.into_iter().map(|m| (m.node, m.beat_age_ms)).collect();
    }

    /// Refuses a verb that changes something where the key does not allow it.
    ///
    /// # Errors
    /// On a machine with webapps only.
    pub fn may_change(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.looks_only,
            "this machine has only the webapps' part of the cluster key: with it you can look, and change nothing. \
             Type this on a machine with a master or a coreapp: {}",
            typed()
        );
        Ok(())
    }

    /// One call to one master.
    pub async fn get<T: DeserializeOwned>(&self, master: &str, path: &str) -> anyhow::Result<T> {
        let said = masters::get(&self.client, master, path).await;
        said.map_err(|why| {
            self.refused(&why);
            anyhow::Error::msg(why)
        })
    }

    /// Keeps the sentence of a master that is up and does not take what this machine says.
    fn refused(&self, why: &str) {
        let answered = why.split_once(" answered ").map(|(_, status)| status);
        if answered.is_some_and(|status| status.starts_with("401") || status.starts_with("403")) {
            let mut kept = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
            *kept = Some(why.to_owned());
        }
    }

    /// The primary's view, else that of any master that answers.
    pub async fn status(&self) -> Option<ClusterStatus> {
        let call = |master: String| async move {
            let said = self.get::<ClusterStatus>(&master, path::STATUS).await;
            said.ok()
        };
        let said = masters::ask(&self.masters, call, |status| status.primary).await;
        said.map(|(_, status)| status)
    }

    /// Why each shard is where it is, by the primary, else by any master that answers.
    pub async fn explain(&self) -> Option<Vec<Explanation>> {
        masters::explain(&self.client, &self.masters).await
    }

    /// The name of the master that is called there, where the node table says it.
    fn node_at(&self, master: &str) -> Option<&str> {
        let known = self.masters.iter().zip(&self.known);
        let same = self.masters.len() == self.known.len();
        let mut at = known.filter(|(url, _)| same && *url == master);
        at.next().map(|(_, (node, _))| node.as_str())
    }

    /// A nonce of one master.
    async fn nonce(doer: &Doer, (master, node): (&str, Option<&str>)) -> Result<Given, DeedError> {
        let at = At { base: master, node };
        doer.ask(at, NONCE_WITHIN).await
    }

    /// Nonces of all masters, asked for side by side, also while one of them is told something: each comes with when it came.
    fn nonces(&self) -> JoinSet<(String, Result<Given, DeedError>, Instant)> {
        let mut asked = JoinSet::new();
        for master in self.masters.iter().take(ASKED_MAX) {
            let (doer, master) = (self.doer.clone(), master.clone());
            let node = self.node_at(&master).map(str::to_owned);
            asked.spawn(async move {
                let given = Self::nonce(&doer, (&master, node.as_deref())).await;
                (master, given, clock::now())
            });
        }
        asked
    }

    /// One deed at one master that gave a nonce.
    async fn done<T: DeserializeOwned>(&self, given: &Given, path: &str, body: &[u8]) -> Done<T> {
        let done = self.doer.with(given, path, body.to_vec(), ANSWER_WITHIN);
        let (status, answer) = match done.await {
            Ok(answered) => answered,
            Err(why) => {
                return match self.not_done(&why) {
                    Rank::Unknown => Done::Unknown,
                    Rank::Refused | Rank::NotPrimary | Rank::NotAsked => Done::No,
                };
            }
        };
        let at = given.base();
        if status.is_success() {
            return match serde_json::from_slice(&answer) {
                Ok(said) => Done::Said(said),
                Err(error) => {
                    let why = format!(
                        "{at} answered {status}, in words that this release cannot read ({error}). {UNKNOWN}"
                    );
                    self.keep(Rank::Unknown, why);
                    Done::Unknown
                }
            };
        }
        match serde_json::from_slice::<ControlError>(&answer) {
            Ok(said) if !said.unknown => {
                let why = format!("{at} answered {status}: {}", said.message);
                self.keep(Rank::Refused, why);
                Done::No
            }
            Ok(said) => {
                self.keep(Rank::Unknown, format!("{at} says: {}", said.message));
                Done::Unknown
            }
            // Whoever refuses says why.
            Err(_) => {
                let why = format!("{at} answered {status} and no more. {UNKNOWN}");
                self.keep(Rank::Unknown, why);
                Done::Unknown
            }
        }
    }

    /// Keeps why nothing was done, where the reason is not that nobody answers; and what is known of it.
    fn not_done(&self, why: &DeedError) -> Rank {
        let rank = match why {
            DeedError::Silent { .. } => return Rank::NotAsked,
            DeedError::Call { .. } | DeedError::Changed(_) | DeedError::Unproved { .. } => {
                Rank::Unknown
            }
            DeedError::WebappKey | DeedError::Seal(_) => Rank::Refused,
            DeedError::Older(_)
            | DeedError::NoNonce { .. }
            | DeedError::Stranger(_)
            | DeedError::Other { .. } => Rank::NotAsked,
        };
        self.keep(rank, why.to_string());
        rank
    }

    fn keep(&self, rank: Rank, why: String) {
        let mut kept = self.undone.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert((rank, why));
    }

    /// Has the primary master do something; `elsewhere`: it was not that one. All masters are asked for nonces side by side, and those
    /// that give one are told in turn, until one does it, or may have done it. Without the primary, what another one says. With it, who
    /// answered.
    pub async fn ask<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        elsewhere: impl Fn(&T) -> bool,
    ) -> Option<(String, T)> {
        let body = serde_json::to_vec(body).ok()?;
        let mut asked = self.nonces();
        let mut any = None;
        while let Some(came) = asked.join_next().await {
            let Ok((master, mut given, at)) = came else {
                continue;
            };
            if given.is_ok() && clock::now().since(at) > NONCE_FRESH {
                let node = self.node_at(&master);
                given = Self::nonce(&self.doer, (&master, node)).await;
            }
            let done = match given {
                Ok(given) => self.done::<T>(&given, path, &body).await,
                Err(why) => {
                    self.not_done(&why);
                    continue;
                }
            };
            match done {
                Done::Said(said) => {
                    let other = elsewhere(&said);
                    any = Some((master.clone(), said));
                    if !other {
                        break;
                    }
                    self.keep(
                        Rank::NotPrimary,
                        format!("{master} answers, and is not the primary master"),
                    );
                }
                Done::No => {}
                Done::Unknown => return None,
            }
        }
        any
    }

    /// Why nobody answers, and what to type.
    pub fn nobody(&self) -> String {
        let undone = self.undone.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((first, _)) = undone.first() {
            return reasons(&undone, *first);
        }
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refusal) = &*refusal {
            return format!(
                "a master is up and refuses the key of this machine ({refusal}). If that master is of an older release, upgrade its \
                 machine. Else the key here is not the cluster's: copy /etc/wa-agent/credentials/cluster-key from a machine of the \
                 cluster, then type: wa-agent setup"
            );
        }
        match &self.database_error {
            Some(error) if !self.known.is_empty() => format!(
                "{error}; and {}",
                silent("The host agent of this machine", &self.known)
            ),
            Some(error) => format!(
                "cannot find the masters: {error} ({}); API traffic goes on while the coreapps reach the database",
                self.settings.database.urls.iter().map(|u| config::without_password(u)).collect::<Vec<_>>().join(" ")
            ),
            None if self.masters.is_empty() => {
                "no master is registered in the database: start one (systemctl start wa-master@1, or cargo run --release -- dev)".into()
            }
            None => silent("The database", &self.known),
        }
    }
}

/// All reasons, the gravest first.
fn reasons(undone: &BTreeSet<(Rank, String)>, gravest: Rank) -> String {
    let mut said: Vec<&str> = undone.iter().map(|(_, why)| why.as_str()).collect();
    let more = said.len().saturating_sub(REASONS_MAX);
    said.truncate(REASONS_MAX);
    let mut text = said.join(".\n          Besides: ");
    if more > 0 {
        text.push_str(&format!(
            ".\n          {more} more masters were asked in vain"
        ));
    }
    if gravest == Rank::NotPrimary {
        text.push_str(".\n          No primary master answers: one is chosen within seconds. See wa-agent status, then type it again");
    }
    text
}

#[cfg(test)]
#[path = "reach_tests.rs"]
mod sent_tests;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: with no master up, whoever looks learns which there are, since when they are silent, and what to type.
    #[test]
    fn silent_masters_are_named_with_what_to_type() {
        let known = [
            ("a.example:master-1".to_owned(), 12_400),
            ("b.example:master-2".to_owned(), 3_700_000),
        ];
        let said = silent("The database", &known);
        for part in [
            "a.example:master-1 (last beat 12s ago)",
            "b.example:master-2 (last beat 1h 1m 40s ago)",
            "type on a.example: systemctl start wa-master@1",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
}
