//! Files on their way to the upstream, for one tenure: each is given once, however many messages name it, and a slow one
//! holds up only those. Gives none itself: `media.rs` does.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use wa_core::time::Instant;

use super::unsent::Unsent;
use crate::api::v1::message::media::{MediaKind, Source};

/// Files on their way at once; messages that name others wait in the store.
pub const ON_THE_WAY_MAX: usize = 8;
/// Messages that are worked on and only wait for a file, at once; others wait in the store.
const WAITING_MAX: usize = 8;
/// What became of a file is kept for so long for messages that have waited for it.
const OWED_FOR: Duration = Duration::from_secs(120);
/// Files behind links whose ids are kept, and messages whose tries are counted.
const KEPT_MAX: u64 = 10_000;
/// No count of tries is needed for longer: a message is not sent after this time.
const TRIES_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// A file as it is used.
pub type Key = (MediaKind, Source);

/// What became of a file: the upstream's id, and how long others may use it without asking.
pub type Outcome = Result<(String, Duration), Unsent>;

/// Hears what becomes of a file.
pub type Told = watch::Receiver<Option<Outcome>>;

/// Where a file stands.
pub enum Asked {
    /// It was given before, for other messages.
    Kept(String),
    /// It was given, or not, while this message waited.
    Ended(Outcome),
    Running(Told),
    /// Nobody gives it: who asked does, and says what came of it.
    Yours(watch::Sender<Option<Outcome>>, Told),
    /// Nobody gives it, and there is no room.
    Full,
}

struct Entry {
    told: Told,
    /// Messages that wait for it.
    owed: HashSet<String>,
    ended: Option<Instant>,
}

#[derive(Clone)]
struct Kept {
    cloud_id: String,
    until: Instant,
}

/// All of one tenure.
pub struct Shelf {
    entries: Mutex<BTreeMap<Key, Entry>>,
    kept: moka::sync::Cache<Key, Kept>,
    tries: moka::sync::Cache<String, u32>,
    waiting: Semaphore,
}

impl Default for Shelf {
    fn default() -> Self {
        Self {
            entries: Mutex::default(),
            kept: moka::sync::Cache::new(KEPT_MAX),
            tries: moka::sync::Cache::builder()
                .max_capacity(KEPT_MAX)
                .time_to_live(TRIES_FOR)
                .build(),
            waiting: Semaphore::new(WAITING_MAX),
        }
    }
}

impl Shelf {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a file stands, for the message with this id.
    pub fn ask(&self, key: &Key, message: &str, now: Instant) -> Asked {
        if let Some(kept) = self.kept.get(key).filter(|kept| now < kept.until) {
            return Asked::Kept(kept.cloud_id);
        }
        let mut entries = self.entries();
        entries.retain(|_, entry| match entry.ended {
            None => true,
            Some(at) => !entry.owed.is_empty() && now.since(at) < OWED_FOR,
        });
        let running = entries.values().filter(|e| e.ended.is_none()).count();
        match entries.get_mut(key) {
            Some(entry) if entry.ended.is_none() => {
                entry.owed.insert(message.to_owned());
                return Asked::Running(entry.told.clone());
            }
            Some(entry) if entry.owed.contains(message) => {
                let outcome = entry.told.borrow().clone();
                if let Some(outcome) = outcome {
                    if outcome.is_err() {
                        // What failed is tried again next time.
                        entry.owed.remove(message);
                    }
                    return Asked::Ended(outcome);
                }
            }
            Some(_) | None => {}
        }
        if running >= ON_THE_WAY_MAX {
            return Asked::Full;
        }
        let (tell, told) = watch::channel(None);
        // Whoever still waits for the one before takes this one.
        let before = entries.remove(key).map(|entry| entry.owed);
        let mut owed = before.unwrap_or_default();
        owed.insert(message.to_owned());
        let entry = Entry {
            told: told.clone(),
            owed,
            ended: None,
        };
        entries.insert(key.clone(), entry);
        Asked::Yours(tell, told)
    }

    /// A file was given, or not.
    pub fn ended(&self, key: &Key, outcome: &Outcome, now: Instant) {
        if let Ok((cloud_id, keep)) = outcome
            && !keep.is_zero()
        {
            let kept = Kept {
                cloud_id: cloud_id.clone(),
                until: now + *keep,
            };
            self.kept.insert(key.clone(), kept);
        }
        if let Some(entry) = self.entries().get_mut(key) {
            entry.ended = Some(now);
        }
    }

    /// A message has all its files, or will not be sent.
    pub fn settled(&self, message: &str) {
        for entry in self.entries().values_mut() {
            entry.owed.remove(message);
        }
    }

    /// The upstream does not know a file any more, as whatever it was used. False: nothing was kept of it.
    pub fn forget(&self, source: &Source) -> bool {
        let mut entries = self.entries();
        entries.retain(|(_, of), entry| of != source || entry.ended.is_none());
        drop(entries);
        let of_it = self.kept.iter().filter(|(key, _)| key.1 == *source);
        let of_it: Vec<_> = of_it.collect();
        for (key, _) in &of_it {
            self.kept.invalidate(key.as_ref());
        }
        !of_it.is_empty()
    }

    /// Counts how often a message was held up by the server of a link.
    pub fn tried(&self, message: &str) -> u32 {
        let tries = self.tries.get(message).unwrap_or(0).saturating_add(1);
        self.tries.insert(message.to_owned(), tries);
        tries
    }

    /// A place to wait for a file without going back to the store; `None`: all are taken.
    pub fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.waiting.try_acquire().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(link: &str) -> Key {
        (MediaKind::Image, Source::Link(link.into()))
    }

    fn ask(shelf: &Shelf, link: &str, message: &str, at: u64) -> Asked {
        shelf.ask(&key(link), message, Instant::from_millis(at))
    }

    fn done(id: &str, keep_s: u64) -> Outcome {
        Ok((id.into(), Duration::from_secs(keep_s)))
    }

    /// Goal: many messages with one file make one upload, and a file that may not be kept still reaches those who waited for
    /// it, and nobody else. Method: two that wait, one that comes later.
    #[test]
    fn a_file_is_given_once_and_kept_as_long_as_it_may_be() {
        let shelf = Shelf::default();
        let Asked::Yours(tell, _told) = ask(&shelf, "a", "m1", 1) else {
            panic!("nobody gave it before");
        };
        assert!(matches!(ask(&shelf, "a", "m2", 1), Asked::Running(_)));
        tell.send_replace(Some(done("990", 0)));
        shelf.ended(&key("a"), &done("990", 0), Instant::from_millis(2));
        for _ in 0..2 {
            let again = ask(&shelf, "a", "m2", 3);
            assert!(matches!(again, Asked::Ended(Ok((id, _))) if id == "990"));
        }
        assert!(matches!(ask(&shelf, "a", "m3", 3), Asked::Yours(..)));
        shelf.ended(&key("a"), &done("991", 600), Instant::from_millis(4));
        assert!(matches!(ask(&shelf, "a", "m4", 600_000), Asked::Kept(id) if id == "991"));
        assert!(matches!(ask(&shelf, "a", "m4", 600_005), Asked::Yours(..)));
    }

    /// Goal: what failed is tried again, by those who waited too; what the upstream forgot is given again.
    #[test]
    fn failures_and_forgotten_files_begin_anew() {
        let shelf = Shelf::default();
        let Asked::Yours(tell, _told) = ask(&shelf, "a", "m1", 1) else {
            panic!("nobody gave it before");
        };
        assert!(matches!(ask(&shelf, "a", "m2", 1), Asked::Running(_)));
        let failed: Outcome = Err(Unsent::Link("away".into()));
        tell.send_replace(Some(failed.clone()));
        shelf.ended(&key("a"), &failed, Instant::from_millis(2));
        assert!(matches!(ask(&shelf, "a", "m2", 3), Asked::Ended(Err(_))));
        assert!(matches!(ask(&shelf, "a", "m2", 3), Asked::Yours(..)));
        shelf.ended(&key("a"), &done("990", 600), Instant::from_millis(4));
        assert!(shelf.forget(&Source::Link("a".into())));
        assert!(!shelf.forget(&Source::Link("b".into())));
        assert!(matches!(ask(&shelf, "a", "m2", 5), Asked::Yours(..)));
        assert_eq!(
            (shelf.tried("m"), shelf.tried("m"), shelf.tried("n")),
            (1, 2, 1)
        );
    }

    /// Goal: nothing grows without a bound. Method: more files than there is room for, and outcomes that nobody takes.
    #[test]
    fn the_shelf_is_bounded() {
        let shelf = Shelf::default();
        for n in 0..ON_THE_WAY_MAX {
            assert!(matches!(
                ask(&shelf, &n.to_string(), "m", 1),
                Asked::Yours(..)
            ));
        }
        assert!(matches!(ask(&shelf, "x", "m", 1), Asked::Full));
        for n in 0..ON_THE_WAY_MAX {
            shelf.ended(&key(&n.to_string()), &done("9", 0), Instant::from_millis(2));
        }
        assert!(matches!(ask(&shelf, "x", "m", 3), Asked::Yours(..)));
        assert_eq!(shelf.entries().len(), ON_THE_WAY_MAX + 1);
        let later = 3 + u64::try_from(OWED_FOR.as_millis()).expect("short");
        assert!(matches!(ask(&shelf, "x", "m", later), Asked::Running(_)));
        assert_eq!(shelf.entries().len(), 1);
        shelf.ended(&key("x"), &done("9", 0), Instant::from_millis(later));
        shelf.settled("m");
        assert!(matches!(ask(&shelf, "y", "n", later), Asked::Yours(..)));
        assert_eq!(shelf.entries().len(), 1);
    }
}
