//! Ids that the upstream gave in this tenure: written into the map of ids behind the answers, and asked in memory until then.
//! Keeps no promise: what is lost here with the process, the statuses of the message teach (`inbox.rs`).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::node::Node;
use super::work::Work;
use crate::log::seldom;
use crate::sys::clock;

/// Ids that are remembered, and of those how many may wait to be written.
const LEN_MAX: usize = 16_384;
const WAITING_MAX: usize = 8192;
/// Ids in one statement.
const WRITE_LEN_MAX: usize = 256;
/// How long ids are gathered. An embedded database has one writer at a time.
const GATHER: Duration = Duration::from_millis(20);
const GATHER_EMBEDDED: Duration = Duration::from_millis(200);
/// Not while a takeover has the database busy; and how many messages are looked at.
const REFILL_AFTER: Duration = Duration::from_secs(10);
const REFILL_LEN_MAX: u32 = 4096;
/// After a statement that failed.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Ids {
    /// By the upstream's id: ours.
    known: HashMap<String, String>,
    order: VecDeque<String>,
    /// Not in the map of ids yet.
    waiting: VecDeque<(String, String)>,
}

/// The newest ids.
#[derive(Debug, Default)]
pub struct KnownIds {
    ids: Mutex<Ids>,
    wanted: Notify,
}

impl KnownIds {
    fn ids(&self) -> MutexGuard<'_, Ids> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Our message behind an id of the upstream, if it is among the newest.
    pub fn ours(&self, theirs: &str) -> Option<String> {
        self.ids().known.get(theirs).cloned()
    }

    fn learn(&self, ours: &str, theirs: &str) {
        let mut ids = self.ids();
        if ids
            .known
            .insert(theirs.to_owned(), ours.to_owned())
            .is_some()
        {
            return;
        }
        ids.order.push_back(theirs.to_owned());
        if ids.order.len() > LEN_MAX
            && let Some(oldest) = ids.order.pop_front()
        {
            ids.known.remove(&oldest);
        }
    }

    /// An id that an answer brought: it is written soon. Where too many wait, the message's statuses teach it.
    pub fn write_soon(&self, ours: &str, theirs: &str) {
        if theirs.is_empty() || self.ids().waiting.len() >= WAITING_MAX {
            return;
        }
        self.learn(ours, theirs);
        let pair = (ours.to_owned(), theirs.to_owned());
        self.ids().waiting.push_back(pair);
        self.wanted.notify_one();
    }

    fn take(&self) -> Vec<(String, String)> {
        let mut ids = self.ids();
        let some = ids.waiting.len().min(WRITE_LEN_MAX);
        ids.waiting.drain(..some).collect()
    }

    fn put_back(&self, pairs: Vec<(String, String)>) {
        let mut ids = self.ids();
        for pair in pairs.into_iter().rev() {
            ids.waiting.push_front(pair);
        }
    }
}

/// Writes ids until the tenure ends, behind everything that holds the guard row; once, what an owner that died has left.
pub async fn write(node: Arc<Node>, work: Arc<Work>) {
    let refill_at = work.began + REFILL_AFTER;
    let mut refilled = false;
    loop {
        let wait = refill_at.since(clock::now());
        if refilled {
            work.known_ids.wanted.notified().await;
        } else if tokio::time::timeout(wait, work.known_ids.wanted.notified())
            .await
            .is_err()
        {
            refilled = refill(&node).await;
        }
        let embedded = node.db().is_some_and(|db| db.embedded());
        clock::sleep(if embedded { GATHER_EMBEDDED } else { GATHER }).await;
        loop {
            let pairs = work.known_ids.take();
            if pairs.is_empty() {
                break;
            }
            let both: Vec<(&str, &str)> = pairs.iter().map(|(o, t)| (&**o, &**t)).collect();
            let Some(db) = node.db() else {
                work.known_ids.put_back(pairs);
                clock::sleep(PAUSE).await;
                continue;
            };
            if let Err(error) = node.in_turn(db.remember_ids(&both)).await {
                seldom!(
                    tracing::warn!(error = %error.brief(), "ids of the upstream were not written down; retrying")
                );
                work.known_ids.put_back(pairs);
                clock::sleep(PAUSE).await;
            }
        }
    }
}

/// What an earlier owner recorded and had not written into the map. False: the database did not do it; later once more.
async fn refill(node: &Node) -> bool {
    let Some(db) = node.db() else {
        clock::sleep(PAUSE).await;
        return false;
    };
    let done = node.in_turn(db.remember_newest(REFILL_LEN_MAX)).await;
    if let Err(error) = &done {
        seldom!(
            tracing::warn!(error = %error.brief(), "ids of the upstream were not looked through; retrying")
        );
        clock::sleep(PAUSE).await;
    }
    done.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an id is known at once, written once, and the oldest are forgotten. Method: more than the bounds.
    #[test]
    fn ids_are_known_at_once_and_have_a_bound() {
        let ids = KnownIds::default();
        ids.write_soon("a", "wamid.A");
        ids.write_soon("none", "");
        assert_eq!(ids.ours("wamid.A").as_deref(), Some("a"));
        let pairs = ids.take();
        assert_eq!(pairs, [("a".to_owned(), "wamid.A".to_owned())]);
        ids.put_back(pairs);
        assert_eq!(ids.take().len(), 1);
        for n in 0..LEN_MAX {
            ids.write_soon("b", &n.to_string());
            ids.learn("b", &format!("other {n}"));
        }
        assert_eq!(ids.ours("wamid.A"), None);
        let found = ids.ids();
        assert_eq!(
            (found.waiting.len(), found.order.len()),
            (WAITING_MAX, LEN_MAX)
        );
        assert_eq!(found.known.len(), LEN_MAX);
    }
}
