//! Places for uploads: each holds less than a megabyte while it runs. A user may have as many as are free, so that few users never hold
//! all of them. Takes no bytes: `v1/media.rs` does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::gauge::Gauge;

/// Uploads at once.
pub const UPLOADS_MAX: usize = 128;

/// How many run, by user.
#[derive(Default)]
pub struct Uploads {
    running: Mutex<HashMap<Arc<str>, usize>>,
    gauge: Gauge,
}

/// An upload's place; it is free again when this is dropped.
pub struct Place<'a> {
    of: &'a Uploads,
    user: Arc<str>,
}

impl Uploads {
    /// None runs; the gauge is told how many do.
    pub fn new(gauge: Gauge) -> Self {
        Self {
            running: Mutex::default(),
            gauge,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for an upload of this user; `None`: he has as many as are free.
    ///
    /// One user alone comes to half of all, and leaves half. The next one comes to a quarter. Where eight users take all that they get,
    /// the ninth finds none until an upload ends. The parts become equal as uploads end.
    pub fn enter(&self, user: &Arc<str>) -> Option<Place<'_>> {
        let mut running = self.lock();
        let all: usize = running.values().sum();
        let own = running.get(user).copied().unwrap_or(0);
        if own >= UPLOADS_MAX.saturating_sub(all) {
            return None;
        }
        running.insert(Arc::clone(user), own + 1);
        self.gauge.inc();
        Some(Place {
            of: self,
            user: Arc::clone(user),
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.of.gauge.dec();
        let mut running = self.of.lock();
        if let Some(own) = running.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                running.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: one user alone has half, seven leave a place, eight leave none, and parts become equal. Method: users who each take all they
    /// get, one after the other; then uploads end, and the hungry take what is free in turn.
    #[test]
    fn users_share_the_places() {
        let uploads = Uploads::default();
        let users: [Arc<str>; 4] = ["one", "two", "three", "four"].map(Into::into);
        let take = |user| -> Vec<_> { std::iter::from_fn(|| uploads.enter(user)).collect() };
        let mut held: Vec<Vec<Place<'_>>> = users.iter().map(take).collect();
        let counts: Vec<usize> = held.iter().map(Vec::len).collect();
        assert_eq!(counts, [64, 32, 16, 8]);
        assert_eq!(uploads.gauge.get(), 120);
        let late: [Arc<str>; 5] = ["five", "six", "seven", "eight", "nine"].map(Into::into);
        let rest: Vec<Vec<Place<'_>>> = late.iter().map(take).collect();
        let counts: Vec<usize> = rest.iter().map(Vec::len).collect();
        assert_eq!(counts, [4, 2, 1, 1, 0]);
        drop(rest);
        for _ in 0..UPLOADS_MAX {
            // The one who has most ends one; whoever gets it has it.
            let most = (0..4).max_by_key(|n| held[*n].len()).expect("four");
            held[most].pop();
            for n in 0..4 {
                held[n].extend(uploads.enter(&users[n]));
            }
        }
        let counts: Vec<usize> = held.iter().map(Vec::len).collect();
        assert!(counts.iter().all(|n| (24..=27).contains(n)), "{counts:?}");
        drop(held);
        assert!(uploads.lock().is_empty() && uploads.gauge.get() == 0);
    }
}
