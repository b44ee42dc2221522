//! Host agents that start anew, and rows that name the new start late. Decides nothing.

use wa_core::id::{Incarnation, NodeId, Role, splitmix};
use wa_core::master::{self, Action, Home, NodeRow};
use wa_core::reason::Reason;
use wa_core::wire::Receipt;

use crate::fault::{self, Fault};
use crate::world::{MS, Sim, What};

/// What a row says of a host agent, and until when.
type Named = (Incarnation, Home, u64);

/// The host agent of one machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostAgent {
    /// Its starts since the machine booted.
    starts: u64,
    /// It is down until then.
    up_at: u64,
    /// What its row says, while that is out of date.
    row: Option<Named>,
    /// After a boot its row is out of date for so many ms.
    late_ms: u64,
}

impl Sim {
    /// Faults in bursts and machines that reboot.
    pub fn machines(seed: u64) -> Self {
        let mut sim = Self::hostile(seed);
        for (at, fault) in fault::draw_machines(&mut sim.random, sim.masters, 3) {
            sim.push(at, 0, What::Fault(fault));
        }
        sim
    }

    /// The same with host agents that start anew, and rows that name the new start late, after a boot too. Now and then the coreapp
    /// beside it dies at that time.
    pub fn hosts(seed: u64) -> Self {
        let mut sim = Self::machines(seed);
        let mut dice = seed ^ 0x4057;
        let mut below = |n: u64| splitmix(&mut dice) % n;
        sim.hosts = true;
        for app in sim.masters..sim.masters + 3 {
            sim.nodes[app].host.late_ms = 1 + below(1500);
        }
        for _ in 0..2 + below(4) {
            let (at, app) = (1500 + below(4500), sim.masters + below(3) as usize);
            let restart = Fault::RestartHost(app, below(300), below(2500));
            sim.push(at * MS, 0, What::Fault(restart));
            if below(3) > 0 {
                let dies = Fault::Crash(app, 20 + below(2000));
                sim.push((at + below(400)) * MS, 0, What::Fault(dies));
            }
        }
        sim
    }

    /// The host agent of a node's machine, and its start: one for each boot, and for each time that it started anew.
    pub(crate) fn host(&self, node: usize) -> (NodeId, Incarnation) {
        let n = &self.nodes[node];
        let start = Incarnation {
            counter: n.booted + n.host.starts,
            random: node as u64,
        };
        (NodeId::new(&format!("{}:host-1", n.name.host())), start)
    }

    /// The start and the home that the row of that host agent names now.
    pub(crate) fn host_named(&self, node: usize) -> (Incarnation, Home) {
        match self.nodes[node].host.row {
            Some((start, home, until)) if self.now < until => (start, home),
            _ => (self.host(node).1, self.home(node)),
        }
    }

    /// The row of that host agent.
    pub(crate) fn host_row(&self, node: usize) -> NodeRow {
        let (incarnation, home) = self.host_named(node);
        NodeRow {
            node: self.host(node).0,
            role: Role::Host,
            incarnation,
            home: Some(home),
            ..self.node_row(node)
        }
    }

    /// A receipt as that host agent sends it.
    pub fn signed(&self, node: usize, receipt: Receipt) -> master::Event {
        let home = self.home(node);
        let receipt = Receipt {
            machine_id: home.machine,
            boot_id: home.boot,
            ..receipt
        };
        master::Event::Receipt(self.host(node), receipt)
    }

    /// It is down for so long, and its row is out of date for so long after that.
    pub(crate) fn restart_host(&mut self, node: usize, down_ms: u64, late_ms: u64) {
        let (start, home) = self.host_named(node);
        let up_at = self.now + down_ms * MS;
        let host = &mut self.nodes[node].host;
        host.starts += 1;
        host.up_at = up_at;
        host.row = Some((start, home, up_at + late_ms * MS));
    }

    /// Its machine booted: its row says what it said before for a while.
    pub(crate) fn boot_host(&mut self, node: usize, before: (Incarnation, Home), after_ms: u64) {
        let until = self.now + after_ms * MS;
        let host = &mut self.nodes[node].host;
        let late = host.late_ms;
        (host.starts, host.up_at) = (0, 0);
        host.row = (late > 0).then_some((before.0, before.1, until + late * MS));
    }

    /// How long it is still down.
    pub(crate) fn host_down(&self, node: usize) -> Option<u64> {
        let up_at = self.nodes[node].host.up_at;
        (up_at > self.now).then(|| up_at - self.now)
    }

    /// Counts receipts that had waited for newer rows, and settled something then.
    pub(crate) fn count_waited(&mut self, receipt: bool, actions: &[Action]) {
        let by_receipt = |action: &Action| {
            matches!(
                action,
                Action::Decide {
                    reason: Reason::SettledByReceipt,
                    ..
                }
            )
        };
        if !receipt && actions.iter().any(by_receipt) {
            self.count("host agent: its receipt waited for its row");
        }
    }
}
