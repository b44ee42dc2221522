//! The kernel gate of one machine as design §8 has it: entries per control group, seals, stamps on sockets.
//! Decides nothing about tenures: coreapps write their entries, the host agent seals. `socket` asks it about each packet.

use wa_core::guard::{Guard, on};
use wa_core::id::{Epoch, Incarnation, Ownership};
use wa_core::time::{Duration, Instant};

/// A deadline further away than this is no tenure: the longest lease that the configuration takes.
pub const TTL_MAX: Duration = Duration::from_secs(60);

/// What a coreapp stores: two words that the program reads while they may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Words {
    pub epoch: Epoch,
    pub deadline: Instant,
}

/// The entry of one start of one unit: a restarted process has a control group, and an entry, of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub cgroup: Incarnation,
    words: Words,
    /// Whose epoch that is: the kernel does not know, the judge asks.
    own: Option<Ownership>,
}

/// What a packet is to the hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Opens a connection.
    Connect,
    /// Carries bytes, for the first time or once more.
    Payload,
    /// Carries none and ends a connection.
    Reset,
}

/// A packet at the hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    pub cgroup: Incarnation,
    /// The epoch that was live when its socket was connected.
    pub stamp: Option<Epoch>,
    pub kind: Kind,
}

/// All that the kernel of one machine knows.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    entries: Vec<Entry>,
    /// Every epoch up to this one is sealed; only the host agent writes it.
    pub seal: Epoch,
    /// The machine has no gate at all: every packet passes.
    pub absent: bool,
}

impl Gate {
    /// Before a start: an entry with no deadline, everything that was open there before is sealed.
    pub fn attest(&mut self, cgroup: Incarnation) {
        let words = if on(Guard::GateEntryPerStart) {
            Words::default()
        } else {
            self.entries.last().map(|e| e.words).unwrap_or_default()
        };
        self.entries.push(Entry {
            cgroup,
            words,
            own: None,
        });
    }

    fn entry(&self, cgroup: Incarnation) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.cgroup == cgroup)
    }

    fn entry_mut(&mut self, cgroup: Incarnation) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|e| e.cgroup == cgroup)
    }

    /// The control group is empty and removed: its entry goes, and with it everything that its sockets still queue.
    pub fn remove(&mut self, cgroup: Incarnation) -> Option<Ownership> {
        let at = self.entries.iter().position(|e| e.cgroup == cgroup)?;
        self.entries.remove(at).own
    }

    /// The machine goes down.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.seal = Epoch(0);
    }

    /// Opens for a tenure; an epoch that is sealed stays shut and comes back.
    pub fn open(
        &mut self,
        cgroup: Incarnation,
        own: &Ownership,
        deadline: Instant,
    ) -> Result<(), Epoch> {
        if own.epoch <= self.seal {
            return Err(self.seal);
        }
        if let Some(entry) = self.entry_mut(cgroup) {
            entry.own = Some(own.clone());
            entry.words = Words {
                epoch: own.epoch,
                deadline,
            };
        }
        Ok(())
    }

    /// Moves the deadline.
    pub fn extend(&mut self, cgroup: Incarnation, deadline: Instant) {
        if let Some(entry) = self.entry_mut(cgroup).filter(|e| e.own.is_some()) {
            entry.words.deadline = deadline;
        }
    }

    /// Deadline 0, for good.
    pub fn shut(&mut self, cgroup: Incarnation) {
        if let Some(entry) = self.entry_mut(cgroup) {
            entry.words.deadline = Instant::ZERO;
            entry.own = None;
        }
    }

    /// What the process believes to be open.
    pub fn owned(&self, cgroup: Incarnation) -> Option<&Ownership> {
        self.entry(cgroup)?.own.as_ref()
    }

    /// What the process itself can see of its entry: it is open and its deadline has not passed.
    pub fn in_time(&self, now: Instant, cgroup: Incarnation) -> bool {
        self.entry(cgroup)
            .is_some_and(|e| e.own.is_some() && now < e.words.deadline)
    }

    /// The stamp of a socket that is connected now.
    pub fn stamp(&self, now: Instant, cgroup: Incarnation) -> Option<Epoch> {
        let words = self.entry(cgroup)?.words;
        let packet = Packet {
            cgroup,
            stamp: Some(words.epoch),
            kind: Kind::Connect,
        };
        self.passes(now, &packet).then_some(words.epoch)
    }

    /// The decision on one packet.
    pub fn passes(&self, now: Instant, packet: &Packet) -> bool {
        if self.absent || packet.kind == Kind::Reset && on(Guard::GatePassesReset) {
            return true;
        }
        let Some(entry) = self.entry(packet.cgroup) else {
            return !on(Guard::GateDefaultClosed);
        };
        self.live(now, entry.words) && Self::fits(entry.words.epoch, packet)
    }

    /// The same when the coreapp writes between the program's reads: `before` is what was read first.
    pub fn passes_torn(&self, now: Instant, before: Words, after: Words, packet: &Packet) -> bool {
        // The program reads deadline, epoch, deadline; it must find the deadline unchanged.
        if before.deadline != after.deadline && on(Guard::GateReadsTwice) {
            return false;
        }
        let words = Words {
            epoch: before.epoch,
            deadline: after.deadline,
        };
        self.live(now, words) && Self::fits(before.epoch, packet)
    }

    fn live(&self, now: Instant, words: Words) -> bool {
        let in_time = now < words.deadline || !on(Guard::GateDeadline);
        let near = words.deadline.since(now) <= TTL_MAX || !on(Guard::GateCeiling);
        let unsealed = words.epoch > self.seal || !on(Guard::GateSeal);
        in_time && near && unsealed && words.epoch != Epoch(0)
    }

    fn fits(epoch: Epoch, packet: &Packet) -> bool {
        packet.stamp == Some(epoch) || !on(Guard::GateSocketStamp)
    }

    /// The ownership under which a fresh connection would pass now.
    pub fn open_now(&self, now: Instant) -> Option<&Ownership> {
        let mut open = self.entries.iter().filter(|e| self.live(now, e.words));
        open.find_map(|entry| entry.own.as_ref())
    }

    /// Memory gone wrong in a coreapp: its entry says that it may send for a hundred years.
    pub fn spoil(&mut self, cgroup: Incarnation) {
        if let Some(entry) = self.entry_mut(cgroup) {
            entry.words.deadline = Instant(u64::MAX / 2);
        }
    }
}

/// A small story of packets with the answer that the gate must give.
pub struct Case {
    pub name: &'static str,
    pub right: fn() -> bool,
}

/// What no whole cluster shows, because something else would have to be broken as well: the gate alone, packet by packet.
pub const CASES: &[Case] = &[
    Case {
        name: "no entry, no packet",
        right: || !Gate::default().passes(at(1), &packet(1, 5)),
    },
    Case {
        name: "nothing before the tenure, all during it, nothing after it",
        right: || {
            let mut gate = Gate::default();
            gate.attest(start(1));
            let before = gate.stamp(at(1), start(1)).is_none();
            gate.open(start(1), &own(5), at(100)).is_ok()
                && before
                && gate.passes(at(99), &packet(1, 5))
                && !gate.passes(at(100), &packet(1, 5))
        },
    },
    Case {
        name: "bytes of an older epoch under a newer tenure",
        right: || {
            let mut gate = opened(5, 100);
            gate.shut(start(1));
            let _ = gate.open(start(1), &own(7), at(300));
            !gate.passes(at(150), &packet(1, 5)) && gate.passes(at(150), &packet(1, 7))
        },
    },
    Case {
        name: "a sealed epoch while its deadline lives",
        right: || {
            let mut gate = opened(5, 100);
            gate.seal = Epoch(5);
            !gate.passes(at(50), &packet(1, 5))
        },
    },
    Case {
        name: "a deadline in a hundred years",
        right: || {
            let mut gate = opened(5, 100);
            gate.spoil(start(1));
            !gate.passes(at(50), &packet(1, 5))
        },
    },
    Case {
        name: "a store between the program's reads",
        right: || {
            let gate = opened(7, 300);
            let (before, after) = (words(5, 0), words(7, 300));
            !gate.passes_torn(at(150), before, after, &packet(1, 5))
        },
    },
    Case {
        name: "the next start under its predecessor's deadline",
        right: || {
            let mut gate = opened(5, 100);
            gate.attest(start(2));
            gate.stamp(at(50), start(2)).is_none() && gate.passes(at(50), &packet(1, 5))
        },
    },
    Case {
        name: "a dead start's bytes after its control group is gone",
        right: || {
            let mut gate = opened(5, 100);
            gate.remove(start(1));
            !gate.passes(at(50), &packet(1, 5))
        },
    },
    Case {
        name: "the end of a connection after the end of the tenure",
        right: || {
            let mut gate = opened(5, 100);
            gate.shut(start(1));
            let reset = Packet {
                kind: Kind::Reset,
                ..packet(1, 5)
            };
            gate.passes(at(50), &reset) && !gate.passes(at(50), &packet(1, 5))
        },
    },
];

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn words(epoch: u64, deadline_ms: u64) -> Words {
    Words {
        epoch: Epoch(epoch),
        deadline: at(deadline_ms),
    }
}

fn start(counter: u64) -> Incarnation {
    Incarnation { counter, random: 0 }
}

fn own(epoch: u64) -> Ownership {
    Ownership {
        shard: Default::default(),
        epoch: Epoch(epoch),
        grant: Default::default(),
        owner: wa_core::id::NodeId::new("c1:coreapp-1"),
        incarnation: start(1),
    }
}

fn packet(counter: u64, epoch: u64) -> Packet {
    Packet {
        cgroup: start(counter),
        stamp: Some(Epoch(epoch)),
        kind: Kind::Payload,
    }
}

fn opened(epoch: u64, deadline_ms: u64) -> Gate {
    let mut gate = Gate::default();
    gate.attest(start(1));
    let _ = gate.open(start(1), &own(epoch), at(deadline_ms));
    gate
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each rule of the gate, one packet at a time. Method: the table, which `cargo xtask mutants` plays as well.
    #[test]
    fn every_case_goes_as_it_must() {
        for case in CASES {
            assert!((case.right)(), "{}", case.name);
        }
    }
}
