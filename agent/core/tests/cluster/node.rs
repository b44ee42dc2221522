//! The simulated nodes: they carry out the core's actions as the drivers do, over a network and a database with delays.

mod act;
mod lie;
mod story;

use std::collections::{BTreeMap, BTreeSet};

use wa_core::detector::Intervals;
use wa_core::guard::{Guard, on};
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
/// Many times what the longest story needs.
const EVENTS_MAX: u64 = 2_000_000;
const TTL: Duration = Duration::from_millis(1000);
const HEARTBEAT: Duration = Duration::from_millis(100);
const UNHEALTHY: Duration = Duration::from_millis(400);

enum Brain {
    Down,
    Master(Box<Master>),
    App(Box<Tenure>),
}

pub struct Node {
    pub name: NodeId,
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
    pub gate: Option<(Ownership, Instant)>,
    pub seal: Epoch,
    obeyed: Epoch,
    beat: u64,
    pub draining: bool,
    /// Health bits that it does not report.
    pub ill: Health,
    pub progress_age_ms: u32,
    /// Its timers are late.
    pub late: bool,
    /// The server and connection that answered it last.
    server_seen: u64,
    /// It ignores requests to hold its intake.
    pub deaf: bool,
    /// The answer to its next write is lost.
    pub lose_answer: bool,
    /// The supervisor starts it again this long after it went.
    pub restart_ms: Option<u64>,
    /// The answer to its next write comes this late.
    pub answer_after_ms: Option<u64>,
    /// Its next handover is carried out this late.
    pub handover_after_ms: Option<u64>,
    /// Length of its lease.
    pub ttl: Duration,
}

impl Node {
    fn new(name: &str) -> Self {
        Self {
            name: NodeId::new(name),
            brain: Brain::Down,
            incarnation: Incarnation::default(),
            paused: false,
            backlog: Vec::new(),
            rate: 1000,
            offset: 0,
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
            ill: Health(0),
            progress_age_ms: 0,
            late: false,
            server_seen: 0,
            deaf: false,
            lose_answer: false,
            restart_ms: None,
            answer_after_ms: None,
            handover_after_ms: None,
            ttl: TTL,
        }
    }
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
    Outcome(u64, master::Outcome, u64),
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
    pub nodes: Vec<Node>,
    pub masters: usize,
    pub db: Database,
    pending: BTreeMap<u64, (usize, Incarnation, Then)>,
    next_op: u64,
    cut: BTreeSet<(usize, usize)>,
    db_cut: BTreeSet<usize>,
    loss: u64,
    /// Host agents run.
    pub hosts: bool,
    pub lying_hosts: bool,
    calm: bool,
    hostile: bool,
    /// Renewals given up at their deadline whose answers come all the same.
    late: BTreeMap<u64, (usize, Incarnation, Nonce)>,
    pub shards: u16,
    pub fence: Fence,
    pub flap_max: u32,
    pub intervals: Intervals,
    broken: Option<String>,
    /// Repeated requests are told once.
    said: BTreeSet<String>,
    /// What happened, for people.
    pub story: Vec<String>,
}

impl Sim {
    /// A cluster whose size, clocks and faults come from the seed.
    pub fn new(seed: u64) -> Self {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed;
        let masters = 1 + (splitmix(&mut random) % 3) as usize;
        let mut sim = Self::bare(masters, 3, random);
        for node in &mut sim.nodes {
            node.rate = 900 + splitmix(&mut sim.random) % 201;
            node.offset = splitmix(&mut sim.random) % (1 << 40);
            node.restart_ms = Some(300);
        }
        sim.hosts = sim.below(4) != 0;
        sim.shards = 1 + u16::try_from(sim.below(2)).unwrap_or(0);
        for index in 0..sim.nodes.len() {
            let at = sim.below(300) * MS;
            sim.push(at, index, What::Start);
        }
        for (at, fault) in fault::draw(&mut sim.random, masters, 3) {
            sim.push(at, 0, What::Fault(fault));
        }
        sim
    }

    /// The same with clocks at their limits, slow statements, answers after their deadline, and faults in bursts.
    pub fn hostile(seed: u64) -> Self {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xbad;
        let masters = 1 + (splitmix(&mut random) % 3) as usize;
        let mut sim = Self::bare(masters, 3, random);
        sim.hostile = true;
        for node in &mut sim.nodes {
            node.rate = [900, 1000, 1100][(splitmix(&mut sim.random) % 3) as usize];
            node.offset = splitmix(&mut sim.random) % (1 << 40);
            node.restart_ms = Some(300);
        }
        sim.hosts = sim.below(2) != 0;
        sim.shards = 1 + u16::try_from(sim.below(2)).unwrap_or(0);
        for index in 0..sim.nodes.len() {
            let at = sim.below(300) * MS;
            sim.push(at, index, What::Start);
        }
        for (at, fault) in fault::draw_bursts(&mut sim.random, masters, 3) {
            sim.push(at, 0, What::Fault(fault));
        }
        sim
    }

    /// A cluster without surprises, for scenarios: exact clocks, a millisecond for everything, no faults.
    pub fn calm(masters: usize, apps: usize) -> Self {
        let mut sim = Self::bare(masters, apps, 1);
        sim.calm = true;
        sim
    }

    fn bare(masters: usize, apps: usize, random: u64) -> Self {
        let mut nodes = Vec::new();
        for index in 0..masters + apps {
            let name = if index < masters {
                format!("m{}:master-1", index + 1)
            } else {
                format!("c{}:coreapp-1", index - masters + 1)
            };
            nodes.push(Node::new(&name));
        }
        Self {
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
            hosts: true,
            lying_hosts: false,
            calm: false,
            hostile: false,
            late: BTreeMap::new(),
            shards: 1,
            fence: Fence::Required,
            flap_max: 1000,
            intervals: Intervals {
                heartbeat: HEARTBEAT,
                unhealthy: UNHEALTHY,
            },
            broken: None,
            said: BTreeSet::new(),
            story: Vec::new(),
        }
    }

    /// A span in ms drawn below `n`; exactly one in a calm cluster.
    fn delay(&mut self, n: u64) -> u64 {
        if self.calm {
            MS
        } else {
            MS / 10 + self.below(n * MS)
        }
    }

    /// Something rare, one time in `n`; never in a calm cluster.
    fn rare(&mut self, n: u64) -> bool {
        !self.calm && self.below(n) == 0
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

    /// Tells what is repeated only at its first time.
    fn tell_once(&mut self, text: String) {
        if self.said.insert(text.clone()) {
            self.tell(text);
        }
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
        while let Some(at) = self.one_event()? {
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

    fn one_event(&mut self) -> Result<Option<u64>, String> {
        let Some((&(at, order), _)) = self.queue.first_key_value() else {
            return Ok(None);
        };
        let (node, life, what) = self.queue.remove(&(at, order)).expect("just seen");
        self.now = at;
        // Events make events: a world that runs in circles is broken too.
        if self.order > EVENTS_MAX {
            return Err(format!("{EVENTS_MAX} events and no end"));
        }
        self.happen(node, life, what);
        self.broken.take().map_or(Ok(Some(at)), Err)
    }

    /// Lets time pass up to `until`.
    pub fn run_until(&mut self, until_ms: u64) -> Result<(), String> {
        while self
            .queue
            .first_key_value()
            .is_some_and(|((at, _), _)| *at < until_ms * MS)
        {
            self.one_event()?;
        }
        self.now = until_ms * MS;
        Ok(())
    }

    /// A line of the script, as part of the story.
    pub fn note(&mut self, text: &str) {
        self.tell(format!("> {text}"));
        // What is asked again after something new happened is told again.
        self.said.clear();
    }

    /// Starts a process.
    pub fn begin(&mut self, node: usize) {
        self.push(0, node, What::Start);
    }

    /// Kills a process; its supervisor starts it again after so many ms, if at all.
    pub fn kill(&mut self, node: usize, restart_ms: Option<u64>) {
        self.crash(node, restart_ms);
    }

    /// Hands an event to one master, whoever may have sent it.
    pub fn tell_master(&mut self, master: usize, event: master::Event) {
        self.push(0, master, What::Master(event));
    }

    /// The newest start of a node.
    pub fn incarnation(&self, node: usize) -> Incarnation {
        self.nodes[node].incarnation
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
    pub fn live(&self, node: usize) -> Option<&Ownership> {
        let n = &self.nodes[node];
        let (own, deadline) = n.gate.as_ref()?;
        let in_time = self.local(node) < *deadline || !on(Guard::GateDeadline);
        (in_time && own.epoch > n.seal).then_some(own)
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
            What::Outcome(id, outcome, server) => {
                self.server(node, server);
                self.outcome(id, outcome);
            }
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
        n.server_seen = 0;
        n.backlog.clear();
        n.opened += 1;
        let (name, incarnation, obeyed) = (n.name.clone(), n.incarnation, n.obeyed);
        self.nodes[node].brain = if node < self.masters {
            Brain::Master(Box::new(Master::new(
                now,
                self.master_config(name, incarnation, seed),
            )))
        } else {
            let config = tenure::Config {
                node: name,
                incarnation,
                ttl: self.nodes[node].ttl,
                drift: Drift::KERNEL_LIMIT,
                margin: Duration::from_millis(20),
                quiesce_max: Duration::from_millis(500),
                stop_max: Duration::from_millis(1500),
                seed,
            };
            Brain::App(Box::new(Tenure::new(now, config, obeyed)))
        };
        self.tell(format!("{} starts", self.nodes[node].name.host()));
        if node < self.masters {
            self.push(0, node, What::Round);
        }
        self.push(0, node, What::Beat);
        self.push(0, node, What::Tick);
    }

    /// The process is gone; `restart_ms` overrides what its supervisor does.
    fn crash(&mut self, node: usize, restart_ms: Option<u64>) {
        let restart_ms = restart_ms.or(self.nodes[node].restart_ms);
        if matches!(self.nodes[node].brain, Brain::Down) {
            return;
        }
        self.tell(format!("{} dies", self.nodes[node].name.host()));
        self.nodes[node].brain = Brain::Down;
        let dead = self.nodes[node].incarnation;
        if node >= self.masters && self.hosts {
            // The gate's entry outlives the process until the host agent sees the empty cgroup (attack 2).
            let after = MS + self.delay(4);
            self.push(after, node, What::Obituary(dead));
        }
        // Without a host agent nobody deletes the entry: the next start waits until its deadline has passed.
        let least = if self.hosts || self.calm { 10 } else { 1200 };
        if let Some(restart_ms) = restart_ms {
            self.push(restart_ms.max(least) * MS, node, What::Start);
        }
    }

    /// Host agents sign without sealing.
    fn lies(&self) -> bool {
        self.lying_hosts || !on(Guard::SealInKernel)
    }

    /// The host agent found the cgroup empty: it deletes the gate's entry, then signs.
    fn obituary(&mut self, node: usize, incarnation: Incarnation) {
        let gate = if self.lies() {
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
        let lies = self.lies();
        let n = &mut self.nodes[node];
        if !lies {
            n.seal = n.seal.max(own.epoch);
        }
        let runs = !matches!(n.brain, Brain::Down) && n.incarnation == own.incarnation;
        let newer = n.gate.as_ref().is_some_and(|(o, _)| o.epoch > own.epoch)
            && on(Guard::FenceSparesNewer);
        if runs && !newer && !lies {
            self.crash(node, None);
        }
        let empty = !(runs && newer);
        let receipt = receipt(own, own.incarnation, nonce, empty);
        self.datagram(node, master, What::Master(master::Event::Receipt(receipt)));
    }

    fn datagram(&mut self, from: usize, to: usize, what: What) {
        if self.cut.contains(&(from, to)) || self.loss > 0 && self.below(1000) < self.loss {
            return;
        }
        let delay = if self.rare(50) {
            self.below(40 * MS)
        } else {
            self.delay(2)
        };
        if self.rare(100) {
            // Once more, much later: a replay, or a packet that took the long way.
            let late = self.below(3000 * MS);
            self.push(late, to, what.clone());
        }
        self.push(delay, to, what);
    }

    fn round(&mut self, node: usize) {
        let every = self.intervals.heartbeat.as_nanos() as u64 * 1000 / self.nodes[node].rate;
        let last = self.nodes[node].last_round;
        let late = self.nodes[node].late || last != 0 && self.now > last + every + every / 2;
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
        let all = Health(0b1_1111 & !n.ill.0);
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
            health: all.with(Health::STOPPING, stopping).with(
                Health::DATABASE_OK,
                !self.db_cut.contains(&node) && !n.ill.has(Health::DATABASE_OK),
            ),
            progress_age_ms: n.progress_age_ms,
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
        let after =
            wait * 1000 / self.nodes[node].rate + if self.calm { 0 } else { self.below(MS) + 1000 };
        let at = self.now + after;
        if self.nodes[node].tick_at.is_none_or(|before| at < before) {
            self.nodes[node].tick_at = Some(at);
            self.push(after, node, What::Tick);
        }
    }

    /// Something goes wrong, or is put right.
    pub fn fault(&mut self, fault: Fault) {
        if !self.calm {
            self.tell(format!("fault {fault:?}"));
        }
        match fault {
            Fault::Crash(node, restart) => self.crash(node, Some(restart)),
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

    /// An operator wants nothing to be replaced on evidence for a while.
    pub fn pause_failover(&mut self, for_ms: u64) {
        for master in 0..self.masters {
            let until = Some(self.local(master) + Duration::from_millis(for_ms));
            let pause = master::Command::Pause { shard: None, until };
            self.push(0, master, What::Master(master::Event::Command(pause)));
        }
    }

    /// An operator asks every master.
    pub fn command(&mut self, command: &master::Command) {
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

impl Sim {
    fn master_config(&self, node: NodeId, incarnation: Incarnation, seed: u64) -> master::Config {
        master::Config {
            node,
            incarnation,
            ttl: TTL,
            tolerance: Tolerance {
                drift: Drift::KERNEL_LIMIT,
                margin: Duration::from_millis(20),
                vm_pause: Duration::ZERO,
            },
            intervals: self.intervals,
            db_unhealthy: Duration::from_millis(2500),
            fence: self.fence,
            shard_count: self.shards,
            quiesce_max: Duration::from_millis(300),
            flap_max: self.flap_max,
            flap_window: Duration::from_secs(600),
            seed,
        }
    }
}
