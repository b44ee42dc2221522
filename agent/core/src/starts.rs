//! Which starts a host agent may speak of: those that it has seen on this very machine.
//! Reads nothing and signs nothing: the host agent does.
//!
//! Intuition: a disk can be copied, and with it everything that was ever written down. The copy must not say of the original
//! that it is over.
//! Model: each start that was seen is kept with what names the hardware it ran on. The list is copied with the disk, and on
//! other hardware its entries speak of other machines.
//! Rejected: "a later number is on the disk, so the earlier start is over". On a copy that is true of the copy only.

use std::collections::VecDeque;

use crate::guard::{self, Guard};
use crate::id::{Incarnation, NodeId};

/// Starts that are kept; fences ask for the newest ones.
const KEPT_MAX: usize = 128;

/// What names the hardware of a machine, as far as it has a name. No disk holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hardware(pub u64);

/// One start that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Seen {
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// Where it was seen.
    pub hardware: Hardware,
}

/// The starts that were seen, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Ledger(VecDeque<Seen>);

impl Ledger {
    /// What was kept; the newest entries only, if there are too many.
    pub fn new(seen: impl IntoIterator<Item = Seen>) -> Self {
        let mut ledger = Self::default();
        for seen in seen {
            ledger.note(seen);
        }
        ledger
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Seen> {
        self.0.iter()
    }

    /// A start was seen. False: it is kept already.
    pub fn note(&mut self, seen: Seen) -> bool {
        if self.0.contains(&seen) {
            return false;
        }
        self.0.push_back(seen);
        while self.0.len() > KEPT_MAX {
            self.0.pop_front();
        }
        true
    }

    /// This machine may say of that start that it is over, if it is: it ran here and nowhere else.
    pub fn here(&self, hardware: Option<Hardware>, node: &NodeId, start: Incarnation) -> bool {
        let same = |seen: &Seen| {
            Some(seen.hardware) == hardware && seen.node == *node && seen.incarnation == start
        };
        self.0.iter().any(same) || !guard::on(Guard::SignsForItsMachine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(counter: u64, random: u64) -> Incarnation {
        Incarnation { counter, random }
    }

    /// Goal: a copied disk signs nothing for the original, and the original signs on. Method: the ledger of one machine, read on
    /// another; a name or a random number that differs.
    #[test]
    fn a_copied_ledger_speaks_of_another_machine() {
        let (node, here, there) = (NodeId::new("a:coreapp-1"), Hardware(1), Hardware(2));
        let seen = Seen {
            node: node.clone(),
            incarnation: start(5, 7),
            hardware: here,
        };
        let mut copy = Ledger::new([seen.clone()]);
        assert!(!copy.note(seen), "it is kept already");
        assert!(copy.here(Some(here), &node, start(5, 7)));
        assert!(!copy.here(Some(there), &node, start(5, 7)));
        assert!(!copy.here(None, &node, start(5, 7)), "nothing names it");
        copy.note(Seen {
            node: node.clone(),
            incarnation: start(6, 8),
            hardware: there,
        });
        assert!(copy.here(Some(there), &node, start(6, 8)));
        for other in [start(6, 9), start(4, 8)] {
            assert!(!copy.here(Some(there), &node, other));
        }
        let twin = NodeId::new("a:coreapp-2");
        assert!(!copy.here(Some(there), &twin, start(6, 8)));
    }

    /// Goal: the list has a bound, and keeps the newest.
    #[test]
    fn the_oldest_are_forgotten() {
        let node = NodeId::new("a:coreapp-1");
        let seen = |counter| Seen {
            node: node.clone(),
            incarnation: start(counter, 7),
            hardware: Hardware(1),
        };
        let ledger = Ledger::new((0..1000).map(seen));
        assert_eq!(ledger.entries().count(), KEPT_MAX);
        assert!(ledger.here(Some(Hardware(1)), &node, start(999, 7)));
    }
}
