//! Whether a receipt that has not come is missing, or late like those of other messages: only what is missing may be settled.
//! Pure: `coreapp/ambiguity.rs` asks the store for the evidence, and sends again or reports.

use crate::guard::{Guard, on};
use crate::time::Duration;

/// Answered sends that were claimed after the message, nearest first: so many are looked at.
pub const NEWER_MAX: usize = 16;
/// The same of those that were claimed before it.
pub const OLDER_MAX: usize = 8;
/// Of the newer ones, the nearest: one of them at least must have its receipt.
const NEXT: usize = 4;
/// Newest receipts whose lag tells what is usual.
pub const LAGS_MAX: usize = 64;

/// A send that the upstream answered, claimed shortly before or after the message in question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    Receipted,
    /// No receipt yet. How long ago the answer was recorded.
    Lacking(Duration),
}

/// What the store knows of the number's receipts around one message, whichever shard sent them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Claimed after it, nearest first, at most [`NEWER_MAX`].
    pub newer: Vec<Neighbour>,
    /// Claimed before it, nearest first, at most [`OLDER_MAX`].
    pub older: Vec<Neighbour>,
    /// From answer to receipt, of the newest receipts: at most [`LAGS_MAX`].
    pub lags: Vec<Duration>,
}

/// How long a message of unknown fate waits for its receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Always.
    pub window: Duration,
    /// At most, whatever the evidence says.
    pub max: Duration,
}

/// What to do with a message of unknown fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The window is not over.
    InWindow,
    /// Receipts of its neighbours are outstanding too: wait.
    Late,
    /// The receipts so far took longer than it has waited: wait.
    SoonerThanUsual,
    /// Messages that were claimed after it have their receipts: its own is not on its way.
    NewerReceipted,
    /// No receipt is outstanding that would have come before its own.
    NoneOutstanding,
    /// The longest wait is over.
    WaitedLongest,
}

impl Verdict {
    /// The message may be sent again or reported.
    pub fn settles(self) -> bool {
        match self {
            Self::InWindow | Self::Late | Self::SoonerThanUsual => false,
            Self::NewerReceipted | Self::NoneOutstanding | Self::WaitedLongest => true,
        }
    }
}

/// Judges one message that has waited so long. One lost receipt is no evidence; a quarter of the neighbours is.
pub fn judge(waited: Duration, patience: Patience, evidence: &Evidence) -> Verdict {
    if waited < patience.window {
        return Verdict::InWindow;
    }
    if waited >= patience.max {
        return Verdict::WaitedLongest;
    }
    if !on(Guard::LateIsNotAbsent) {
        return Verdict::NoneOutstanding;
    }
    let lost = |n: &Neighbour| matches!(n, Neighbour::Lacking(ago) if *ago >= patience.max);
    let newer = || evidence.newer.iter().filter(|n| !lost(n));
    let usual = quantile(&evidence.lags, 50).unwrap_or(patience.window);
    let count = |keep: &dyn Fn(&Neighbour) -> bool| newer().filter(|n| keep(n)).count();
    let receipted = count(&|n| *n == Neighbour::Receipted);
    let overdue = count(&|n| matches!(n, Neighbour::Lacking(ago) if *ago >= usual));
    let fresh = count(&|n| matches!(n, Neighbour::Lacking(ago) if *ago < usual));
    // All next to it lack theirs: those behind them have overtaken.
    let next_lack = newer().take(NEXT).all(|n| *n != Neighbour::Receipted);
    if !next_lack && few(overdue, receipted + overdue) && fresh <= receipted {
        return Verdict::NewerReceipted;
    }
    if overdue + fresh > 1 {
        return Verdict::Late;
    }
    // No newer one has a receipt, and at most one lacks it. Those before it, the newest first:
    let line: Vec<bool> = newer()
        .chain(evidence.older.iter().filter(|n| !lost(n)))
        .map(|n| *n != Neighbour::Receipted)
        .collect();
    let lacking = line.iter().filter(|lacks| **lacks).count();
    let newest_lack = line.iter().take(2).filter(|lacks| **lacks).count() == 2;
    if newest_lack || !few(lacking, line.len()) {
        return Verdict::Late;
    }
    match quantile(&evidence.lags, 95) {
        Some(long) if waited < long => Verdict::SoonerThanUsual,
        Some(_) | None => Verdict::NoneOutstanding,
    }
}

/// At most one, or a quarter: lost, not late.
fn few(lacking: usize, of: usize) -> bool {
    lacking <= 1 || lacking * 4 <= of
}

/// So many of a hundred are at most so long; `None` when there are none.
fn quantile(lags: &[Duration], percent: usize) -> Option<Duration> {
    let mut sorted = lags.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::splitmix;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const PATIENCE: Patience = Patience {
        window: Duration::from_secs(5),
        max: Duration::from_secs(600),
    };

    /// A number's traffic as time passes. Each answered send: when it was claimed and answered, and when its receipt comes.
    #[derive(Default)]
    struct Number(Vec<(u64, Option<u64>)>);

    impl Number {
        /// Sends from a moment on, one each `every_ms`, whose receipts come after `lag_ms`; `None`: never.
        fn sends(mut self, from_ms: u64, count: u64, every_ms: u64, lag_ms: Option<u64>) -> Self {
            for n in 0..count {
                let at = from_ms + n * every_ms;
                self.0.push((at, lag_ms.map(|lag| at + lag)));
            }
            self.0.sort_by_key(|(at, _)| *at);
            self
        }

        /// What a store says at a moment about a message that was claimed at another.
        fn evidence(&self, claimed_ms: u64, now_ms: u64) -> Evidence {
            let answered = &self.0[..self.0.partition_point(|(at, _)| *at < now_ms)];
            let seen = |(at, receipt): &(u64, Option<u64>)| match receipt {
                Some(receipt) if *receipt <= now_ms => Neighbour::Receipted,
                _ => Neighbour::Lacking(MS(now_ms - at)),
            };
            let split = answered.partition_point(|(at, _)| *at <= claimed_ms);
            let lag = |(at, receipt): &(u64, Option<u64>)| {
                let receipt = receipt.filter(|receipt| *receipt <= now_ms)?;
                Some(MS(receipt - at))
            };
            Evidence {
                newer: answered[split..].iter().take(NEWER_MAX).map(seen).collect(),
                older: answered[..split]
                    .iter()
                    .rev()
                    .take(OLDER_MAX)
                    .map(seen)
                    .collect(),
                lags: answered
                    .iter()
                    .rev()
                    .filter_map(lag)
                    .take(LAGS_MAX)
                    .collect(),
            }
        }

        /// When a message of unknown fate is settled that was claimed and doubted at this moment, looked at each 250 ms.
        fn settled(&self, claimed_ms: u64) -> (u64, Verdict) {
            let looks = (0..).map(|n| claimed_ms + n * 250);
            for now in looks {
                let evidence = self.evidence(claimed_ms, now);
                let verdict = judge(MS(now - claimed_ms), PATIENCE, &evidence);
                if verdict.settles() {
                    return (now - claimed_ms, verdict);
                }
            }
            unreachable!("the longest wait ends")
        }
    }

    /// Goal: silence is no lateness. Method: prompt receipts, one message of unknown fate, and an hour of nothing.
    #[test]
    fn a_lone_message_before_silence_is_settled_with_the_window() {
        let number = Number::default().sends(0, 50, 1000, Some(300));
        assert_eq!(number.settled(55_000), (5000, Verdict::NoneOutstanding));
        let first_of_all = Number::default();
        assert_eq!(first_of_all.settled(0), (5000, Verdict::NoneOutstanding));
    }

    /// Goal: prompt receipts under load prolong nothing.
    #[test]
    fn newer_ones_with_receipts_settle_it_at_once() {
        let number = Number::default().sends(0, 20_000, 1, Some(40));
        assert_eq!(number.settled(10_000), (5000, Verdict::NewerReceipted));
    }

    /// Goal: webhooks that are late by minutes send nothing twice. Method: all receipts from a moment on come three minutes
    /// late; the message's own would come with them.
    #[test]
    fn webhooks_late_by_minutes_are_waited_for() {
        for every_ms in [1, 100, 3000] {
            let number = Number::default()
                .sends(0, 10_000 / every_ms, every_ms, Some(40))
                .sends(10_000, 300_000 / every_ms, every_ms, Some(180_000));
            let (waited, verdict) = number.settled(12_000);
            assert!(
                (180_000..181_000 + 20 * every_ms).contains(&waited),
                "{every_ms} {waited} {verdict:?}"
            );
            assert_eq!(verdict, Verdict::NewerReceipted);
        }
        // As long from the start, and nothing newer comes: what is usual is waited for.
        let slow = Number::default().sends(0, 200, 500, Some(15_000));
        let (waited, verdict) = slow.settled(100_001);
        assert!((15_000..16_500).contains(&waited), "{waited} {verdict:?}");
    }

    /// Goal: the wait ends. Method: no receipt comes any more at all.
    #[test]
    fn webhooks_that_never_come_are_waited_for_at_most_so_long() {
        let dead = Number::default().sends(0, 2000, 500, None);
        assert_eq!(dead.settled(2000), (600_000, Verdict::WaitedLongest));
    }

    /// Goal: one lost receipt is no evidence, wherever it stands; nor are some that were lost long ago.
    #[test]
    fn one_lost_among_many_prolongs_nothing() {
        for lost_ms in [1, 30_000, 59_000, 59_999, 60_001, 61_000] {
            let number = Number::default()
                .sends(0, 120, 1000, Some(300))
                .sends(lost_ms, 1, 1, None);
            let (waited, verdict) = number.settled(60_000);
            assert!(waited <= 5250, "{lost_ms} {waited} {verdict:?}");
        }
        let long_ago = Number::default().sends(0, 3, 1000, None);
        let (waited, _) = long_ago.settled(700_000);
        assert_eq!(waited, 5000);
        let only_one = Number::default().sends(0, 1, 1, None);
        assert_eq!(only_one.settled(1000).0, 5000);
    }

    /// Goal: one receipt that overtook the others is no sign that they are lost.
    #[test]
    fn a_receipt_that_overtook_settles_nothing() {
        let number = Number::default()
            .sends(0, 8000, 1, Some(30))
            .sends(8000, 60_000, 1, Some(40_000))
            .sends(9001, 1, 1, Some(30));
        let (waited, verdict) = number.settled(9000);
        assert!((40_000..41_000).contains(&waited), "{waited} {verdict:?}");
    }

    /// Goal: over any course of lags without loss, a message that was sent is not settled before its receipt comes, if its
    /// neighbours on both sides wait for theirs; and everything is settled within the longest wait. Method: seeds.
    #[test]
    fn seeds_of_lags() {
        for seed in 0..40u64 {
            let mut dice = seed;
            let mut number = Number::default();
            let (mut at, mut lag) = (0, 50 + splitmix(&mut dice) % 2000);
            while at < 120_000 {
                if splitmix(&mut dice).is_multiple_of(40) {
                    lag = 20 + splitmix(&mut dice) % 90_000;
                }
                let lost = splitmix(&mut dice).is_multiple_of(50);
                let jitter = splitmix(&mut dice) % 200;
                number.0.push((at, (!lost).then_some(at + lag + jitter)));
                at += 1 + splitmix(&mut dice) % 300;
            }
            let claimed = 20_000 + splitmix(&mut dice) % 60_000;
            let (waited, verdict) = number.settled(claimed);
            assert!(waited <= 600_000);
            let then = number.evidence(claimed, claimed + waited);
            let lacking = |some: &[Neighbour]| {
                let near = some.iter().take(4);
                near.filter(|n| **n != Neighbour::Receipted).count() == 4
            };
            let late = lacking(&then.newer) && lacking(&then.older);
            assert!(
                !late || verdict == Verdict::WaitedLongest,
                "seed {seed}: {waited} {verdict:?} {then:?}"
            );
        }
    }
}
