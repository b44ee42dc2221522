//! The documented limits: messages a second of the number, messages to one recipient, calls of management an hour.
//! Judges by the times that it is told.

use std::collections::BTreeMap;

/// The recipients that are remembered: beyond that, those that may write again at once are forgotten.
const PAIRS_MAX: usize = 100_000;
/// One message in this time, in milliseconds; a burst is over after it.
const PAIR_MS: u64 = 6000;
/// Most messages of a burst.
const BURST_MAX: u64 = 45;
const SECOND_MS: u64 = 1000;
const HOUR_MS: u64 = 3_600_000;

/// So many in a span of time, counted from its begin.
#[derive(Debug, Default)]
struct Window {
    span: u64,
    count: u64,
}

impl Window {
    fn add(&mut self, span: u64) -> u64 {
        if self.span != span {
            (self.span, self.count) = (span, 0);
        }
        self.count += 1;
        self.count
    }
}

/// A burst to one recipient: it borrows from the time after it.
#[derive(Debug, Clone, Copy)]
struct Burst {
    began_ms: u64,
    count: u64,
}

impl Burst {
    /// When the next burst may begin.
    fn paid_ms(self) -> u64 {
        self.began_ms + self.count * PAIR_MS
    }
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Throttle {
    second: Window,
    hour: Window,
    /// When each recipient got the last message.
    last: BTreeMap<String, u64>,
    bursts: BTreeMap<String, Burst>,
}

impl Throttle {
    /// A message of the number, in or out; whether it is within the limit, zero being none.
    pub fn message(&mut self, now_ms: u64, most: u64) -> bool {
        most == 0 || self.second.add(now_ms / SECOND_MS) <= most
    }

    /// A call of management.
    pub fn management(&mut self, now_ms: u64, most: u64) -> bool {
        most == 0 || self.hour.add(now_ms / HOUR_MS) <= most
    }

    /// The gap before a message to `to` is long enough; zero: any is.
    pub fn gap(&mut self, to: &str, now_ms: u64, gap_ms: u64) -> bool {
        if gap_ms == 0 {
            return true;
        }
        if self.last.get(to).is_some_and(|at| now_ms < at + gap_ms) {
            return false;
        }
        if self.last.len() >= PAIRS_MAX {
            self.last.retain(|_, at| now_ms < *at + gap_ms);
        }
        self.last.insert(to.to_owned(), now_ms);
        true
    }

    /// One message in 6 seconds to one recipient, or up to 45 within 6 seconds and then silence for as long as they would
    /// have taken.
    pub fn pair(&mut self, to: &str, now_ms: u64) -> bool {
        if self.bursts.len() >= PAIRS_MAX {
            self.bursts.retain(|_, burst| now_ms < burst.paid_ms());
        }
        let burst = self.bursts.entry(to.to_owned()).or_insert(Burst {
            began_ms: now_ms,
            count: 0,
        });
        if now_ms >= burst.paid_ms() {
            (burst.began_ms, burst.count) = (now_ms, 0);
        }
        let open = now_ms < burst.began_ms + PAIR_MS && burst.count < BURST_MAX;
        if open {
            burst.count += 1;
        }
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a burst is borrowed from the time after it. Method: 20 at once, as in the documentation: two minutes of silence.
    #[test]
    fn a_burst_is_paid_back() {
        let mut throttle = Throttle::default();
        assert!((0..20).all(|n| throttle.pair("a", n)));
        assert!(!throttle.pair("a", 6000) && !throttle.pair("a", 119_999));
        assert!(throttle.pair("b", 6000), "another recipient");
        assert!(throttle.pair("a", 120_000));
        assert!((1..45).all(|n| throttle.pair("a", 120_000 + n)));
        assert!(!throttle.pair("a", 120_050), "the 46th");
        // At a steady pace there is no end.
        assert!((0..100).all(|n| throttle.pair("c", n * PAIR_MS)));
    }

    #[test]
    fn seconds_and_gaps_are_counted() {
        let mut throttle = Throttle::default();
        assert!((0..80).all(|_| throttle.message(5000, 80)));
        assert!(!throttle.message(5999, 80) && throttle.message(6000, 80));
        assert!((0..1000).all(|_| throttle.message(6000, 0)));
        assert!(throttle.management(0, 1) && !throttle.management(HOUR_MS - 1, 1));
        assert!(throttle.management(HOUR_MS, 1));
        assert!(throttle.gap("a", 10, 100) && !throttle.gap("a", 109, 100));
        assert!(throttle.gap("a", 110, 100) && throttle.gap("b", 110, 100));
    }
}
