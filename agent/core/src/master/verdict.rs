//! What the evidence on an owner comes to. Pure questions: nothing here changes the state.
//! Acts on nothing: `failover.rs` does. Who could succeed it: `candidate.rs`.

use super::{Master, mark};
use crate::detector::Peer;
use crate::guard::{self, Guard};
use crate::id::{NodeId, Role};
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

/// An owner's own word counts only if somebody is better in that very point.
pub(super) fn healthier_than(reason: Reason) -> Health {
    match reason {
        Reason::UpstreamLost => Health::UPSTREAM_OK,
        Reason::MediaStalled => Health::MEDIA_OK,
        _ => Health::default(),
    }
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
                peer.is_some_and(|p| p.heard_at.is_some() && !p.silent(&self.detector.intervals))
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

    /// The evidence on the owner of an active shard, weighed (design, failure detection).
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
        if self
            .obituaries
            .contains_key(&(owner.clone(), row.incarnation))
        {
            // The dead start of the node never gets it again, the next one may.
            return Verdict::Replace {
                reason: Reason::DeadCoreapp,
                limited: false,
                same_node: true,
            };
        }
        let never = self.work.get(&row.shard).and_then(|work| work.activated_at);
        // Before its first renewal an owner has nothing that could lapse: the handover may have waited for long.
        let renewed = never.is_none() || !guard::on(Guard::LapsedNeedsFirstRenewal);
        let lapsed = renewed && self.watch.lapsed(&mark(row), &self.config.tolerance);
        let overdue = self.config.tolerance.challenge(self.config.ttl);
        if never.is_some_and(|at| now >= at + overdue) && guard::on(Guard::NeverTookOver) {
            // Its exclusion keeps it away for a while; when there is nobody else, it may try again after that.
            return Verdict::Replace {
                reason: Reason::NeverTookOver,
                limited: false,
                same_node: true,
            };
        }
        let Some(peer) = self.detector.peers.get(owner) else {
            return if lapsed {
                replace(Reason::LapsedAndSilent)
            } else {
                Verdict::Healthy
            };
        };
        if peer.heard_at.is_some() && peer.incarnation.counter > row.incarnation.counter {
            return Verdict::Replace {
                reason: Reason::RestartedCoreapp,
                limited: false,
                same_node: true,
            };
        }
        let intervals = &self.detector.intervals;
        if peer.silent(intervals) || peer.gray(intervals) {
            return self.verdict_on_silent(now, row, owner, lapsed);
        }
        // It answers. Its own word counts, as far as a healthier standby exists (the caller sees to that).
        // Nor can one serve two: what it holds instead may be a grant of another shard, given by a commit that came late.
        let elsewhere = |report: &Report| report.shard != Some(row.shard);
        if lapsed && peer.report.as_ref().is_some_and(elsewhere) {
            return Verdict::Replace {
                reason: Reason::LapsedByItself,
                limited: false,
                same_node: true,
            };
        }
        own_word(row, peer)
    }

    fn verdict_on_silent(
        &self,
        now: Instant,
        row: &ShardRow,
        owner: &NodeId,
        lapsed: bool,
    ) -> Verdict {
        let replace = |reason, limited| Verdict::Replace {
            reason,
            limited,
            same_node: false,
        };
        let intervals = &self.detector.intervals;
        let gray = self
            .detector
            .peers
            .get(owner)
            .is_some_and(|peer| peer.gray(intervals));
        if lapsed {
            return replace(Reason::LapsedAndSilent, false);
        }
        // Renewals that went on after the silence began: the node is alive, only the network is not.
        let since = self
            .detector
            .peers
            .get(owner)
            .and_then(|peer| peer.silent_since);
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
        let dead = self
            .obituaries
            .contains_key(&(owner.clone(), row.incarnation));
        let gone = self.detector.peers.get(owner).is_none_or(|peer| {
            peer.silent(&self.detector.intervals)
                || peer.heard_at.is_some() && peer.incarnation.counter > row.incarnation.counter
        });
        (dead || gone) && guard::on(Guard::FailedSuccessorReplaced)
    }
}

/// What an owner that answers says of itself.
fn own_word(row: &ShardRow, peer: &Peer) -> Verdict {
    let words = [
        (Health::DATABASE_OK, Reason::DatabaseLost),
        (Health::UPSTREAM_OK, Reason::UpstreamLost),
        (Health::MEDIA_OK, Reason::MediaStalled),
    ];
    // A health bit counts only once this grant is live: before that the owner has not connected yet.
    let works = peer
        .report
        .is_some_and(|report| report.epoch == row.epoch && report.shard == Some(row.shard))
        || !guard::on(Guard::OwnWordWhenLive);
    match words.iter().find(|(bit, _)| works && !peer.has(*bit)) {
        Some((_, reason)) => Verdict::Replace {
            reason: *reason,
            limited: true,
            same_node: false,
        },
        None => Verdict::Healthy,
    }
}
