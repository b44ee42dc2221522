//! The simulated nodes: they carry out the core's actions as the drivers do, over a network and a database with delays.

mod act;

use std::collections::{BTreeMap, BTreeSet};

use wa_core::detector::Intervals;
use wa_core::id::{Epoch, Incarnation, NodeId, Nonce, Ownership, ShardId, splitmix};
use wa_core::lease::Tolerance;
use wa_core::master::{self, Attempt, Fence, Master};
use wa_core::tenure::{self, Tenure};
use wa_core::time::{Drift, Duration, Instant};
use wa_core::wire::{Health, Receipt, Report};

use crate::database::{Database, Op, Rows};
use crate::fault::{self, FAULTS_END, Fault};

/// Nanoseconds in a millisecond: the simulation counts real time in nanoseconds.
pub const MS: u64 = 1_000_000;
const TTL: Duration = Duration::from_millis(1000);
const HEARTBEAT: Duration = Duration::from_millis(100);
const UNHEALTHY: Duration = Duration::from_millis(400);

enum Brain {
    Down,
    Master(Box<Master>),
    App(Box<Tenure>),
}

struct Node {
    name: NodeId,
    brain: Brain,
    incarnation: Incarnation,
    paused: bool,
    backlog: Vec<What>,
    /// Clock: local = offset + real · rate / 1000.
    rate: u64,
    offset: u64,
    tick_at: Option<u64>,
    last_round: u64,
    /// Database connection: grows when it is dropped.
    opened: u64,
    last_exec: u64,
    last_reply: u64,
    /// Coreapp: what the kernel lets through, deadline by the own clock. Outlives the process.
    gate: Option<(Ownership, Instant)>,
    seal: Epoch,
    obeyed: Epoch,
    beat: u64,
    draining: bool,
}

#[derive(Debug, Clone)]
enum What {
    Tick,
    Round,
    Master(master::Event),
    App(tenure::Event),
    Ping(usize),
    Database(u64, u64, Op, Then),
    Reply(u64, Rows, u64),
    Outcome(u64, master::Outcome),
    Timeout(u64),
    Fence(usize, Ownership, Nonce),
    Obituary(Incarnation),
    Start,
    Beat,
    Fault(Fault),
}

/// What an answer of the database is for.
#[derive(Debug, Clone, Copy)]
enum Then {
    Map,
    Lease(Nonce),
    Attempt(Attempt),
    Renewed(Nonce),
    Released,
    Nothing,
}

/// The world.
pub struct Sim {
    now: u64,
    order: u64,
    random: u64,
    queue: BTreeMap<(u64, u64), (usize, Incarnation, What)>,
    nodes: Vec<Node>,
    masters: usize,
    db: Database,
    pending: BTreeMap<u64, (usize, Incarnation, Then)>,
    next_op: u64,
    cut: BTreeSet<(usize, usize)>,
    db_cut: BTreeSet<usize>,
    loss: u64,
    hosts: bool,
    pub lying_hosts: bool,
    broken: Option<String>,
    /// What happened, for people.
    pub story: Vec<String>,
}

impl Sim {
    pub fn new(seed: u64) -> Self {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed;
        let masters = 1 + (splitmix(&mut random) % 3) as usize;
        let mut nodes = Vec::new();
        for index in 0..masters + 3 {
            let name = if index < masters {
                format!("m{index}:master-1")
            } else {
                format!("c{}:coreapp-1", index - masters)
            };
            nodes.push(Node {
                name: NodeId::new(&name),
                brain: Brain::Down,
                incarnation: Incarnation::default(),
                paused: false,
                backlog: Vec::new(),
                rate: 900 + splitmix(&mut random) % 201,
                offset: splitmix(&mut random) % (1 << 40),
                tick_at: None,
                last_round: 0,
                opened: 0,
                last_exec: 0,
                last_reply: 0,
                gate: None,
                seal: Epoch(0),
                obeyed: Epoch(0),
                beat: 0,
                draining: false,
            });
        }
        let hosts = splitmix(&mut random) % 4 != 0;
        let mut sim = Self {
            now: 0,
            order: 0,
            random,
            queue: BTreeMap::new(),
            nodes,
            masters,
            db: Database::new(),
            pending: BTreeMap::new(),
            next_op: 0,
            cut: BTreeSet::new(),
            db_cut: BTreeSet::new(),
            loss: 0,
            hosts,
            lying_hosts: false,
            broken: None,
            story: Vec::new(),
        };
        for index in 0..sim.nodes.len() {
            let at = sim.below(300) * MS;
            sim.push(at, index, What::Start);
        }
        let faults = fault::draw(&mut sim.random, masters, 3);
        for (at, fault) in faults {
            sim.push(at, 0, What::Fault(fault));
        }
        sim
    }

    fn below(&mut self, n: u64) -> u64 {
        splitmix(&mut self.random) % n
    }

    fn push(&mut self, after: u64, node: usize, what: What) {
        self.order += 1;
        let life = self.nodes[node].incarnation;
        self.queue
            .insert((self.now + after, self.order), (node, life, what));
    }

    fn tell(&mut self, text: String) {
        self.story.push(format!("{:>6} ms {text}", self.now / MS));
    }

    fn local(&self, node: usize) -> Instant {
        let n = &self.nodes[node];
        Instant(n.offset + self.now / 1000 * n.rate)
    }

    /// Runs until all shards are served after the last fault, or time is up.
    pub fn run(&mut self) -> Result<(), String> {
        let end = FAULTS_END + 45_000 * MS;
        while let Some((&(at, order), _)) = self.queue.first_key_value() {
            let (node, life, what) = self.queue.remove(&(at, order)).expect("just seen");
            self.now = at;
            self.happen(node, life, what);
            if let Some(why) = self.broken.take() {
                return Err(why);
            }
            if at > FAULTS_END + 300 * MS && self.served() {
                return Ok(());
            }
            if at > end {
                let rows = &self.db.rows;
                return Err(format!(
                    "nobody took over: {:?} {:?}",
                    rows.master, rows.shards
                ));
            }
        }
        Err("nothing left to do".into())
    }

    fn served(&self) -> bool {
        let rows = self.db.rows.shards.iter();
        let count = self.db.rows.master.shard_count;
        count > 0
            && rows.filter(|row| row.shard.0 < count).all(|row| {
                (0..self.nodes.len()).any(|node| {
                    self.live(node)
                        .is_some_and(|own| (own.epoch, own.grant) == (row.epoch, row.grant))
                })
            })
    }

    /// What the gate of a node lets through now.
    fn live(&self, node: usize) -> Option<&Ownership> {
        let n = &self.nodes[node];
        let (own, deadline) = n.gate.as_ref()?;
        (self.local(node) < *deadline && own.epoch > n.seal).then_some(own)
    }

    fn check(&mut self) {
        let live: Vec<(usize, Ownership)> = (0..self.nodes.len())
            .filter_map(|node| self.live(node).map(|own| (node, own.clone())))
            .collect();
        for (i, (a, own)) in live.iter().enumerate() {
            for (b, other) in &live[i + 1..] {
                // Slices of different shard counts overlap: no two of different generations may live at once.
                let generations = [own, other].map(|own| self.db.generation_of(own));
                if own.shard == other.shard || generations[0] != generations[1] {
                    self.broken = Some(format!(
                        "S1 at {} ms: {} holds {own:?} and {} holds {other:?}",
                        self.now / MS,
                        self.nodes[*a].name,
                        self.nodes[*b].name
                    ));
                }
            }
        }
    }

    fn happen(&mut self, node: usize, life: Incarnation, what: What) {
        match &what {
            What::Fault(fault) => return self.fault(fault.clone()),
            What::Obituary(incarnation) => return self.obituary(node, *incarnation),
            What::Start => return self.start(node),
            What::Database(id, server, op, then) => {
                return self.database(node, *id, *server, op, *then);
            }
            What::Fence(master, own, nonce) => return self.fence(node, *master, own, *nonce),
            _ => {}
        }
        if life != self.nodes[node].incarnation || matches!(self.nodes[node].brain, Brain::Down) {
            return;
        }
        if self.nodes[node].paused {
            self.nodes[node].backlog.push(what);
            return;
        }
        match what {
            What::Tick => {
                self.nodes[node].tick_at = None;
                self.step_either(node);
            }
            What::Round => self.round(node),
            What::Master(event) => self.step_master(node, event),
            What::App(event) => self.step_app(node, event),
            What::Ping(from) => self.answer(node, from),
            What::Reply(id, rows, server) => self.reply(id, rows, server),
            What::Outcome(id, outcome) => self.outcome(id, outcome),
            What::Timeout(id) => self.timeout(id),
            What::Beat => {
                if !self.db_cut.contains(&node) {
                    self.nodes[node].beat = self.now;
                }
                self.push(1000 * MS, node, What::Beat);
            }
            _ => {}
        }
    }

    fn start(&mut self, node: usize) {
        let now = self.local(node);
        let seed = splitmix(&mut self.random);
        let random = splitmix(&mut self.random);
        let n = &mut self.nodes[node];
        if !matches!(n.brain, Brain::Down) {
            return;
        }
        n.incarnation = Incarnation {
            counter: n.incarnation.counter + 1,
            random,
        };
        (n.tick_at, n.paused, n.draining) = (None, false, false);
        n.backlog.clear();
        n.opened += 1;
        let (name, incarnation, obeyed) = (n.name.clone(), n.incarnation, n.obeyed);
        self.nodes[node].brain = if node < self.masters {
            Brain::Master(Box::new(Master::new(
                now,
                master_config(name, incarnation, seed),
            )))
        } else {
            let config = tenure::Config {
                node: name,
                incarnation,
                ttl: TTL,
                drift: Drift::KERNEL_LIMIT,
                margin: Duration::from_millis(20),
                quiesce_max: Duration::from_millis(500),
                stop_max: Duration::from_millis(1500),
                seed,
            };
            Brain::App(Box::new(Tenure::new(now, config, obeyed)))
        };
        self.tell(format!("{} starts", self.nodes[node].name));
        if node < self.masters {
            self.push(0, node, What::Round);
        }
        self.push(0, node, What::Beat);
        self.push(0, node, What::Tick);
    }

    fn crash(&mut self, node: usize, restart_ms: u64) {
        if matches!(self.nodes[node].brain, Brain::Down) {
            return;
        }
        self.tell(format!("{} dies", self.nodes[node].name));
        self.nodes[node].brain = Brain::Down;
        let dead = self.nodes[node].incarnation;
        if node >= self.masters && self.hosts {
            // The gate's entry outlives the process until the host agent sees the empty cgroup (attack 2).
            let after = 1 + self.below(5);
            self.push(after * MS, node, What::Obituary(dead));
        }
        // Without a host agent nobody deletes the entry: the next start waits until its deadline has passed.
        let least = if self.hosts { 10 } else { 1200 };
        self.push(restart_ms.max(least) * MS, node, What::Start);
    }

    /// The host agent found the cgroup empty: it deletes the gate's entry, then signs.
    fn obituary(&mut self, node: usize, incarnation: Incarnation) {
        let gate = if self.lying_hosts {
            self.nodes[node].gate.clone()
        } else {
            self.nodes[node].gate.take()
        };
        let name = self.nodes[node].name.clone();
        let own = gate.map(|(own, _)| own).unwrap_or(Ownership {
            shard: ShardId(0),
            epoch: Epoch(0),
            grant: Default::default(),
            owner: name,
            incarnation,
        });
        for master in 0..self.masters {
            let receipt = receipt(&own, incarnation, Nonce(0), true);
            self.datagram(node, master, What::Master(master::Event::Receipt(receipt)));
        }
    }

    /// The host agent seals, kills if that incarnation still runs, and answers.
    fn fence(&mut self, node: usize, master: usize, own: &Ownership, nonce: Nonce) {
        if !self.hosts {
            return;
        }
        let n = &mut self.nodes[node];
        if !self.lying_hosts {
            n.seal = n.seal.max(own.epoch);
        }
        let runs = !matches!(n.brain, Brain::Down) && n.incarnation == own.incarnation;
        let newer = n.gate.as_ref().is_some_and(|(o, _)| o.epoch > own.epoch);
        if runs && !newer && !self.lying_hosts {
            self.crash(node, 300);
        }
        let empty = !(runs && newer);
        let receipt = receipt(own, own.incarnation, nonce, empty);
        self.datagram(node, master, What::Master(master::Event::Receipt(receipt)));
    }

    fn datagram(&mut self, from: usize, to: usize, what: What) {
        if self.cut.contains(&(from, to)) || self.below(1000) < self.loss {
            return;
        }
        let delay = if self.below(50) == 0 {
            self.below(40 * MS)
        } else {
            MS / 10 + self.below(2 * MS)
        };
        self.push(delay, to, what);
    }

    fn round(&mut self, node: usize) {
        let every = HEARTBEAT.as_nanos() as u64 * 1000 / self.nodes[node].rate;
        let late = self.now > self.nodes[node].last_round + every + every / 2
            && self.nodes[node].last_round != 0;
        self.nodes[node].last_round = self.now;
        self.step_master(node, master::Event::Round { late });
        for other in 0..self.nodes.len() {
            if other != node {
                self.datagram(node, other, What::Ping(node));
            }
        }
        self.push(every, node, What::Round);
    }

    fn answer(&mut self, node: usize, from: usize) {
        let now = self.local(node);
        let n = &self.nodes[node];
        let all = Health(0b1_1111);
        let (shard, epoch, grant, stopping) = match &n.brain {
            Brain::App(tenure) => {
                let own = tenure.ownership();
                let live = tenure.live(now).is_some();
                let shard = own.filter(|_| live).map(|own| own.shard);
                let (epoch, grant) =
                    own.map_or_else(Default::default, |own| (own.epoch, own.grant));
                (shard, epoch, grant, tenure.stopping())
            }
            _ => (None, Epoch(0), Default::default(), false),
        };
        let report = Report {
            shard,
            epoch,
            grant,
            epoch_high: n.obeyed,
            health: all
                .with(Health::STOPPING, stopping)
                .with(Health::DATABASE_OK, !self.db_cut.contains(&node)),
            progress_age_ms: 0,
            lateness_ms: 0,
            in_flight: 0,
        };
        let answer = master::Event::Answered {
            node: n.name.clone(),
            incarnation: n.incarnation,
            report,
        };
        self.datagram(node, from, What::Master(answer));
    }

    fn step_either(&mut self, node: usize) {
        if node < self.masters {
            self.step_master(node, master::Event::Tick);
        } else {
            self.step_app(node, tenure::Event::Tick);
        }
    }

    fn step_master(&mut self, node: usize, event: master::Event) {
        let now = self.local(node);
        let Brain::Master(brain) = &mut self.nodes[node].brain else {
            return;
        };
        let mut actions = Vec::new();
        brain.step(now, event, &mut actions);
        let deadline = brain.deadline();
        for action in actions {
            self.master_action(node, action);
        }
        self.tick_at(node, deadline);
    }

    fn step_app(&mut self, node: usize, event: tenure::Event) {
        let now = self.local(node);
        let Brain::App(brain) = &mut self.nodes[node].brain else {
            return;
        };
        let mut actions = Vec::new();
        brain.step(now, event, &mut actions);
        let deadline = brain.deadline();
        for action in actions {
            self.app_action(node, action);
        }
        self.tick_at(node, deadline);
        self.check();
    }

    fn tick_at(&mut self, node: usize, deadline: Instant) {
        let wait = deadline.since(self.local(node)).as_nanos() as u64;
        // Timers fire a little late.
        let after = wait * 1000 / self.nodes[node].rate + self.below(MS) + 1000;
        let at = self.now + after;
        if self.nodes[node].tick_at.is_none_or(|before| at < before) {
            self.nodes[node].tick_at = Some(at);
            self.push(after, node, What::Tick);
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.tell(format!("fault {fault:?}"));
        match fault {
            Fault::Crash(node, restart) => self.crash(node, restart),
            Fault::Pause(node) => self.nodes[node].paused = true,
            Fault::Resume(node) => {
                self.nodes[node].paused = false;
                for what in std::mem::take(&mut self.nodes[node].backlog) {
                    self.push(self.order % 1000, node, what);
                }
            }
            Fault::Cut(a, b) => drop(self.cut.insert((a, b))),
            Fault::Mend(a, b) => drop(self.cut.remove(&(a, b))),
            Fault::CutDatabase(node) => drop(self.db_cut.insert(node)),
            Fault::MendDatabase(node) => drop(self.db_cut.remove(&node)),
            Fault::Rewind(ms) => self.db.rewind(self.now.saturating_sub(ms * MS)),
            Fault::Loss(permille) => self.loss = permille,
            Fault::Terminate(node) => {
                if node < self.masters {
                    self.push(0, node, What::Master(master::Event::Stop));
                } else {
                    self.push(0, node, What::App(tenure::Event::Stop));
                }
            }
            Fault::Switchover(shard) => {
                let shard = ShardId(shard);
                self.command(&master::Command::Switchover { shard, to: None });
            }
            Fault::Reshard(count) => self.command(&master::Command::ShardCount(count)),
        }
    }

    fn command(&mut self, command: &master::Command) {
        for master in 0..self.masters {
            self.push(
                0,
                master,
                What::Master(master::Event::Command(command.clone())),
            );
        }
    }
}

fn receipt(own: &Ownership, incarnation: Incarnation, nonce: Nonce, cgroup_empty: bool) -> Receipt {
    Receipt {
        machine_id: 1,
        boot_id: 1,
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

fn master_config(node: NodeId, incarnation: Incarnation, seed: u64) -> master::Config {
    master::Config {
        node,
        incarnation,
        ttl: TTL,
        tolerance: Tolerance {
            drift: Drift::KERNEL_LIMIT,
            margin: Duration::from_millis(20),
            vm_pause: Duration::ZERO,
        },
        intervals: Intervals {
            heartbeat: HEARTBEAT,
            unhealthy: UNHEALTHY,
        },
        db_unhealthy: Duration::from_millis(2500),
        fence: Fence::Required,
        shard_count: 1 + u16::from(seed % 3 == 0),
        quiesce_max: Duration::from_millis(300),
        flap_max: 1000,
        flap_window: Duration::from_secs(600),
        seed,
    }
}
