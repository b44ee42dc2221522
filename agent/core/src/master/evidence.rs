//! What settles an ownership: a host agent's receipt, the owner's own word.
//! Hands over nothing: `failover.rs` waits for what is kept here.

use super::witness::Worth;
use super::{Action, Fence, Master, Settled};
use crate::guard::{self, Guard};
use crate::id::{Epoch, Grant, Incarnation, NodeId};
use crate::reason::Reason;
use crate::time::{Duration, Instant};
use crate::wire::Receipt;

/// Most different settlements kept for entries that no row lists yet.
const SETTLED_MAX: usize = 1024;

impl Master {
    /// A host agent's receipt. One of a host agent that cannot know is passed over, and one of a start that no row or heartbeat names
    /// yet waits (promotion 3).
    pub(super) fn receipt(
        &mut self,
        now: Instant,
        from: &(NodeId, Incarnation),
        receipt: &Receipt,
        actions: &mut Vec<Action>,
    ) {
        match self.worth(from, receipt) {
            Worth::Counts => self.count_receipt(now, receipt, actions),
            Worth::NotYet => self.keep(now, from, receipt),
            Worth::Nothing => self.pass_over(from, receipt, actions),
        }
    }

    /// A receipt that counts settles exactly the grant that it names, and is news of a death.
    pub(super) fn count_receipt(
        &mut self,
        now: Instant,
        receipt: &Receipt,
        actions: &mut Vec<Action>,
    ) {
        let enough = receipt.sealed
            || (self.config.fence == Fence::BestEffort && receipt.cgroup_empty)
            || !guard::on(Guard::SealBeforeEvidence);
        if receipt.cgroup_empty {
            self.obituaries
                .insert((receipt.node.clone(), receipt.incarnation), now);
        }
        if !enough {
            return;
        }
        // The seal covers every grant of that incarnation up to the epoch that it names; an obituary of a process that is
        // gone covers all of them.
        let mut over: Vec<(Epoch, Grant)> = Vec::new();
        if receipt.epoch != Epoch(0) {
            over.push((receipt.epoch, receipt.grant));
        }
        if !guard::on(Guard::ReceiptNamesGrant) {
            over.extend(self.grants_of(&receipt.node, receipt.incarnation));
        }
        if receipt.cgroup_empty {
            over.extend(self.grants_of(&receipt.node, receipt.incarnation));
            // A grant that the map does not show yet is over as well: that process never lives again.
            let from = now + self.evidence_margin();
            self.ashes
                .entry((receipt.node.clone(), receipt.incarnation))
                .or_insert(from);
        }
        for key in over {
            self.settle(
                now + self.evidence_margin(),
                key,
                Reason::SettledByReceipt,
                actions,
            );
        }
    }

    /// Every grant of one incarnation that the map shows.
    fn grants_of(&self, node: &NodeId, incarnation: Incarnation) -> Vec<(Epoch, Grant)> {
        let Some(map) = &self.map else {
            return Vec::new();
        };
        let same = |other| incarnation == other || !guard::on(Guard::ReceiptNamesStart);
        let owners = map
            .shards
            .iter()
            .filter(|r| r.owner.as_ref() == Some(node) && same(r.incarnation));
        let before = map.shards.iter().flat_map(|r| &r.previous);
        let before = before.filter(|p| p.owner == *node && same(p.incarnation));
        owners
            .map(|r| (r.epoch, r.grant))
            .chain(before.map(|p| (p.epoch, p.grant)))
            .collect()
    }

    /// The former owner says that it has ended.
    pub(super) fn ended(
        &mut self,
        now: Instant,
        from: &NodeId,
        incarnation: Incarnation,
        key: (Epoch, Grant),
        actions: &mut Vec<Action>,
    ) {
        // Only the owner itself may say so: an unknown grant is kept only when the map shows that it was this node's.
        if self.grants_of(from, incarnation).contains(&key) || !guard::on(Guard::EndedOnlyByOwner) {
            self.settle(
                now + self.evidence_margin(),
                key,
                Reason::SettledByOwner,
                actions,
            );
        }
    }

    /// What passes after a settlement: packets in device queues.
    fn evidence_margin(&self) -> Duration {
        if guard::on(Guard::EvidenceMargin) {
            self.config.tolerance.margin
        } else {
            Duration::ZERO
        }
    }

    fn settle(
        &mut self,
        from: Instant,
        key: (Epoch, Grant),
        reason: Reason,
        actions: &mut Vec<Action>,
    ) {
        if self.settled.contains_key(&key) {
            return;
        }
        if self.settled.len() >= SETTLED_MAX {
            self.settled.pop_first();
        }
        self.settled.insert(key, Settled { from, reason });
        let shard = self
            .map
            .iter()
            .flat_map(|m| &m.shards)
            .find(|r| r.previous.iter().any(|p| (p.epoch, p.grant) == key));
        if let Some(row) = shard {
            actions.push(Action::Decide {
                shard: Some(row.shard),
                what: "settled",
                node: None,
                reason,
            });
        }
    }
}
