//! Decisions of the core, as `status` shows them and as the history keeps them.
//! Makes none.

use std::time::Duration;

use wa_core::id::ShardId;
use wa_core::reason::Reason;

use crate::api::control::DecisionStatus;
use crate::db::Db;
use crate::db::history::Record;
use crate::sys::clock;

/// Decisions kept for `status`.
pub const KEPT_MAX: usize = 32;
/// A row of the history; the journal has it already.
const RECORD_WITHIN: Duration = Duration::from_secs(5);

/// A decision of this moment, for people.
pub fn shown(
    shard: Option<ShardId>,
    (what, subject): (&str, &str),
    reason: Reason,
) -> DecisionStatus {
    DecisionStatus {
        at_unix_s: clock::wall_ms() / 1000,
        shard: shard.map(|s| s.0),
        what: if subject.is_empty() {
            what.into()
        } else {
            format!("{what} {subject}")
        },
        reason: reason.name().into(),
        sentence: reason.sentence().into(),
    }
}

/// Writes a decision into the history, in a task of its own.
pub fn record(db: Db, record: Record) {
    tokio::spawn(async move {
        let record = db.record(&record);
        if let Ok(Err(error)) = tokio::time::timeout(RECORD_WITHIN, record).await {
            tracing::debug!(error = %error.brief(), "the decision was not recorded");
        }
    });
}
