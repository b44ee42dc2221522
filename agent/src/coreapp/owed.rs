//! What an owner's tasks note for the alarms where it happens: receipts that are owed, and the share that the upstream refuses.
//! Judges nothing: `alarms.rs` makes figures of it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use wa_core::time::Instant;

use crate::metrics::CoreappMetrics;
use crate::sys::clock;

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
    pub fn silent(&self, now: Instant) -> Duration {
        match self.owed_ns.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_nanos(ns(now).saturating_sub(since)),
        }
    }

    /// The worst class of refusals takes so many percent of the answers.
    pub fn refused(&self, percent: i64) {
        self.refused_percent.store(percent, Ordering::Relaxed);
    }

    /// See [`Self::refused`].
    pub fn refused_percent(&self) -> i64 {
        self.refused_percent.load(Ordering::Relaxed)
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
}
