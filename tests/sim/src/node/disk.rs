//! Disks and machines that are not what they were: new disks, older states of disks, copies that run beside their originals.
//! Decides nothing.

use wa_core::id::{Epoch, Incarnation, NodeId, Nonce, Ownership};
use wa_core::master::{Home, Seen};
use wa_core::starts::{Hardware, Ledger, Seen as SeenStart};
use wa_core::wire::Receipt;

use crate::fault::Fault;
use crate::invariant::invariant_s2_obeys;
use crate::node::Node;
use crate::world::{MS, Sim, What};

/// What a node's disk holds.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    counted: u64,
    obeyed: Epoch,
    seen: Seen,
    ledger: Ledger,
}

/// What a node is called that has no name yet: a machine that nobody has put a disk into.
pub(crate) const SPARE: &str = "spare:coreapp-1";

impl Sim {
    /// A machine without a disk; its number.
    pub fn add_spare(&mut self) -> usize {
        let mut spare = Node::new(SPARE);
        spare.copy = true;
        spare.rate = self.nodes[self.masters].rate;
        spare.restart_ms = self.nodes[self.masters].restart_ms;
        self.nodes.push(spare);
        self.nodes.len() - 1
    }

    /// The machine that stands ready for a copy; it is made the first time.
    pub fn spare(&mut self) -> usize {
        let made = self.nodes.iter().position(|n| n.copy);
        made.unwrap_or_else(|| self.add_spare())
    }

    /// How the story calls a node.
    pub(crate) fn who(&self, node: usize) -> String {
        let n = &self.nodes[node];
        let host = n.name.host();
        if n.copy {
            format!("the copy of {host}")
        } else {
            host.to_owned()
        }
    }

    /// The row of its name is its own.
    pub(crate) fn has_row(&self, node: usize) -> bool {
        let n = &self.nodes[node];
        match self.registered.get(&n.name) {
            Some(registered) => *registered == node,
            None => !n.copy,
        }
    }

    /// It writes its row, as far as the database answers it.
    pub(crate) fn beat(&mut self, node: usize) {
        if !self.db_cut.contains(&node) {
            let n = &mut self.nodes[node];
            n.beat = self.now;
            self.registered.insert(n.name.clone(), node);
        }
    }

    /// The host agent of its machine sees it start.
    pub(crate) fn see_start(&mut self, node: usize) {
        let hardware = self.hardware(node);
        let n = &mut self.nodes[node];
        n.ledger.note(SeenStart {
            node: n.name.clone(),
            incarnation: n.incarnation,
            hardware,
        });
    }

    /// The start of a node with this number, as the host agent of its machine saw it.
    pub fn start_of(&self, node: usize, counter: u64) -> Incarnation {
        let mut seen = self.nodes[node]
            .ledger
            .entries()
            .map(|seen| seen.incarnation);
        let never = Incarnation { counter, random: 7 };
        seen.find(|start| start.counter == counter).unwrap_or(never)
    }

    fn hardware(&self, node: usize) -> Hardware {
        Hardware(self.nodes[node].doubles.unwrap_or(node) as u64)
    }

    /// Where a node runs. A copy has the machine id of its original, and another boot.
    pub(crate) fn home(&self, node: usize) -> Home {
        let n = &self.nodes[node];
        let original = self.nodes.iter().position(|other| other.name == n.name);
        Home {
            machine: original.unwrap_or(node) as u128,
            boot: (node as u128) << 64 | u128::from(n.booted),
        }
    }

    /// The host agent of that machine may speak of the owner's start.
    pub(crate) fn signs_for(&self, node: usize, own: &Ownership) -> bool {
        let hardware = Some(self.hardware(node));
        let ledger = &self.nodes[node].ledger;
        ledger.here(hardware, &own.owner, own.incarnation)
    }

    /// Promise S2 whatever disks remember.
    pub(crate) fn judge_obeyed(&mut self, node: usize, epoch: Epoch) {
        let n = &mut self.nodes[node];
        if let Err(why) = invariant_s2_obeys(n.name.as_str(), n.obeyed_ever, epoch) {
            self.broken = Some(why);
        }
        n.obeyed_ever = epoch.max(n.obeyed_ever);
    }

    pub(crate) fn fault_of_a_disk(&mut self, fault: Fault) {
        match fault {
            Fault::KeepDisk(node) => self.nodes[node].kept = Some(self.disk(node)),
            Fault::NewDisk(node, after_ms) => self.put_in(node, Disk::default(), after_ms),
            Fault::OldDisk(node, after_ms) => {
                let kept = self.nodes[node].kept.clone();
                let disk = kept.unwrap_or_else(|| self.disk(node));
                self.put_in(node, disk, after_ms);
            }
            Fault::Copy(from, copy) | Fault::Double(from, copy) => {
                let same = matches!(fault, Fault::Double(..));
                self.nodes[copy].doubles = same.then_some(from);
                let kept = self.nodes[from].kept.clone();
                let disk = kept.unwrap_or_else(|| self.disk(from));
                self.nodes[copy].name = self.nodes[from].name.clone();
                self.nodes[copy].obeyed_ever = self.nodes[from].obeyed_ever;
                self.put_in(copy, disk, 1);
            }
            Fault::CopyGone(copy) => {
                self.tell(format!("{} is switched off", self.who(copy)));
                self.switch_off(copy);
                self.nodes[copy].doubles = None;
                let name = std::mem::replace(&mut self.nodes[copy].name, NodeId::new(SPARE));
                // What its row says is out of date from now on, whoever wrote it.
                self.registered.remove(&name);
            }
            _ => {}
        }
    }

    fn disk(&self, node: usize) -> Disk {
        let n = &self.nodes[node];
        Disk {
            counted: n.counted,
            obeyed: n.obeyed,
            seen: n.seen,
            ledger: n.ledger.clone(),
        }
    }

    fn put_in(&mut self, node: usize, disk: Disk, after_ms: u64) {
        self.switch_off(node);
        let n = &mut self.nodes[node];
        (n.counted, n.obeyed, n.ledger) = (disk.counted, disk.obeyed, disk.ledger);
        // What a master has read of the rows is worth more than its disk: it is not the part that is shown here.
        n.seen = if node < self.masters {
            n.seen
        } else {
            disk.seen
        };
        self.push(after_ms * MS, node, What::Start);
    }
}

/// What a host agent says of a start; `signed` says where.
pub(crate) fn receipt(
    own: &Ownership,
    incarnation: Incarnation,
    nonce: Nonce,
    cgroup_empty: bool,
) -> Receipt {
    Receipt {
        machine_id: 0,
        boot_id: 0,
        invocation: u128::from(incarnation.random),
        node: own.owner.clone(),
        incarnation,
        shard: own.shard,
        epoch: own.epoch,
        grant: own.grant,
        seal: own.epoch,
        nonce,
        sealed: true,
        cgroup_empty,
    }
}
