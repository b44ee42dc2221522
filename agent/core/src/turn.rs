//! Whose turn it is: customers who have written to us go before campaigns, and nobody starves.
//! Sends nothing and reads no clock: `coreapp/ready.rs` and `coreapp/replies.rs` ask it.

use std::collections::BTreeMap;

use crate::time::{Duration, Instant};

/// Whoever wrote within this time is answered first. It is the upstream's own window, in which a business may write freely to a
/// customer who wrote: what goes to him then is taken for an answer.
pub const RECENT: Duration = Duration::from_secs(24 * 3600);
/// Customers who are remembered. Those who wrote longest ago are forgotten first.
pub const RECENT_MAX: usize = 65_536;
/// So many answers in a row go before one of the others, while both wait.
pub const REPLIES_IN_A_ROW: u32 = 3;

/// Customers, by their hash, who have written lately.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Recent {
    /// When each wrote last. Two halves, so that forgetting costs nothing: the older one goes when the younger one is full.
    young: BTreeMap<u32, Instant>,
    old: BTreeMap<u32, Instant>,
}

impl Recent {
    /// This customer wrote at that time.
    pub fn wrote(&mut self, at: Instant, route: u32) {
        if let Some(known) = self.young.get_mut(&route) {
            *known = (*known).max(at);
            return;
        }
        let before = self.old.remove(&route);
        if self.young.len() >= RECENT_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(route, before.map_or(at, |b| b.max(at)));
    }

    /// Whether this customer wrote within [`RECENT`].
    pub fn has(&self, now: Instant, route: u32) -> bool {
        let at = self.young.get(&route).or_else(|| self.old.get(&route));
        at.is_some_and(|at| now.since(*at) < RECENT)
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Which of two queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Customers who have written lately.
    Replies,
    Others,
}

/// Gives turns to two queues.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Turns {
    /// Answers in a row while others waited.
    in_a_row: u32,
}

impl Turns {
    /// Whose turn it is, of those who wait.
    pub fn next(&mut self, replies: bool, others: bool) -> Option<Queue> {
        match (replies, others) {
            (false, false) => None,
            (true, true) if self.in_a_row < REPLIES_IN_A_ROW => {
                self.in_a_row += 1;
                Some(Queue::Replies)
            }
            (true, false) => {
                self.in_a_row = 0;
                Some(Queue::Replies)
            }
            (_, true) => {
                self.in_a_row = 0;
                Some(Queue::Others)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::splitmix;
    use std::collections::VecDeque;

    const S: fn(u64) -> Duration = Duration::from_secs;

    /// Goal: answers go first, nothing starves, no turn is lost, and each queue keeps its order. Method: 1,000 random courses of
    /// arrivals and turns, judged turn by turn.
    #[test]
    fn answers_go_first_and_nothing_starves() {
        let (mut before, mut after) = (0u32, 0u32);
        for seed in 0..1000u64 {
            let mut dice = seed;
            let mut below = |n: u64| splitmix(&mut dice) % n;
            let (much, mut turns) = (1 + below(4), Turns::default());
            let mut queues = [VecDeque::new(), VecDeque::new()];
            let mut last = [None::<u64>; 2];
            // Turns of the other queue in a row, while one waits.
            let mut waits = [0u32; 2];
            let mut number = 0;
            for _ in 0..500 {
                for _ in 0..below(much) {
                    queues[usize::from(below(2) == 0)].push_back(number);
                    number += 1;
                }
                let wait = [!queues[0].is_empty(), !queues[1].is_empty()];
                let at = match turns.next(wait[0], wait[1]) {
                    None => {
                        assert_eq!(wait, [false, false], "a turn is lost");
                        continue;
                    }
                    Some(Queue::Replies) => 0,
                    Some(Queue::Others) => 1,
                };
                let one = queues[at].pop_front().expect("who has the turn waits");
                assert!(last[at].is_none_or(|last| last < one), "out of order");
                last[at] = Some(one);
                waits[at] = 0;
                waits[1 - at] = if wait[1 - at] { waits[1 - at] + 1 } else { 0 };
                assert!(waits[0] <= 1, "an answer waits for more than one of others");
                assert!(waits[1] <= REPLIES_IN_A_ROW, "the others starve");
                before += u32::from(wait == [true, true] && at == 0);
                after += u32::from(wait == [true, true] && at == 1);
            }
        }
        assert!(before > 2 * after && after > 0, "{before} and {after}");
    }

    /// Goal: who wrote is remembered for the upstream's window, and what came late does not make it shorter.
    #[test]
    fn who_wrote_is_remembered_for_a_day() {
        let (at, mut recent) = (Instant::from_millis(1_000_000_000), Recent::default());
        assert!(!recent.has(at, 7) && recent.is_empty());
        recent.wrote(at, 7);
        recent.wrote(at - S(3600), 7);
        assert!(recent.has(at + RECENT - S(1), 7) && !recent.has(at, 8));
        assert!(!recent.has(at + RECENT, 7));
        recent.wrote(at + RECENT, 7);
        assert!(recent.has(at + RECENT + S(1), 7));
    }

    /// Goal: memory has a bound, and those who wrote last are in it.
    #[test]
    fn a_million_customers_are_not_remembered() {
        let mut recent = Recent::default();
        for route in 0..1_000_000u32 {
            recent.wrote(Instant::from_millis(u64::from(route)), route);
            assert!(recent.len() <= RECENT_MAX);
        }
        let now = Instant::from_millis(1_000_000);
        let last = 1_000_000 - 30_000;
        assert!((last..1_000_000).all(|route| recent.has(now, route)));
        // One who was in the older half and writes again is kept.
        let one = (0..1_000_000).find(|route| recent.has(now, *route));
        let one = one.expect("somebody is remembered");
        recent.wrote(now, one);
        for route in 2_000_000..2_000_000 + 30_000 {
            recent.wrote(now, route);
        }
        assert!(recent.has(now, one));
    }
}
