//! Tells in plain words what the nodes do: what scenario files compare and what a failed seed prints.
//! Leaves out what is regular: reads, renewals, heartbeats.

use wa_core::id::{NodeId, Ownership, ShardId};
use wa_core::master::Action as M;
use wa_core::reason::Reason;
use wa_core::tenure::Action as T;

use super::Brain;
use crate::message::{Answer, Write as W};
use crate::world::Sim;

fn short(own: &Ownership) -> String {
    format!("{} epoch {}", own.owner.host(), own.epoch)
}

impl Sim {
    pub(crate) fn narrate_master(&mut self, node: usize, action: &M) {
        let me = self.nodes[node].name.host().to_owned();
        if let M::Decide { what, reason, .. } = action {
            self.count(&format!("decision: {what}, {}", reason.name()));
        }
        match action {
            M::Take { term, .. } => self.tell(format!("{me} tries to take the lease, term {term}")),
            M::GiveBack { term, .. } => {
                self.tell(format!("{me} gives the lease back, term {term}"))
            }
            M::InsertShards { count, .. } => self.tell(format!("{me} inserts {count} shard rows")),
            M::Handover { handover, .. } => {
                let previous: Vec<String> = handover
                    .previous
                    .iter()
                    .map(|p| format!("{} epoch {}", p.owner.host(), p.epoch))
                    .collect();
                let before = if previous.is_empty() {
                    String::from("nobody")
                } else {
                    previous.join(", ")
                };
                self.tell(format!(
                    "{me} hands shard {} to {} as epoch {}, to be settled: {before}",
                    handover.shard,
                    handover.to.host(),
                    handover.epoch
                ));
            }
            M::Activate { shard, epoch, .. } => {
                self.tell(format!("{me} activates shard {shard} epoch {epoch}"));
            }
            M::ChangeShardCount { regroup, .. } => {
                self.tell(format!(
                    "{me} changes the shard count to {}, to be settled: {}",
                    regroup.count,
                    regroup.previous.len()
                ));
            }
            M::Fence { ownership, .. } => {
                self.tell_once(format!(
                    "{me} asks the host agent to fence {}",
                    short(ownership)
                ));
            }
            M::Quiesce { ownership, .. } => {
                self.tell_once(format!("{me} asks {} to hold its intake", short(ownership)));
            }
            M::Decide {
                shard,
                what,
                node,
                reason,
            } => {
                let shard = shard.map_or_else(String::new, |shard| format!(" shard {shard}"));
                let who = node
                    .as_ref()
                    .map_or_else(String::new, |n| format!(" {}", n.host()));
                self.tell(format!(
                    "{me} decides: {what}{shard}{who}, {}",
                    reason.name()
                ));
            }
            M::Exit => self.tell_once(format!("{me} may exit")),
            M::KnowServer { .. } => self.tell(format!("{me} trusts this database server")),
            M::StoreSeen(_) | M::Read | M::Renew { .. } | M::Nudge(_) | M::SayOpinions { .. } => {}
        }
    }

    pub(crate) fn narrate_app(&mut self, node: usize, action: &T) {
        let me = self.who(node);
        match action {
            T::Open { .. } => self.count("tenure: opens"),
            T::Close { reason, .. } => self.count(&format!("tenure: closes, {}", reason.name())),
            T::Release(_) => self.count("tenure: releases"),
            _ => {}
        }
        match action {
            T::StoreHighWater(epoch) => self.tell(format!("{me} writes epoch {epoch} to its disk")),
            T::Open { ownership, .. } => {
                self.tell(format!(
                    "{me} opens its gate for shard {} epoch {}",
                    ownership.shard, ownership.epoch
                ));
            }
            T::Close { ownership, reason } => {
                self.tell(format!(
                    "{me} shuts its gate for epoch {}, {}",
                    ownership.epoch,
                    reason.name()
                ));
            }
            T::Hold { epoch, on } => {
                let what = if *on { "holds its intake" } else { "goes on" };
                self.tell(format!("{me} {what}, epoch {epoch}"));
            }
            T::SayEnded(own) => {
                self.tell_once(format!("{me} says that epoch {} has ended", own.epoch))
            }
            T::Ask(own) => {
                self.tell_once(format!("{me} asks for a handover of epoch {}", own.epoch))
            }
            T::Release(own) => self.tell(format!(
                "{me} gives shard {} back, epoch {}",
                own.shard, own.epoch
            )),
            T::Exit => self.tell_once(format!("{me} may exit")),
            T::Read | T::Renew { .. } | T::Extend { .. } | T::TryDisk(_) => {}
        }
    }

    /// What a commit of the message path did, where it did something.
    pub(crate) fn narrate_write(
        &mut self,
        node: usize,
        own: &Ownership,
        write: &W,
        answer: &Answer,
    ) {
        let me = self.nodes[node].name.host().to_owned();
        let what = match (write, answer) {
            (W::Accept { id, claim, .. }, Answer::Accepted(how)) => {
                let claimed = if *claim { ", claimed" } else { "" };
                format!("message {id}: {how:?}{claimed}")
            }
            (W::Claim { .. }, Answer::Claimed(ids)) if !ids.is_empty() => format!("claims {ids:?}"),
            (W::Finish(outcomes), Answer::Done) => format!("records {outcomes:?}"),
            (W::Unclaim { .. }, Answer::Done) => "queues what a lost claim may have taken".into(),
            (_, Answer::Stale) => "writes nothing: stale".into(),
            _ => return,
        };
        self.tell(format!("{me} epoch {}: {what}", own.epoch));
    }

    /// How it stands: rows and gates.
    pub fn standing(&self) -> Vec<String> {
        let rows = &self.db.rows;
        let holder = rows.master.holder.as_ref().map_or("nobody", |n| n.host());
        let mut lines = vec![format!("the lease: {holder}, term {}", rows.master.term)];
        for row in &rows.shards {
            let owner = row.owner.as_ref().map_or("nobody", |n| n.host());
            let live = self
                .nodes
                .iter()
                .enumerate()
                .find(|(node, _)| self.live(*node).is_some_and(|own| own.shard == row.shard));
            let live = live.map_or_else(
                || "no gate is open".into(),
                |(node, _)| format!("the gate of {} is open", self.who(node)),
            );
            let (shard, phase, epoch) = (row.shard, row.phase.as_str(), row.epoch);
            lines.push(format!(
                "shard {shard}: {phase}, {owner} epoch {epoch}; {live}"
            ));
        }
        lines
    }
    /// What hinders a shard, by the word of one master.
    pub fn hindrance(&self, master: usize, shard: u16) -> Option<Reason> {
        match &self.nodes[master].brain {
            Brain::Master(brain) => brain.verdict_reason(ShardId(shard)),
            _ => None,
        }
    }

    /// Who would get the first shard now, by the word of one master.
    pub fn promised(&self, master: usize, to: Option<&NodeId>) -> Option<NodeId> {
        match &self.nodes[master].brain {
            Brain::Master(brain) => {
                let row = brain.map()?.shards.first()?;
                brain.taker(self.local(master), row, to)
            }
            _ => None,
        }
    }

    /// For each shard that nobody serves: what the holder of the lease has against each coreapp.
    pub fn why_nobody(&self) -> Vec<String> {
        let holder = self.db.rows.master.holder.as_ref();
        let masters = (0..self.masters).filter_map(|at| match &self.nodes[at].brain {
            Brain::Master(master) if Some(&self.nodes[at].name) == holder => Some((at, master)),
            _ => None,
        });
        let mut lines = Vec::new();
        for (node, master) in masters {
            let now = self.local(node);
            for row in &self.db.rows.shards {
                if (0..self.nodes.len()).any(|n| self.live(n).is_some_and(|o| o.shard == row.shard))
                {
                    continue;
                }
                for candidate in master.candidates(now, row) {
                    let why = candidate.against.iter().map(|reason| reason.name());
                    lines.push(format!(
                        "shard {}, against {}: {}",
                        row.shard,
                        candidate.node.host(),
                        why.collect::<Vec<_>>().join(", ")
                    ));
                }
            }
        }
        lines
    }
}
