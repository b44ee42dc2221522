//! Whether the upstream can be reached from here. While it cannot, the sender pauses and then tries with one message. The pause
//! is this tenure's and kept in memory: messages wait in the store without one, so that the next owner, who may have a
//! better way, sends them at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wa_core::backoff::exponential;
use wa_core::hold::Sort;
use wa_core::id::ShardId;
use wa_core::time::Instant;

use crate::sys::{clock, state};

/// The first pause, and the longest.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

/// Where the way to the upstream stands.
#[derive(Debug, Default)]
pub struct Reach {
    /// Pauses in a row; 0: the way is good.
    pauses: AtomicU32,
    /// When the last pause ends.
    until: AtomicU64,
    held: Mutex<HeldTimes>,
    /// The same, held back for another reason.
    kept: Mutex<HeldTimes>,
    /// The same, for messages of one sort that wait for payment.
    unpaid: [Mutex<HeldTimes>; 2],
}

/// Spans of time in which nothing could be sent.
const HELD_LEN_MAX: usize = 32;

/// When nothing could be sent from here, oldest first; without an end: it goes on.
#[derive(Debug, Default)]
struct HeldTimes(VecDeque<(Instant, Option<Instant>)>);

impl HeldTimes {
    fn begin(&mut self, now: Instant) {
        if self.0.back().is_some_and(|(_, end)| end.is_none()) {
            return;
        }
        // The two oldest become one, with what was between them: rather too much counts as held than too little.
        if self.0.len() >= HELD_LEN_MAX
            && let (Some((begin, _)), Some((_, end))) = (self.0.pop_front(), self.0.pop_front())
        {
            self.0.push_front((begin, end));
        }
        self.0.push_back((now, None));
    }

    fn end(&mut self, now: Instant) {
        if let Some((_, end @ None)) = self.0.back_mut() {
            *end = Some(now);
        }
    }

    /// How much of the time since `from` it was.
    fn since(&self, from: Instant, now: Instant) -> Duration {
        let spans = self.0.iter();
        spans
            .map(|(begin, end)| end.unwrap_or(now).since(from.max(*begin)))
            .sum()
    }
}

/// What an attempt says of the way to the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    Unknown,
    Good,
    /// And why.
    None(String),
}

impl Reach {
    /// Takes note of an attempt: one line when the way is lost, one when it is there again. True: it is there again.
    pub fn note(&self, way: &Way, shard: ShardId) -> bool {
        match way {
            Way::Unknown => false,
            Way::Good => {
                let again = self.reached();
                if again {
                    tracing::info!(%shard, "the upstream is reached again");
                }
                again
            }
            Way::None(why) => {
                let before = self.lost();
                let jitter = state::random_u64().to_le_bytes()[0];
                if self.failed(clock::now(), jitter).is_some() && !before {
                    tracing::warn!(%shard, why, "the upstream cannot be used from this machine; messages wait, and one is tried every few seconds");
                }
                false
            }
        }
    }

    /// What is left of a pause.
    pub fn paused(&self, now: Instant) -> Option<Duration> {
        let until = Instant(self.until.load(Ordering::Acquire));
        (now < until).then(|| until.since(now))
    }

    /// The last attempt failed: one message at a time.
    pub fn lost(&self) -> bool {
        self.pauses.load(Ordering::Acquire) > 0
    }

    /// An attempt reached nobody. The pause that begins with it; `None` when it belongs to one that runs already.
    pub fn failed(&self, now: Instant, jitter: u8) -> Option<Duration> {
        if self.paused(now).is_some() {
            return None;
        }
        let pauses = self.pauses.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        let pause = exponential(FIRST, pauses, LONGEST, jitter);
        self.held().begin(now);
        self.until.store((now + pause).0, Ordering::Release);
        Some(pause)
    }

    /// An attempt reached the upstream. True: it was out of reach before.
    pub fn reached(&self) -> bool {
        self.until.store(0, Ordering::Release);
        let again = self.pauses.swap(0, Ordering::AcqRel) > 0;
        if again {
            self.held().end(clock::now());
        }
        again
    }

    /// Messages are held back for another reason, or not any more.
    pub fn hold(&self, on: bool) {
        let now = clock::now();
        match on {
            true => self.kept().begin(now),
            false => self.kept().end(now),
        }
    }

    /// Messages of this sort wait for payment, or not any more.
    pub fn wait_for_payment(&self, sort: Sort, on: bool) {
        let now = clock::now();
        match on {
            true => self.unpaid(sort).begin(now),
            false => self.unpaid(sort).end(now),
        }
    }

    /// For how much of the last `span` no message of this sort could be sent, in this tenure. Where several reasons held, it
    /// counts as often.
    pub fn held_within(&self, now: Instant, span: Duration, sort: Sort) -> Duration {
        let from = now - span;
        let all = self.held().since(from, now) + self.kept().since(from, now);
        all + self.unpaid(sort).since(from, now)
    }

    fn unpaid(&self, sort: Sort) -> MutexGuard<'_, HeldTimes> {
        let [template, other] = &self.unpaid;
        let times = match sort {
            Sort::Template => template,
            Sort::Other => other,
        };
        times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, HeldTimes> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, HeldTimes> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: time in which nothing could be sent is counted once, and only as far as it is asked for. Method: two spans, one open.
    #[test]
    fn held_time_is_counted() {
        let at = Instant::from_millis;
        let ms = Duration::from_millis;
        let mut held = HeldTimes::default();
        held.begin(at(100));
        held.begin(at(150));
        held.end(at(200));
        held.end(at(250));
        held.begin(at(900));
        for (from, now, wanted) in [
            (0, 1000, 200),
            (150, 1000, 150),
            (200, 1000, 100),
            (950, 1000, 50),
            (300, 400, 0),
        ] {
            assert_eq!(held.since(at(from), at(now)), ms(wanted), "{from} {now}");
        }
        for n in 0..100 {
            held.end(at(2000 + n));
            held.begin(at(2000 + n));
        }
        assert_eq!(held.0.len(), HELD_LEN_MAX);
    }

    /// Goal: time that was held counts for a message as old as all of it, however many spans it was. Method: a day of holds, each a
    /// minute with a second between them, looked at from its beginning.
    #[test]
    fn a_day_of_holds_is_remembered() {
        let at = |s: u64| Instant::from_millis(s * 1000);
        let mut held = HeldTimes::default();
        for minute in 0..1440 {
            held.begin(at(minute * 60));
            held.end(at(minute * 60 + 59));
        }
        let day = held.since(at(0), at(86_400));
        assert!(day >= Duration::from_secs(1440 * 59), "{day:?}");
        assert!(day <= Duration::from_secs(86_400), "{day:?}");
        assert_eq!(held.0.len(), HELD_LEN_MAX);
    }

    /// Goal: time in which one sort waits for payment counts for that sort. Method: one sort waits.
    #[test]
    fn payment_counts_for_its_sort() {
        let reach = Reach::default();
        let began = Instant::from_millis(clock::now().0 / 1_000_000);
        reach.wait_for_payment(Sort::Template, true);
        let now = clock::now() + Duration::from_secs(1000);
        let span = now.since(began);
        let held = |sort| reach.held_within(now, span, sort);
        assert!(held(Sort::Template) >= Duration::from_secs(1000));
        assert_eq!(held(Sort::Other), Duration::ZERO);
    }

    /// Goal: failures of one moment are one pause, pauses grow up to their bound, and a success ends them.
    #[test]
    fn pauses_grow_and_end() {
        let reach = Reach::default();
        let mut now = Instant::from_millis(1000);
        assert_eq!(reach.failed(now, 0), Some(FIRST));
        assert_eq!(reach.failed(now, 0), None, "the same moment");
        assert!(reach.lost() && reach.paused(now) == Some(FIRST));
        now = now + FIRST;
        assert!(reach.lost() && reach.paused(now).is_none());
        assert_eq!(reach.failed(now, 0), Some(2 * FIRST));
        for _ in 0..40 {
            now = now + LONGEST;
            let pause = reach.failed(now, 0).expect("over");
            assert!(pause <= LONGEST);
        }
        assert!(reach.reached() && !reach.reached());
        assert!(!reach.lost() && reach.paused(now).is_none());
        assert_eq!(reach.failed(now, 0), Some(FIRST));
    }
}
