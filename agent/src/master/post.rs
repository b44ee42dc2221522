//! What a master sends to other nodes: each datagram, and whom it is for.
//! Waits for no answer.

use std::sync::Arc;

use wa_core::id::{NodeId, Nonce, Ownership, Role, Term};
use wa_core::wire::{Body, Nudge, OPINIONS_MAX, Opinion};

use super::table::Table;
use crate::net::udp::Heartbeats;

/// Most opinions in one datagram.
const OPINIONS_EACH: usize = if OPINIONS_MAX < 3 { OPINIONS_MAX } else { 3 };

/// Sends by the places that the table names now.
pub struct Post<'a> {
    pub heartbeats: &'a Heartbeats,
    pub table: Arc<Table>,
    pub own: &'a NodeId,
}

impl Post<'_> {
    /// To the host agents of the owner's machine.
    pub fn fence(&self, term: Term, o: &Ownership, nonce: Nonce) {
        let body = Body::Fence {
            term,
            node: o.owner.clone(),
            incarnation: o.incarnation,
            shard: o.shard,
            epoch: o.epoch,
            grant: o.grant,
            nonce,
        };
        for host in self.table.hosts_of(&o.owner) {
            self.heartbeats.send(host, body.clone());
        }
    }

    /// To the owner.
    pub fn quiesce(&self, o: &Ownership, on: bool) {
        if let Some(to) = self.table.heartbeat_of(&o.owner) {
            let body = Body::Quiesce {
                shard: o.shard,
                epoch: o.epoch,
                grant: o.grant,
                on,
            };
            self.heartbeats.send(to, body);
        }
    }

    /// To everybody who reads the database again because of it.
    pub fn nudge(&self, nudge: Nudge) {
        for role in [Role::Coreapp, Role::Webapp, Role::Master] {
            for address in self.others(role) {
                self.heartbeats.send(address, Body::Nudge(nudge));
            }
        }
    }

    /// To the other masters, a few in each datagram.
    pub fn opinions(
        &self,
        term: Term,
        lateness_ms: u32,
        (heard, of): (u16, u16),
        opinions: &[Opinion],
    ) {
        for master in self.others(Role::Master) {
            for part in opinions.chunks(OPINIONS_EACH) {
                let body = Body::Opinions {
                    term,
                    lateness_ms,
                    heard,
                    of,
                    opinions: part.to_vec(),
                };
                self.heartbeats.send(master, body);
            }
        }
    }

    fn others(&self, role: Role) -> impl Iterator<Item = std::net::SocketAddr> {
        let all = self.table.of_role(role).into_iter();
        all.filter(|(node, _)| node != self.own)
            .map(|(_, address)| address)
    }
}
