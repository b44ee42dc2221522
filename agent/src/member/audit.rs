//! The audit: one line for each login, change of users, settings or certificates, and operator verb. It is in the journal at once,
//! and soon after in the table `audit`. Lines that strangers cause are few, and say how many were left out.
//! Judges nobody's rights; callers write no secret into a line.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, mpsc};
use wa_core::time::Instant;

use crate::db::Db;
use crate::db::audit::NewLine;
use crate::log::{message_id, seldom};
use crate::sys::clock;

/// Lines in a minute that strangers may cause, and those of one source.
const OF_STRANGERS: Most = Most { all: 30, of_one: 5 };
/// Lines in a minute on what users may not do, and those of one user.
const OF_REFUSALS: Most = Most {
    all: 120,
    of_one: 30,
};
const WINDOW: Duration = Duration::from_secs(60);
/// Lines that wait for the table; more are in the journal only.
const QUEUE_LEN_MAX: usize = 1024;
const BATCH_LEN_MAX: usize = 64;
/// After the table could not be written.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Where the schema is of a release before: until masters are upgraded.
const TABLE_AFTER: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 10_000 });
const STORE_WITHIN: Duration = Duration::from_secs(5);
/// How long a stop waits for lines that are not in the table yet.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);
/// Longest part of a line, in characters.
const PART_LEN_MAX: usize = 190;

/// Who did what, from where, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `-`: nobody who is known.
    pub who: String,
    pub source: String,
    pub what: String,
    pub outcome: String,
}

/// In one line, whatever a client put into it.
fn plain(text: &str) -> String {
    let one = |c: char| if c.is_control() { '?' } else { c };
    text.chars().take(PART_LEN_MAX).map(one).collect()
}

impl Entry {
    /// With parts that fit into a line.
    pub fn new(who: &str, source: &str, what: &str, outcome: &str) -> Self {
        Self {
            who: plain(who),
            source: plain(source),
            what: plain(what),
            outcome: plain(outcome),
        }
    }

    /// Writes it to the journal.
    pub fn journal(&self) {
        tracing::info!(
            MESSAGE_ID = message_id::AUDITED,
            "audit: {} from {}: {}: {}",
            self.who,
            self.source,
            self.what,
            self.outcome
        );
    }

    /// As it is to be stored.
    pub fn line(self, node: &str, age: Duration) -> NewLine {
        NewLine {
            node: node.to_owned(),
            who: self.who,
            source: self.source,
            what: self.what,
            outcome: self.outcome,
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// How many lines are written in a minute.
#[derive(Debug, Clone, Copy)]
struct Most {
    all: u32,
    of_one: u32,
}

/// Lines of this minute that somebody could cause without end.
#[derive(Debug, Default)]
struct Bounded {
    began: Option<Instant>,
    lines: u32,
    /// Only of those who have a line: as many as lines.
    of_one: HashMap<String, u32>,
    left_out: u64,
}

impl Bounded {
    /// Whether a line of this source, or user, is written; if not, it is counted.
    fn may(&mut self, now: Instant, whose: &str, most: Most) -> bool {
        self.began.get_or_insert(now);
        let had = self.of_one.get(whose).copied().unwrap_or(0);
        if self.lines >= most.all || had >= most.of_one {
            self.left_out += 1;
            return false;
        }
        self.lines += 1;
        self.of_one.insert(whose.to_owned(), had + 1);
        true
    }

    /// Begins a new minute when this one is over: how many lines were left out in it.
    fn over(&mut self, now: Instant) -> u64 {
        let over = self.began.is_some_and(|began| now.since(began) >= WINDOW);
        if over {
            std::mem::take(self).left_out
        } else {
            0
        }
    }
}

/// The audit of one node.
pub struct Audit {
    node: String,
    strangers: Mutex<Bounded>,
    refusals: Mutex<Bounded>,
    queue: mpsc::Sender<(Entry, Instant)>,
    /// Lines on their way to the table.
    waiting: AtomicUsize,
    /// Some of them are there.
    stored: Notify,
    /// Lines that found no room on their way to the table.
    journal_only: AtomicU64,
    /// It was said that there is no table yet.
    waits: AtomicBool,
    #[cfg(test)]
    written: Mutex<Vec<Entry>>,
}

impl Audit {
    /// Begins, with a task that stores the lines for as long as somebody may write one.
    pub fn start(node: &str, db: Arc<ArcSwapOption<Db>>) -> Arc<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE_LEN_MAX);
        let audit = Arc::new(Self {
            node: node.to_owned(),
            strangers: Mutex::default(),
            refusals: Mutex::default(),
            queue,
            waiting: AtomicUsize::new(0),
            stored: Notify::new(),
            journal_only: AtomicU64::new(0),
            waits: AtomicBool::new(false),
            #[cfg(test)]
            written: Mutex::default(),
        });
        tokio::spawn(store(Arc::downgrade(&audit), waiting, db));
        audit
    }

    /// Writes a line.
    pub fn write(&self, entry: Entry) {
        entry.journal();
        #[cfg(test)]
        self.written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(entry.clone());
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.queue.try_send((entry, clock::now())).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.journal_only.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// At a stop: waits until the lines so far are in the table, for two seconds at most. Says how many are in the journal only.
    pub async fn flush(&self) {
        let stored = async {
            loop {
                let some = self.stored.notified();
                if self.waiting.load(Ordering::Relaxed) == 0 {
                    return;
                }
                some.await;
            }
        };
        if tokio::time::timeout(FLUSH_WITHIN, stored).await.is_err() {
            let left = self.waiting.load(Ordering::Relaxed);
            tracing::warn!(
                "{left} lines of the audit are in the journal only: the database did not take them before the stop"
            );
        }
    }

    /// Every line so far.
    #[cfg(test)]
    pub fn written(&self) -> Vec<Entry> {
        let written = self.written.lock();
        written.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes a line that somebody caused who has not shown who he is, unless there are too many of those. `whose`: the network that
    /// counts as one source.
    pub fn write_stranger(&self, entry: Entry, whose: &str) {
        self.write_bounded(entry, whose, &self.strangers, OF_STRANGERS);
    }

    /// Writes a line on what a user may not do, unless there are too many of those.
    pub fn write_refusal(&self, entry: Entry) {
        let whose = entry.who.clone();
        self.write_bounded(entry, &whose, &self.refusals, OF_REFUSALS);
    }

    fn write_bounded(&self, entry: Entry, whose: &str, of: &Mutex<Bounded>, most: Most) {
        let now = clock::now();
        self.tell_left_out(now);
        if locked(of).may(now, whose, most) {
            self.write(entry);
        }
    }

    /// Says once a minute what was left out.
    fn tell_left_out(&self, now: Instant) {
        for (of, what) in [
            (&self.strangers, "refused logins and calls"),
            (&self.refusals, "calls that users may not make"),
        ] {
            let left_out = locked(of).over(now);
            if left_out > 0 {
                let outcome = format!("{left_out} more lines of the last minute were left out");
                self.write(Entry::new("-", "-", what, &outcome));
            }
        }
        let journal_only = self.journal_only.swap(0, Ordering::Relaxed);
        if journal_only > 0 {
            tracing::warn!(
                "{journal_only} lines of the audit are in the journal only: the database did not take them in time"
            );
        }
    }
}

fn locked(of: &Mutex<Bounded>) -> MutexGuard<'_, Bounded> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stores lines, many with one statement.
async fn store(
    audit: Weak<Audit>,
    mut waiting: mpsc::Receiver<(Entry, Instant)>,
    db: Arc<ArcSwapOption<Db>>,
) {
    loop {
        let mut batch = Vec::new();
        let came = waiting.recv_many(&mut batch, BATCH_LEN_MAX);
        let came = tokio::time::timeout(WINDOW, came).await;
        let Some(audit) = audit.upgrade() else {
            return;
        };
        if let Ok(1..) = came {
            store_batch(&audit, &batch, &db).await;
            audit.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
            audit.stored.notify_waiters();
        }
        audit.tell_left_out(clock::now());
    }
}

/// Tries until the database takes them: more lines wait in the queue meanwhile. Lines that it took without saying so in time are there
/// twice.
async fn store_batch(audit: &Audit, batch: &[(Entry, Instant)], db: &ArcSwapOption<Db>) {
    loop {
        let now = clock::now();
        let line = |(entry, at): &(Entry, Instant)| entry.clone().line(&audit.node, now.since(*at));
        let mut again_after = AGAIN_AFTER;
        let lines: Vec<NewLine> = batch.iter().map(line).collect();
        if let Some(db) = db.load_full() {
            match tokio::time::timeout(STORE_WITHIN, db.store_audit(&lines)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) if error.is_older_schema() => {
                    again_after = TABLE_AFTER;
                    if !audit.waits.swap(true, Ordering::Relaxed) {
                        tracing::info!(
                            "the schema is of a release before, without the table of the audit: its lines are in the journal, and are stored \
                             as soon as an upgraded primary master has made the table"
                        );
                    }
                }
                Ok(Err(error)) => seldom!(tracing::warn!(
                    error = %error.brief(),
                    "lines of the audit could not be stored; trying again every second"
                )),
                Err(_) => seldom!(tracing::warn!(
                    "the database did not take lines of the audit in time; trying again every second"
                )),
            }
        }
        clock::sleep(again_after).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: strangers cause few lines, one of them leaves room for others, and what was left out is said once. Method: one who
    /// tries a thousand times, then a hundred who try once, by a clock of the test's.
    #[test]
    fn lines_of_strangers_are_few_and_what_was_left_out_is_said() {
        let at = |ms: u64| Instant::from_millis(1_000_000 + ms);
        let mut strangers = Bounded::default();
        let of_one = (0..1000).filter(|_| strangers.may(at(1), "192.0.2.66", OF_STRANGERS));
        assert_eq!(of_one.count(), 5);
        let of_many =
            (0..100).filter(|n| strangers.may(at(2), &format!("192.0.2.{n}"), OF_STRANGERS));
        // The one above is among them.
        assert_eq!(of_many.count(), 25);
        assert_eq!(strangers.over(at(60_000)), 0, "the minute goes on");
        assert_eq!(strangers.over(at(60_001)), 995 + 75);
        assert_eq!(strangers.over(at(60_002)), 0, "said once");
        assert!(strangers.may(at(60_003), "192.0.2.66", OF_STRANGERS));
        assert!(strangers.of_one.len() <= OF_STRANGERS.all as usize);
    }

    /// Goal: while the table is not there yet, a line waits for it, which is said once, and is stored when it comes. Method: two lines over a
    /// database that gets its tables afterwards.
    #[tokio::test]
    async fn a_line_waits_for_its_table() {
        let (db, _directory) = empty_database().await;
        let of_audit = Arc::new(ArcSwapOption::from_pointee(db.clone()));
        let audit = Audit::start("a:master-1", of_audit);
        audit.write(Entry::new("ann", "-", "drain", "done"));
        audit.write(Entry::new("ann", "-", "undrain", "done"));
        let waits = async {
            while !audit.waits.load(Ordering::Relaxed) {
                clock::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(WINDOW, waits).await;
        waited.expect("it found no table");
        db.migrate().await.expect("made");
        let stored = async {
            loop {
                let lines = db.audit(None, 10).await.expect("read");
                if lines.len() == 2 {
                    return lines;
                }
                clock::sleep(Duration::from_millis(5)).await;
            }
        };
        let lines = tokio::time::timeout(WINDOW, stored).await;
        let lines = lines.expect("stored");
        assert_eq!((&*lines[0].what, &*lines[1].what), ("drain", "undrain"));
    }

    /// Goal: a stop leaves no line behind that the database takes, and waits for none that it does not take. Method: more lines than go into
    /// one statement, then a stop; so without a database.
    #[tokio::test]
    async fn a_stop_waits_for_the_lines() {
        let (db, _directory) = empty_database().await;
        db.migrate().await.expect("made");
        let audit = Audit::start(
            "a:master-1",
            Arc::new(ArcSwapOption::from_pointee(db.clone())),
        );
        let lines = BATCH_LEN_MAX * 2 + 1;
        for _ in 0..lines {
            audit.write(Entry::new("ann", "-", "drain", "done"));
        }
        audit.flush().await;
        let stored = db.audit(None, 1000).await.expect("read").len();
        assert_eq!(stored, lines);
        let without = Audit::start("a:master-1", Arc::new(ArcSwapOption::empty()));
        without.write(Entry::new("ann", "-", "drain", "done"));
        let began = clock::now();
        without.flush().await;
        let took = clock::now().since(began);
        assert!(took < FLUSH_WITHIN * 2, "{took:?}");
    }

    /// A database without tables.
    async fn empty_database() -> (Db, tempfile::TempDir) {
        use crate::config::{DatabaseSettings, Replication};
        let directory = tempfile::tempdir().expect("a directory");
        let settings = DatabaseSettings {
            urls: vec![format!("sqlite://{}/wa.db", directory.path().display())],
            logins: Default::default(),
            replication: Replication::Auto,
            ssl_ca: None,
            ssl_cert: None,
            ssl_key: None,
            connect_timeout: STORE_WITHIN,
            busy_timeout: STORE_WITHIN,
        };
        let db = Db::connect(&settings, 2).await.expect("opened");
        db.ensure_lease_table().await.expect("made");
        (db, directory)
    }

    /// Goal: a client puts no line of its own into the journal. Method: line ends and a long text.
    #[test]
    fn an_entry_is_one_line() {
        let entry = Entry::new("bot\nroot", "-", &"x".repeat(1000), "done\u{1b}[2J");
        assert_eq!(entry.who, "bot?root");
        assert_eq!(entry.outcome, "done?[2J");
        assert_eq!(entry.what.len(), PART_LEN_MAX);
    }
}
