//! What a master watches for the alarms: how long takeovers take, owners that were replaced while they lived, and how long the
//! database needs.
//! Decides nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use wa_core::id::{Epoch, Incarnation, NodeId, ShardId};
use wa_core::master::Handover;
use wa_core::reason::Reason;
use wa_core::shard_map::{Phase, ShardRow};
use wa_core::time::Instant;

/// A takeover and a false start are told for so long.
const TOLD_FOR: Duration = Duration::from_secs(3600);
/// An owner that was replaced for silence is waited for so long.
const WATCHED_FOR: Duration = Duration::from_secs(3600);
/// Entries that are kept of each list.
const KEPT_MAX: usize = 64;

/// A takeover that runs.
#[derive(Debug)]
struct UnderWay {
    epoch: Epoch,
    /// When the old owner was heard last.
    since: Instant,
    promised: Duration,
}

/// A takeover that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takeover {
    ended: Instant,
    pub took: Duration,
    pub promised: Duration,
}

/// What one master saw.
#[derive(Debug, Default)]
pub struct Watch {
    primary_at: Option<Instant>,
    under_way: BTreeMap<ShardId, UnderWay>,
    newest: Option<Takeover>,
    /// Starts that were replaced for silence, and when.
    presumed: VecDeque<(NodeId, Incarnation, Instant)>,
    false_starts: VecDeque<Instant>,
    /// A read that runs began then.
    reading: Option<Instant>,
    read_took: Duration,
}

/// The reason says that nothing was heard of the owner.
fn for_silence(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::UnreachableCoreapp | Reason::LapsedAndSilent | Reason::DbStale
    )
}

impl Watch {
    /// This master holds the lease from now on.
    pub fn primary(&mut self, now: Instant) {
        self.primary_at = Some(now);
    }

    /// A shard begins to move away from its owner. `heard`: when that was heard last. `promised`: how long a takeover takes at
    /// worst, and how long if the primary master is lost as well. `reason`: why it moves.
    pub fn handover(
        &mut self,
        now: Instant,
        handover: &Handover,
        heard: Option<Instant>,
        (promised, longest): (Duration, Duration),
        reason: Option<Reason>,
    ) {
        // A first owner takes over from nobody.
        let Some(from) = handover.previous.first() else {
            return;
        };
        let since = heard.unwrap_or(now);
        let alone = self.primary_at.is_none_or(|at| at <= since);
        let way = UnderWay {
            epoch: handover.epoch,
            since,
            promised: if alone { promised } else { longest },
        };
        self.under_way.insert(handover.shard, way);
        if reason.is_some_and(for_silence) {
            while self.presumed.len() >= KEPT_MAX {
                self.presumed.pop_front();
            }
            let start = (from.owner.clone(), from.incarnation, now);
            self.presumed.push_back(start);
        }
    }

    /// The rows were read: takeovers whose new owner is active are over.
    pub fn rows<'a>(&mut self, now: Instant, rows: impl Iterator<Item = &'a ShardRow>) {
        if self.under_way.is_empty() {
            return;
        }
        for row in rows {
            let over = self.under_way.get(&row.shard).is_some_and(|way| {
                row.epoch > way.epoch || row.epoch == way.epoch && row.phase == Phase::Active
            });
            let Some(way) = over.then(|| self.under_way.remove(&row.shard)).flatten() else {
                continue;
            };
            if row.epoch == way.epoch {
                self.newest = Some(Takeover {
                    ended: now,
                    took: now.since(way.since),
                    promised: way.promised,
                });
            }
        }
    }

    /// A start answered. True: it was replaced for silence, and lives.
    pub fn answered(&mut self, now: Instant, node: &NodeId, incarnation: Incarnation) -> bool {
        if self.presumed.is_empty() {
            return false;
        }
        let same = |(name, start, at): &(NodeId, Incarnation, Instant)| {
            name == node && *start == incarnation && now.since(*at) <= WATCHED_FOR
        };
        let Some(at) = self.presumed.iter().position(same) else {
            return false;
        };
        self.presumed.remove(at);
        while self.false_starts.len() >= KEPT_MAX {
            self.false_starts.pop_front();
        }
        self.false_starts.push_back(now);
        true
    }

    /// A read of the shard map was asked for.
    pub fn read_begins(&mut self, now: Instant) {
        self.reading.get_or_insert(now);
    }

    /// It ended, well or not.
    pub fn read_ends(&mut self, now: Instant) {
        if let Some(began) = self.reading.take() {
            self.read_took = now.since(began);
        }
    }

    /// How long the newest read took, or the one that runs has taken.
    pub fn read_takes(&self, now: Instant) -> Duration {
        let runs = self.reading.map(|began| now.since(began));
        runs.unwrap_or_default().max(self.read_took)
    }

    /// The newest takeover, for an hour.
    pub fn takeover(&self, now: Instant) -> Option<Takeover> {
        self.newest.filter(|it| now.since(it.ended) <= TOLD_FOR)
    }

    /// Within the last hour.
    pub fn false_starts(&self, now: Instant) -> usize {
        let lately = |at: &&Instant| now.since(**at) <= TOLD_FOR;
        self.false_starts.iter().filter(lately).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wa_core::id::{Generation, Grant, Nonce};

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn start(counter: u64) -> Incarnation {
        Incarnation { counter, random: 7 }
    }

    /// Goal: only the same start of an owner that was replaced for silence is a false start, once, and for an hour. Method: the
    /// same name with other starts, the start itself twice, and a look an hour later.
    #[test]
    fn an_owner_that_lived_is_a_false_start() {
        let mut watch = Watch::default();
        let node = NodeId::new("core1:coreapp-1");
        assert!(!watch.answered(at(1), &node, start(1)));
        watch.presumed.push_back((node.clone(), start(1), at(0)));
        assert!(!watch.answered(at(2), &node, start(2)));
        assert!(!watch.answered(at(2), &NodeId::new("core2:coreapp-1"), start(1)));
        assert!(watch.answered(at(3), &node, start(1)));
        assert!(!watch.answered(at(4), &node, start(1)));
        assert_eq!(watch.false_starts(at(4)), 1);
        assert_eq!(watch.false_starts(at(3_600_004)), 0);
        watch.presumed.push_back((node.clone(), start(3), at(0)));
        assert!(!watch.answered(at(3_600_001), &node, start(3)));
    }

    fn row(epoch: u64, phase: Phase) -> ShardRow {
        ShardRow {
            shard: ShardId(0),
            generation: Generation(1),
            phase,
            owner: Some(NodeId::new("core2:coreapp-1")),
            incarnation: start(1),
            epoch: Epoch(epoch),
            grant: Grant(1),
            ttl: Duration::from_secs(1),
            nonce: Nonce(1),
            previous: Vec::new(),
        }
    }

    /// Goal: a takeover lasts from the last answer of the old owner until the new one is active, and is told for an hour; one that
    /// another one overtook is no takeover. Method: rows before, at and after the end.
    #[test]
    fn a_takeover_lasts_until_the_new_owner_is_active() {
        let way = |epoch| UnderWay {
            epoch: Epoch(epoch),
            since: at(1000),
            promised: Duration::from_secs(2),
        };
        let mut watch = Watch::default();
        watch.under_way.insert(ShardId(0), way(7));
        for (before, phase) in [(6, Phase::Active), (7, Phase::Handover)] {
            watch.rows(at(1500), [row(before, phase)].iter());
            assert_eq!(watch.takeover(at(1500)), None);
        }
        watch.rows(at(4000), [row(7, Phase::Active)].iter());
        let it = watch.takeover(at(4000)).expect("it is over");
        assert_eq!(
            (it.took, it.promised),
            (Duration::from_secs(3), Duration::from_secs(2))
        );
        watch.rows(at(9000), [row(7, Phase::Active)].iter());
        assert_eq!(watch.takeover(at(9000)), Some(it));
        assert_eq!(watch.takeover(at(3_604_001)), None);
        watch.under_way.insert(ShardId(0), way(8));
        watch.rows(at(9500), [row(9, Phase::Active)].iter());
        assert!(watch.under_way.is_empty() && watch.takeover(at(9500)) == Some(it));
    }

    /// Goal: a read that runs counts as long as it has taken. Method: one that ended, one that runs longer.
    #[test]
    fn a_read_that_runs_counts() {
        let mut watch = Watch::default();
        watch.read_begins(at(10));
        watch.read_begins(at(12));
        watch.read_ends(at(30));
        assert_eq!(watch.read_takes(at(500)), Duration::from_millis(20));
        watch.read_begins(at(500));
        assert_eq!(watch.read_takes(at(505)), Duration::from_millis(20));
        assert_eq!(watch.read_takes(at(900)), Duration::from_millis(400));
    }
}
