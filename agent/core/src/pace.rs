//! How fast messages may go: the number's limit, which is learned, and the bucket of each customer, which the upstream documents.
//! Waits for nothing and sends nothing: `coreapp/sender.rs` does.

use std::collections::BTreeMap;

use crate::backoff::exponential;
use crate::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);
/// So much of a second may go at once.
const BURST: Duration = Duration::from_millis(250);
/// The pause after the first refusal, and the longest after many in a row.
const REFUSED_FIRST: Duration = SECOND;
const REFUSED_LONGEST: Duration = Duration::from_secs(60);

/// What the upstream allows a number, in its words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Level {
    #[default]
    Standard,
    High,
}

impl Level {
    /// Messages per second, as documented.
    pub fn per_second(self) -> u32 {
        match self {
            Self::Standard => 80,
            Self::High => 1000,
        }
    }
}

/// The most that one of so many shards sends in a second: its part of the number's limit, which counts for all of them together.
/// `written`: somebody wrote that limit down, and it holds.
pub fn most(written: Option<u32>, level: Level, shards: u16) -> u32 {
    let number = written.unwrap_or(level.per_second());
    (number / u32::from(shards.max(1))).max(1)
}

/// The number's limit, or a shard's part of it. How much goes at a time the upstream tells only by refusing: a refusal halves the rate, each second without one gives a
/// sixteenth of the highest back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rate {
    /// The highest, in messages per second.
    most: u32,
    /// That in force.
    now: u32,
    /// When the next one is due, if all went evenly.
    due: Instant,
    /// Nothing goes before.
    paused: Instant,
    /// When it was last raised or lowered.
    changed: Instant,
    /// Refusals in a row, those of one moment counted once.
    refusals: u32,
}

impl Rate {
    /// At its highest.
    pub fn new(most: u32) -> Self {
        let most = most.max(1);
        Self {
            most,
            now: most,
            due: Instant::ZERO,
            paused: Instant::ZERO,
            changed: Instant::ZERO,
            refusals: 0,
        }
    }

    /// Messages per second now.
    pub fn per_second(&self) -> u32 {
        self.now
    }

    /// Another limit is known to be in force.
    pub fn set_most(&mut self, most: u32) {
        self.most = most.max(1);
        self.now = self.now.min(self.most);
    }

    /// How long the next one has to wait; `None`: it may go. `part`: only one in so many goes, 1 for all.
    pub fn wait(&mut self, now: Instant, part: u32) -> Option<Duration> {
        self.recover(now);
        if now < self.paused {
            return Some(self.paused.since(now));
        }
        let due = self.due(now, part);
        (due > now).then(|| due.since(now))
    }

    /// Takes a turn; else how long to wait.
    pub fn take(&mut self, now: Instant, part: u32) -> Option<Duration> {
        let wait = self.wait(now, part);
        if wait.is_none() {
            self.due = self.due(now, part) + self.gap(part);
        }
        wait
    }

    fn gap(&self, part: u32) -> Duration {
        SECOND * part.max(1) / self.now
    }

    fn due(&self, now: Instant, part: u32) -> Instant {
        self.due.max(now - BURST.max(self.gap(part)))
    }

    /// A turn was taken and no call made: it is given back.
    pub fn give_back(&mut self) {
        self.due = self.due - self.gap(1);
    }

    /// The upstream says that it is too fast: for how long nothing goes. `asked`: the pause that it asks for; else it grows with
    /// the number's refusals in a row, whatever a single message has behind it. Refusals of one moment are one.
    pub fn refused(&mut self, now: Instant, asked: Option<Duration>, jitter: u8) -> Duration {
        self.recover(now);
        if now >= self.paused {
            self.now = (self.now / 2).max(1);
            self.changed = now;
            self.refusals = self.refusals.saturating_add(1);
        }
        let usual = || exponential(REFUSED_FIRST, self.refusals, REFUSED_LONGEST, jitter);
        let pause = asked.unwrap_or_else(usual);
        self.paused = self.paused.max(now + pause);
        pause
    }

    /// The upstream took one.
    pub fn taken(&mut self) {
        self.refusals = 0;
    }

    fn recover(&mut self, now: Instant) {
        let from = self.changed.max(self.paused);
        let seconds = now.since(from).as_secs();
        if self.now >= self.most || seconds == 0 {
            return;
        }
        let steps = u32::try_from(seconds).unwrap_or(u32::MAX);
        let step = (self.most / 16).max(1);
        self.now = self
            .now
            .saturating_add(step.saturating_mul(steps))
            .min(self.most);
        self.changed = from + SECOND * steps;
    }
}

/// One message in so long to one customer.
pub const PAIR_EVERY: Duration = Duration::from_secs(6);
/// So many may go at once, borrowed from the time after them.
pub const PAIR_BURST: u32 = 45;
/// The pause after refusals in a row: 4^X seconds, at most so long.
const REFUSED_MAX: Duration = Duration::from_secs(256);
/// Customers that are remembered. The one that is forgotten first is the one that was written to longest ago.
const PAIRS_MAX: usize = 65_536;

/// One customer's bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Pair {
    /// When the bucket is full again.
    full: Instant,
    /// Refused in a row.
    refusals: u32,
    until: Instant,
    /// What was put off has its turns until then: what comes later goes behind it.
    booked: Instant,
}

impl Pair {
    fn over(&self, now: Instant) -> bool {
        self.full <= now && self.until <= now && self.booked <= now
    }
}

/// The buckets of all customers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pairs {
    /// So many may go at once; 0: as many as the upstream takes.
    burst: u32,
    pairs: BTreeMap<u32, Pair>,
    /// It is looked through for full buckets when it has grown to this.
    look_at: usize,
}

impl Pairs {
    /// Nobody was written to yet.
    pub fn new(burst: u32) -> Self {
        Self {
            burst,
            pairs: BTreeMap::new(),
            look_at: 0,
        }
    }

    /// Takes a turn for this customer; else how long until the next one. `booked`: the message was put off before.
    pub fn take(&mut self, now: Instant, route: u32, booked: bool) -> Option<Duration> {
        let burst = PAIR_EVERY * self.burst.saturating_sub(1);
        let limited = self.burst > 0;
        if !limited && !self.pairs.contains_key(&route) {
            return None;
        }
        let pair = self.pair(now, route);
        let behind = if booked { Instant::ZERO } else { pair.booked };
        let full = if limited { pair.full.max(now) } else { now };
        let turn = (full - burst).max(pair.until).max(behind);
        if turn > now {
            return Some(turn.since(now));
        }
        if limited {
            pair.full = full + PAIR_EVERY;
        }
        None
    }

    /// A turn was taken and no call made: it is given back.
    pub fn give_back(&mut self, route: u32) {
        if self.burst > 0
            && let Some(pair) = self.pairs.get_mut(&route)
        {
            pair.full = pair.full - PAIR_EVERY;
        }
    }

    /// Messages were put off, the last of them for so long: what comes later goes behind them.
    pub fn book(&mut self, now: Instant, route: u32, last: Duration) {
        let pair = self.pair(now, route);
        pair.booked = pair.booked.max(now + last);
    }

    /// The upstream refuses this customer's messages as too many: how long they wait.
    pub fn refused(&mut self, now: Instant, route: u32) -> Duration {
        let pair = self.pair(now, route);
        let pause = (SECOND * 4u32.pow(pair.refusals.min(4))).min(REFUSED_MAX);
        pair.refusals = pair.refusals.saturating_add(1);
        pair.until = pair.until.max(now + pause);
        pause
    }

    /// It took one.
    pub fn taken(&mut self, route: u32) {
        if let Some(pair) = self.pairs.get_mut(&route) {
            pair.refusals = 0;
        }
    }

    fn pair(&mut self, now: Instant, route: u32) -> &mut Pair {
        if self.pairs.len() >= self.look_at.max(1024) {
            self.pairs
                .retain(|_, pair| pair.refusals > 0 || !pair.over(now));
            if self.pairs.len() >= PAIRS_MAX {
                // Whoever is forgotten is told by the upstream again.
                self.pairs.clear();
            }
            self.look_at = self.pairs.len() * 2;
        }
        self.pairs.entry(route).or_insert(Pair {
            full: Instant::ZERO,
            refusals: 0,
            until: Instant::ZERO,
            booked: Instant::ZERO,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Instant = Instant::from_millis;
    const S: fn(u64) -> Duration = Duration::from_secs;

    /// How many go from one moment to another, looked at each millisecond.
    fn gone(rate: &mut Rate, from_ms: u64, to_ms: u64, part: u32) -> u32 {
        let mut count = 0;
        for ms in from_ms..to_ms {
            while rate.take(MS(ms), part).is_none() {
                count += 1;
            }
        }
        count
    }

    /// Goal: the rate is kept, with a small burst, and half of it when half is asked for.
    #[test]
    fn a_rate_is_kept() {
        let mut rate = Rate::new(80);
        let first = gone(&mut rate, 10_000, 11_000, 1);
        assert!((80..=101).contains(&first), "{first}");
        let then = gone(&mut rate, 11_000, 21_000, 1);
        assert!((795..=805).contains(&then), "{then}");
        let half = gone(&mut rate, 21_000, 31_000, 2);
        assert!((395..=405).contains(&half), "{half}");
    }

    /// Goal: all shards together keep the number's limit, also with more shards than messages; what somebody wrote holds, whatever the
    /// upstream says. Method: every count of shards, both levels.
    #[test]
    fn shards_share_the_numbers_limit() {
        for shards in 1..=32 {
            for (written, level, number) in [
                (None, Level::Standard, 80),
                (None, Level::High, 1000),
                (Some(20), Level::High, 20),
                (Some(250), Level::Standard, 250),
            ] {
                let each = most(written, level, shards);
                let all = each * u32::from(shards);
                assert!(all <= number.max(u32::from(shards)), "{shards}: {all}");
                assert!(all + u32::from(shards) > number, "{shards}: {all}");
            }
        }
        assert_eq!(
            (
                most(Some(2), Level::Standard, 8),
                most(None, Level::High, 0)
            ),
            (1, 1000)
        );
    }

    /// Goal: a number that may send more than before does so at once, but for a refusal, which is forgotten slowly.
    #[test]
    fn an_upgraded_number_sends_more() {
        let mut rate = Rate::new(80);
        assert_eq!(rate.take(MS(60_000), 1), None);
        rate.set_most(1000);
        assert_eq!(rate.wait(MS(60_010), 1), None);
        assert_eq!(rate.per_second(), 1000);
        rate.set_most(80);
        rate.refused(MS(70_000), Some(S(1)), 0);
        rate.set_most(1000);
        let _ = rate.wait(MS(72_000), 1);
        assert_eq!(rate.per_second(), 40 + 62);
    }

    /// Goal: a refusal halves, a second one of the same moment does not, pauses are kept, and the rate comes back.
    #[test]
    fn a_refusal_halves_and_time_heals() {
        let mut rate = Rate::new(1000);
        rate.refused(MS(1000), Some(S(2)), 0);
        rate.refused(MS(1010), Some(S(1)), 0);
        assert_eq!(rate.per_second(), 500);
        assert_eq!(rate.take(MS(1500), 1), Some(Duration::from_millis(1500)));
        assert_eq!(rate.take(MS(3000), 1), None);
        rate.refused(MS(3001), Some(S(1)), 0);
        assert_eq!(rate.per_second(), 250);
        assert_eq!(rate.take(MS(8001), 1), None);
        assert_eq!(rate.per_second(), 250 + 4 * 62);
        assert_eq!(rate.take(MS(60_000), 1), None);
        assert_eq!(rate.per_second(), 1000);
        rate.set_most(80);
        assert_eq!(rate.per_second(), 80);
        for n in 0..50 {
            rate.refused(MS(100_000 + n * 5000), Some(S(1)), 0);
            assert!(rate.per_second() >= 1);
        }
    }

    /// Goal: the pause is that of the number's refusals in a row: those of one moment count once, a message that is taken ends the
    /// row, and the upstream's own word goes before. Method: three rows.
    #[test]
    fn pauses_grow_with_the_numbers_refusals() {
        let mut rate = Rate::new(80);
        let mut now = MS(1000);
        for wanted in [1, 2, 4, 8, 16, 32, 60, 60] {
            for _ in 0..50 {
                assert_eq!(rate.refused(now, None, 0), S(wanted));
            }
            assert_eq!(rate.wait(now, 1), Some(S(wanted)));
            now = now + S(wanted);
        }
        rate.taken();
        assert_eq!(rate.refused(now, None, 0), S(1));
        now = now + S(1);
        assert_eq!(rate.refused(now, Some(S(7)), 0), S(7));
        assert_eq!(rate.wait(now, 1), Some(S(7)));
    }

    /// Goal: turns of messages that made no call are none. Method: many that are given back, then the whole of what is allowed.
    #[test]
    fn turns_without_a_call_are_given_back() {
        let (mut rate, mut pairs) = (Rate::new(80), Pairs::new(PAIR_BURST));
        for n in 0..1000 {
            assert_eq!(rate.take(MS(1000), 1), None, "{n}");
            assert_eq!(pairs.take(MS(1000), 7, false), None, "{n}");
            rate.give_back();
            pairs.give_back(7);
        }
        let first = gone(&mut rate, 1000, 2000, 1);
        assert!((80..=101).contains(&first), "{first}");
        for n in 0..45 {
            assert_eq!(pairs.take(MS(1000), 7, false), None, "{n}");
        }
        assert_eq!(pairs.take(MS(1000), 7, false), Some(S(6)));
        pairs.give_back(8);
    }

    /// Goal: a customer's bucket is the documented one: 45 at once, then one in six seconds. Method: a busy customer and another.
    #[test]
    fn a_customer_has_the_documented_bucket() {
        let mut pairs = Pairs::new(PAIR_BURST);
        for n in 0..45 {
            assert_eq!(pairs.take(MS(1000), 7, false), None, "{n}");
        }
        assert_eq!(pairs.take(MS(1000), 7, false), Some(S(6)));
        assert_eq!(pairs.take(MS(1000), 8, false), None, "nobody else waits");
        assert_eq!(pairs.take(MS(7000), 7, false), None);
        assert_eq!(pairs.take(MS(7000), 7, false), Some(S(6)));
        // After 45 × 6 s it may burst again.
        for n in 0..45 {
            assert_eq!(pairs.take(MS(400_000), 7, false), None, "{n}");
        }
    }

    /// Goal: refusals in a row wait for 4^X seconds, that customer alone, and one that is taken ends the row.
    #[test]
    fn refusals_grow_by_four() {
        let mut pairs = Pairs::new(PAIR_BURST);
        let mut now = MS(1000);
        for wanted in [1, 4, 16, 64, 256, 256] {
            let pause = pairs.refused(now, 7);
            assert_eq!(pause, S(wanted));
            assert_eq!(pairs.take(now, 7, false), Some(pause));
            assert_eq!(pairs.take(now, 8, false), None);
            now = now + pause;
        }
        pairs.taken(7);
        assert_eq!(pairs.refused(now, 7), S(1));
    }

    /// Goal: what comes later goes behind what was put off; that has its turn.
    #[test]
    fn what_was_put_off_is_not_overtaken() {
        let mut pairs = Pairs::new(PAIR_BURST);
        let pause = pairs.refused(MS(0), 7);
        pairs.book(MS(0), 7, pause + S(18));
        assert_eq!(pairs.take(MS(1000), 7, true), None);
        assert_eq!(pairs.take(MS(1000), 7, false), Some(S(18)));
        assert_eq!(pairs.take(MS(19_000), 7, false), None);
    }

    /// Goal: without a bucket of ours the upstream's refusals count, and nothing else.
    #[test]
    fn the_bucket_can_be_left_to_the_upstream() {
        let mut pairs = Pairs::new(0);
        for _ in 0..1000 {
            assert_eq!(pairs.take(MS(1000), 7, false), None);
        }
        assert_eq!(pairs.refused(MS(1000), 7), S(1));
        assert_eq!(pairs.take(MS(1000), 7, false), Some(S(1)));
        assert_eq!(pairs.take(MS(2000), 7, false), None);
    }

    /// Goal: a million customers are not remembered for ever.
    #[test]
    fn memory_has_a_bound() {
        let mut pairs = Pairs::new(PAIR_BURST);
        for route in 0..1_000_000u32 {
            let _ = pairs.take(MS(u64::from(route)), route, false);
            assert!(pairs.pairs.len() <= PAIRS_MAX);
        }
        assert!(pairs.pairs.len() < 20_000, "{}", pairs.pairs.len());
    }
}
