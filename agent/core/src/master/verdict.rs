//! What the evidence on an owner comes to. Pure questions: nothing here changes the state.
//! Acts on nothing: `failover.rs` does. Who could succeed it: `candidate.rs`.

use super::{Master, mark};
use crate::detector::Start;
use crate::guard::{self, Guard};
use crate::id::{NodeId, Role};
use crate::plausible;
use crate::reason::Reason;
use crate::shard_map::ShardRow;
use crate::time::Instant;
use crate::wire::{Health, Report};

/// What the evidence on an owner comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Leave it.
    Healthy,
    /// Something is wrong, but not enough to act on; the reason says what.
    Watch(Reason),
    /// Replace it. `limited`: anti-flap applies. `same_node`: the same node may get it again.
    Replace {
        reason: Reason,
        limited: bool,
        same_node: bool,
    },
}

/// What an owner that answers can say against itself: the bit that it lacks, the reason, and in what a successor has to be better.
/// (Nobody is chosen who does not reach the database.)
const OWN_WORDS: [(Health, Reason, Health); 3] = [
    (Health::DATABASE_OK, Reason::DatabaseLost, Health(0)),
    (
        Health::UPSTREAM_OK,
        Reason::UpstreamLost,
        Health::UPSTREAM_OK,
    ),
    (Health::MEDIA_OK, Reason::MediaStalled, Health::MEDIA_OK),
];

/// An owner's own word counts only if somebody is better in that very point.
pub(super) fn healthier_than(reason: Reason) -> Health {
    let mut words = OWN_WORDS.iter();
    let word = words.find(|(_, of, _)| *of == reason);
    word.map_or_else(Health::default, |(_, _, better)| *better)
}

impl Master {
    /// How many coreapps answer this master.
    pub(super) fn coreapps_heard(&self) -> u16 {
        let Some(map) = &self.map else { return 0 };
        let heard = map
            .nodes
            .iter()
            .filter(|n| n.role == Role::Coreapp)
            .filter(|n| {
                let peer = self.detector.peers.get(&n.node);
                peer.is_some_and(|p| p.heard_at().is_some() && !p.silent(&self.detector.intervals))
            });
        u16::try_from(heard.count()).unwrap_or(u16::MAX)
    }

    /// Some coreapp that this master watches is silent towards it.
    pub(super) fn some_coreapp_silent(&self) -> bool {
        let nodes = self.map.iter().flat_map(|map| &map.nodes);
        nodes
            .filter(|n| n.role == Role::Coreapp)
            .any(|n| self.detector.silent(&n.node))
    }

    /// The evidence on the owner of an active shard, weighed (design 6).
    pub fn verdict(&self, now: Instant, row: &ShardRow) -> Verdict {
        let Some(owner) = &row.owner else {
            return Verdict::Replace {
                reason: Reason::NoOwnerYet,
                limited: false,
                same_node: true,
            };
        };
        let replace = |reason| Verdict::Replace {
            reason,
            limited: false,
            same_node: false,
        };
        let at_once = |reason| Verdict::Replace {
            reason,
            limited: false,
            same_node: true,
        };
        if self.map.iter().any(|map| !plausible::row(&map.master, row)) {
            // Its renewals name another epoch and find no row: whoever it was has lost the shard.
            return at_once(Reason::RowImplausible);
        }
        if self
            .obituaries
            .contains_key(&(owner.clone(), row.incarnation))
        {
            // The dead start of the node never gets it again, the next one may.
            return at_once(Reason::DeadCoreapp);
        }
        let peer = self.detector.peers.get(owner);
        if peer.is_some_and(|peer| peer.replaced(row.incarnation)) {
            // Before what it never did: the start that is gone did not fail to take over.
            return at_once(Reason::RestartedCoreapp);
        }
        let never = self.work.get(&row.shard).and_then(|work| work.activated_at);
        // Before its first renewal an owner has nothing that could lapse: the handover may have waited for long.
        let renewed = never.is_none() || !guard::on(Guard::LapsedNeedsFirstRenewal);
        let lapsed = renewed && self.watch.lapsed(&mark(row), &self.config.tolerance);
        let overdue = self.config.tolerance.challenge(self.config.ttl);
        if never.is_some_and(|at| now >= at + overdue) && guard::on(Guard::NeverTookOver) {
            // Its exclusion keeps it away for a while; when there is nobody else, it may try again after that.
            return at_once(Reason::NeverTookOver);
        }
        let Some(peer) = peer else {
            return if lapsed {
                replace(Reason::LapsedAndSilent)
            } else {
                Verdict::Healthy
            };
        };
        let intervals = &self.detector.intervals;
        let start = peer.start(row.incarnation);
        let gray = start.is_some_and(|start| start.gray(intervals));
        if gray || peer.start_silent(row.incarnation, intervals) {
            return self.verdict_on_silent(now, row, (owner, start), lapsed);
        }
        let Some(start) = start else {
            return Verdict::Healthy;
        };
        // It answers. Its own word counts, as far as a healthier standby exists (the caller sees to that).
        // Nor can one serve two: what it holds instead may be a grant of another shard, given by a commit that came late.
        let elsewhere = |report: &Report| report.shard != Some(row.shard);
        if lapsed && elsewhere(&start.report) {
            return at_once(Reason::LapsedByItself);
        }
        own_word(row, &start.report)
    }

    fn verdict_on_silent(
        &self,
        now: Instant,
        row: &ShardRow,
        (owner, start): (&NodeId, Option<&Start>),
        lapsed: bool,
    ) -> Verdict {
        let intervals = &self.detector.intervals;
        // Another start of the node that answers may have the shard; the silent one is settled first like any owner.
        let other = self.detector.peers.get(owner).is_some_and(|peer| {
            peer.incarnation() != Some(row.incarnation) && peer.fresh(intervals).is_some()
        });
        let replace = |reason, limited| Verdict::Replace {
            reason,
            limited,
            same_node: other,
        };
        let gray = start.is_some_and(|start| start.gray(intervals));
        if lapsed {
            return replace(Reason::LapsedAndSilent, false);
        }
        // Renewals that went on after the silence began: the node is alive, only the network is not.
        let since = start.and_then(|start| start.silent_since);
        let renews = since.is_some_and(|since| {
            self.watch
                .since(&mark(row))
                .is_some_and(|seen| seen > since)
        });
        if self
            .opinions
            .one_finds_silent(now, intervals.unhealthy, owner)
            || !guard::on(Guard::SecondOpinion)
        {
            return replace(Reason::UnreachableCoreapp, renews);
        }
        if gray {
            return replace(Reason::GrayCoreapp, true);
        }
        if self
            .opinions
            .live(now, intervals.unhealthy)
            .next()
            .is_some()
        {
            return Verdict::Watch(Reason::SilentOneObserver);
        }
        let beat = self
            .map
            .iter()
            .flat_map(|m| &m.nodes)
            .find(|n| n.node == *owner)
            .and_then(|n| n.beat_age);
        if beat.is_none_or(|age| age > self.config.db_unhealthy) {
            return replace(Reason::DbStale, renews);
        }
        Verdict::Watch(Reason::SilentOneObserver)
    }

    /// The successor itself is gone before it was activated.
    pub(super) fn owner_failed(&self, row: &ShardRow) -> bool {
        let Some(owner) = &row.owner else { return true };
        if self.map.iter().any(|map| !plausible::row(&map.master, row)) {
            return true;
        }
        let dead = self
            .obituaries
            .contains_key(&(owner.clone(), row.incarnation));
        let gone = self.detector.peers.get(owner).is_none_or(|peer| {
            peer.start_silent(row.incarnation, &self.detector.intervals)
                || peer.replaced(row.incarnation)
        });
        (dead || gone) && guard::on(Guard::FailedSuccessorReplaced)
    }
}

/// What an owner that answers says of itself.
fn own_word(row: &ShardRow, report: &Report) -> Verdict {
    // A health bit counts only once this grant is live: before that the owner has not connected yet.
    let works = report.epoch == row.epoch && report.shard == Some(row.shard)
        || !guard::on(Guard::OwnWordWhenLive);
    let lacks = |bit| works && !report.health.has(bit);
    match OWN_WORDS.iter().find(|(bit, _, _)| lacks(*bit)) {
        Some((_, reason, _)) => Verdict::Replace {
            reason: *reason,
            limited: true,
            same_node: false,
        },
        None => Verdict::Healthy,
    }
}
