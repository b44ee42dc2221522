//! What fails of a coreapp's work, and callbacks that wait: noted where it happens, read by `word.rs`.
//! Judges nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wa_core::delivery::backlog::Backlog;
use wa_core::time::Instant;

use crate::sys::clock;
use crate::sys::trouble::Trouble;

/// What fails of this node's own work.
#[derive(Default)]
pub struct Troubles {
    /// Writes of the lease and of the own row.
    pub writes: Arc<Trouble>,
    pub intake: Trouble,
    pub upstream: Trouble,
    /// The business does not take callbacks, or no address is set.
    pub callbacks: Trouble,
}

/// Callbacks that wait: how many, which is the oldest, and since when it has been seen as that. Ages by the own clock: the
/// database's may leap.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    backlog: Backlog,
    oldest: Option<(i64, Instant)>,
    parked: u64,
}

/// What is known of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Callbacks {
    pub waiting: u64,
    /// For how long the oldest has been that.
    pub oldest: Duration,
    /// Refused for too long, and not tried any more.
    pub parked: u64,
}

impl Waiting {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This is the oldest now.
    pub fn oldest(&self, id: Option<i64>) {
        let mut seen = self.seen();
        let before = seen.oldest;
        let since = |id| match before {
            Some((known, since)) if known == id => since,
            Some(_) | None => clock::now(),
        };
        seen.oldest = id.map(|id| (id, since(id)));
    }

    /// They are counted, or some are gone.
    pub fn backlog<T>(&self, change: impl FnOnce(&mut Backlog) -> T) -> T {
        change(&mut self.seen().backlog)
    }

    /// So many are parked.
    pub fn parked(&self, count: u64) {
        self.seen().parked = count;
    }

    pub fn now(&self) -> Callbacks {
        let seen = self.seen();
        let age = seen.oldest.map(|(_, since)| clock::now().since(since));
        Callbacks {
            waiting: seen.backlog.count(),
            oldest: age.unwrap_or_default(),
            parked: seen.parked,
        }
    }
}
