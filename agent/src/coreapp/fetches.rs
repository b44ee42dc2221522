//! Where the files of inbound messages stand, for one tenure: so many are fetched at a time, and of one customer fewer.
//! Fetches nothing: `fetch.rs` does.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wa_core::time::Instant;

use crate::api::v1::media::LEN_MAX;

/// Files at once; messages beyond that wait.
const RUNNING_MAX: usize = 8;
/// And of one customer: an album holds up nobody else's photo.
const RUNNING_OF_ONE_MAX: usize = 2;

/// Bytes of one customer's files that are fetched by themselves in [`BYTES_WITHIN`], those on their way counted at their longest. Files
/// beyond that stay at WhatsApp until somebody asks for them: a stranger cannot fill the disk.
const BYTES_OF_ONE_MAX: u64 = 512 << 20;
const BYTES_WITHIN: Duration = Duration::from_secs(3600);
/// Customers whose bytes are remembered before those whose time is over are forgotten.
const CUSTOMERS_LEN_MAX: usize = 4096;

/// Messages of one customer that wait for their files, and of all: those beyond are told without theirs, and hold up nobody.
const WAITING_OF_ONE_MAX: usize = 64;
pub const WAITING_LEN_MAX: usize = 2048;

/// A message waits for room for so long, and is told without its file then: others stand behind it (`behind.rs`).
const ROOM_WITHIN: Duration = Duration::from_secs(20);

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
    /// There is no room yet, since this moment.
    Waiting(Instant),
    Running,
    /// The same, and nobody waits for it any more.
    Forgotten,
    Over(Fetched),
}

type Files = HashMap<String, (Stand, i64)>;
/// By customer: since when, and how many.
type Bytes = HashMap<i64, (Instant, u64)>;

/// The files of one tenure's inbound messages, by event key, until their events are processed; each with its customer.
#[derive(Default)]
pub struct Fetches(Mutex<Files>, Mutex<Bytes>);

impl Fetches {
    fn lock(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes(&self) -> MutexGuard<'_, Bytes> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many bytes of a customer's files were fetched.
    pub fn came(&self, customer: i64, len: u64, now: Instant) {
        let mut bytes = self.bytes();
        if bytes.len() >= CUSTOMERS_LEN_MAX {
            bytes.retain(|_, (since, _)| now.since(*since) < BYTES_WITHIN);
        }
        let (since, came) = bytes.entry(customer).or_insert((now, 0));
        if now.since(*since) >= BYTES_WITHIN {
            (*since, *came) = (now, 0);
        }
        *came = came.saturating_add(len);
    }

    /// Bytes of a customer's files that came lately.
    fn lately(&self, customer: i64, now: Instant) -> u64 {
        match self.bytes().get(&customer) {
            Some((since, came)) if now.since(*since) < BYTES_WITHIN => *came,
            Some(_) | None => 0,
        }
    }

    /// Where the file of this event stands now; `None`: whoever asks shall fetch it now.
    pub fn ask(&self, key: &str, customer: i64, now: Instant) -> Option<Fetched> {
        let mut files = self.lock();
        let since = match files.get(key) {
            Some((Stand::Over(fetched), _)) => return Some(fetched.clone()),
            Some((Stand::Running, _)) => return Some(Fetched::Running),
            Some((Stand::Forgotten, _)) => return Some(Fetched::Failed),
            Some((Stand::Waiting(since), _)) => *since,
            None => {
                let of_one = waiting(&files).filter(|of| **of == customer).count();
                if of_one >= WAITING_OF_ONE_MAX || waiting(&files).count() >= WAITING_LEN_MAX {
                    return Some(Fetched::Failed);
                }
                now
            }
        };
        let runs = |stand: &Stand| matches!(stand, Stand::Running | Stand::Forgotten);
        let running = || files.values().filter(|(stand, _)| runs(stand));
        let of_one = running().filter(|(_, of)| *of == customer).count();
        // One more, and those that run, might be as long as a file may be.
        let longest = (of_one as u64 + 1) * LEN_MAX;
        if self.lately(customer, now) + longest > BYTES_OF_ONE_MAX {
            let over = (Stand::Over(Fetched::Failed), customer);
            files.insert(key.to_owned(), over);
            return Some(Fetched::Failed);
        }
        let room = running().count() < RUNNING_MAX && of_one < RUNNING_OF_ONE_MAX;
        let (stand, stands) = match room {
            true => (Stand::Running, None),
            false if now.since(since) >= ROOM_WITHIN => {
                (Stand::Over(Fetched::Failed), Some(Fetched::Failed))
            }
            false => (Stand::Waiting(since), Some(Fetched::Running)),
        };
        files.insert(key.to_owned(), (stand, customer));
        stands
    }

    /// The file of this event for whoever waits for none.
    pub fn here(&self, key: &str) -> Fetched {
        match self.lock().get(key) {
            Some((Stand::Over(fetched), _)) => fetched.clone(),
            Some((Stand::Waiting(_) | Stand::Running | Stand::Forgotten, _)) | None => {
                Fetched::Failed
            }
        }
    }

    /// It is fetched, or will not be.
    pub fn over(&self, key: &str, fetched: Fetched) {
        let mut files = self.lock();
        match files.get_mut(key) {
            Some((Stand::Forgotten, _)) => drop(files.remove(key)),
            Some((stand, _)) => *stand = Stand::Over(fetched),
            None => {}
        }
    }

    /// Events that wait for their files: others stand behind them in the inbox.
    pub fn waiting(&self) -> usize {
        waiting(&self.lock()).count()
    }

    /// Events that are processed need not be remembered. A file that is on its way still takes its place until it is here.
    pub fn forget<'a>(&self, keys: impl Iterator<Item = &'a str>) {
        let mut files = self.lock();
        for key in keys {
            match files.get_mut(key) {
                Some((stand @ Stand::Running, _)) => *stand = Stand::Forgotten,
                Some((Stand::Waiting(_) | Stand::Over(_), _)) => drop(files.remove(key)),
                Some((Stand::Forgotten, _)) | None => {}
            }
        }
    }
}

/// The customers of messages that are not told yet.
fn waiting(files: &Files) -> impl Iterator<Item = &i64> {
    let told = |stand: &Stand| *stand == Stand::Forgotten;
    let waiting = files.values().filter(move |(stand, _)| !told(stand));
    waiting.map(|(_, of)| of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    impl Fetches {
        fn ask_now(&self, key: &str, customer: i64) -> Option<Fetched> {
            self.ask(key, customer, clock::now())
        }
    }

    /// Goal: a message waits for room for a minute and no longer. Method: three of one customer, asked for at three times.
    #[test]
    fn waiting_for_room_has_an_end() {
        let (files, now) = (Fetches::default(), clock::now());
        let asked = |key: &str, after: Duration| files.ask(key, 1, now + after);
        assert_eq!(
            ["a", "b"].map(|key| asked(key, Duration::ZERO)),
            [None, None]
        );
        let almost = ROOM_WITHIN - Duration::from_millis(1);
        for after in [Duration::ZERO, almost] {
            assert_eq!(asked("c", after), Some(Fetched::Running));
        }
        assert_eq!(asked("c", ROOM_WITHIN), Some(Fetched::Failed));
        assert_eq!(
            asked("a", ROOM_WITHIN),
            Some(Fetched::Running),
            "it has room"
        );
    }

    /// Goal: a file that nobody waits for any more takes its place until it is here, and no message's. Method: two that run, and a
    /// third.
    #[test]
    fn a_forgotten_file_takes_its_place() {
        let files = Fetches::default();
        assert_eq!(["a", "b"].map(|key| files.ask_now(key, 1)), [None, None]);
        files.forget(["a"].into_iter());
        assert_eq!(
            (files.waiting(), files.ask_now("c", 1)),
            (1, Some(Fetched::Running))
        );
        assert_eq!(files.ask_now("a", 1), Some(Fetched::Failed));
        files.over("a", Fetched::There("ours".into()));
        assert_eq!(files.ask_now("c", 1), None);
    }

    /// Goal: one customer's album holds up nobody, and all together have a bound. Method: the files of three customers; one ends.
    #[test]
    fn files_are_bounded_by_customer_and_in_all() {
        let files = Fetches::default();
        let album: Vec<_> = (0..9).map(|n| files.ask_now(&format!("a{n}"), 1)).collect();
        assert_eq!(album.iter().filter(|asked| asked.is_none()).count(), 2);
        assert_eq!(
            files.ask_now("b", 2),
            None,
            "another customer's goes at once"
        );
        assert_eq!(files.ask_now("b", 2), Some(Fetched::Running));
        for n in 0..5 {
            assert_eq!(files.ask_now(&format!("c{n}"), 3 + n), None);
        }
        assert_eq!(
            files.ask_now("d", 9),
            Some(Fetched::Running),
            "eight at once"
        );
        assert_eq!(files.waiting(), 9 + 1 + 5 + 1);
        files.over("a0", Fetched::There("ours".into()));
        assert_eq!(files.ask_now("a0", 1), Some(Fetched::There("ours".into())));
        assert_eq!(files.ask_now("d", 9), None, "it waited");
        files.over("c0", Fetched::Failed);
        assert_eq!(files.ask_now("a5", 1), None);
        files.forget(["a0", "c0"].into_iter());
        assert_eq!(files.waiting(), 14);
    }

    /// Goal: a stranger cannot fill the disk by what is fetched by itself; other customers are not touched, and an hour later he is like
    /// any other. Method: files of the longest sort, one after the other.
    #[test]
    fn a_customers_bytes_have_a_bound() {
        let (files, now) = (Fetches::default(), clock::now());
        let mut fetched = 0;
        loop {
            let key = format!("a{fetched}");
            match files.ask(&key, 1, now) {
                None => files.over(&key, Fetched::There("ours".into())),
                Some(asked) => {
                    assert_eq!(asked, Fetched::Failed);
                    break;
                }
            }
            files.came(1, LEN_MAX, now);
            fetched += 1;
        }
        assert_eq!(fetched, BYTES_OF_ONE_MAX / LEN_MAX);
        assert_eq!(files.ask("b", 2, now), None);
        assert_eq!(files.ask("later", 1, now + BYTES_WITHIN), None);
    }

    /// Goal: files hold up neither their customer nor the others for ever. Method: more of one customer than may wait, then of many.
    #[test]
    fn what_may_not_wait_is_told_without_its_file() {
        let files = Fetches::default();
        let asked = |n: usize, of: i64| files.ask_now(&format!("{of}.{n}"), of);
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
        files.over("1.0", Fetched::Failed);
        files.forget(["1.0"].into_iter());
        assert_ne!(asked(WAITING_OF_ONE_MAX, 1), Some(Fetched::Failed));
    }
}
