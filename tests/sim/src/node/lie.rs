//! What scenarios make happen that no fault of a seed does: a database that hides its failover, packets of earlier starts.
//! Decides nothing.

use wa_core::id::{Epoch, Grant, Incarnation, Nonce, Ownership, ShardId};
use wa_core::master;
use wa_core::time::Instant;
use wa_core::wire::{Health, Report};

use crate::world::{MS, Sim, What};

impl Sim {
    /// Another server takes over, has lost this many ms, and calls itself the old one.
    pub fn rewind_unseen(&mut self, ms: u64) {
        self.db.rewind_unseen(self.now.saturating_sub(ms * MS));
    }

    /// Every master hears an answer of the start before this one, in the best of health.
    pub fn replay(&mut self, node: usize) {
        let known = self.nodes[node].incarnation;
        let incarnation = Incarnation {
            counter: known.counter - 1,
            random: 7,
        };
        let report = Report {
            shard: None,
            epoch: Epoch(0),
            grant: Grant(0),
            epoch_high: Epoch(0),
            health: Health(0b1_1111),
            progress_age_ms: 0,
            lateness_ms: 0,
            in_flight: 0,
        };
        for master in 0..self.masters {
            let node = self.nodes[node].name.clone();
            let event = master::Event::Answered {
                node,
                incarnation,
                asked: Instant(self.nodes[master].offset),
                report,
            };
            self.push(0, master, What::Master(event));
        }
    }

    /// A request for a fence of a node's shard and epoch arrives at its host agent, however old it is.
    pub fn fence_late(&mut self, node: usize, shard: u16, epoch: u64) {
        let epoch = Epoch(epoch);
        let own = Ownership {
            shard: ShardId(shard),
            epoch,
            grant: self.db.grant_of(epoch).unwrap_or(Grant(99)),
            owner: self.nodes[node].name.clone(),
            incarnation: self.nodes[node].incarnation,
        };
        self.push(0, node, What::Fence(0, own, Nonce(1)));
    }
}
