//! Who could succeed an owner, and what keeps each of the others out. Pure questions: nothing here changes the state.
//! Acts on nothing: `failover.rs` does.

use super::{Fence, Master, NodeRow};
use crate::detector::Peer;
use crate::guard::{self, Guard};
use crate::id::{Incarnation, NodeId, Role};
use crate::reason::Reason;
use crate::shard_map::ShardRow;
use crate::time::Instant;
use crate::wire::{Health, Report};

/// Who is wanted as a successor.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wish<'a> {
    /// Only this node.
    pub node: Option<&'a NodeId>,
    /// The owner's own node may get the shard again.
    pub same_node: bool,
    /// Health bits beyond those that everybody needs.
    pub healthier: Health,
}

/// A coreapp that could be asked to take a shard, and what speaks against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub node: NodeId,
    /// Everything that keeps it out; empty: it can take the shard.
    pub against: Vec<Reason>,
}

impl Master {
    /// Every coreapp but the shard's owner, with all that keeps it out now.
    pub fn candidates(&self, now: Instant, row: &ShardRow) -> Vec<Candidate> {
        self.weighed(now, row, &Wish::default())
    }

    /// The same with the owner, which may get the shard again.
    pub(super) fn all_candidates(&self, now: Instant, row: &ShardRow) -> Vec<Candidate> {
        let wish = Wish {
            same_node: true,
            ..Wish::default()
        };
        self.weighed(now, row, &wish)
    }

    fn weighed(&self, now: Instant, row: &ShardRow, wish: &Wish<'_>) -> Vec<Candidate> {
        let coreapps = self.coreapps();
        let others = coreapps.filter(|n| wish.same_node || Some(&n.node) != row.owner.as_ref());
        others
            .map(|n| Candidate {
                node: n.node.clone(),
                against: self.against(now, row, n, wish),
            })
            .collect()
    }

    /// Why there is no successor: the gate alone, or anything else.
    pub(super) fn nobody(&self, now: Instant, row: &ShardRow, wish: &Wish<'_>) -> Reason {
        let all = self.weighed(now, row, wish);
        let gate = |c: &Candidate| c.against == [Reason::GateNotAttested];
        if all.iter().any(gate) {
            Reason::NoGatedStandby
        } else {
            Reason::NoStandby
        }
    }

    /// The successor for a shard, best first: eligible, healthy, on another machine and zone, heaviest, first by name.
    pub(super) fn choose(
        &self,
        now: Instant,
        row: &ShardRow,
        wish: &Wish<'_>,
    ) -> Option<(NodeId, Incarnation)> {
        let map = self.map.as_ref()?;
        let owner = row.owner.as_ref();
        let home = map.nodes.iter().find(|n| Some(&n.node) == owner);
        let eligible = self
            .coreapps()
            .filter(|n| wish.node.is_none_or(|node| *node == n.node))
            .filter(|n| wish.same_node || Some(&n.node) != owner)
            .filter(|n| self.against(now, row, n, wish).is_empty())
            .filter_map(|n| Some((n, self.detector.peers.get(&n.node)?)));
        let ranked = eligible.max_by_key(|(n, peer)| {
            let other = |f: fn(&NodeRow) -> &str| home.is_none_or(|home| f(home) != f(n));
            (
                Some(&n.node) != owner,
                peer.has(Health::UPSTREAM_OK),
                peer.has(Health::MEDIA_OK),
                other(|n| &n.machine),
                other(|n| &n.zone),
                n.weight,
                std::cmp::Reverse(n.node.clone()),
            )
        });
        ranked.and_then(|(n, peer)| Some((n.node.clone(), peer.incarnation()?)))
    }

    fn coreapps(&self) -> impl Iterator<Item = &NodeRow> {
        let nodes = self.map.iter().flat_map(|map| &map.nodes);
        nodes.filter(|n| n.role == Role::Coreapp)
    }

    /// It owns another shard, or is being given one.
    fn busy(&self, row: &ShardRow, node: &NodeId) -> bool {
        let mut rows = self.map.iter().flat_map(|map| &map.shards);
        let owns = rows.any(|r| r.shard != row.shard && r.owner.as_ref() == Some(node));
        let mut work = self.work.iter();
        owns && guard::on(Guard::OneShardEach)
            || work.any(|(shard, work)| *shard != row.shard && work.naming.as_ref() == Some(node))
    }

    /// The other start that answers under the same name as the node's newest one.
    pub fn twin(&self, node: &NodeId) -> Option<Incarnation> {
        let peer = self.detector.peers.get(node)?;
        let twin = peer.twin(&self.detector.intervals)?;
        Some(twin.incarnation)
    }

    /// All that keeps a coreapp from taking a shard.
    fn against(&self, now: Instant, row: &ShardRow, n: &NodeRow, wish: &Wish<'_>) -> Vec<Reason> {
        let mut against = Vec::new();
        if n.draining {
            against.push(Reason::Draining);
        }
        if self.busy(row, &n.node) {
            against.push(Reason::NodeBusy);
        }
        if self
            .excluded
            .get(&n.node)
            .is_some_and(|(_, until)| now < *until)
        {
            let vain = self.numbers.gives_back(&n.node);
            against.push(if vain {
                Reason::GivenBack
            } else {
                Reason::NodeExcluded
            });
        }
        if self.twin(&n.node).is_some() && guard::on(Guard::TwiceNotChosen) {
            against.push(Reason::NodeTwice);
        }
        if self.numbers.odd(&n.node) {
            against.push(Reason::NumberImplausible);
        }
        let intervals = &self.detector.intervals;
        let peer = self.detector.peers.get(&n.node);
        match peer.and_then(|peer| Some((peer, peer.fresh(intervals)?))) {
            Some((peer, report)) => self.by_its_word(row, n, (peer, report), wish, &mut against),
            None if peer.is_some_and(|peer| peer.gray(intervals)) => {
                against.push(Reason::GrayCoreapp);
            }
            None => against.push(Reason::NodeSilent),
        }
        against
    }

    /// Passed over until its database bit was good for a while. Only the start that did not take over prolongs that, and
    /// what has ended stays ended: every start is without a database in its first moments.
    pub(super) fn prolong_exclusion(
        &mut self,
        now: Instant,
        node: &NodeId,
        start: Incarnation,
        health: Health,
    ) {
        let Some((excluded, until)) = self.excluded.get_mut(node) else {
            return;
        };
        let over = now >= *until || *excluded != start;
        let stays = over && guard::on(Guard::ExclusionEnds);
        if !stays && !health.has(Health::DATABASE_OK) {
            *until = now + super::failover::EXCLUDED_FOR;
        }
    }

    /// What a coreapp that answers says of itself.
    fn by_its_word(
        &self,
        row: &ShardRow,
        n: &NodeRow,
        (peer, report): (&Peer, &Report),
        wish: &Wish<'_>,
        against: &mut Vec<Reason>,
    ) {
        let gate = self.config.fence == Fence::Required && guard::on(Guard::GateToPromote);
        let database = if report.health.has(Health::STORE_NEWER) {
            Reason::StoreNewer
        } else {
            Reason::NodeWithoutDatabase
        };
        let needed = [
            (Health::DATABASE_OK, true, database),
            (Health::HIGH_WATER_OK, true, Reason::NodeDiskRefuses),
            (Health::GATE_ATTESTED, gate, Reason::GateNotAttested),
            (
                Health::UPSTREAM_OK,
                wish.healthier.has(Health::UPSTREAM_OK),
                Reason::NodeWithoutUpstream,
            ),
            (
                Health::MEDIA_OK,
                wish.healthier.has(Health::MEDIA_OK),
                Reason::NodeWithoutMedia,
            ),
        ];
        let lacks = needed
            .iter()
            .filter(|(bit, asked, _)| *asked && !report.health.has(*bit));
        against.extend(lacks.map(|(_, _, reason)| *reason));
        if report.health.has(Health::DRAINING) && !n.draining {
            against.push(Reason::Draining);
        }
        if report.health.has(Health::STOPPING) {
            against.push(Reason::NodeStopping);
        }
        let same = wish.same_node && Some(&n.node) == row.owner.as_ref();
        if report.shard.is_some() && !same && !against.contains(&Reason::NodeBusy) {
            against.push(Reason::NodeBusy);
        }
        let dead = peer
            .incarnation()
            .is_some_and(|start| self.obituaries.contains_key(&(n.node.clone(), start)));
        if dead && guard::on(Guard::DeadStartNotChosen) {
            against.push(Reason::DeadCoreapp);
        }
    }
}
