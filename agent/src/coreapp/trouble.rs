//! What fails of a coreapp's work, and callbacks that wait: noted where it happens, read by `word.rs`.
//! Judges nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
pub struct Waiting(Mutex<(u64, Option<(i64, Instant)>)>);

impl Waiting {
    /// They were counted just now.
    pub fn seen(&self, count: u64, oldest: Option<i64>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = waiting.1;
        let since = |id| match before {
            Some((known, since)) if known == id => since,
            Some(_) | None => clock::now(),
        };
        *waiting = (count, oldest.map(|id| (id, since(id))));
    }

    /// How many, and for how long the oldest has been that.
    pub fn now(&self) -> (u64, Duration) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = waiting.1.map(|(_, since)| clock::now().since(since));
        (waiting.0, age.unwrap_or_default())
    }
}
