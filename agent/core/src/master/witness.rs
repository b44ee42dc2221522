//! Whose receipts count: those of the host agent of the very machine and boot in which the named start runs.
//! Settles nothing: `evidence.rs` does.
//!
//! Intuition: every host agent signs with the same key, so a signature says "a host agent", and not which one. A machine that was
//! copied has the names, the disk and perhaps the hardware's numbers of its original. Its boot is another one.
//! Model: rows say in which boot of which machine each start runs, host agents included. What was said of a start is remembered, for a
//! copy writes over the row of its original.
//! Rejected: to believe the boot that the row names now. It is that of the copy.
//!
//! A host agent that has just started sends receipts before its row and its heartbeats name it. Those wait for newer ones, and are
//! judged again then, as if they had been on the way for so long.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Action, Master, NodeRow, Snapshot};
use crate::guard::{self, Guard};
use crate::id::{Incarnation, NodeId, Role};
use crate::reason::Reason;
use crate::time::{Duration, Instant};
use crate::wire::Receipt;

/// Starts of one node whose home is remembered.
const STARTS_MAX: usize = 16;
/// Receipts that were passed over, and said so.
const SAID_MAX: usize = 64;
/// How long a receipt waits for a row or a heartbeat that names who sent it.
const KEEP_FOR: Duration = Duration::from_secs(5);
/// Receipts that wait, and those of them that one host agent may have sent.
const KEPT_MAX: usize = 64;
const KEPT_OF_ONE_MAX: usize = 16;

/// Who sent a receipt.
type Sender = (NodeId, Incarnation);

/// What a receipt is worth by the rows and heartbeats that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    Counts,
    /// Newer rows or heartbeats may show that it counts.
    NotYet,
    /// Its sender cannot know it.
    Nothing,
}

/// A receipt that waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kept {
    until: Instant,
    from: Sender,
    receipt: Receipt,
}

/// Where a start runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Home {
    /// `/etc/machine-id`: a copy has it as well.
    pub machine: u128,
    /// The id of that machine's boot.
    pub boot: u128,
}

/// Where starts run, and whose receipts were passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Witnesses {
    /// `None`: a start of a release that says no home.
    homes: BTreeMap<NodeId, VecDeque<(Incarnation, Option<Home>)>>,
    /// Oldest first.
    said: VecDeque<(Sender, Sender)>,
    /// Oldest first.
    kept: VecDeque<Kept>,
}

impl Witnesses {
    /// Takes in what the rows say. What was said of a start first is believed; nodes that no row names are forgotten.
    pub(super) fn learn(&mut self, rows: &Snapshot) {
        for n in rows.nodes.iter().filter(|n| n.role == Role::Coreapp) {
            let starts = self.homes.entry(n.node.clone()).or_default();
            match starts.iter_mut().find(|(start, _)| *start == n.incarnation) {
                // It says so later where the table was not there yet.
                Some((_, home)) => *home = home.or(n.home),
                None => {
                    starts.push_front((n.incarnation, n.home));
                    starts.truncate(STARTS_MAX);
                }
            }
        }
        let owns = |node: &NodeId| {
            let mut shards = rows.shards.iter();
            shards.any(|row| {
                row.owner.as_ref() == Some(node) || row.previous.iter().any(|p| p.owner == *node)
            })
        };
        let listed: BTreeSet<&NodeId> = rows.nodes.iter().map(|n| &n.node).collect();
        self.homes
            .retain(|node, _| listed.contains(node) || owns(node));
    }

    /// The outer `None`: no row ever named this start.
    fn home(&self, node: &NodeId, start: Incarnation) -> Option<Option<Home>> {
        let starts = self.homes.get(node)?;
        let found = starts.iter().find(|(of, _)| *of == start)?;
        Some(found.1)
    }

    /// Puts a receipt aside. One that says the same of the same grant is there once, and its time does not begin anew. False: it was
    /// there already.
    fn keep(&mut self, now: Instant, from: &Sender, receipt: &Receipt) -> bool {
        let same = |kept: &Kept| {
            let (a, b) = (&kept.receipt, receipt);
            kept.from == *from
                && (&a.node, a.incarnation, a.epoch, a.grant)
                    == (&b.node, b.incarnation, b.epoch, b.grant)
                && (a.sealed, a.cgroup_empty) == (b.sealed, b.cgroup_empty)
        };
        if self.kept.iter().any(same) {
            return false;
        }
        let of_one = |kept: &Kept| kept.from.0 == from.0;
        if self.kept.iter().filter(|kept| of_one(kept)).count() >= KEPT_OF_ONE_MAX
            && let Some(oldest) = self.kept.iter().position(of_one)
        {
            self.kept.remove(oldest);
        }
        if self.kept.len() >= KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(Kept {
            until: now + KEEP_FOR,
            from: from.clone(),
            receipt: receipt.clone(),
        });
        true
    }
}

impl Master {
    /// The sender can know what the receipt says: row and heartbeats name this start of this host agent and no other, and it runs on
    /// the machine and in the boot in which the named start runs.
    pub(super) fn worth(&self, from: &Sender, receipt: &Receipt) -> Worth {
        if !guard::on(Guard::ReceiptFromItsMachine) {
            return Worth::Counts;
        }
        let Some(map) = &self.map else {
            return Worth::Nothing;
        };
        let (mut host, mut named) = (None, None);
        for n in &map.nodes {
            if n.role == Role::Host && (&n.node, n.incarnation) == (&from.0, from.1) {
                host = Some(n);
            }
            if n.node == receipt.node {
                named = Some(n);
            }
        }
        let Some(host) = host else {
            return Worth::NotYet;
        };
        if !self.neighbours(host, named, receipt) {
            return Worth::Nothing;
        }
        match self.at_home(host, named, receipt) {
            Worth::Counts if !self.alone(from) => Worth::NotYet,
            worth => worth,
        }
    }

    /// Both stand on one machine by what they are configured to call it. Instances of one machine may call it by different words: then
    /// the homes say it, which `at_home` compares.
    fn neighbours(&self, host: &NodeRow, named: Option<&NodeRow>, receipt: &Receipt) -> bool {
        let one_host = host.node.host() == receipt.node.host();
        let home = self.witnesses.home(&receipt.node, receipt.incarnation);
        let homes = host.home.is_some() && home.flatten().is_some();
        named.map_or(one_host, |n| {
            n.machine == host.machine || (one_host && homes)
        })
    }

    /// No other start answers heartbeats under the name of this one.
    fn alone(&self, (node, start): &(NodeId, Incarnation)) -> bool {
        let peer = self.detector.peers.get(node);
        let heard = peer.and_then(|peer| peer.incarnation());
        heard.is_none_or(|heard| heard == *start) && self.twin(node).is_none()
    }

    /// The receipt names the boot in which both run, as far as they have said it. Releases before this one say nothing; of a start
    /// that somebody else has written over, nothing is believed.
    fn at_home(&self, host: &NodeRow, named: Option<&NodeRow>, receipt: &Receipt) -> Worth {
        let home = Home {
            machine: receipt.machine_id,
            boot: receipt.boot_id,
        };
        if host.home.is_some_and(|of_host| of_host != home) {
            return Worth::Nothing;
        }
        match self.witnesses.home(&receipt.node, receipt.incarnation) {
            Some(Some(known)) if known != home => Worth::Nothing,
            Some(_) => Worth::Counts,
            None if named.is_none_or(|n| n.incarnation == receipt.incarnation) => Worth::Counts,
            None if named.is_some_and(|n| n.home.is_none()) => Worth::Counts,
            None => Worth::NotYet,
        }
    }

    /// Puts a receipt aside until newer rows or heartbeats come, and asks for rows.
    pub(super) fn keep(&mut self, now: Instant, from: &Sender, receipt: &Receipt) {
        if self.witnesses.keep(now, from, receipt) {
            self.read_soon(now);
        }
    }

    /// Takes in who runs where by the newest rows.
    pub(super) fn learn_homes(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let Some(map) = &self.map {
            self.witnesses.learn(map);
        }
        self.judge_kept(now, None, actions);
    }

    /// Rows or heartbeats are newer: what waits is judged again. `heard`: only what this node sent.
    pub(super) fn judge_kept(
        &mut self,
        now: Instant,
        heard: Option<&NodeId>,
        actions: &mut Vec<Action>,
    ) {
        let of_it = |kept: &Kept| heard.is_none_or(|node| kept.from.0 == *node);
        if !self.witnesses.kept.iter().any(of_it) || !guard::on(Guard::ReceiptJudgedAgain) {
            return;
        }
        for kept in std::mem::take(&mut self.witnesses.kept) {
            match self.worth(&kept.from, &kept.receipt) {
                _ if !of_it(&kept) => self.witnesses.kept.push_back(kept),
                Worth::Counts => self.count_receipt(now, &kept.receipt, actions),
                Worth::Nothing => self.pass_over(&kept.from, &kept.receipt, actions),
                Worth::NotYet => self.witnesses.kept.push_back(kept),
            }
        }
    }

    /// What has waited in vain is passed over.
    pub(super) fn expire_kept(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while let Some(kept) = self.witnesses.kept.pop_front_if(|kept| now >= kept.until) {
            self.pass_over(&kept.from, &kept.receipt, actions);
        }
    }

    /// Says once that a receipt does not count.
    pub(super) fn pass_over(
        &mut self,
        from: &Sender,
        receipt: &Receipt,
        actions: &mut Vec<Action>,
    ) {
        let of = (receipt.node.clone(), receipt.incarnation);
        let what = (from.clone(), of);
        if self.map.is_none() || self.witnesses.said.contains(&what) {
            return;
        }
        if self.witnesses.said.len() >= SAID_MAX {
            self.witnesses.said.pop_front();
        }
        self.witnesses.said.push_back(what);
        actions.push(Action::Decide {
            shard: None,
            what: "passed over",
            node: Some(from.0.clone()),
            reason: Reason::ReceiptOfStranger,
        });
    }
}

#[cfg(test)]
#[path = "witness_tests.rs"]
mod tests;
