//! The database as the doctor sees it: reachable, which version, what voids a promise, whose it is, who is registered.

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::Check;
use crate::api::v1::setting::ApplicationSettings;
use crate::api::v1::user::{ADMIN, ADMIN_FIRST_PASSWORD};
use crate::config::{PublicTls, Settings, without_password};
use crate::db::identity::Identity;
use crate::db::node::Registered;
use crate::db::server::Facts;
use crate::db::{Db, setting};
use crate::member::sealed::{self, Standing};
use crate::member::settings as rows;
use crate::net::keys::{self, Caller, Keys};
use crate::net::seal::{SealError, older_part};

const AREA: &str = "database";
/// Where the unit wa-simulator listens. Not where the nodes are: the kernel gate judges by address, also on this machine.
pub const SIMULATOR_URL: &str = "http://127.0.0.2:9280";
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A write to an idle row.
const WRITE_WITHIN: Duration = Duration::from_secs(3);
/// A coreapp opens ten connections, the others fewer: what a small cluster needs.
const CONNECTIONS_MIN: u64 = 100;

/// What the database says of the cluster; empty when it says nothing.
#[derive(Debug, Default)]
pub struct Cluster {
    pub nodes: Vec<Registered>,
    /// Nobody has changed the administrator's first password.
    pub first_password: bool,
    /// Where webhooks go; empty: nowhere, or nobody knows.
    pub receiver: String,
    /// Sealed secrets that no key on this machine opens.
    lost: Vec<SealError>,
}

impl Cluster {
    /// How to log in for the first time, while nobody has.
    pub fn first_login(&self, settings: &Settings) -> Option<Check> {
        (self.first_password && !self.nodes.is_empty()).then(|| {
            let scheme = match settings.public_tls {
                PublicTls::Off => "http",
                PublicTls::SelfSigned(_) | PublicTls::Files { .. } => "https",
            };
            Check::warn(
                "login",
                format!(
                    "{ADMIN} has still the first password: whoever can log in on a machine of the cluster can take the API"
                ),
                first_login(scheme, settings.ports.api),
            )
        })
    }

    /// Control addresses of other machines' nodes, for measuring round trips: at most four.
    pub fn peers(&self, own: &Settings) -> Vec<SocketAddr> {
        let others = self.nodes.iter().map(|node| &node.registration);
        let others = others.filter(|node| node.machine != own.machine && node.port_control != 0);
        others
            .filter_map(|node| {
                Some(SocketAddr::new(
                    node.address.parse().ok()?,
                    node.port_control,
                ))
            })
            .take(4)
            .collect()
    }
}

/// That messages reach nobody, where the upstream is the package's simulator.
pub fn simulated(settings: &Settings) -> Option<Check> {
    (settings.upstream.base_url.trim_end_matches('/') == SIMULATOR_URL && !settings.development).then(|| {
        Check::warn(
            "upstream",
            "the simulator of this package: a trial, nothing reaches anybody",
            "for the real one: systemctl stop 'wa-*'; wa-agent reset --state --database; wa-agent setup --single --replace",
        )
    })
}

/// The command of a first login: it has to bring another password.
pub fn first_login(scheme: &str, port: u16) -> String {
    let insecure = if scheme == "https" { "-k " } else { "" };
    format!(
        "log in once, with a password of your own (8 to 64 characters; upper and lower case, a digit, and one of !@#$ or the like): \
         curl {insecure}-u {ADMIN}:{ADMIN_FIRST_PASSWORD} -X POST {scheme}://localhost:{port}/v1/users/login \
         -H 'content-type: application/json' -d '{{\"new_password\":\"...\"}}'"
    )
}

/// The command of a first login with the password that `setup` was told.
pub fn chosen_login(scheme: &str, port: u16) -> String {
    let insecure = if scheme == "https" { "-k " } else { "" };
    format!(
        "log in with the first password that you chose (curl asks for it): curl {insecure}-u {ADMIN} -X POST \
         {scheme}://localhost:{port}/v1/users/login"
    )
}

/// Asks the database everything.
pub async fn examine(settings: &Settings, checks: &mut Vec<Check>) -> Cluster {
    let shown: Vec<String> = settings
        .database
        .urls
        .iter()
        .map(|url| without_password(url))
        .collect();
    let shown = shown.join(" ");
    if let Some(path) = file(settings)
        && !path.exists()
    {
        checks.push(Check::ok(
            AREA,
            format!("embedded, {}: the first master makes it", path.display()),
        ));
        return Cluster::default();
    }
    let asking = tokio::time::timeout(ANSWER_WITHIN, ask(settings));
    match asking.await {
        Ok(Ok((facts, identity, cluster, written))) => {
            let before = checks.len();
            judge_facts(&shown, &facts, checks);
            checks.extend(judge_write(&shown, written));
            checks.extend(judge_identity(settings, identity.as_ref()));
            checks.extend(judge_part(settings));
            checks.extend(cluster.lost.iter().map(judge_lost));
            checks.extend(judge_families(settings, &cluster.nodes));
            if file(settings).is_some() {
                checks.extend(judge_machines(settings, &cluster.nodes));
            }
            if checks.len() == before {
                let whose = identity.map_or(String::new(), |identity| {
                    format!(", cluster {:?}", identity.name)
                });
                checks.push(Check::ok(
                    AREA,
                    format!("{} at {shown}{whose}", facts.version),
                ));
            }
            cluster
        }
        Ok(Err(error)) => {
            checks.push(Check::bad(AREA, format!("{shown}: {}", error.brief()), ""));
            Cluster::default()
        }
        Err(_) => {
            checks.push(Check::bad(
                AREA,
                format!("{shown} did not answer within {ANSWER_WITHIN:?}"),
                "start it, or correct [database] urls",
            ));
            Cluster::default()
        }
    }
}

async fn ask(
    settings: &Settings,
) -> Result<(Facts, Option<Identity>, Cluster, Written), crate::db::DbError> {
    let db = Db::connect(&settings.database, 1).await?;
    let facts = db.facts().await?;
    let identity = db.identity().await?;
    // No table of nodes yet: nobody is registered.
    let nodes = db.nodes().await.unwrap_or_default();
    // The first login makes the row.
    let admin = db.user(ADMIN).await;
    let first_password = admin.is_ok_and(|user| user.is_none_or(|user| user.must_change != 0));
    let application = rows::read::<ApplicationSettings>(&db).await;
    let receiver = application.map(|row| row.or_default().webhooks.url);
    let lost = lost(&db, &Keys::of(&settings.cluster_key)).await;
    let written = match db.schema_version().await {
        Ok(1..) => tokio::time::timeout(WRITE_WITHIN, db.try_write()).await,
        // No tables yet: there is nothing that could be written to.
        Ok(_) | Err(_) => Ok(Ok(())),
    };
    let written = match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.brief()),
        Err(_) => Err(format!("no answer within {WRITE_WITHIN:?}")),
    };
    // After a write that hangs, closing would hang as well.
    if written.is_ok() {
        db.close().await;
    }
    let cluster = Cluster {
        nodes,
        first_password,
        receiver: receiver.unwrap_or_default(),
        lost,
    };
    Ok((facts, identity, cluster, written))
}

/// Sealed secrets that do not open with these keys. A webapp's part of the key speaks for the certificates alone: the others are
/// not for webapps. One of an older release opens nothing, which is said once.
async fn lost(db: &Db, keys: &Keys) -> Vec<SealError> {
    let all = keys.deed_key(Caller::Operator).is_some();
    if !all && keys.is_older_part() {
        return Vec::new();
    }
    // No table yet: nothing is sealed.
    let found = sealed::look(db, keys).await.unwrap_or_default();
    let for_webapps = |place: &str| {
        let rows = [setting::CERTIFICATE_OWN, setting::CERTIFICATE_EXTERNAL];
        row_of(place).is_some_and(|row| rows.contains(&row))
    };
    let concern = found
        .into_iter()
        .filter(|found| all || for_webapps(&found.place));
    let lost = concern.filter_map(|found| match found.standing {
        Standing::Lost(error) => Some(error),
        Standing::Newest | Standing::Older => None,
    });
    lost.collect()
}

/// The row of `setting` that a place is in.
fn row_of(place: &str) -> Option<&str> {
    place.strip_prefix("setting/")?.split('/').next()
}

/// A secret that does not open. Everything else goes on.
fn judge_lost(error: &SealError) -> Check {
    let place = match error {
        SealError::UnknownKey { place, .. }
        | SealError::Changed { place }
        | SealError::Form { place }
        | SealError::TooLong { place }
        | SealError::NotForWebapps { place } => place.as_str(),
        SealError::OlderPart | SealError::NoRandom => "",
    };
    let (what, remedy) = match row_of(place) {
        // Nobody has sent it: there is nothing to send again.
        Some(setting::CERTIFICATE_OWN) => (
            format!(
                "the cluster's own certificate cannot be opened with the key here: {place} was sealed with another one, or was \
                 changed; webapps here go on with the last one"
            ),
            "bring the key here that the other machines have. If it is lost, type in the database: UPDATE setting SET value = '{}', \
             version = version + 1 WHERE name = 'certificate-own'; a webapp makes another authority then, which clients have to \
             trust anew",
        ),
        Some(setting::CERTIFICATE_EXTERNAL) => (
            format!("the certificate that was sent cannot be opened: {error}"),
            "bring the key here that the other machines have. If it is lost, POST the certificate and its key to \
             /v1/certificates/external",
        ),
        Some(_) | None => (
            format!("a secret in the database cannot be opened: {error}"),
            "for a media provider: POST it to /v1/settings/application/media/providers; or bring the key back that sealed it",
        ),
    };
    Check::warn("key", what, remedy)
}

/// What came of a write; why it came to nothing, in words.
type Written = Result<(), String>;

/// A database that answers reads is not yet one that works.
fn judge_write(shown: &str, written: Written) -> Option<Check> {
    let why = written.err()?;
    Some(Check::bad(
        AREA,
        format!("{shown} answers reads, and takes no writes: {why}"),
        "look for a full disk, a backup that holds a lock (FLUSH TABLES WITH READ LOCK), or read_only on the server",
    ))
}

/// The file of an embedded database.
pub fn file(settings: &Settings) -> Option<std::path::PathBuf> {
    crate::db::file(&settings.database)
}

fn judge_facts(shown: &str, facts: &Facts, checks: &mut Vec<Check>) {
    checks.extend(facts.voids.iter().map(|void| Check::bad(AREA, void, "")));
    if !facts.lacking.is_empty() {
        let rights = facts.lacking.join(", ");
        checks.push(Check::bad(
            AREA,
            format!("the user lacks {rights} at {shown}"),
            format!("type on the server: GRANT {rights} ON the database TO that user"),
        ));
    }
    if facts.connections_max > 0 && facts.connections_max < CONNECTIONS_MIN {
        checks.push(Check::warn(
            AREA,
            format!("max_connections = {}", facts.connections_max),
            format!("set it to {CONNECTIONS_MIN} or more: each coreapp opens ten"),
        ));
    }
    if facts.connections_max > 0 && facts.connections * 10 > facts.connections_max * 9 {
        checks.push(Check::warn(
            AREA,
            format!(
                "{} of {} connections are open",
                facts.connections, facts.connections_max
            ),
            "set max_connections higher on the server",
        ));
    }
}

fn judge_identity(settings: &Settings, identity: Option<&Identity>) -> Option<Check> {
    let identity = identity?;
    if let Some(why) = Identity::of(settings).contradicts(identity) {
        return Some(Check::bad(AREA, why, ""));
    }
    let key = settings.cluster_key.current();
    let own = keys::prints(key.expose_secret());
    (!identity.key_print.is_empty() && !own.contains(&identity.key_print)).then(|| {
        Check::bad(
            "key",
            format!("the key here is not the one that cluster {:?} uses", identity.name),
            match settings.role {
                wa_core::id::Role::Webapp => "copy /etc/wa-agent/credentials/webapp-key from a machine of the cluster (with a master or \
                     coreapp here too: cluster-key), then: wa-agent setup",
                wa_core::id::Role::Master | wa_core::id::Role::Coreapp | wa_core::id::Role::Host => {
                    "copy /etc/wa-agent/credentials/cluster-key from a machine of the cluster, then: wa-agent setup"
                }
            },
        )
    })
}

/// The webapps' part of a key, as releases before sealing wrote it.
fn judge_part(settings: &Settings) -> Option<Check> {
    Keys::of(&settings.cluster_key).is_older_part().then(|| {
        Check::warn(
            "key",
            "the webapps' part of the cluster key here is of an older release: certificates that are stored in the cluster \
             cannot be opened on this machine",
            older_part(),
        )
    })
}

/// Masters send to every node from one socket: what listens on an address of IPv4 sends nothing to one of IPv6.
fn judge_families(settings: &Settings, nodes: &[Registered]) -> Option<Check> {
    if settings.bind == std::net::Ipv6Addr::UNSPECIFIED {
        return None;
    }
    let family = |address: &std::net::IpAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let own = family(&settings.advertise);
    let (node, address) = nodes.iter().find_map(|node| {
        let address = node.registration.address.parse().ok()?;
        (family(&address) != own).then_some((&node.registration.node, address))
    })?;
    Some(Check::bad(
        "addresses",
        format!(
            "{node} is at {address} ({}), this machine is at {} ({own}): they do not hear each other",
            family(&address),
            settings.advertise
        ),
        "write [node] advertise with an address of the same family on all machines, then restart the roles",
    ))
}

/// An embedded database belongs to one machine.
fn judge_machines(settings: &Settings, nodes: &[Registered]) -> Option<Check> {
    let other = nodes
        .iter()
        .find(|node| node.registration.machine != settings.machine && !settings.development)?;
    Some(Check::bad(
        AREA,
        format!(
            "the embedded database has a node of another machine, {}",
            other.registration.machine
        ),
        "an embedded database is for one machine: install MariaDB or MySQL, then wa-agent setup --single --database-socket --replace",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::doctor::Verdict;

    /// Goal: a row that does not open is named with its own remedy; the cluster's own certificate is nothing to send again.
    #[test]
    fn a_row_that_does_not_open_has_its_own_remedy() {
        for (row, remedy) in [
            ("certificate-own", "type in the database"),
            ("certificate-external", "/v1/certificates/external"),
            ("media-providers", "media/providers"),
        ] {
            let place = format!("setting/{row}/key");
            let id = "0a1b2c3d".to_owned();
            let said = judge_lost(&SealError::UnknownKey { place, id });
            let said = serde_json::to_string(&said).expect("plain data");
            assert!(said.contains(row) && said.contains(remedy), "{said}");
            let again = said.contains("send that secret again");
            assert_eq!(again, row != "certificate-own", "{said}");
        }
    }

    /// Goal: each setting that voids the promise is a line with its remedy, and a good server is none.
    #[test]
    fn a_server_is_judged() {
        let mut checks = Vec::new();
        let good = Facts {
            version: "10.11".into(),
            connections_max: 151,
            ..Facts::default()
        };
        judge_facts("x", &good, &mut checks);
        assert!(checks.is_empty());
        let poor = Facts {
            voids: vec!["innodb_flush_log_at_trx_commit=2: set it to 1".into()],
            lacking: vec!["ALTER"],
            connections_max: 20,
            connections: 19,
            ..good
        };
        judge_facts("x", &poor, &mut checks);
        let verdicts: Vec<Verdict> = checks.iter().map(|check| check.verdict).collect();
        assert_eq!(
            verdicts,
            [Verdict::Bad, Verdict::Bad, Verdict::Warn, Verdict::Warn]
        );
    }
}
