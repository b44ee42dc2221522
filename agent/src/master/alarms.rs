//! What a master watches for the alarms: how long takeovers take, owners that were replaced while they lived, and how long the
//! database needs. And all figures of the cluster as this master knows them, for `status` and `doctor`.
//! Decides nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use wa_core::alarm::{Alarm, Figures};
use wa_core::id::{Epoch, Incarnation, NodeId, ShardId};
use wa_core::judgement::{Evidence, Problem};
use wa_core::master::Handover;
use wa_core::reason::Reason;
use wa_core::shard_map::{Phase, Previous, ShardRow};
use wa_core::time::Instant;

use super::view::View;
use crate::api::control::AlarmStatus;
use crate::config::{longest_takeover_with, takeover_with};
use crate::metrics::MasterMetrics;

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

    /// A shard begins to move away from its owner.
    pub fn handover(&mut self, view: &View<'_>, handover: &Handover) {
        let (core, now, shard) = (view.core, view.now, handover.shard);
        let owner = handover.previous.first();
        // A first owner takes over from nobody.
        let Some(Previous {
            owner, incarnation, ..
        }) = owner
        else {
            return;
        };
        let peer = core.detector().peers.get(owner);
        let since = peer.and_then(|peer| peer.heard_at()).unwrap_or(now);
        let in_force = core.detector().intervals;
        let timers = &view.settings.timers;
        // The former primary master was lost as well.
        let promised = match self.primary_at.is_some_and(|at| at > since) {
            true => longest_takeover_with(timers, in_force),
            false => takeover_with(timers, in_force),
        };
        let way = UnderWay {
            epoch: handover.epoch,
            since,
            promised,
        };
        self.under_way.insert(shard, way);
        if core.verdict_reason(shard).is_some_and(for_silence) {
            while self.presumed.len() >= KEPT_MAX {
                self.presumed.pop_front();
            }
            self.presumed.push_back((owner.clone(), *incarnation, now));
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
    fn false_starts(&self, now: Instant) -> usize {
        let lately = |at: &&Instant| now.since(**at) <= TOLD_FOR;
        self.false_starts.iter().filter(lately).count()
    }
}

/// How much of a lease is left, in percent.
fn left(unchanged: Duration, over_after: Duration) -> i64 {
    let whole = over_after.as_micros().max(1);
    let left = over_after.saturating_sub(unchanged).as_micros();
    i64::try_from(left * 100 / whole).unwrap_or(100)
}

/// All figures that this master knows.
pub fn figures(view: &View<'_>, evidence: &Evidence, problems: &[Problem]) -> Figures {
    let mut all = Figures::default();
    for alarm in problems
        .iter()
        .filter_map(|problem| Alarm::of(problem.kind))
    {
        all.put(alarm, alarm.beyond());
    }
    let owned = evidence.shards.iter().filter(|shard| shard.active);
    for shard in owned {
        if let Some(unchanged) = shard.unchanged {
            all.put(Alarm::FailoverImminent, left(unchanged, shard.over_after));
        }
    }
    let (now, watch) = (view.now, view.watch);
    if let Some(it) = watch.takeover(now) {
        let percent = it.took.as_millis() * 100 / it.promised.as_millis().max(1);
        all.put(
            Alarm::TakeoverSlow,
            i64::try_from(percent).unwrap_or(i64::MAX),
        );
    }
    let read = i64::try_from(watch.read_takes(now).as_millis()).unwrap_or(i64::MAX);
    all.put(Alarm::DatabaseSlow, read);
    let count = i64::try_from(watch.false_starts(now)).unwrap_or(i64::MAX);
    all.put(Alarm::FalseStarts, count);
    if let Some(percent) = view.disk_free_percent {
        all.put(Alarm::DiskFull, percent);
    }
    for word in view.table.words.values() {
        let answer = word.answer.as_ref();
        let fresh = answer.filter(|(at, _)| now.since(*at) <= wa_core::judgement::WORD_AGE_MAX);
        if let Some(work) = fresh.and_then(|(_, answer)| answer.work.as_ref()) {
            all.join(&work.figures());
        }
    }
    all
}

/// Shows in the metrics what is watched.
pub fn show(view: &View<'_>, m: &MasterMetrics) {
    let (now, watch, timers) = (view.now, view.watch, &view.settings.timers);
    m.lease.set(timers.lease_ttl.as_secs_f64());
    m.database_read.set(watch.read_takes(now).as_secs_f64());
    let takeover = watch.takeover(now);
    let in_force = view.core.detector().intervals;
    let promised = takeover.map_or_else(|| takeover_with(timers, in_force), |it| it.promised);
    m.takeover_promised.set(promised.as_secs_f64());
    m.takeover
        .set(takeover.map_or(0.0, |it| it.took.as_secs_f64()));
}

/// The alarms that ring, for people.
pub fn told(figures: &Figures) -> Vec<AlarmStatus> {
    let mut all: Vec<AlarmStatus> = figures.ringing().into_iter().map(Into::into).collect();
    all.sort_by_key(|alarm| alarm.severity != wa_core::alarm::Severity::Page.as_str());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// Goal: the part of a lease that is left is right at its ends.
    #[test]
    fn a_lease_is_left_in_percent() {
        let second = Duration::from_secs(1);
        assert_eq!(left(Duration::ZERO, second), 100);
        assert_eq!(left(Duration::from_millis(610), second), 39);
        assert_eq!(left(second * 2, second), 0);
        assert_eq!(left(second, Duration::ZERO), 0);
    }
}
