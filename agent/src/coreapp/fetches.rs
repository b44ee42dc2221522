//! Where the files of inbound messages stand, for one tenure: so many are fetched at a time, and of one customer fewer.
//! Fetches nothing: `fetch.rs` does.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Files at once; messages beyond that wait.
const RUNNING_MAX: usize = 8;
/// And of one customer: an album holds up nobody else's photo.
const RUNNING_OF_ONE_MAX: usize = 2;

/// Messages of one customer that wait for their files, and of all: those beyond are told without theirs, and hold up nobody.
const WAITING_OF_ONE_MAX: usize = 64;
pub const WAITING_LEN_MAX: usize = 2048;

/// Where the file of one message stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// It is on its way, or waits for room.
    Running,
    /// Our id of it.
    There(String),
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stand {
    /// There is no room yet.
    Waiting,
    Running,
    Over(Fetched),
}

type Files = HashMap<String, (Stand, i64)>;

/// The files of one tenure's inbound messages, by event key, until their events are processed; each with its customer.
#[derive(Default)]
pub struct Fetches(Mutex<Files>);

impl Fetches {
    fn lock(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the file of this event stands; `None`: whoever asks shall fetch it now.
    pub fn ask(&self, key: &str, customer: i64) -> Option<Fetched> {
        let mut files = self.lock();
        match files.get(key) {
            Some((Stand::Over(fetched), _)) => return Some(fetched.clone()),
            Some((Stand::Running, _)) => return Some(Fetched::Running),
            Some((Stand::Waiting, _)) => {}
            None => {
                let of_one = files.values().filter(|(_, of)| *of == customer).count();
                if of_one >= WAITING_OF_ONE_MAX || files.len() >= WAITING_LEN_MAX {
                    return Some(Fetched::Failed);
                }
            }
        }
        let running = || files.values().filter(|(stand, _)| *stand == Stand::Running);
        let of_one = running().filter(|(_, of)| *of == customer).count();
        let room = running().count() < RUNNING_MAX && of_one < RUNNING_OF_ONE_MAX;
        let stand = if room { Stand::Running } else { Stand::Waiting };
        files.insert(key.to_owned(), (stand, customer));
        (!room).then_some(Fetched::Running)
    }

    /// It is fetched, or will not be.
    pub fn over(&self, key: &str, fetched: Fetched) {
        if let Some((stand, _)) = self.lock().get_mut(key) {
            *stand = Stand::Over(fetched);
        }
    }

    /// Events that wait for their files: others stand behind them in the inbox.
    pub fn waiting(&self) -> usize {
        self.lock().len()
    }

    /// Events that are processed need not be remembered.
    pub fn forget<'a>(&self, keys: impl Iterator<Item = &'a str>) {
        let mut files = self.lock();
        for key in keys {
            files.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: one customer's album holds up nobody, and all together have a bound. Method: the files of three customers; one ends.
    #[test]
    fn files_are_bounded_by_customer_and_in_all() {
        let files = Fetches::default();
        let album: Vec<_> = (0..9).map(|n| files.ask(&format!("a{n}"), 1)).collect();
        assert_eq!(album.iter().filter(|asked| asked.is_none()).count(), 2);
        assert_eq!(files.ask("b", 2), None, "another customer's goes at once");
        assert_eq!(files.ask("b", 2), Some(Fetched::Running));
        for n in 0..5 {
            assert_eq!(files.ask(&format!("c{n}"), 3 + n), None);
        }
        assert_eq!(files.ask("d", 9), Some(Fetched::Running), "eight at once");
        assert_eq!(files.waiting(), 9 + 1 + 5 + 1);
        files.over("a0", Fetched::There("ours".into()));
        assert_eq!(files.ask("a0", 1), Some(Fetched::There("ours".into())));
        assert_eq!(files.ask("d", 9), None, "it waited");
        files.over("c0", Fetched::Failed);
        assert_eq!(files.ask("a5", 1), None);
        files.forget(["a0", "c0"].into_iter());
        assert_eq!(files.waiting(), 14);
    }

    /// Goal: files hold up neither their customer nor the others for ever. Method: more of one customer than may wait, then of many.
    #[test]
    fn what_may_not_wait_is_told_without_its_file() {
        let files = Fetches::default();
        let asked = |n: usize, of: i64| files.ask(&format!("{of}.{n}"), of);
        let first: Vec<_> = (0..WAITING_OF_ONE_MAX).map(|n| asked(n, 1)).collect();
        assert!(!first.contains(&Some(Fetched::Failed)));
        assert_eq!(asked(WAITING_OF_ONE_MAX, 1), Some(Fetched::Failed));
        assert_eq!(asked(3, 1), Some(Fetched::Running), "it waits on");
        assert_ne!(asked(0, 2), Some(Fetched::Failed), "another customer's");
        for of in 3.. {
            if asked(0, of) == Some(Fetched::Failed) {
                break;
            }
        }
        assert_eq!(files.waiting(), WAITING_LEN_MAX);
        files.forget(["1.0"].into_iter());
        assert_ne!(asked(WAITING_OF_ONE_MAX, 1), Some(Fetched::Failed));
    }
}
