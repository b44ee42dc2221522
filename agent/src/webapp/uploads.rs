//! Places for uploads: each holds less than a megabyte while it runs. One user has half of them at most, so that none keeps the others
//! out. Takes no bytes: `v1/media.rs` does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Uploads at once.
pub const UPLOADS_MAX: usize = 128;
/// And of one user.
pub const OF_ONE_MAX: usize = UPLOADS_MAX / 2;

/// How many run, by user.
#[derive(Default)]
pub struct Uploads(Mutex<HashMap<Arc<str>, usize>>);

/// An upload's place; it is free again when this is dropped.
pub struct Place<'a> {
    of: &'a Uploads,
    user: Arc<str>,
}

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for an upload of this user; `None`: he has as many as he may have, or all are taken.
    pub fn enter(&self, user: &Arc<str>) -> Option<Place<'_>> {
        let mut running = self.lock();
        let all: usize = running.values().sum();
        let own = running.get(user).copied().unwrap_or(0);
        if all >= UPLOADS_MAX || own >= OF_ONE_MAX {
            return None;
        }
        running.insert(Arc::clone(user), own + 1);
        Some(Place {
            of: self,
            user: Arc::clone(user),
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
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

    /// Goal: one user keeps nobody out, and all together have a bound. Method: as many as one may have, another user's, and what is free
    /// again.
    #[test]
    fn users_share_the_places() {
        let uploads = Uploads::default();
        let [one, two, three]: [Arc<str>; 3] = ["one", "two", "three"].map(Into::into);
        let take =
            |user, count| -> Vec<_> { (0..count).map_while(|_| uploads.enter(user)).collect() };
        let of_one = take(&one, UPLOADS_MAX);
        assert_eq!(of_one.len(), OF_ONE_MAX);
        let of_two = take(&two, UPLOADS_MAX);
        assert_eq!(of_two.len(), UPLOADS_MAX - OF_ONE_MAX);
        assert!(uploads.enter(&three).is_none());
        drop(of_one);
        assert!(uploads.enter(&two).is_none() && uploads.enter(&three).is_some());
        drop(of_two);
        assert!(uploads.lock().is_empty());
    }
}
