//! What a measurement found: counts by message, times, and whether the queue grew.
//! Pure: looks at what was noted, asks nobody.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::Serialize;

use super::super::simulator::ledger::Life;
use super::super::traffic::Sent;

/// What became of all requests and messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub requests: u64,
    /// Requests that were not answered 2xx.
    pub refused: u64,
    pub accepted: u64,
    /// Accepted messages that the upstream never took.
    pub lost: u64,
    /// Accepted messages that the business was told to have failed.
    pub failed: u64,
    /// Messages that the upstream took more than once.
    pub twice: u64,
    /// Accepted and taken messages of which the business does not know every status.
    pub untold: u64,
    /// Times that two coreapps spoke for one shard.
    pub double_primary: u64,
    /// Statuses that the business was told once more. Deliveries are repeated after a failover: no finding.
    pub told_again: u64,
    /// Messages that the upstream took though nobody got a 2xx for them: an answer was lost on the way.
    pub unanswered: u64,
}

impl Counts {
    /// By message of ours. `double_primary` is not among what it looks at.
    pub fn of(sent: &[Sent], lives: &HashMap<String, Life>) -> Self {
        let mut counts = Self {
            requests: sent.len() as u64,
            ..Self::default()
        };
        let mut accepted: HashSet<&str> = HashSet::with_capacity(sent.len());
        for one in sent {
            match one.id.as_deref().filter(|_| one.accepted()) {
                Some(id) => drop(accepted.insert(id)),
                None => counts.refused += 1,
            }
        }
        counts.accepted = accepted.len() as u64;
        for id in &accepted {
            let life = lives.get(*id).copied().unwrap_or_default();
            match (life.failed, life.taken, life.whole()) {
                (true, _, _) => counts.failed += 1,
                (false, 0, _) => counts.lost += 1,
                (false, _, false) => counts.untold += 1,
                (false, _, true) => {}
            }
        }
        for (id, life) in lives {
            counts.twice += u64::from(life.taken > 1);
            counts.unanswered += u64::from(life.taken > 0 && !accepted.contains(id.as_str()));
            let again = life.heard.iter().map(|heard| heard.told.saturating_sub(1));
            counts.told_again += again.map(u64::from).sum::<u64>();
        }
        counts
    }

    /// Nothing that must not be was found.
    pub fn good(&self) -> bool {
        let bad = [
            self.refused,
            self.lost,
            self.failed,
            self.twice,
            self.untold,
            self.double_primary,
        ];
        bad.iter().all(|count| *count == 0)
    }
}

/// Half of the times are at most the first, 99 of 100 at most the second, all at most the third; microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    pub p50_us: u64,
    pub p99_us: u64,
    pub worst_us: u64,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100);
            let time = times.get(rank.saturating_sub(1)).copied();
            u64::try_from(time.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
        };
        Self {
            p50_us: at(50),
            p99_us: at(99),
            worst_us: at(100),
        }
    }
}

/// How long the ways take.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Times {
    /// From a request until it was answered 2xx.
    pub answer: Spread,
    /// From that answer until the upstream had the message; zero where it had it before.
    pub accept_to_upstream: Spread,
    /// From the request until the upstream had the message.
    pub request_to_upstream: Spread,
    /// From the upstream's first try to tell us a status until the business had it.
    pub status_to_business: Spread,
}

impl Times {
    /// Of everything that was accepted and told.
    pub fn of(sent: &[Sent], lives: &HashMap<String, Life>) -> Self {
        let (mut answer, mut accept, mut request) = (Vec::new(), Vec::new(), Vec::new());
        for one in sent.iter().filter(|one| one.accepted()) {
            answer.push(one.answered_at.since(one.sent_at));
            let life = one.id.as_ref().and_then(|id| lives.get(id));
            if let Some(taken_at) = life.and_then(|life| life.taken_at) {
                accept.push(taken_at.since(one.answered_at));
                request.push(taken_at.since(one.sent_at));
            }
        }
        let heard = lives.values().flat_map(|life| life.heard);
        let told = heard.filter_map(|heard| Some(heard.told_at?.since(heard.posted_at?)));
        Self {
            answer: Spread::of(answer),
            accept_to_upstream: Spread::of(accept),
            request_to_upstream: Spread::of(request),
            status_to_business: Spread::of(told.collect()),
        }
    }
}

/// The queue over time: messages that were due and of which the business does not know everything yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Median of the first third of the time, and of the last.
    pub first: u64,
    pub last: u64,
    pub worst: u64,
    /// It did not grow by more than a second's worth of messages.
    pub flat: bool,
}

impl Queue {
    /// From one look a second. Medians: the moment after a kill is not a queue that grows.
    pub fn of(looks: &[u64], rate: u32) -> Self {
        let third = looks.len().div_ceil(3);
        let (first, last) = (
            median(&looks[..third]),
            median(&looks[looks.len() - third..]),
        );
        Self {
            first,
            last,
            worst: looks.iter().copied().max().unwrap_or(0),
            flat: last <= first + u64::from(rate),
        }
    }
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

/// Halves between the highest rate that was held and the lowest that was not.
#[derive(Debug, Clone, Copy)]
pub struct Halving {
    held: u32,
    /// One above what may be asked, until something was not held.
    too_high: u32,
    next: Option<u32>,
}

/// The search ends when the two are this close, in percent of the higher one.
const CLOSE_PERCENT: u32 = 5;

impl Halving {
    /// Asks for the highest one first.
    pub fn new(most: u32) -> Self {
        Self {
            held: 0,
            too_high: most + 1,
            next: Some(most),
        }
    }

    /// The rate to try; `None`: the search is over.
    pub fn next(&self) -> Option<u32> {
        self.next
    }

    /// The highest rate that was held; zero when none was.
    pub fn held(&self) -> u32 {
        self.held
    }

    /// What became of a try.
    pub fn note(&mut self, rate: u32, held: bool) {
        if held {
            self.held = self.held.max(rate);
        } else {
            self.too_high = self.too_high.min(rate);
        }
        let between = self.too_high.saturating_sub(self.held);
        let over = between <= 1 || between * 100 <= self.too_high * CLOSE_PERCENT;
        self.next = (!over).then_some(self.held + between / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::simulator::ledger::Heard;
    use super::*;
    use wa_core::time::Instant;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn sent(id: &str, status: u16) -> Sent {
        Sent {
            sent_at: at(10),
            answered_at: at(15),
            status,
            id: Some(id.to_owned()),
            moved: false,
        }
    }

    fn whole(taken: u16, told: u16) -> Life {
        let heard = Heard {
            posted_at: Some(at(40)),
            told_at: Some(at(70)),
            told,
        };
        Life {
            taken_at: Some(at(18)),
            taken,
            failed: false,
            heard: [heard; 3],
        }
    }

    /// Goal: each thing that must not be is counted, and alone makes the run bad. Method: one message for each.
    #[test]
    fn each_finding_counts() {
        let good = || HashMap::from([("a".to_owned(), whole(1, 1))]);
        let a = || vec![sent("a", 201)];
        let counts = Counts::of(&a(), &good());
        assert!(counts.good() && counts.accepted == 1, "{counts:?}");

        let bad = |more: Sent, life: Option<Life>| {
            let (mut all, mut lives) = (a(), good());
            let id = more.id.clone().expect("named");
            all.push(more);
            lives.extend(life.map(|life| (id, life)));
            let counts = Counts::of(&all, &lives);
            assert!(!counts.good(), "{counts:?}");
            counts
        };
        let mut part = whole(1, 1);
        part.heard[1].told = 0;
        let mut failed = whole(0, 0);
        failed.failed = true;
        assert_eq!(bad(sent("b", 503), None).refused, 1);
        assert_eq!(bad(sent("b", 201), None).lost, 1);
        assert_eq!(bad(sent("b", 201), Some(whole(0, 0))).lost, 1);
        assert_eq!(bad(sent("b", 201), Some(failed)).failed, 1);
        assert_eq!(bad(sent("b", 201), Some(whole(2, 1))).twice, 1);
        assert_eq!(bad(sent("b", 201), Some(part)).untold, 1);
        let mut two = counts;
        two.double_primary = 1;
        assert!(!two.good());

        let again = Counts::of(&a(), &HashMap::from([("a".to_owned(), whole(1, 2))]));
        assert!(again.good() && again.told_again == 3, "{again:?}");
        let unanswered = Counts::of(&[], &good());
        assert!(unanswered.unanswered == 1 && unanswered.lost == 0);
    }

    #[test]
    fn times_are_from_one_event_to_the_next() {
        let lives = HashMap::from([("a".to_owned(), whole(1, 1))]);
        let times = Times::of(&[sent("a", 201), sent("b", 503)], &lives);
        let ms = |spread: Spread| (spread.p50_us / 1000, spread.worst_us / 1000);
        assert_eq!(ms(times.answer), (5, 5));
        assert_eq!(ms(times.accept_to_upstream), (3, 3));
        assert_eq!(ms(times.request_to_upstream), (8, 8));
        assert_eq!(ms(times.status_to_business), (30, 30));
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }

    /// Goal: a queue that grows by a few in a hundred of the rate is seen, a peak after each kill is not taken for one. Method:
    /// fabricated looks of ten minutes at 1,000/s.
    #[test]
    fn only_a_queue_that_grows_is_not_flat() {
        let peaks = |n: u64| if n % 60 < 10 { 4000 } else { 150 };
        let level: Vec<u64> = (0..600).map(|n| peaks(n) + n % 7).collect();
        assert!(Queue::of(&level, 1000).flat);
        let grows: Vec<u64> = (0..600).map(|n| peaks(n) + n * 5).collect();
        let queue = Queue::of(&grows, 1000);
        assert!(!queue.flat && queue.worst > 4000, "{queue:?}");
        assert!(Queue::of(&[], 1000).flat);
    }

    /// Goal: the search ends near the limit, whatever it is. Method: all limits, with a rate that is held up to them.
    #[test]
    fn halving_comes_near_the_limit() {
        for limit in (0..=1100).step_by(10) {
            let (mut halving, mut tries) = (Halving::new(1000), 0);
            while let Some(rate) = halving.next() {
                halving.note(rate, rate <= limit);
                tries += 1;
                assert!(tries < 15, "{limit}");
            }
            let most = limit.min(1000);
            assert!(halving.held() <= most, "{limit}");
            assert!(
                most - halving.held() <= most / 18 + 1,
                "{limit}: {halving:?}"
            );
        }
    }
}
