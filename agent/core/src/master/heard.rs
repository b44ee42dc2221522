//! What heartbeats bring: an answer, a round that leaves, two starts under one name.
//! Judges no owner: `verdict.rs` does.

use super::{Action, Master};
use crate::detector::Change;
use crate::id::{Incarnation, NodeId, Role, Term};
use crate::reason::Reason;
use crate::time::Instant;
use crate::wire::{Health, Opinion, Report};

impl Master {
    pub(super) fn answered(
        &mut self,
        now: Instant,
        node: NodeId,
        (incarnation, asked): (Incarnation, Instant),
        report: Report,
        actions: &mut Vec<Action>,
    ) {
        self.hear_epoch(&node, report.epoch_high.max(report.epoch), actions);
        let change = self
            .detector
            .answered(now, asked, &node, incarnation, report);
        if change == Some(Change::OtherDisk) {
            actions.push(Action::Decide {
                shard: None,
                what: "noticed",
                node: Some(node.clone()),
                reason: Reason::OtherDisk,
            });
        }
        self.note_twins(&node, actions);
        self.judge_kept(now, Some(&node), actions);
        self.prolong_exclusion(now, &node, incarnation, report.health);
        if report.health.has(Health::STOPPING)
            && let Some(shard) = report.shard
        {
            self.plan_move(
                now,
                shard,
                Some((&node, report.epoch)),
                None,
                Reason::OwnerStopping,
            );
        }
    }

    /// Says once that two starts answer under one name, and forgets it when that is over.
    fn note_twins(&mut self, node: &NodeId, actions: &mut Vec<Action>) {
        if self.twin(node).is_none() {
            self.twice.remove(node);
        } else if self.twice.insert(node.clone()) {
            actions.push(Action::Decide {
                shard: None,
                what: "passed over",
                node: Some(node.clone()),
                reason: Reason::NodeTwice,
            });
        }
    }

    /// A round of pings leaves: count the last one, and tell the other masters.
    pub(super) fn round(&mut self, now: Instant, late: bool, actions: &mut Vec<Action>) {
        self.detector.round(now, late);
        let Some(map) = &self.map else { return };
        let coreapps = map
            .nodes
            .iter()
            .filter(|n| n.role == Role::Coreapp)
            .filter_map(|n| {
                self.detector
                    .peers
                    .get(&n.node)
                    .map(|peer| (n.node.clone(), peer, peer.silent(&self.detector.intervals)))
            });
        let (mut heard, mut opinions) = (0u16, Vec::new());
        for (node, peer, silent) in coreapps {
            let answers = !silent && peer.heard_at().is_some();
            heard += u16::from(answers);
            // Of an owner, what is said is said of the start that owns.
            let owns = map
                .shards
                .iter()
                .find(|row| row.owner.as_ref() == Some(&node));
            let (incarnation, silent) = match owns {
                Some(row) => (
                    row.incarnation,
                    peer.start_silent(row.incarnation, &self.detector.intervals),
                ),
                None => (peer.incarnation().unwrap_or_default(), silent),
            };
            opinions.push(Opinion {
                node,
                incarnation,
                silent,
            });
        }
        let of = u16::try_from(opinions.len()).unwrap_or(u16::MAX);
        let term = self.primary(now).map_or(Term(0), |(term, _)| term);
        // A late round abstains: its opinion would be an opinion about this master.
        if !late
            && map
                .nodes
                .iter()
                .any(|n| n.role == Role::Master && n.node != self.config.node)
        {
            actions.push(Action::SayOpinions {
                term,
                heard,
                of,
                opinions,
            });
        }
    }
}
