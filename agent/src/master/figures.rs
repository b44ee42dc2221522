//! What a master tells of itself in figures, and what it counts in the database for `/v1/stats/db`.
//! Keeps what it counted for a moment.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use wa_core::id::{Incarnation, NodeId};
use wa_core::time::Instant;

use crate::db::{Db, DbError};
use crate::metrics::MasterMetrics;
use crate::metrics::figure::{Figure, Figures, Page, value};
use crate::sys::clock;

/// How long a count is given to others who ask.
const KEEP: Duration = Duration::from_secs(5);

/// Whose figures they are.
#[derive(Clone)]
pub struct Source {
    node: NodeId,
    incarnation: Incarnation,
    metrics: Arc<MasterMetrics>,
    last: Last<Page>,
    /// The same for webapps of the release before.
    summed: Last<Vec<(String, u64)>>,
}

/// What was counted last, and when: whoever asks meanwhile gets the same.
#[derive(Clone)]
struct Last<T>(Arc<Mutex<Option<(Instant, T)>>>);

impl<T> Default for Last<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Last<T> {
    /// Counts at most once in [`KEEP`]; who comes meanwhile waits.
    async fn get(&self, count: impl Future<Output = Result<T, DbError>>) -> Result<T, DbError> {
        let mut last = self.0.lock().await;
        if let Some((at, counted)) = last.as_ref()
            && clock::now().since(*at) < KEEP
        {
            return Ok(counted.clone());
        }
        let counted = count.await?;
        *last = Some((clock::now(), counted.clone()));
        Ok(counted)
    }
}

impl Source {
    /// Of this start of a node.
    pub fn of(node: &NodeId, incarnation: Incarnation, metrics: &Arc<MasterMetrics>) -> Self {
        Self {
            node: node.clone(),
            incarnation,
            metrics: Arc::clone(metrics),
            last: Last::default(),
            summed: Last::default(),
        }
    }

    fn page(&self, documented: Figures, own: Figures) -> Page {
        Page {
            node: self.node.to_string(),
            start: self.incarnation.to_string(),
            documented,
            own,
        }
    }

    /// What this master measures; the reference client has no names for it.
    pub fn measured(&self) -> Page {
        self.page(Figures::new(), self.metrics.figures())
    }

    /// What the database holds, counted at most once in [`KEEP`], whoever asks.
    ///
    /// # Errors
    /// When the database does not answer, or not in time.
    pub async fn counted(&self, db: &Db) -> Result<Page, DbError> {
        self.last.get(self.count(db)).await
    }

    /// The same as webapps of the release before read it.
    ///
    /// # Errors
    /// As [`Self::counted`].
    pub async fn summed(&self, db: &Db) -> Result<Vec<(String, u64)>, DbError> {
        self.summed.get(db.counts()).await
    }

    async fn count(&self, db: &Db) -> Result<Page, DbError> {
        let counts = db.documented_counts().await?;
        let rows = db.row_counts().await?;
        let gauge = |help, count| Figure::gauge(help).with(&[], value(count));
        let of_type = |figure: Figure, (kind, count): &(String, u64)| {
            figure.with(&[("type", kind.as_str())], value(*count))
        };
        let messages = Figure::gauge(
            "Messages in the database, by type: about, where there are more than 50,000",
        );
        let messages = counts.messages.iter().fold(messages, of_type);
        // No list of customers is kept: the Cloud API sends to whom it is told to.
        let contacts = ["whatsapp_user", "non_whatsapp_user"];
        let contacts = contacts.iter().fold(
            Figure::gauge("No contacts are kept: always 0"),
            |figure, kind| figure.with(&[("type", *kind)], 0.0),
        );
        let documented = [
            ("db_messages", messages),
            ("db_contacts", contacts),
            (
                "db_message_receipts",
                gauge(
                    "Messages for which a receipt came: about, where there are more than 50,000",
                    counts.receipts,
                ),
            ),
            (
                "db_pending_messages",
                gauge("Messages that are not finished", counts.pending_messages),
            ),
            (
                "db_pending_callbacks",
                gauge(
                    "Callbacks that the business has not taken: about, where there are more than 50,000",
                    counts.pending_callbacks,
                ),
            ),
        ];
        let table = |figure: Figure, (name, count): &(String, u64)| {
            figure.with(&[("table", name.as_str())], value(*count))
        };
        let tables = Figure::gauge(
            "Rows of each table: about, on a server or where there are more than 50,000",
        );
        let own = [
            (
                "wa_db_pending_events",
                gauge(
                    "Events of the upstream that no owner has worked off",
                    counts.pending_events,
                ),
            ),
            ("wa_db_rows", rows.iter().fold(tables, table)),
        ];
        let named = |(name, figure): (&str, Figure)| (name.to_owned(), figure);
        Ok(self.page(documented.map(named).into(), own.map(named).into()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures_util::future::join_all;

    use super::*;

    /// Goal: many who ask at once count the tables once. Method: fifty at the same time, of a count that counts itself.
    #[tokio::test]
    async fn many_who_ask_count_once() {
        let last = Last::<u64>::default();
        let made = AtomicU64::new(0);
        let count = || async {
            tokio::task::yield_now().await;
            Ok(made.fetch_add(1, Ordering::Relaxed))
        };
        let all = join_all((0..50).map(|_| last.get(count()))).await;
        assert!(all.into_iter().all(|counted| matches!(counted, Ok(0))));
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }
}
