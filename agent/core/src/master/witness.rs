//! Whose receipts count: those of the host agent of the very machine and boot in which the named start runs.
//! Settles nothing: `evidence.rs` does.
//!
//! Intuition: every host agent signs with the same key, so a signature says "a host agent", and not which one. A machine that was
//! copied has the names, the disk and perhaps the hardware's numbers of its original. Its boot is another one.
//! Model: rows say in which boot of which machine each start runs, host agents included. What was said of a start is remembered, for a
//! copy writes over the row of its original.
//! Rejected: to believe the boot that the row names now. It is that of the copy.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Action, Master, NodeRow, Snapshot};
use crate::guard::{self, Guard};
use crate::id::{Incarnation, NodeId, Role};
use crate::reason::Reason;
use crate::wire::Receipt;

/// Starts of one node whose home is remembered.
const STARTS_MAX: usize = 16;
/// Receipts that were passed over, and said so.
const SAID_MAX: usize = 64;

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
    said: BTreeSet<(NodeId, Incarnation, NodeId, Incarnation)>,
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
}

impl Master {
    /// The sender can know what the receipt says: row and heartbeats name this start of this host agent and no other, and it runs on
    /// the machine and in the boot in which the named start runs.
    pub(super) fn witnessed(&self, from: &(NodeId, Incarnation), receipt: &Receipt) -> bool {
        if !guard::on(Guard::ReceiptFromItsMachine) {
            return true;
        }
        let rows = self.map.iter().flat_map(|map| &map.nodes);
        let (mut host, mut named) = (None, None);
        for n in rows {
            if n.role == Role::Host && (&n.node, n.incarnation) == (&from.0, from.1) {
                host = Some(n);
            }
            if n.node == receipt.node {
                named = Some(n);
            }
        }
        let Some(host) = host else { return false };
        let neighbours = named.map_or(from.0.host() == receipt.node.host(), |n| {
            n.machine == host.machine
        });
        neighbours && self.alone(from) && self.at_home(host, named, receipt)
    }

    /// No other start answers heartbeats under the name of this one.
    fn alone(&self, (node, start): &(NodeId, Incarnation)) -> bool {
        let peer = self.detector.peers.get(node);
        let heard = peer.and_then(|peer| peer.incarnation());
        heard.is_none_or(|heard| heard == *start) && self.twin(node).is_none()
    }

    /// The receipt names the boot in which both run, as far as they have said it. Releases before this one say nothing; of a start
    /// that somebody else has written over, nothing is believed.
    fn at_home(&self, host: &NodeRow, named: Option<&NodeRow>, receipt: &Receipt) -> bool {
        let home = Home {
            machine: receipt.machine_id,
            boot: receipt.boot_id,
        };
        let of_start = match self.witnesses.home(&receipt.node, receipt.incarnation) {
            Some(known) => known.is_none_or(|known| known == home),
            None => named.is_none_or(|n| n.incarnation == receipt.incarnation || n.home.is_none()),
        };
        of_start && host.home.is_none_or(|of_host| of_host == home)
    }

    /// Says once that a receipt does not count.
    pub(super) fn pass_over(
        &mut self,
        from: &(NodeId, Incarnation),
        receipt: &Receipt,
        actions: &mut Vec<Action>,
    ) {
        let of = (receipt.node.clone(), receipt.incarnation);
        if self.witnesses.said.len() >= SAID_MAX {
            self.witnesses.said.pop_first();
        }
        if self.map.is_some()
            && self
                .witnesses
                .said
                .insert((from.0.clone(), from.1, of.0, of.1))
        {
            actions.push(Action::Decide {
                shard: None,
                what: "passed over",
                node: Some(from.0.clone()),
                reason: Reason::ReceiptOfStranger,
            });
        }
    }
}

#[cfg(test)]
#[path = "witness_tests.rs"]
mod tests;
