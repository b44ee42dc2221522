//! The figures of an owner for the alarms: queues that grow, what the upstream refuses, and what `owed.rs` noted.
//! Rings nothing: `wa_core::alarm` says what is beyond its limit.

use std::collections::BTreeMap;
use std::time::Duration;

use wa_core::alarm::{Alarm, Figures, Growth};
use wa_core::time::Instant;

use super::node::Node;
use super::work::Work;
use crate::metrics::refusals::CLASSES;
use crate::sys::clock;

/// Queues and refusals are watched over so long.
const SPAN: Duration = Duration::from_secs(600);
/// Of fewer answers a share says nothing.
const ANSWERS_MIN: i64 = 20;

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn seconds(span: Duration) -> i64 {
    whole(span.as_secs())
}

/// What is measured every few seconds of one tenure.
pub struct Round {
    outbox: Growth,
    inbox: Growth,
    answers: Growth,
    refusals: [Growth; CLASSES.len()],
}

impl Default for Round {
    fn default() -> Self {
        let growth = || Growth::within(SPAN);
        Self {
            outbox: growth(),
            inbox: growth(),
            answers: growth(),
            refusals: std::array::from_fn(|_| growth()),
        }
    }
}

impl Round {
    /// The counts of now. `waiting`: messages and events of the own shard, where they could be counted.
    pub fn look(&mut self, node: &Node, work: &Work, waiting: Option<(u64, u64)>) {
        let (m, now) = (&node.metrics, clock::now());
        if let Some((messages, events)) = waiting {
            m.outbox_growth.set(self.outbox.now(now, whole(messages)));
            m.inbox_depth.set(whole(events));
            m.inbox_growth.set(self.inbox.now(now, whole(events)));
        }
        m.receipts_silent.set(seconds(node.watch.silent(now)));
        m.webhook_oldest.set(seconds(work.callbacks.now().oldest));
        let held = work.holding.why().map(|(_, since)| now.since(since));
        m.held_for.set(held.map_or(0, |held| seconds(held).max(1)));
        let percent = self.refused_percent(now, whole(m.answers.get()), m.refusals.all());
        node.watch.refused(percent);
    }

    fn refused_percent(
        &mut self,
        now: Instant,
        answers: i64,
        refusals: [u64; CLASSES.len()],
    ) -> i64 {
        let answers = self.answers.now(now, answers).max(ANSWERS_MIN);
        let classes = self.refusals.iter_mut().zip(refusals);
        let grown = classes.map(|(growth, count)| growth.now(now, whole(count)));
        grown.max().unwrap_or(0).saturating_mul(100) / answers
    }
}

/// What this owner says of its figures, by the names of the alarms.
pub fn figures(node: &Node) -> BTreeMap<String, i64> {
    let m = &node.metrics;
    let mut all = Figures::default();
    let (margin, ttl) = (m.tenure_margin.get(), m.tenure.get());
    if m.owner.get() == 1 && ttl > 0.0 {
        #[allow(clippy::cast_possible_truncation)]
        all.put(Alarm::FailoverImminent, (100.0 * margin / ttl) as i64);
    }
    all.put(Alarm::OutboxGrows, m.outbox_growth.get());
    all.put(Alarm::InboxGrows, m.inbox_growth.get());
    let silent = node.watch.silent(clock::now());
    all.put(Alarm::ReceiptsLate, seconds(silent));
    all.put(Alarm::UpstreamRefuses, node.watch.refused_percent());
    let today_s = whole(clock::wall_ms() / 1000);
    for (alarm, end_s) in [
        (Alarm::TokenEnds, m.token_end.get()),
        (Alarm::VersionEnds, m.version_end.get()),
    ] {
        if end_s > 0 {
            all.put(alarm, (end_s - today_s).div_euclid(24 * 3600));
        }
    }
    if let Some(percent) = m.room.percent() {
        all.put(Alarm::DiskFull, percent);
    }
    let named = |(alarm, value): (Alarm, i64)| (alarm.row().name.to_owned(), value);
    all.all().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the share is that of the worst class, of the last ten minutes, and one refusal among few answers is no share.
    #[test]
    fn the_worst_class_counts() {
        let mut round = Round::default();
        let at = |s: u64| Instant::ZERO + Duration::from_secs(s);
        assert_eq!(round.refused_percent(at(0), 1000, [9, 0, 50, 0, 0]), 0);
        assert_eq!(round.refused_percent(at(5), 1001, [10, 0, 50, 0, 0]), 5);
        assert_eq!(round.refused_percent(at(60), 1100, [11, 0, 70, 0, 0]), 20);
        assert_eq!(round.refused_percent(at(700), 1100, [11, 0, 70, 0, 0]), 0);
    }
}
