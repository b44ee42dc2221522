//! What a master tells of itself in figures, and what it counts in the database for `/v1/stats/db`.
//! Keeps what it counted for a moment.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use wa_core::id::{Incarnation, NodeId};
use wa_core::time::Instant;

use crate::db::{Db, DbError};
use crate::metrics::MasterMetrics;
use crate::metrics::figure::{Figure, Figures, Page, value};
use crate::sys::clock;

/// How long a count is given to others who ask.
const KEEP: Duration = Duration::from_secs(5);

/// How long counting may take: large tables are read as a whole.
const COUNTED_WITHIN: Duration = Duration::from_secs(10);

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

/// A count, or why there is none, in words.
type Counted<T> = Result<T, String>;

/// What was counted last, and when: whoever asks meanwhile gets the same, also where it failed.
#[derive(Clone)]
struct Last<T>(Arc<Mutex<Option<Count<T>>>>);

/// A count that runs, or its end and when that was.
type Count<T> = watch::Receiver<Option<(Instant, Counted<T>)>>;

impl<T> Default for Last<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone + Send + Sync + 'static> Last<T> {
    /// Counts at most once in [`KEEP`], in a task of its own: it goes on when those who wait hang up, and who comes later waits for it.
    async fn get<F>(&self, count: impl FnOnce() -> F) -> Counted<T>
    where
        F: Future<Output = Result<T, DbError>> + Send + 'static,
    {
        let mut running = self.running(count);
        // It has a deadline of its own.
        match running.wait_for(Option::is_some).await.as_deref() {
            Ok(Some((_, counted))) => counted.clone(),
            Ok(None) | Err(_) => Err("counting ended in the middle; try again".to_owned()),
        }
    }

    /// The count that runs, or ended a moment ago; else a new one.
    fn running<F>(&self, count: impl FnOnce() -> F) -> Count<T>
    where
        F: Future<Output = Result<T, DbError>> + Send + 'static,
    {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let good = last.as_ref().filter(|count| match &*count.borrow() {
            Some((at, _)) => clock::now().since(*at) < KEEP,
            // Else its task is gone.
            None => count.has_changed().is_ok(),
        });
        if let Some(good) = good {
            return good.clone();
        }
        let (tell, running) = watch::channel(None);
        let counting = count();
        tokio::spawn(async move {
            let counted = match tokio::time::timeout(COUNTED_WITHIN, counting).await {
                Ok(counted) => counted.map_err(|error| error.brief()),
                Err(_) => Err("the database did not answer in time".to_owned()),
            };
            tell.send_replace(Some((clock::now(), counted)));
        });
        *last = Some(running.clone());
        running
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
    /// When the database does not answer, or not in time, in words.
    pub async fn counted(&self, db: &Db) -> Result<Page, String> {
        let count = || {
            let (source, db) = (self.clone(), db.clone());
            async move { source.count(&db).await }
        };
        self.last.get(count).await
    }

    /// The same as webapps of the release before read it.
    ///
    /// # Errors
    /// As [`Self::counted`].
    pub async fn summed(&self, db: &Db) -> Result<Vec<(String, u64)>, String> {
        let count = || {
            let db = db.clone();
            async move { db.counts().await }
        };
        self.summed.get(count).await
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
    use tokio::sync::Notify;

    use super::*;

    /// Goal: many who ask at once count the tables once. Method: fifty at the same time, of a count that counts itself.
    #[tokio::test]
    async fn many_who_ask_count_once() {
        let last = Last::<u64>::default();
        let made = Arc::new(AtomicU64::new(0));
        let count = || {
            let made = Arc::clone(&made);
            async move {
                tokio::task::yield_now().await;
                Ok(made.fetch_add(1, Ordering::Relaxed))
            }
        };
        let all = join_all((0..50).map(|_| last.get(count))).await;
        assert!(all.into_iter().all(|counted| matches!(counted, Ok(0))));
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }

    /// Goal: callers who hang up do not make the next one count anew. Method: fifty who ask and go, one after the other, while one count
    /// stands still; one who stays gets that count.
    #[tokio::test]
    async fn callers_who_hang_up_share_one_count() {
        let last = Last::<u64>::default();
        let (made, go_on) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
        let count = || {
            let (made, go_on) = (Arc::clone(&made), Arc::clone(&go_on));
            async move {
                made.fetch_add(1, Ordering::Relaxed);
                go_on.notified().await;
                Ok(7)
            }
        };
        for _ in 0..50 {
            let moment = Duration::from_millis(2);
            let gone = tokio::time::timeout(moment, last.get(count)).await;
            assert!(gone.is_err(), "it stands still");
        }
        assert_eq!(made.load(Ordering::Relaxed), 1);
        go_on.notify_one();
        assert_eq!(last.get(count).await, Ok(7));
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }

    /// Goal: a count that fails is not begun anew by each who asks. Method: fifty who ask for one that fails.
    #[tokio::test]
    async fn a_failure_is_shared() {
        let last = Last::<u64>::default();
        let made = Arc::new(AtomicU64::new(0));
        let count = || {
            let made = Arc::clone(&made);
            async move {
                made.fetch_add(1, Ordering::Relaxed);
                Err(DbError::Value("as the database says".into()))
            }
        };
        for _ in 0..50 {
            let why = last.get(count).await.expect_err("it fails");
            assert!(why.contains("as the database says"), "{why}");
        }
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }
}
