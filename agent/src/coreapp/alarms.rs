//! What an owner watches for the alarms: receipts that do not come, queues that grow, and what the upstream refuses.
//! Rings nothing: `wa_core::alarm` says what is beyond its limit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use wa_core::alarm::{Alarm, Figures, Growth};
use wa_core::time::Instant;

use super::node::Node;
use super::work::Work;
use crate::metrics::CoreappMetrics;
use crate::metrics::refusals::CLASSES;
use crate::sys::clock;

/// Queues and refusals are watched over so long.
const SPAN: Duration = Duration::from_secs(600);
/// Of fewer answers a share says nothing.
const ANSWERS_MIN: i64 = 20;

/// What tasks note where it happens. Per message it costs one or two atomics.
#[derive(Debug, Default)]
pub struct Watch {
    /// Since when receipts are owed, in nanoseconds of the own clock; 0: none is.
    owed_ns: AtomicU64,
    /// The worst class of refusals, in percent of the answers of the last ten minutes.
    refused_percent: AtomicI64,
}

fn ns(at: Instant) -> u64 {
    let since = at.since(Instant::ZERO).as_nanos();
    u64::try_from(since).unwrap_or(u64::MAX).max(1)
}

impl Watch {
    /// The upstream took a message: a receipt will come.
    pub fn taken(&self) {
        if self.owed_ns.load(Ordering::Relaxed) == 0 {
            self.owed_ns.store(ns(clock::now()), Ordering::Relaxed);
        }
    }

    /// A receipt came, of whichever message.
    pub fn came(&self) {
        self.owed_ns.store(0, Ordering::Relaxed);
    }

    /// For how long receipts are owed of which none came.
    fn silent(&self, now: Instant) -> Duration {
        match self.owed_ns.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_nanos(ns(now).saturating_sub(since)),
        }
    }

    /// No shard is owned any more: what is owed and what waits is the next owner's.
    pub fn over(&self, m: &CoreappMetrics) {
        self.came();
        self.refused_percent.store(0, Ordering::Relaxed);
        let gauges = [
            &m.receipts_silent,
            &m.outbox_growth,
            &m.inbox_depth,
            &m.inbox_growth,
            &m.held_for,
            &m.webhook_oldest,
            &m.webhook_depth,
            &m.webhooks_parked_now,
            &m.token_end,
        ];
        for gauge in gauges {
            gauge.set(0);
        }
    }
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

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn seconds(span: Duration) -> i64 {
    whole(span.as_secs())
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
        node.watch.refused_percent.store(percent, Ordering::Relaxed);
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
    all.put(Alarm::OutboxGrows, m.outbox_growth.get());
    all.put(Alarm::InboxGrows, m.inbox_growth.get());
    let silent = node.watch.silent(clock::now());
    all.put(Alarm::ReceiptsLate, seconds(silent));
    let refused = node.watch.refused_percent.load(Ordering::Relaxed);
    all.put(Alarm::UpstreamRefuses, refused);
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

    /// Goal: receipts are owed from the first message on after a receipt, and not from the newest. Method: two messages, a look
    /// later, a receipt, a look.
    #[test]
    fn receipts_are_owed_from_the_first_message_on() {
        let watch = Watch::default();
        assert_eq!(watch.silent(clock::now()), Duration::ZERO);
        watch.taken();
        let first = watch.owed_ns.load(Ordering::Relaxed);
        watch.taken();
        assert_eq!(watch.owed_ns.load(Ordering::Relaxed), first);
        let later = clock::now() + Duration::from_secs(700);
        assert!(watch.silent(later) >= Duration::from_secs(700));
        watch.came();
        assert_eq!(watch.silent(later), Duration::ZERO);
    }

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
