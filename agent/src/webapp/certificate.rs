//! What the public port shows in TLS handshakes: what somebody has sent, else the cluster's own certificate, which this makes
//! and renews; both stand in the database, so that all webapps show the same. Or what is in files, which win.
//! Judges no certificate: `net/certificate.rs` does.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use wa_core::time::Instant;
use zeroize::Zeroizing;

use super::watcher::Watched;
use crate::config::{PublicTls, Settings};
use crate::db::setting::Change;
use crate::db::{Db, DbError};
use crate::log::seldom;
use crate::member::certificate::{External, OwnRow};
use crate::member::sealed;
use crate::member::settings::{self, Row, Stored};
use crate::net::NetError;
use crate::net::certificate::{self, Wrong};
use crate::net::keys::Keys;
use crate::net::own_certificate::{self, Need, Own, Wanted};
use crate::net::seal::SealError;
use crate::net::tls::{self, Pair, Shown};
use crate::sys::{clock, state};

/// How often the rows are asked for: what was sent to one webapp is shown by all within two seconds.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A reading that takes longer is given up.
const READ_WITHIN: Duration = Duration::from_secs(1);
/// How often the end of the cluster's own certificate is looked at, where its names have not changed.
const JUDGE_EVERY: Duration = Duration::from_secs(600);
/// This webapp makes one for other names at most this often.
const MAKE_EVERY: Duration = Duration::from_secs(60);
/// The last one that was shown, for a start without the database. Its key stands there sealed, as in the database.
const LAST: &str = "certificate.json";
/// Files of releases before the certificate was the cluster's: certificate and key.
const OLDER: [&str; 2] = ["tls-certificate.pem", "tls-key.pem"];

/// How the public port gets its certificate.
#[derive(Clone)]
pub enum Certificates {
    /// It speaks no TLS.
    Off,
    /// From files.
    Files(Arc<Shown>),
    /// From the database.
    Kept(Arc<Keeper>),
}

/// Why there is no certificate of one kind.
#[derive(Debug, thiserror::Error)]
enum Missing {
    #[error("{}", .0.brief())]
    Database(#[from] DbError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(
        "{0} does not open with the cluster key of this machine: it was sealed with {1}, or changed; the row is left as it is; type \
         here: wa-agent doctor"
    )]
    Foreign(String, String),
    #[error(transparent)]
    Wrong(#[from] Wrong),
    #[error("it cannot be made ({0})")]
    Make(#[from] rcgen::Error),
    #[error("its row cannot be read ({0})")]
    Row(#[from] serde_json::Error),
}

/// What was seen of the rows.
#[derive(Default)]
struct Seen {
    /// Versions that are shown, or known to be of no use.
    external: u64,
    own: u64,
    /// What was sent is shown: the cluster's own is not needed.
    by_external: bool,
    names: Wanted,
    /// `None`: it is to be judged at the next look.
    judged: Option<Instant>,
    /// When this webapp made one last.
    made: Option<Instant>,
}

/// What became of the row.
struct Outcome {
    row: OwnRow,
    own: Own,
    /// It was made now.
    made: bool,
    /// It lacks names, and another one was made a moment ago.
    later: bool,
}

/// What the file holds.
#[derive(Serialize, Deserialize)]
struct Last {
    external: bool,
    certificate: String,
    /// Sealed.
    key: String,
}

/// Keeps what is shown in step with the database.
pub struct Keeper {
    settings: Arc<Settings>,
    keys: Keys,
    names: Vec<String>,
    shown: Arc<Shown>,
    map: Arc<Watched>,
    db: Arc<ArcSwapOption<Db>>,
    seen: Mutex<Seen>,
}

impl Certificates {
    /// As configured. Nothing is read from the database yet.
    ///
    /// # Errors
    /// When files are configured and cannot be used.
    pub fn of(settings: &Arc<Settings>, map: &Arc<Watched>) -> Result<Self, NetError> {
        Ok(match &settings.public_tls {
            PublicTls::Off => Self::Off,
            PublicTls::Files { certificate, key } => Self::Files(tls::from_files(Pair {
                certificate: certificate.clone(),
                key: key.clone(),
            })?),
            PublicTls::SelfSigned(names) => Self::Kept(Arc::new(Keeper {
                keys: Keys::of(&settings.cluster_key),
                settings: Arc::clone(settings),
                names: names.clone(),
                shown: Arc::default(),
                map: Arc::clone(map),
                db: map.shared_db(),
                seen: Mutex::default(),
            })),
        })
    }

    /// What handshakes are answered with; `None` without TLS.
    pub fn shown(&self) -> Option<&Arc<Shown>> {
        match self {
            Self::Off => None,
            Self::Files(shown) => Some(shown),
            Self::Kept(keeper) => Some(&keeper.shown),
        }
    }

    /// When what is shown ends, in seconds since 1970; 0: nothing is shown.
    pub fn end_s(&self) -> i64 {
        let chain = self.shown().map(|shown| shown.chain()).unwrap_or_default();
        let read = chain.first().and_then(certificate::span_and_names);
        read.map_or(0, |(end_s, _)| end_s)
    }

    /// Before the first connection: shows what the database has, else what was shown last, else something made up; then goes on
    /// looking until the stop.
    pub async fn start(&self, stop: &CancellationToken) {
        let Self::Kept(keeper) = self else { return };
        keeper.look().await;
        if keeper.shown.chain().is_empty() {
            keeper.without_database();
        }
        let (keeper, stop) = (Arc::clone(keeper), stop.clone());
        tokio::spawn(async move { stop.run_until_cancelled(keeper.run()).await });
    }
}

fn now_s() -> i64 {
    i64::try_from(clock::wall_ms() / 1000).unwrap_or(i64::MAX)
}

impl Keeper {
    async fn run(self: Arc<Self>) {
        loop {
            clock::sleep(LOOK_EVERY).await;
            self.look().await;
        }
    }

    /// The keys of this process.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Reads what is new, and shows it.
    pub async fn look(&self) {
        let Some(db) = self.db.load_full() else {
            return;
        };
        let mut seen = self.seen.lock().await;
        // Whoever hangs up in the middle leaves nothing half done: a row is counted as seen when it is shown.
        let looking = tokio::time::timeout(READ_WITHIN, async {
            if let Err(error) = self.external(&db, &mut seen).await {
                seldom!(tracing::warn!(
                    "the certificate that was sent cannot be served, the last one stays: {error}; send it again: POST \
                     /v1/certificates/external"
                ));
            }
            if seen.by_external {
                return;
            }
            if let Err(error) = self.own(&db, &mut seen).await {
                seldom!(tracing::warn!(
                    "the cluster's certificate cannot be served, the last one stays: {error}"
                ));
            }
        });
        if looking.await.is_err() {
            seldom!(tracing::warn!(
                "the database did not say in {READ_WITHIN:?} which certificate is to be served; the last one stays"
            ));
        }
    }

    /// What somebody has sent.
    async fn external(&self, db: &Db, seen: &mut Seen) -> Result<(), Missing> {
        let version = db.setting_version(External::NAME).await?;
        if version == seen.external {
            return Ok(());
        }
        let stored = settings::read::<External>(db).await?;
        let (version, row) = (stored.version, stored.value?);
        if row.certificate.is_empty() {
            (seen.by_external, seen.own) = (false, 0);
        } else {
            let key = row.open(&self.keys)?;
            self.show(&row.certificate, key.as_bytes(), "that was sent")?;
            self.remember(true, &row.certificate, &row.key);
            seen.by_external = true;
        }
        seen.external = version;
        Ok(())
    }

    /// The cluster's own: read, made, or made anew.
    async fn own(&self, db: &Db, seen: &mut Seen) -> Result<(), Missing> {
        let version = db.setting_version(OwnRow::NAME).await?;
        let names = self.wanted();
        let now = clock::now();
        let judged = seen.judged.is_some_and(|at| now.since(at) < JUDGE_EVERY);
        if version == seen.own && names == seen.names && judged && version != 0 {
            return Ok(());
        }
        let signed = self.keys.ids();
        let may_make = seen.made.is_none_or(|at| now.since(at) >= MAKE_EVERY);
        let changed = settings::change(db, |stored: Stored<OwnRow>| {
            self.judge(stored, &names, may_make)
        });
        let Outcome {
            row,
            own,
            made,
            later,
        } = changed.await??;
        if made {
            seen.made = Some(now);
            sealed::keep_up(db, &self.keys, OwnRow::NAME, signed).await?;
        }
        self.show(&own.certificate, own.key.as_bytes(), "of this cluster")?;
        self.remember(false, &row.certificate, &row.key);
        // A write of ours is one version further: it is read once more.
        (seen.own, seen.names, seen.judged) = (version, names, (!later).then_some(now));
        Ok(())
    }

    /// What becomes of the row. One that cannot be read or opened here is never written over: the others open it, and clients
    /// trust its authority. This webapp may have a wrong key, or be of an older release.
    fn judge(
        &self,
        stored: Stored<OwnRow>,
        names: &Wanted,
        may_make: bool,
    ) -> Result<Change<OwnRow, Outcome>, Missing> {
        let row = stored.value?;
        let last = if row.is_empty() {
            None
        } else {
            Some(row.open(&self.keys).map_err(foreign)?)
        };
        let (cluster, now_s) = (&self.settings.cluster_name, now_s());
        let names = match &last {
            None => own_certificate::with_names_of("", names),
            Some(own) => match own_certificate::need(&own.certificate, names, now_s) {
                Some(need) if may_make || !matches!(need, Need::Names(_)) => {
                    say(&need);
                    own_certificate::with_names_of(&own.certificate, names)
                }
                need => {
                    return Ok(Change::Keep(Outcome {
                        own: own.clone(),
                        row,
                        made: false,
                        later: need.is_some(),
                    }));
                }
            },
        };
        // What could not be stored is not made: keys cost time, and the row is looked at twice a second.
        OwnRow::can_seal(&self.keys)?;
        let own = own_certificate::make(last.as_ref(), cluster, &names, now_s)?;
        let row = OwnRow::sealed(&self.keys, &own)?;
        let outcome = Outcome {
            row: row.clone(),
            own,
            made: true,
            later: false,
        };
        Ok(Change::Write(row, outcome))
    }

    /// Names and addresses of all webapps, as far as they are known.
    fn wanted(&self) -> Wanted {
        let mut own = self.names.clone();
        own.push(self.settings.advertise.to_string());
        own.extend(["localhost", "127.0.0.1", "::1"].map(String::from));
        let mut others = self.map.webapps().to_vec();
        others.sort();
        Wanted { own, others }
    }

    fn show(&self, chain: &str, key: &[u8], which: &str) -> Result<(), Wrong> {
        let certified = certificate::certified(chain, key)?;
        if self.shown.show(certified) {
            let chain = self.shown.chain();
            let ends = chain.first().and_then(certificate::span_and_names);
            let days = ends.map_or(0, |(ends_s, _)| (ends_s - now_s()) / 86_400);
            tracing::info!(days, "serving the certificate {which}");
        }
        Ok(())
    }

    /// Keeps it for a start without the database. Without it such a start shows a certificate that no client knows.
    fn remember(&self, external: bool, certificate: &str, key: &str) {
        let last = Last {
            external,
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        let text = serde_json::to_string(&last).expect("plain data is JSON");
        let directory = self.settings.instance_directory();
        let known = std::fs::read_to_string(directory.join(LAST));
        if known.is_ok_and(|known| known.trim_end() == text) {
            return;
        }
        if let Err(error) = state::store_line(&directory, LAST, &text) {
            let path = directory.join(LAST);
            tracing::warn!(%error, path = %path.display(), "the certificate could not be written down; ignoring");
        }
        for older in OLDER {
            let _ = std::fs::remove_file(directory.join(older));
        }
    }

    fn show_last(&self) -> Option<()> {
        let last = std::fs::read_to_string(self.settings.instance_directory().join(LAST)).ok()?;
        let last: Last = serde_json::from_str(&last).ok()?;
        let (certificate, key) = (last.certificate, last.key);
        let opened = match last.external {
            true => External {
                certificate: certificate.clone(),
                key,
            }
            .open(&self.keys),
            false => OwnRow {
                key,
                ..OwnRow::default()
            }
            .open_key(&self.keys),
        };
        self.show(
            &certificate,
            opened.ok()?.as_bytes(),
            "that was served last",
        )
        .ok()
    }

    /// The certificate of this webapp alone, which a release before the cluster's made.
    fn show_older(&self) -> Option<()> {
        let directory = self.settings.instance_directory();
        let [certificate, key] =
            OLDER.map(|name| std::fs::read_to_string(directory.join(name)).map(Zeroizing::new));
        self.show(
            &certificate.ok()?,
            key.ok()?.as_bytes(),
            "of an older release",
        )
        .ok()
    }

    /// A client that trusts the cluster's authority accepts what was shown last, one that pinned this webapp's own what an older
    /// release made; what is made up is better than no answer.
    fn without_database(&self) {
        if self.show_last().or_else(|| self.show_older()).is_some() {
            return;
        }
        tracing::warn!(
            "no certificate of the cluster could be read yet: serving one that no client trusts, until one can be"
        );
        let names = own_certificate::with_names_of("", &self.wanted());
        let made = own_certificate::make(None, &self.settings.cluster_name, &names, now_s());
        let shown = made.map_err(|error| error.to_string()).and_then(|own| {
            let shown = self.show(&own.certificate, own.key.as_bytes(), "that was made up");
            shown.map_err(|wrong| wrong.to_string())
        });
        if let Err(error) = shown {
            tracing::error!(
                error,
                "no certificate can be made; handshakes fail until the database answers"
            );
        }
    }
}

/// What to say of a sealed text of the row that does not open: nobody can send it again, as the error itself would have it.
fn foreign(error: SealError) -> Missing {
    match error {
        SealError::UnknownKey { place, id } => Missing::Foreign(place, format!("the key {id}")),
        SealError::Changed { place } => Missing::Foreign(place, "another key".into()),
        SealError::Form { .. }
        | SealError::TooLong { .. }
        | SealError::NotForWebapps { .. }
        | SealError::OlderPart
        | SealError::NoRandom => Missing::Seal(error),
    }
}

fn say(need: &Need) {
    match need {
        Need::Ends(days) => {
            tracing::info!(
                days,
                "the cluster's certificate ends soon; making another one"
            );
        }
        Need::Names(names) => {
            let names = names.join(" ");
            tracing::info!(
                names,
                "the cluster's certificate lacks names of webapps; making another one"
            );
        }
        Need::Unreadable => {
            tracing::warn!("the cluster's certificate cannot be read; making another one");
        }
    }
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
