//! Ids that the upstream gave in this tenure: known here at once, and kept until `id_writer.rs` has them in the map of ids.
//! Keeps no promise: what is lost here with the process, the statuses of the message teach (`inbox.rs`).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Ids that are remembered, and of those how many may wait to be written.
const LEN_MAX: usize = 16_384;
const WAITING_MAX: usize = 8192;
/// Ids in one statement.
const WRITE_LEN_MAX: usize = 256;

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
    /// Something waits to be written.
    pub wanted: Notify,
    /// The map of ids has what earlier owners recorded and had not written into it.
    pub refilled: AtomicBool,
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

    /// What waits to be written, as much as one statement takes.
    pub fn take(&self) -> Vec<(String, String)> {
        let mut ids = self.ids();
        let some = ids.waiting.len().min(WRITE_LEN_MAX);
        ids.waiting.drain(..some).collect()
    }

    /// It was not written.
    pub fn put_back(&self, pairs: Vec<(String, String)>) {
        let mut ids = self.ids();
        for pair in pairs.into_iter().rev() {
            ids.waiting.push_front(pair);
        }
    }
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
