//! Whether the database was put back to an older state while everybody went on: looks at each node table, tells the journal, and,
//! as the primary master, the history. Judges nothing: `wa_core::rewind` does.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wa_core::id::NodeId;
use wa_core::reason::Reason;
use wa_core::rewind::{Rewind, Row};

use crate::db::Db;
use crate::db::history::Record;
use crate::db::node::Registered;
use crate::metrics::MasterMetrics;
use crate::sys::clock;

/// A row of the history; the journal has it already.
const RECORD_WITHIN: Duration = Duration::from_secs(5);

/// What this master has seen of the node table, and what it told.
#[derive(Debug, Default)]
pub struct Rewinds(Mutex<Rewind>);

impl Rewinds {
    /// The table was read by the master `own`, which tells the history while it is the primary. Takes seconds at most, and
    /// only when something is told.
    pub async fn saw(&self, nodes: &[Registered], db: &Db, own: &NodeId, metrics: &MasterMetrics) {
        let rows: Vec<Row> = nodes
            .iter()
            .map(|node| Row {
                node: node.registration.node.clone(),
                beat_ms: node.beat_ms,
                clock_ms: node.clock_ms,
            })
            .collect();
        let Some(by) = self.rewind().saw(clock::now(), &rows) else {
            return;
        };
        let reason = Reason::RewoundRow;
        tracing::warn!(REASON = reason.name(), "{}", sentence(by));
        if metrics.primary.get() != 1 {
            return;
        }
        let record = Record {
            node: own.as_str().into(),
            shard: -1,
            what: "noticed".into(),
            reason: reason.name().into(),
            ..Record::default()
        };
        let record = tokio::time::timeout(RECORD_WITHIN, db.record(&record));
        if !matches!(record.await, Ok(Ok(_))) {
            tracing::debug!("the rewind was not recorded");
        }
    }

    /// How much of the database's time is gone, for as long as that is a problem.
    pub fn told(&self) -> Option<Duration> {
        self.rewind().told(clock::now())
    }

    fn rewind(&self) -> MutexGuard<'_, Rewind> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who, what happened, what to do about it.
pub fn sentence(by: Duration) -> String {
    format!(
        "the database was put back to an older state under the running cluster: what it stored in {} s or more before that is gone. \
         Messages accepted then may be lost, and receipts of messages sent then belong to nothing. Before a restore stop all \
         roles (systemctl stop 'wa-*'); what the businesses sent meanwhile has to be sent again",
        by.as_secs()
    )
}
