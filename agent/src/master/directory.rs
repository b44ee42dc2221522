//! Who is where: the node table, read again and again, the own row kept fresh, and what nodes say of their mounts and fences.
//! Judges nobody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use wa_core::id::{NodeId, Role};

use crate::db::fence::FenceWord;
use crate::db::mount::Mount;
use crate::db::node::{Registered, Registration};
use crate::net::udp::{Heartbeats, Target};

/// The newest node table.
#[derive(Default)]
pub struct Directory(
    ArcSwap<Vec<Registered>>,
    ArcSwap<Vec<Mount>>,
    ArcSwap<Vec<FenceWord>>,
);

impl Directory {
    /// Replaces the table; returns whether addresses changed.
    pub fn store(&self, nodes: Vec<Registered>) {
        self.0.store(Arc::new(nodes));
    }

    /// All nodes.
    pub fn all(&self) -> Arc<Vec<Registered>> {
        self.0.load_full()
    }

    /// Replaces what nodes say of their media directories.
    pub fn store_mounts(&self, mounts: Vec<Mount>) {
        self.1.store(Arc::new(mounts));
    }

    /// What nodes say of their media directories.
    pub fn mounts(&self) -> Arc<Vec<Mount>> {
        self.1.load_full()
    }

    /// Replaces what host agents say of their machines' fences.
    pub fn store_fences(&self, fences: Vec<FenceWord>) {
        self.2.store(Arc::new(fences));
    }

    /// What the host agent of a node's machine says of the fence there, if it has lately.
    pub fn fence_of(&self, node: &str) -> Option<FenceWord> {
        let (hostname, _) = node.rsplit_once(':')?;
        let all = self.2.load();
        let of = |word: &&FenceWord| {
            word.node
                .rsplit_once(':')
                .is_some_and(|(h, _)| h == hostname)
        };
        all.iter().find(of).cloned()
    }

    /// Where a node's heartbeats go.
    pub fn heartbeat_of(&self, node: &NodeId) -> Option<SocketAddr> {
        self.0
            .load()
            .iter()
            .find(|n| n.registration.node == *node)
            .and_then(|n| heartbeat_address(&n.registration))
    }

    /// The host agents of a node's machine.
    pub fn hosts_of(&self, node: &NodeId) -> Vec<SocketAddr> {
        let all = self.0.load();
        let machine = all
            .iter()
            .find(|n| n.registration.node == *node)
            .map(|n| n.registration.machine.clone());
        let hosts = all.iter().filter(|n| {
            n.registration.role == Role::Host && Some(&n.registration.machine) == machine.as_ref()
        });
        hosts
            .filter_map(|n| heartbeat_address(&n.registration))
            .collect()
    }

    /// Heartbeat addresses of a role.
    pub fn of_role(&self, role: Role) -> Vec<(NodeId, SocketAddr)> {
        let all = self.0.load();
        let nodes = all.iter().filter(|n| n.registration.role == role);
        nodes
            .filter_map(|n| {
                Some((
                    n.registration.node.clone(),
                    heartbeat_address(&n.registration)?,
                ))
            })
            .collect()
    }

    /// Everybody that this master pings.
    pub fn point(&self, heartbeats: &Heartbeats, own: &NodeId) {
        let all = self.0.load();
        let peers = all
            .iter()
            .filter(|n| n.registration.role != Role::Webapp && n.registration.node != *own);
        heartbeats.set_targets(
            peers
                .filter_map(|n| {
                    Some(Target {
                        node: n.registration.node.clone(),
                        address: heartbeat_address(&n.registration)?,
                    })
                })
                .collect(),
        );
    }
}

fn heartbeat_address(r: &Registration) -> Option<SocketAddr> {
    (r.port_heartbeat != 0)
        .then(|| Some(SocketAddr::new(r.address.parse().ok()?, r.port_heartbeat)))
        .flatten()
}

/// How often the table is read: often enough that a newcomer is pinged soon.
pub const READ_EVERY: Duration = Duration::from_millis(500);
