//! Numbers that other nodes, the own disk and rows name: taken in when they can be true, named when they cannot.
//! Moves nothing: `failover.rs` asks here who names such numbers, and who gives back what it was given.

use std::collections::BTreeMap;

use super::{Action, Master, Seen, Snapshot, failover};
use crate::guard::{self, Guard};
use crate::id::{Epoch, NodeId, Term};
use crate::plausible;
use crate::reason::Reason;
use crate::shard_map::Phase;
use crate::time::Instant;

/// A grant that a rewound database named once more is given back at once; the next one is above it. A third means that
/// no grant helps.
const GIVEN_BACK_MAX: u32 = 3;
/// Most nodes whose numbers wait for the first rows.
const UNWEIGHED_MAX: usize = 16_384;

/// What is known of the numbers of others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Numbers {
    /// Epochs heard before there were rows.
    unweighed: BTreeMap<NodeId, Epoch>,
    /// Nodes whose newest word names an epoch that cannot be true.
    odd: BTreeMap<NodeId, Epoch>,
    /// Masters whose newest word names a term that cannot be true.
    odd_terms: BTreeMap<NodeId, Term>,
    /// How often in a row a node gave back what it had been given, unused.
    vain: BTreeMap<NodeId, u32>,
}

impl Numbers {
    /// Its newest word names an epoch that cannot be true.
    pub fn odd(&self, node: &NodeId) -> bool {
        self.odd.contains_key(node)
    }

    /// It gave back unused what it was given, again and again.
    pub fn gives_back(&self, node: &NodeId) -> bool {
        self.vain.get(node).is_some_and(|n| *n >= GIVEN_BACK_MAX)
    }
}

/// One number that cannot be true, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Odd {
    /// A node says that it has obeyed this epoch.
    Epoch(NodeId, Epoch),
    /// A master says that it holds the lease under this term.
    Term(NodeId, Term),
    /// The counter in the master's row.
    Counter(Epoch),
    /// The term in the master's row.
    RowTerm(Term),
    /// The epoch in a shard's row.
    Row(crate::id::ShardId, Epoch),
    /// A node was given the shard so often in a row and gave it back unused.
    GivenBack(NodeId, u32),
}

impl Snapshot {
    /// The highest epoch that the rows can have given out.
    pub fn shown(&self) -> Epoch {
        plausible::shown(&self.master, &self.shards)
    }
}

impl Master {
    /// What the own disk remembers, as far as it can be true.
    pub(super) fn remembered(&self) -> Seen {
        let (node, epoch) = (&self.config.node, self.seen.epoch);
        let known = |map: &Snapshot| plausible::heard(map.shown().0, epoch.0);
        let map = self.map.as_ref();
        if map.is_none_or(|map| known(map) || self.agreed(map, node, epoch)) {
            self.seen
        } else {
            Seen::default()
        }
    }

    /// A node says how far it has come.
    pub(super) fn hear_epoch(&mut self, node: &NodeId, epoch: Epoch, actions: &mut Vec<Action>) {
        let Some(map) = &self.map else {
            let known = self.numbers.unweighed.len();
            if known < UNWEIGHED_MAX || self.numbers.unweighed.contains_key(node) {
                let highest = self.numbers.unweighed.entry(node.clone()).or_default();
                *highest = epoch.max(*highest);
            }
            return;
        };
        if plausible::heard(map.shown().0, epoch.0) || self.agreed(map, node, epoch) {
            self.epoch_heard = self.epoch_heard.max(epoch);
            self.numbers.odd.remove(node);
        } else if self.numbers.odd.insert(node.clone(), epoch).is_none() {
            ignored(node, actions);
        }
    }

    /// The rows do not lead to the epoch that this node (or the own disk) remembers, and yet it was given out: this master has heard a
    /// higher one while rows led there, or another place names about the same: a row, the own disk, another node.
    pub(super) fn agreed(&self, map: &Snapshot, node: &NodeId, epoch: Epoch) -> bool {
        let of_rows = map.shards.iter().map(|row| row.epoch);
        let of_rows = of_rows.chain([map.master.epoch_high]);
        let others = self.numbers.odd.iter().filter(|(other, _)| *other != node);
        let own = (*node != self.config.node).then_some(self.seen.epoch);
        let heard = (epoch <= self.epoch_heard).then_some(epoch);
        let mut places = of_rows
            .chain(others.map(|(_, e)| *e))
            .chain(own)
            .chain(heard);
        places.any(|place| plausible::agree(epoch.0, place.0))
    }

    /// A master says under which term it holds the lease; zero when it does not.
    pub(super) fn hear_term(&mut self, from: &NodeId, term: Term, actions: &mut Vec<Action>) {
        let row = self.map.as_ref().map_or(Term(0), |map| map.master.term);
        let known = plausible::term_before(self.term_heard, row);
        if plausible::heard(known.0, term.0) {
            self.term_heard = self.term_heard.max(term);
            self.numbers.odd_terms.remove(from);
        } else if self.numbers.odd_terms.insert(from.clone(), term).is_none() {
            ignored(from, actions);
        }
    }

    /// There are rows: what was heard before is held against them, and nodes that are gone are forgotten.
    pub(super) fn weigh_numbers(&mut self, actions: &mut Vec<Action>) {
        for (node, epoch) in std::mem::take(&mut self.numbers.unweighed) {
            self.hear_epoch(&node, epoch, actions);
        }
        let Some(map) = &self.map else { return };
        let known = |node: &NodeId| map.nodes.iter().any(|n| n.node == *node);
        let numbers = &mut self.numbers;
        numbers.odd.retain(|node, _| known(node));
        numbers.odd_terms.retain(|node, _| known(node));
        numbers.vain.retain(|node, _| known(node));
    }

    /// After a read: who gave back unused what this master gave it, and who uses it.
    pub(super) fn note_given_back(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(map) = &self.map else { return };
        for row in &map.shards {
            let Some(work) = self.work.get_mut(&row.shard) else {
                continue;
            };
            let Some((node, epoch, nonce)) = &work.given else {
                continue;
            };
            if row.epoch != *epoch {
                continue;
            }
            let node = node.clone();
            let unused = row.nonce == *nonce;
            match row.phase {
                Phase::Free if unused => {
                    work.given = None;
                    let times = self.numbers.vain.entry(node.clone()).or_default();
                    *times = times.saturating_add(1);
                    if *times >= GIVEN_BACK_MAX && guard::on(Guard::GivenBackPassedOver) {
                        let until = now + failover::EXCLUDED_FOR;
                        self.excluded.insert(node.clone(), (row.incarnation, until));
                        actions.push(Action::Decide {
                            shard: Some(row.shard),
                            what: "passed over",
                            node: Some(node),
                            reason: Reason::GivenBack,
                        });
                    }
                }
                Phase::Active | Phase::Free if !unused => {
                    work.given = None;
                    self.numbers.vain.remove(&node);
                }
                Phase::Active | Phase::Free | Phase::Handover => {}
            }
        }
    }

    /// Every number that cannot be true, and every grant in vain, as it stands now.
    pub fn odd_numbers(&self) -> Vec<Odd> {
        let numbers = &self.numbers;
        let mut odd: Vec<Odd> = Vec::new();
        odd.extend(numbers.odd.iter().map(|(n, e)| Odd::Epoch(n.clone(), *e)));
        odd.extend(
            numbers
                .odd_terms
                .iter()
                .map(|(n, t)| Odd::Term(n.clone(), *t)),
        );
        if let Some(map) = &self.map {
            if !plausible::counter(&map.master, &map.shards) {
                odd.push(Odd::Counter(map.master.epoch_high));
            }
            if !plausible::term(self.term_heard, map.master.term) {
                odd.push(Odd::RowTerm(map.master.term));
            }
            let wrong = |row: &&crate::shard_map::ShardRow| !plausible::row(&map.master, row);
            let rows = map.shards.iter().filter(wrong);
            odd.extend(rows.map(|row| Odd::Row(row.shard, row.epoch)));
        }
        let vain = numbers.vain.iter().filter(|(_, n)| **n >= GIVEN_BACK_MAX);
        odd.extend(vain.map(|(n, times)| Odd::GivenBack(n.clone(), *times)));
        odd
    }
}

fn ignored(node: &NodeId, actions: &mut Vec<Action>) {
    actions.push(Action::Decide {
        shard: None,
        what: "ignored",
        node: Some(node.clone()),
        reason: Reason::NumberImplausible,
    });
}
