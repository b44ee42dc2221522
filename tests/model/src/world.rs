//! One state of the modelled cluster: the core's own objects, the lease rows, and what is under way between them.
//! Draws no random numbers: everything takes a fixed time, and what goes wrong is an action that the checker chooses.

use wa_core::id::{Epoch, Incarnation, NodeId, Nonce, Ownership};
use wa_core::master::{self, Attempt, Master, Outcome};
use wa_core::tenure::{self, Tenure};
use wa_core::time::{Duration, Instant};

use crate::{Bounds, HEARTBEAT_MS, TTL_MS};
use wa_sim::database::{Database, Op, Rows};

/// The process of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Brain {
    Down,
    Master(Box<Master>),
    App(Box<Tenure>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    pub name: NodeId,
    pub brain: Brain,
    pub incarnation: Incarnation,
    pub paused: bool,
    /// What arrived during the pause.
    pub backlog: Vec<What>,
    /// Clock: local = real · rate / 1000.
    pub rate: u64,
    /// No datagram and no statement passes.
    pub isolated: bool,
    pub opened: u64,
    pub server_seen: u64,
    /// What the kernel lets through, deadline by the own clock. Outlives the process.
    pub gate: Option<(Ownership, Instant)>,
    pub seal: Epoch,
    pub obeyed: Epoch,
}

/// Something under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum What {
    Round,
    Master(master::Event),
    App(tenure::Event),
    Ping(usize),
    /// A statement on its way, and whether its sender has given it up.
    Statement(Op, Then, u64, bool),
    /// The shard map, asked for at that moment of the node's own clock, from that server.
    Reply(Box<Rows>, Instant, u64),
    Outcome(Then, Outcome, u64),
    Fence(usize, Ownership, Nonce),
    Obituary(Incarnation),
    Start,
    Resume,
    Join,
}

/// What an answer of the database is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Then {
    /// The shard map, asked for at that moment of the node's own clock.
    Map(Instant),
    Lease(Nonce),
    Attempt(Attempt),
    Renewed(Nonce),
    Released,
    Nothing,
}

/// Something of a node's that happens at a time, in ms. The queue is in the order of time, then of sending.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Due {
    pub at: u64,
    pub node: usize,
    pub life: Incarnation,
    pub what: What,
}

/// One state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub now: u64,
    pub nodes: Vec<Node>,
    pub masters: usize,
    pub hosts: bool,
    pub db: Database,
    pub queue: Vec<Due>,
    /// How many more things may go wrong.
    pub faults_left: u8,
    /// A coreapp obeyed a lower epoch than before.
    pub obeyed_lower: bool,
    /// Some owner after the first has opened its gate.
    pub taken_over: bool,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// What would happen next does not: a datagram, a statement or an answer is lost.
    Lose,
    /// The statement that would be carried out next is carried out this many ms later; its sender has given up by then.
    Late(u64),
    /// The node stops for this many ms, and then finds all that came meanwhile.
    Pause(usize, u64),
    /// The process dies and is started again.
    Kill(usize),
    /// Nothing to or from the node passes for this many ms.
    Isolate(usize, u64),
    /// Another server takes over that has lost this many writes.
    FailOver(usize),
}

impl World {
    /// Nothing has started yet.
    pub fn new(bounds: &Bounds, apps_later_ms: u64) -> Self {
        let mut nodes = Vec::new();
        for index in 0..bounds.masters + 2 {
            let (name, rate) = if index < bounds.masters {
                (format!("m{}:master-1", index + 1), bounds.master_rate)
            } else {
                (
                    format!("c{}:coreapp-1", index - bounds.masters + 1),
                    bounds.app_rate,
                )
            };
            nodes.push(Node {
                name: NodeId::new(&name),
                brain: Brain::Down,
                incarnation: Incarnation::default(),
                paused: false,
                backlog: Vec::new(),
                rate,
                isolated: false,
                opened: 0,
                server_seen: 0,
                gate: None,
                seal: Epoch(0),
                obeyed: Epoch(0),
            });
        }
        let mut db = Database::default();
        db.history_max = 4;
        let mut world = Self {
            now: 0,
            nodes,
            masters: bounds.masters,
            hosts: bounds.hosts,
            db,
            queue: Vec::new(),
            faults_left: bounds.faults,
            obeyed_lower: false,
            taken_over: false,
        };
        for node in 0..world.nodes.len() {
            // One after the other: who comes first is not what this model is about.
            let later = if node < bounds.masters {
                0
            } else {
                apps_later_ms
            };
            world.push(1 + later + node as u64 * 5, node, What::Start);
        }
        world
    }

    pub fn local(&self, node: usize) -> Instant {
        Instant::from_millis(self.now * self.nodes[node].rate / 1000)
    }

    pub fn push(&mut self, after: u64, node: usize, what: What) {
        let (at, life) = (self.now + after, self.nodes[node].incarnation);
        let place = self.queue.partition_point(|due| due.at <= at);
        let due = Due {
            at,
            node,
            life,
            what,
        };
        self.queue.insert(place, due);
    }

    /// The first moment at which some process wants to be woken, and which.
    fn next_tick(&self) -> Option<(u64, usize)> {
        let wakes = self.nodes.iter().enumerate().filter_map(|(index, node)| {
            let deadline = match &node.brain {
                Brain::Master(master) => master.deadline(),
                Brain::App(tenure) => tenure.deadline(),
                Brain::Down => return None,
            };
            // Rounded up: a timer never fires early. One that has passed fires a millisecond later.
            let at = (deadline.as_millis() + 1) * 1000 / node.rate + 1;
            (!node.paused).then_some((at.max(self.now + 1), index))
        });
        wakes.min()
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> u64 {
        let tick = self.next_tick().map(|(at, _)| at);
        let due = self.queue.first().map(|due| due.at);
        tick.into_iter().chain(due).min().unwrap_or(u64::MAX)
    }

    /// What is at the head of the queue, if it comes before any timer.
    pub fn head(&self) -> Option<&Due> {
        let due = self.queue.first()?;
        self.next_tick()
            .is_none_or(|(at, _)| due.at <= at)
            .then_some(due)
    }

    /// Lets the next thing happen.
    pub fn go_on(&mut self) {
        if self.head().is_some() {
            let due = self.queue.remove(0);
            self.now = due.at;
            self.happen(due);
        } else if let Some((at, node)) = self.next_tick() {
            self.now = at;
            match &self.nodes[node].brain {
                Brain::Master(_) => self.step_master(node, master::Event::Tick),
                _ => self.step_app(node, tenure::Event::Tick),
            }
        }
    }

    fn happen(&mut self, due: Due) {
        let Due {
            node, life, what, ..
        } = due;
        match &what {
            What::Start => return self.start(node),
            What::Join => return self.nodes[node].isolated = false,
            What::Statement(op, then, server, given_up) => {
                return self.statement(node, life, op, *then, *server, *given_up);
            }
            What::Fence(master, own, nonce) => return self.fence(node, *master, own, *nonce),
            What::Obituary(dead) => return self.obituary(node, *dead),
            _ => {}
        }
        let n = &mut self.nodes[node];
        if life != n.incarnation || n.brain == Brain::Down {
            return;
        }
        if n.paused && what != What::Resume {
            n.backlog.push(what);
            return;
        }
        match what {
            What::Resume => {
                n.paused = false;
                for what in std::mem::take(&mut n.backlog) {
                    self.push(0, node, what);
                }
            }
            What::Round => self.round(node),
            What::Master(event) => self.step_master(node, event),
            What::App(event) => self.step_app(node, event),
            What::Ping(from) => self.answer(node, from),
            What::Reply(rows, begun, server) => self.reply(node, (*rows, begun), server),
            What::Outcome(then, outcome, server) => {
                self.server(node, server);
                self.outcome(node, then, outcome);
            }
            _ => {}
        }
    }

    /// Lets something go wrong.
    pub fn fault(&mut self, fault: Fault) {
        self.faults_left -= 1;
        match fault {
            Fault::Lose => self.lose(),
            Fault::Late(ms) => {
                let mut due = self.queue.remove(0);
                if let What::Statement(_, then, _, given_up) = &mut due.what {
                    *given_up = true;
                    let then = *then;
                    self.give_up(due.node, due.life, then);
                    due.at += ms;
                    let place = self.queue.partition_point(|other| other.at <= due.at);
                    self.queue.insert(place, due);
                }
            }
            Fault::Pause(node, ms) => {
                self.nodes[node].paused = true;
                self.push(ms, node, What::Resume);
            }
            Fault::Kill(node) => self.kill(node),
            Fault::Isolate(node, ms) => {
                self.nodes[node].isolated = true;
                self.push(ms, node, What::Join);
            }
            Fault::FailOver(writes) => self.db.rewind_writes(writes),
        }
    }

    fn lose(&mut self) {
        let due = self.queue.remove(0);
        self.now = due.at;
        let then = match due.what {
            What::Statement(_, then, _, false) | What::Outcome(then, _, _) => then,
            What::Reply(_, begun, _) => Then::Map(begun),
            _ => return,
        };
        self.give_up(due.node, due.life, then);
    }

    /// The sender of a statement hears nothing within its deadline.
    fn give_up(&mut self, node: usize, life: Incarnation, then: Then) {
        if life != self.nodes[node].incarnation {
            return;
        }
        self.nodes[node].opened += 1;
        let what = match then {
            Then::Map(_) if node < self.masters => What::Master(master::Event::ReadFailed),
            Then::Map(_) => What::App(tenure::Event::ReadFailed),
            then => What::Outcome(then, Outcome::Unknown, self.nodes[node].server_seen),
        };
        self.push(TTL_MS / 4, node, what);
    }

    pub(crate) fn kill(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        if n.brain == Brain::Down {
            return;
        }
        n.brain = Brain::Down;
        let dead = n.incarnation;
        if node >= self.masters && self.hosts {
            // The gate's entry outlives the process until the host agent sees the empty control group (attack 2).
            self.push(3, node, What::Obituary(dead));
        }
        // Without a host agent nobody deletes the entry: the next start waits until its deadline has passed.
        let wait = if self.hosts { 20 } else { TTL_MS * 6 / 5 };
        self.push(wait, node, What::Start);
    }

    fn round(&mut self, node: usize) {
        self.step_master(node, master::Event::Round { late: false });
        for app in self.masters..self.nodes.len() {
            self.datagram(node, app, What::Ping(node));
        }
        self.push(
            HEARTBEAT_MS * 1000 / self.nodes[node].rate,
            node,
            What::Round,
        );
    }

    pub fn datagram(&mut self, from: usize, to: usize, what: What) {
        if !self.nodes[from].isolated && !self.nodes[to].isolated {
            self.push(1, to, what);
        }
    }

    /// A statement leaves: carried out a millisecond later, answered after one more.
    pub fn call(&mut self, node: usize, op: Op, then: Then) {
        let server = self.db.server;
        if self.nodes[node].isolated {
            let life = self.nodes[node].incarnation;
            return self.give_up(node, life, then);
        }
        self.push(1, node, What::Statement(op, then, server, false));
    }

    fn statement(
        &mut self,
        node: usize,
        life: Incarnation,
        op: &Op,
        then: Then,
        server: u64,
        given_up: bool,
    ) {
        if server != self.db.server || self.nodes[node].isolated {
            if !given_up {
                self.give_up(node, life, then);
            }
            return;
        }
        let what = if let Then::Map(begun) = then {
            What::Reply(Box::new(self.db.rows.clone()), begun, server)
        } else {
            What::Outcome(then, self.db.write(self.now, op), server)
        };
        if !given_up && life == self.nodes[node].incarnation {
            self.push(1, node, what);
        }
    }

    /// What the gate of a node lets through now.
    pub fn live(&self, node: usize) -> Option<&Ownership> {
        let n = &self.nodes[node];
        let (own, deadline) = n.gate.as_ref()?;
        (self.local(node) < *deadline && own.epoch > n.seal).then_some(own)
    }

    /// How many gates are open.
    pub fn live_count(&self) -> usize {
        (self.masters..self.nodes.len())
            .filter(|node| self.live(*node).is_some())
            .count()
    }

    pub fn span(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
}
