//! Ids of the upstream that this tenure has put into the map of ids: a message has three statuses, and one row there.
//! Keeps no promise: an id that was forgotten is written once more, which changes nothing.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Ids that are remembered.
const LEN_MAX: usize = 16_384;

/// The newest ones.
#[derive(Debug, Default)]
pub struct KnownIds(Mutex<(HashSet<String>, VecDeque<String>)>);

impl KnownIds {
    /// It is among them.
    pub fn has(&self, id: &str) -> bool {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guard.0.contains(id)
    }

    /// Takes note of an id. True: it was not among them.
    pub fn learn(&self, id: &str) -> bool {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, order) = &mut *guard;
        if !known.insert(id.to_owned()) {
            return false;
        }
        order.push_back(id.to_owned());
        if order.len() > LEN_MAX
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_new_once_and_the_oldest_are_forgotten() {
        let ids = KnownIds::default();
        assert!(ids.learn("a") && !ids.learn("a"));
        for n in 0..LEN_MAX {
            assert!(ids.learn(&n.to_string()));
        }
        assert!(ids.learn("a"));
        assert_eq!(ids.0.lock().expect("whole").1.len(), LEN_MAX);
    }
}
