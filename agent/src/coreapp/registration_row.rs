//! The row of the registration, as its owner reads and writes it: under its version and its epoch, and never with a pin under a key
//! that goes. Whoever seals the row anew meanwhile changes nothing of what it says.
//! Decides nothing: `registration.rs` carries out what `wa_core::registration` says.

use std::sync::Arc;
use std::time::Duration;

use wa_core::backoff::exponential;
use wa_core::registration::{Intent, Step, Written};

use super::node::Node;
use super::pin;
use super::work::Work;
use crate::api::registration::StoredIntent;
use crate::db::history::Record;
use crate::db::{Db, DbError, setting};
use crate::log::seldom;
use crate::member::settings;
use crate::sys::clock;

/// A claim that the database has not confirmed within this is given up: the call must not leave long after it was asked for.
const CLAIM_WITHIN: Duration = Duration::from_secs(10);
/// Others write the row seldom, and cluster keys change seldom: more than this during one write are a fault.
const ROUNDS_MAX: u32 = 8;

/// The row as it was read.
pub struct Row {
    pub version: u64,
    pub intent: Intent,
}

/// Why the row is not known.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error("{0}")]
    Database(String),
    #[error("row registration of table setting cannot be read by this release")]
    Newer,
}

impl From<DbError> for Unread {
    fn from(error: DbError) -> Self {
        Self::Database(error.brief())
    }
}

/// The database, if it is reached.
///
/// # Errors
/// [`Unread::Database`].
pub fn reached(node: &Node) -> Result<Arc<Db>, Unread> {
    let unreached = || Unread::Database("the database is not reached yet".into());
    node.db().ok_or_else(unreached)
}

/// The row, and the time by the database's clock.
///
/// # Errors
/// [`Unread`].
pub async fn read(node: &Node) -> Result<(Row, u64), Unread> {
    let db = reached(node)?;
    let stored = settings::read::<StoredIntent>(&db).await?;
    let now_ms = db.now_ms().await?;
    let version = stored.version;
    let intent = stored.value.ok().and_then(|stored| stored.intent());
    let intent = intent.ok_or(Unread::Newer)?;
    Ok((Row { version, intent }, now_ms))
}

/// The row as one errand knows it.
pub struct Ledger {
    version: u64,
    /// What it says, but for the pin.
    says: Intent,
}

/// What one write came to.
enum Tried {
    Done,
    /// The row says what it said, under another version: somebody sealed its pin anew. It is written again.
    Again,
    Lost,
    /// The database is not reached.
    Unknown,
}

fn bare(intent: &Intent) -> Intent {
    Intent {
        pin: None,
        ..intent.clone()
    }
}

impl Ledger {
    /// As the row was read.
    pub fn of(row: &Row) -> Self {
        Self {
            version: row.version,
            says: bare(&row.intent),
        }
    }

    /// Stores the intent. `must`: again until the database has said what became of it, or the tenure is over.
    pub async fn write(
        &mut self,
        node: &Node,
        work: &Work,
        intent: &Intent,
        must: bool,
    ) -> Written {
        let record = record(node, intent);
        let (until, mut failures, mut rounds) = (clock::now() + CLAIM_WITHIN, 0u32, 0u32);
        loop {
            let signs = node.keys.ids();
            match self.write_once(node, work, intent, Some(&record)).await {
                Ok(Tried::Done) => {
                    if intent.pin.is_some() && node.keys.ids() != signs {
                        self.seal_anew(node, work, intent).await;
                    }
                    return Written::Done;
                }
                Ok(Tried::Again) if rounds < ROUNDS_MAX => {
                    rounds += 1;
                    continue;
                }
                Ok(Tried::Again | Tried::Lost) => return Written::Lost,
                Ok(Tried::Unknown) => {}
                Err(error) => {
                    seldom!(
                        tracing::warn!(error = %error.brief(), "a registration: its row could not be written; retrying")
                    );
                }
            }
            if !must && clock::now() >= until {
                return Written::Unknown;
            }
            failures += 1;
            let wait = exponential(
                Duration::from_millis(20),
                failures,
                Duration::from_secs(1),
                0,
            );
            clock::sleep(wait).await;
        }
    }

    /// The key that signs changed while the row was written: its pin may have come after everything else was sealed anew.
    async fn seal_anew(&mut self, node: &Node, work: &Work, intent: &Intent) {
        for _ in 0..ROUNDS_MAX {
            let signs = node.keys.ids();
            match self.write_once(node, work, intent, None).await {
                Ok(Tried::Done) if node.keys.ids() == signs => return,
                Ok(Tried::Done | Tried::Again) => {}
                // Whoever has the row now, or looks at it in the last phase of the rotation, seals it anew.
                Ok(Tried::Lost | Tried::Unknown) => return,
                Err(error) => {
                    tracing::warn!(error = %error.brief(), "a registration: its pin could not be sealed with the new key; the rotation does it");
                    return;
                }
            }
        }
    }

    async fn write_once(
        &mut self,
        node: &Node,
        work: &Work,
        intent: &Intent,
        record: Option<&Record>,
    ) -> Result<Tried, DbError> {
        let Some(db) = node.db() else {
            return Ok(Tried::Unknown);
        };
        let text = settings::text_of(&StoredIntent::from(&pin::renewed(node, intent)));
        let says = bare(intent);
        if store(node, work, &db, (self.version, &text), record).await? {
            self.version += 1;
            self.says = says;
            return Ok(Tried::Done);
        }
        // Another version is there, or the tenure is over: then the version is the one that is known.
        let found = settings::read::<StoredIntent>(&db).await?;
        let version = found.version;
        let found = found.value.ok().and_then(|stored| stored.intent());
        let Some(found) = found.filter(|_| version != self.version) else {
            return Ok(Tried::Lost);
        };
        let found = bare(&found);
        // An earlier write was taken whose answer was lost.
        let done = found == says;
        if !done && found != self.says {
            return Ok(Tried::Lost);
        }
        (self.version, self.says) = (version, found);
        Ok(if done { Tried::Done } else { Tried::Again })
    }
}

/// Writes the row as its owner, if it has this version. False: it has not, or the tenure is over.
///
/// # Errors
/// When the database does not answer.
pub async fn store(
    node: &Node,
    work: &Work,
    db: &Db,
    change: (u64, &str),
    record: Option<&Record>,
) -> Result<bool, DbError> {
    let stored = db.store_setting_owned(&work.own, setting::REGISTRATION, change, record);
    node.in_turn(stored).await
}

/// What the history says of a step.
pub fn record(node: &Node, intent: &Intent) -> Record {
    let (subject, reason) = match intent.step {
        Step::Idle => ("", "Idle".to_owned()),
        Step::Admitted { .. } => ("", "Admitted".to_owned()),
        Step::Calling { call, .. } => (call.as_str(), "Claimed".to_owned()),
        Step::CodeSent => ("request_code", "CodeSent".to_owned()),
        Step::Done => ("", "Registered".to_owned()),
        Step::Refused { call, vendor } => (call.as_str(), format!("Refused{vendor}")),
        Step::NotMade { call } => (call.as_str(), "NotMade".to_owned()),
        Step::Unknown { call } => (call.as_str(), "OutcomeUnknown".to_owned()),
    };
    Record {
        node: node.settings.node.as_str().into(),
        shard: 0,
        what: "registration".into(),
        subject: subject.into(),
        reason,
        evidence: String::new(),
    }
}
