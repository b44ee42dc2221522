//! Leases as others see them: how long a row has stayed unchanged (rule 5.3), and SAFE (rule 5.5).
//! Compares no timestamps of other machines and holds no lease itself.

use std::collections::BTreeMap;

use crate::guard::{self, Guard};
use crate::id::{Grant, Nonce};
use crate::plausible;
use crate::shard_map::{MasterRow, ShardRow};
use crate::time::{Drift, Duration, Instant};

/// How wrong clocks may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tolerance {
    pub drift: Drift,
    /// Device queues, timer granularity.
    pub margin: Duration,
    /// Longest pause that a hypervisor may hide from the guest's clock.
    pub vm_pause: Duration,
}

impl Tolerance {
    /// What a holder may count on after it sent a renewal.
    pub fn hold(&self, ttl: Duration) -> Duration {
        self.drift.shorten(ttl).saturating_sub(self.margin)
    }

    /// What a challenger must see unchanged.
    pub fn challenge(&self, ttl: Duration) -> Duration {
        let wait = self.drift.lengthen(ttl) + self.vm_pause;
        if guard::on(Guard::WaitMargin) {
            wait + self.margin
        } else {
            wait
        }
    }
}

/// What names one state of a lease: epoch or term, grant, nonce.
pub type Mark = (u64, Grant, Nonce);

fn key(mark: &Mark) -> Mark {
    if guard::on(Guard::NonceCounts) {
        *mark
    } else {
        (mark.0, mark.1, Nonce(0))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Seen {
    since: Instant,
    ttl: Duration,
}

/// Since when each lease state has been seen, by the arrival of the answer that first showed it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Watch {
    seen: BTreeMap<Mark, Seen>,
    /// Arrival of the newest successful read.
    pub read_at: Option<Instant>,
}

impl Watch {
    /// Forgets everything: the connection is new or the server changed.
    pub fn restart(&mut self) {
        self.seen.clear();
        self.read_at = None;
    }

    /// A read's answer arrived at `now` and shows these rows.
    pub fn saw(&mut self, now: Instant, master: &MasterRow, shards: &[ShardRow]) {
        let mut current: Vec<(Mark, Duration)> =
            vec![((master.term.0, master.grant, master.nonce), held(master))];
        for row in shards {
            let ttl = plausible::ttl(row.owner.is_some(), row.ttl);
            current.push(((row.epoch.0, row.grant, row.nonce), ttl));
            current.extend(
                row.previous
                    .iter()
                    .map(|p| ((p.epoch.0, p.grant, p.nonce), plausible::ttl(true, p.ttl))),
            );
        }
        let before = std::mem::take(&mut self.seen);
        for (mark, ttl) in current {
            let mark = key(&mark);
            let since = before.get(&mark).map_or(now, |seen| seen.since);
            self.seen.entry(mark).or_insert(Seen { since, ttl });
        }
        self.read_at = Some(now);
    }

    /// Since when this state has been seen.
    pub fn since(&self, mark: &Mark) -> Option<Instant> {
        self.seen.get(&key(mark)).map(|seen| seen.since)
    }

    /// When the state will have stayed unchanged long enough, if it stays so.
    pub fn lapses_at(&self, mark: &Mark, tolerance: &Tolerance) -> Option<Instant> {
        self.seen
            .get(&key(mark))
            .map(|seen| seen.since + tolerance.challenge(seen.ttl))
    }

    /// The next moment after `now` at which some state will have stayed unchanged long enough.
    pub fn next_lapse(&self, now: Instant, tolerance: &Tolerance) -> Option<Instant> {
        let lapses = self
            .seen
            .values()
            .map(|seen| seen.since + tolerance.challenge(seen.ttl));
        lapses.filter(|at| *at > now).min()
    }

    /// It stayed unchanged long enough, and a read that arrived after that still showed it.
    pub fn lapsed(&self, mark: &Mark, tolerance: &Tolerance) -> bool {
        self.lapses_at(mark, tolerance)
            .is_some_and(|at| self.read_at.is_some_and(|read| read >= at))
    }
}

/// For how long the master's lease may be held by whom its row names.
pub fn held(master: &MasterRow) -> Duration {
    plausible::ttl(master.holder.is_some(), master.ttl)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Term;

    fn row(nonce: u64) -> MasterRow {
        MasterRow {
            holder: None,
            incarnation: Default::default(),
            term: Term(1),
            grant: Grant(1),
            ttl: Duration::from_millis(1000),
            nonce: Nonce(nonce),
            epoch_high: Default::default(),
            shard_count: 1,
            generation: Default::default(),
        }
    }

    const TOLERANCE: Tolerance = Tolerance {
        drift: Drift(100),
        margin: Duration::from_millis(20),
        vm_pause: Duration::ZERO,
    };

    /// Goal: rule 5.3 counts from the arrival of the first answer, over successful reads, and any new nonce restarts it.
    #[test]
    fn lapses_only_when_a_read_after_the_wait_shows_the_same_nonce() {
        let mut watch = Watch::default();
        let mark = (1, Grant(1), Nonce(5));
        watch.saw(Instant::from_millis(100), &row(5), &[]);
        assert_eq!(
            watch.lapses_at(&mark, &TOLERANCE),
            Some(Instant::from_millis(1220))
        );
        assert!(!watch.lapsed(&mark, &TOLERANCE));
        watch.saw(Instant::from_millis(1219), &row(5), &[]);
        assert!(!watch.lapsed(&mark, &TOLERANCE));
        watch.saw(Instant::from_millis(1220), &row(5), &[]);
        assert!(watch.lapsed(&mark, &TOLERANCE));
        watch.saw(Instant::from_millis(1300), &row(6), &[]);
        assert!(!watch.lapsed(&(1, Grant(1), Nonce(6)), &TOLERANCE));
    }

    /// Attack 4: after a restart of the watch the same value starts anew.
    #[test]
    fn a_rewind_onto_the_value_last_seen_starts_anew() {
        let mut watch = Watch::default();
        watch.saw(Instant::from_millis(0), &row(5), &[]);
        watch.restart();
        watch.saw(Instant::from_millis(1300), &row(5), &[]);
        assert!(!watch.lapsed(&(1, Grant(1), Nonce(5)), &TOLERANCE));
    }
}
