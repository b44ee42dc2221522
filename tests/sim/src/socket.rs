//! What coreapps send upstream and what their kernels do with it: sockets, queues that outlive the process, retransmits.
//! Every packet is put to the gate, and what passes to the judge of S1. Knows no messages: a load is bytes.

use std::collections::VecDeque;

use wa_core::id::{Epoch, Incarnation, Ownership};

use crate::gate::{Kind, Packet};
use crate::invariant::{invariant_s1, short};
use crate::message::Id;
use crate::node::Brain;
use crate::world::{MS, Sim, What};

/// First wait of the kernel before it sends again, ms; doubles up to the longest.
const AGAIN_MS: u64 = 20;
const AGAIN_MAX_MS: u64 = 160;
/// After so many tries the kernel gives a connection up.
const TRIES_MAX: u32 = 40;
/// Loads that a sender hands to the kernel before it waits for the peer.
const QUEUE_MAX: usize = 4;

/// Bytes in a queue: a message or anything else, and whether the peer has it.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    message: Option<Id>,
    arrived: bool,
}

/// A connection to the upstream in one machine's kernel.
#[derive(Debug, Clone)]
pub struct Socket {
    cgroup: Incarnation,
    stamp: Option<Epoch>,
    /// Under which tenure it was opened: what the judge knows and no kernel does.
    own: Option<Ownership>,
    queue: VecDeque<Load>,
    tries: u32,
    /// A transmission or its answer is under way.
    busy: bool,
    /// A copy that the process does not know of: its end does not abort this one.
    leaked: bool,
}

impl Sim {
    /// A number below `n` from the dice of the traffic: the course of the protocol does not depend on it.
    pub(crate) fn dice(&mut self, n: u64) -> u64 {
        if self.calm {
            0
        } else {
            wa_core::id::splitmix(&mut self.traffic) % n
        }
    }

    fn cgroup(&self, node: usize) -> Incarnation {
        self.nodes[node].incarnation
    }

    /// The sender of a node begins with its tenure.
    pub(crate) fn begin_sending(&mut self, node: usize, own: Ownership) {
        let n = &mut self.nodes[node];
        n.sending = Some(own);
        if !std::mem::replace(&mut n.sender_turns, true) {
            self.push_traffic(MS, node, What::Send);
        }
    }

    /// The end of a tenure in the order of attack 2: the gate is shut already, sockets are aborted, senders are joined.
    pub(crate) fn end_sending(&mut self, node: usize, epoch: Epoch) {
        self.nodes[node].sending = None;
        self.abort(node, false);
        let after = self.delay(8);
        self.push(after, node, What::Joined(epoch));
    }

    /// Resets the sockets of the running start. `all`: also those that the process does not know of.
    pub(crate) fn abort(&mut self, node: usize, all: bool) {
        let (now, cgroup) = (self.local(node), self.cgroup(node));
        let n = &mut self.nodes[node];
        let mut resets = 0;
        n.sockets.retain(|_, socket| {
            let gone = socket.cgroup == cgroup && (all || !socket.leaked);
            let packet = Packet {
                cgroup,
                stamp: socket.stamp,
                kind: Kind::Reset,
            };
            if gone && n.gate.passes(now, &packet) {
                resets += 1;
            }
            !gone
        });
        for _ in 0..resets {
            self.count("packet: reset passes");
        }
    }

    /// One turn of the sender: it looks whether it may send, and writes a moment later.
    pub(crate) fn send(&mut self, node: usize) {
        let Some(own) = self.nodes[node].sending.clone() else {
            self.nodes[node].sender_turns = false;
            return;
        };
        let (now, cgroup) = (self.local(node), self.cgroup(node));
        let n = &self.nodes[node];
        // A careless sender asks nobody: S1 must not rest on goodwill.
        if n.careless || n.gate.in_time(now, cgroup) {
            let gap = MS / 20 + self.dice(2 * MS);
            self.push_traffic(gap, node, What::Write(Some(own), None));
        }
        let turn = (8 + self.dice(20)) * MS;
        self.push_traffic(turn, node, What::Send);
    }

    /// Bytes for the upstream: on the tenure's connection, which is opened if there is none.
    pub(crate) fn write(&mut self, node: usize, own: Option<Ownership>, message: Option<Id>) {
        let cgroup = self.cgroup(node);
        if own.is_none() && self.nodes[node].gate.owned(cgroup).is_some() {
            // It has got a tenure meanwhile: nothing wrong with its bytes.
            return;
        }
        let known = self.nodes[node].sockets.iter_mut().find(|(_, socket)| {
            socket.cgroup == cgroup && socket.own == own && !socket.leaked && socket.tries < 8
        });
        if let Some((id, socket)) = known {
            let id = *id;
            if socket.queue.len() < QUEUE_MAX || message.is_some() {
                let arrived = false;
                socket.queue.push_back(Load { message, arrived });
            }
            return self.transmit(node, id);
        }
        let stamp = self.nodes[node].gate.stamp(self.local(node), cgroup);
        if !self.hook(node, (cgroup, stamp, Kind::Connect), own.as_ref()) {
            if let Some(id) = message {
                self.nothing_sent(node, id);
            }
            return;
        }
        self.next_socket += 1;
        let id = self.next_socket;
        let leaked = std::mem::take(&mut self.nodes[node].leak_next);
        let mut queue: VecDeque<Load> = (0..self.dice(4)).map(|_| Load::default()).collect();
        queue.push_back(Load {
            message,
            arrived: false,
        });
        let socket = Socket {
            cgroup,
            stamp,
            own,
            queue,
            tries: 0,
            busy: false,
            leaked,
        };
        self.nodes[node].sockets.insert(id, socket);
        self.transmit(node, id);
    }

    /// The kernel sends the first load in the queue, or sends it again. Processes are not asked.
    pub(crate) fn transmit(&mut self, node: usize, id: u64) {
        let running = self.cgroup(node);
        let Some(socket) = self.nodes[node].sockets.get_mut(&id) else {
            return;
        };
        if socket.busy {
            return;
        }
        if socket.queue.is_empty() {
            // A dead process's connection ends once its queue is empty.
            if socket.cgroup != running {
                self.nodes[node].sockets.remove(&id);
            }
            return;
        }
        socket.busy = true;
        socket.tries += 1;
        let tries = socket.tries;
        let (cgroup, stamp, own) = (socket.cgroup, socket.stamp, socket.own.clone());
        if tries > TRIES_MAX {
            self.nodes[node].sockets.remove(&id);
            return;
        }
        if tries > 1 {
            self.count("packet: sent again");
        }
        let passed = self.hook(node, (cgroup, stamp, Kind::Payload), own.as_ref());
        if passed {
            self.arrives(node, id);
        }
        if passed && self.peer_answers(node, cgroup) {
            let back = MS + self.dice(12 * MS);
            self.push_traffic(back, node, What::Acked(id));
        } else {
            let again = (AGAIN_MS << (tries - 1).min(5)).min(AGAIN_MAX_MS);
            self.push_traffic(again * MS, node, What::Kernel(id));
        }
    }

    /// What passed the gate reaches the upstream, mostly, and once.
    fn arrives(&mut self, node: usize, id: u64) {
        let lost = self.dice(16) == 1;
        let socket = self.nodes[node].sockets.get_mut(&id);
        let Some(load) = socket.and_then(|socket| socket.queue.front_mut()) else {
            return;
        };
        if lost || std::mem::replace(&mut load.arrived, true) {
            return;
        }
        if let Some(message) = load.message {
            self.upstream_gets(node, message);
        }
    }

    /// The worst for S1: the peer's answers are lost while the process stands still or is dead, so its bytes stay queued.
    fn peer_answers(&mut self, node: usize, cgroup: Incarnation) -> bool {
        let n = &self.nodes[node];
        let runs = n.incarnation == cgroup && !n.paused && !matches!(n.brain, Brain::Down);
        let lost = self.dice(16);
        if runs {
            self.calm || lost > 2
        } else {
            !self.calm && lost == 0
        }
    }

    /// The peer has the first load.
    pub(crate) fn acked(&mut self, node: usize, id: u64) {
        if let Some(socket) = self.nodes[node].sockets.get_mut(&id) {
            if socket.queue.front().is_some_and(|load| load.arrived) {
                socket.queue.pop_front();
            }
            (socket.busy, socket.tries) = (false, 0);
        }
        self.transmit(node, id);
    }

    /// The wait before sending again is over.
    pub(crate) fn again(&mut self, node: usize, id: u64) {
        if let Some(socket) = self.nodes[node].sockets.get_mut(&id) {
            socket.busy = false;
        }
        self.transmit(node, id);
    }

    /// A copy of what the sender has open, or opens next, is out of its reach.
    pub(crate) fn leak(&mut self, node: usize) {
        let cgroup = self.cgroup(node);
        let n = &mut self.nodes[node];
        match n.sockets.values_mut().find(|s| s.cgroup == cgroup) {
            Some(socket) => {
                socket.leaked = true;
                // Somebody else's bytes, whom no end of a tenure reaches.
                socket.queue.extend([Load::default(); 3 * QUEUE_MAX]);
            }
            None => n.leak_next = true,
        }
    }

    /// One packet at the hook of one machine: the gate decides, the judge looks at what passes.
    fn hook(
        &mut self,
        node: usize,
        (cgroup, stamp, kind): (Incarnation, Option<Epoch>, Kind),
        own: Option<&Ownership>,
    ) -> bool {
        let packet = Packet {
            cgroup,
            stamp,
            kind,
        };
        let verdict = self.nodes[node].gate.passes(self.local(node), &packet);
        self.count(match (kind, verdict) {
            (Kind::Connect, true) => "packet: connect passes",
            (Kind::Connect, false) => "packet: connect refused",
            (_, true) => "packet: payload passes",
            (_, false) => "packet: payload dropped",
        });
        if !verdict {
            return false;
        }
        let ms = self.now / MS;
        match invariant_s1(&mut self.judge, &self.db, ms, own) {
            Ok(true) if !self.calm => {
                let who = own.map_or_else(String::new, short);
                self.tell(format!("the first packet of {who} passes the gate"));
            }
            Ok(_) => {}
            Err(why) => {
                let name = self.nodes[node].name.host().to_owned();
                self.broken = Some(format!(
                    "S1 at {ms} ms by packets: {why} (kernel of {name})"
                ));
            }
        }
        true
    }
}
