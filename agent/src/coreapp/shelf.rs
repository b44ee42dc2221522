//! Files on their way to the upstream, for one tenure: each is given once, however many messages name it, and a slow one
//! holds up only those. Gives none itself: `media.rs` does.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use wa_core::time::Instant;

use super::unsent::Unsent;
use crate::api::v1::message::media::{MediaKind, Source};
use crate::sys::clock;

/// Files of our own on their way at once; messages that name others wait in the store.
const OWN_MAX: usize = 8;
/// Files behind links on their way at once, apart from our own: slow servers hold up nothing but links.
const LINKS_MAX: usize = 8;
/// Files of one host on their way at once: a slow one leaves room for the links of others.
const LINKS_PER_HOST_MAX: usize = 2;
/// Messages that are worked on and only wait for a file, at once; others wait in the store.
const WAITING_MAX: usize = 8;
/// What became of a file is kept for so long for messages that have waited for it.
const OWED_FOR: Duration = Duration::from_secs(120);
/// Files behind links whose ids are kept, and messages whose tries are counted or whose file was given again.
const KEPT_MAX: u64 = 10_000;
/// Nothing needs to be known of a message for longer: it is not sent after this time.
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
    Yours(Giving, Told),
    /// Nobody gives it, and there is no room.
    Full,
}

/// A file that is being given. Dropped without an end, as by a panic, it ends as one that broke off.
pub struct Giving {
    shelf: Arc<Shelf>,
    key: Key,
    tell: watch::Sender<Option<Outcome>>,
}

impl Giving {
    /// What is given.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// It was given, or not.
    pub fn end(self, outcome: Outcome, now: Instant) {
        self.tell_all(outcome, now);
    }

    fn tell_all(&self, outcome: Outcome, now: Instant) {
        self.shelf.ended(&self.key, &outcome, now);
        self.tell.send_replace(Some(outcome));
    }
}

impl Drop for Giving {
    fn drop(&mut self) {
        if self.tell.borrow().is_none() {
            let broke_off = Unsent::Later("giving the file broke off".into());
            self.tell_all(Err(broke_off), clock::now());
        }
    }
}

struct Entry {
    told: Told,
    /// Where it comes from; `None`: it is our own.
    host: Option<String>,
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
    again: moka::sync::Cache<String, ()>,
    waiting: Semaphore,
    freed: watch::Sender<()>,
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
            // The newest matters most: it must never be turned away for old ones.
            again: moka::sync::Cache::builder()
                .max_capacity(KEPT_MAX)
                .eviction_policy(moka::policy::EvictionPolicy::lru())
                .time_to_live(TRIES_FOR)
                .build(),
            waiting: Semaphore::new(WAITING_MAX),
            freed: watch::Sender::new(()),
        }
    }
}

/// The host that gives a file; `None`: it is our own. What cannot be read as a link has a host without a name.
fn host_of(source: &Source) -> Option<String> {
    match source {
        Source::Id(_) => None,
        Source::Link(link) | Source::Provided { link, .. } => {
            let url = url::Url::parse(link).ok();
            let host = url.as_ref().and_then(url::Url::host_str);
            Some(host.unwrap_or("").to_owned())
        }
    }
}

/// Whether there is no room for one more file from there.
fn full(entries: &BTreeMap<Key, Entry>, host: Option<&str>) -> bool {
    let running = entries.values().filter(|entry| entry.ended.is_none());
    let from = |of: Option<&str>| {
        let there = |entry: &&Entry| entry.host.as_deref() == of;
        running.clone().filter(there).count()
    };
    match host {
        None => from(None) >= OWN_MAX,
        Some(_) => {
            let links = running.clone().filter(|entry| entry.host.is_some());
            links.count() >= LINKS_MAX || from(host) >= LINKS_PER_HOST_MAX
        }
    }
}

impl Shelf {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a file stands, for the message with this id.
    pub fn ask(self: &Arc<Self>, key: &Key, message: &str, now: Instant) -> Asked {
        if let Some(kept) = self.kept.get(key).filter(|kept| now < kept.until) {
            return Asked::Kept(kept.cloud_id);
        }
        let mut entries = self.entries();
        entries.retain(|_, entry| match entry.ended {
            None => true,
            Some(at) => !entry.owed.is_empty() && now.since(at) < OWED_FOR,
        });
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
        let host = host_of(&key.1);
        if full(&entries, host.as_deref()) {
            return Asked::Full;
        }
        let (tell, told) = watch::channel(None);
        // Whoever still waits for the one before takes this one.
        let before = entries.remove(key).map(|entry| entry.owed);
        let mut owed = before.unwrap_or_default();
        owed.insert(message.to_owned());
        let entry = Entry {
            told: told.clone(),
            host,
            owed,
            ended: None,
        };
        entries.insert(key.clone(), entry);
        // Its end takes the lock.
        drop(entries);
        let giving = Giving {
            shelf: Arc::clone(self),
            key: key.clone(),
            tell,
        };
        Asked::Yours(giving, told)
    }

    /// A file was given, or not.
    fn ended(&self, key: &Key, outcome: &Outcome, now: Instant) {
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
        self.freed.send_replace(());
    }

    /// Changes whenever there is room again.
    pub fn freed(&self) -> watch::Receiver<()> {
        self.freed.subscribe()
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

    /// Notes that the upstream is given a file once more for this message.
    pub fn give_again(&self, message: &str) {
        self.again.insert(message.to_owned(), ());
    }

    /// The upstream was given a file once more for this message: its next refusal is final.
    pub fn gave_again(&self, message: &str) -> bool {
        self.again.contains_key(message)
    }

    /// A place to wait for a file without going back to the store; `None`: all are taken.
    pub fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.waiting.try_acquire().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1::message::media::FileId;

    fn key(link: &str) -> Key {
        (MediaKind::Image, Source::Link(link.into()))
    }

    fn ask(shelf: &Arc<Shelf>, link: &str, message: &str, at: u64) -> Asked {
        shelf.ask(&key(link), message, Instant::from_millis(at))
    }

    fn yours(asked: Asked) -> Giving {
        let Asked::Yours(giving, _) = asked else {
            panic!("it is given, or there is no room");
        };
        giving
    }

    fn end(giving: Giving, outcome: Outcome, at: u64) {
        giving.end(outcome, Instant::from_millis(at));
    }

    fn done(id: &str, keep_s: u64) -> Outcome {
        Ok((id.into(), Duration::from_secs(keep_s)))
    }

    /// Goal: many messages with one file make one upload, and a file that may not be kept still reaches those who waited for
    /// it, and nobody else. Method: two that wait, one that comes later.
    #[test]
    fn a_file_is_given_once_and_kept_as_long_as_it_may_be() {
        let shelf = Arc::default();
        let giving = yours(ask(&shelf, "a", "m1", 1));
        assert!(matches!(ask(&shelf, "a", "m2", 1), Asked::Running(_)));
        end(giving, done("990", 0), 2);
        for _ in 0..2 {
            let again = ask(&shelf, "a", "m2", 3);
            assert!(matches!(again, Asked::Ended(Ok((id, _))) if id == "990"));
        }
        end(yours(ask(&shelf, "a", "m3", 3)), done("991", 600), 4);
        assert!(matches!(ask(&shelf, "a", "m4", 600_000), Asked::Kept(id) if id == "991"));
        assert!(matches!(ask(&shelf, "a", "m4", 600_005), Asked::Yours(..)));
    }

    /// Goal: what failed is tried again, by those who waited too; what the upstream forgot is given again.
    #[test]
    fn failures_and_forgotten_files_begin_anew() {
        let shelf = Arc::default();
        let giving = yours(ask(&shelf, "a", "m1", 1));
        assert!(matches!(ask(&shelf, "a", "m2", 1), Asked::Running(_)));
        end(giving, Err(Unsent::Link("away".into())), 2);
        assert!(matches!(ask(&shelf, "a", "m2", 3), Asked::Ended(Err(_))));
        end(yours(ask(&shelf, "a", "m2", 3)), done("990", 600), 4);
        assert!(shelf.forget(&Source::Link("a".into())));
        assert!(!shelf.forget(&Source::Link("b".into())));
        assert!(matches!(ask(&shelf, "a", "m2", 5), Asked::Yours(..)));
        assert_eq!(
            (shelf.tried("m"), shelf.tried("m"), shelf.tried("n")),
            (1, 2, 1)
        );
    }

    /// Goal: a task that breaks off leaves no file behind that counts as being given. Method: a panic while it is given; who
    /// waited hears of it, and others give it anew.
    #[test]
    fn a_task_that_breaks_off_ends_its_file() {
        let shelf = Arc::default();
        let giving = yours(ask(&shelf, "a", "m1", 1));
        let Asked::Running(told) = ask(&shelf, "a", "m2", 1) else {
            panic!("it is being given");
        };
        let task = std::thread::spawn(move || {
            let _giving = giving;
            panic!("as a bug would");
        });
        task.join().expect_err("it panicked");
        assert!(matches!(&*told.borrow(), Some(Err(Unsent::Later(_)))));
        let again = ask(&shelf, "a", "m2", 2);
        assert!(matches!(again, Asked::Ended(Err(Unsent::Later(_)))));
        assert!(matches!(ask(&shelf, "a", "m3", 2), Asked::Yours(..)));
    }

    /// Goal: no link holds up a file of ours, and no host the links of others. Method: as many slow ones of one host as may be,
    /// then of many hosts, then files of ours.
    #[test]
    fn links_have_limits_of_their_own() {
        let shelf = Arc::default();
        let mut slow = Vec::new();
        for host in ["a", "b", "c", "d"] {
            for n in 0..LINKS_PER_HOST_MAX {
                let link = format!("https://{host}.example/{n}");
                slow.push(yours(ask(&shelf, &link, "m", 1)));
            }
            let more = format!("https://{}.EXAMPLE:8443/more", host.to_uppercase());
            assert!(matches!(ask(&shelf, &more, "m", 1), Asked::Full));
        }
        assert_eq!(slow.len(), LINKS_MAX);
        let other = "https://e.example/0";
        assert!(matches!(ask(&shelf, other, "m", 1), Asked::Full));
        let own = |n: usize| {
            let file = Source::Id(FileId(n.to_string()));
            shelf.ask(&(MediaKind::Image, file), "m", Instant::from_millis(1))
        };
        let ours: Vec<_> = (0..OWN_MAX).map(|n| yours(own(n))).collect();
        assert!(matches!(own(OWN_MAX), Asked::Full));
        slow.pop();
        drop(ours);
        assert!(matches!(ask(&shelf, other, "m", 1), Asked::Yours(..)));
    }

    /// Goal: nothing grows without a bound. Method: outcomes that nobody takes.
    #[test]
    fn the_shelf_is_bounded() {
        let shelf: Arc<Shelf> = Arc::default();
        for n in 0..LINKS_MAX {
            let giving = yours(ask(&shelf, &n.to_string(), "m", 1));
            end(giving, done("9", 0), 2);
        }
        let giving = yours(ask(&shelf, "x", "m", 3));
        assert_eq!(shelf.entries().len(), LINKS_MAX + 1);
        let later = 3 + u64::try_from(OWED_FOR.as_millis()).expect("short");
        assert!(matches!(ask(&shelf, "x", "m", later), Asked::Running(_)));
        assert_eq!(shelf.entries().len(), 1);
        end(giving, done("9", 0), later);
        shelf.settled("m");
        let _giving = yours(ask(&shelf, "y", "n", later));
        assert_eq!(shelf.entries().len(), 1);
    }
}
