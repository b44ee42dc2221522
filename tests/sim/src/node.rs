//! The simulated nodes: they carry out the core's actions as the drivers do, over a network and a database with delays.

mod act;
mod answer;
pub mod disk;
mod hold;
pub mod host;
mod lie;
mod line;
mod story;
pub mod work;

use std::collections::BTreeMap;

use wa_core::guard::{Guard, on};
use wa_core::id::{Epoch, Incarnation, NodeId, Nonce, Ownership, ShardId, splitmix};
use wa_core::lease::Tolerance;
use wa_core::master::{self, Master, Seen};
use wa_core::starts::Ledger;
use wa_core::tenure::{self, Tenure};
use wa_core::time::{Drift, Duration, Instant};
use wa_core::wire::{Health, Report};

use self::disk::{Disk, receipt};
use self::host::HostAgent;
use crate::fault::Fault;
use crate::gate::Gate;
use crate::message::Answer;
use crate::node::work::Work;
use crate::socket::Socket;
use crate::world::{Asked, MS, Sim, Thread, What};

/// What happens to a process in the middle of its actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trap {
    /// It dies, and is started again after so many ms.
    Crash(u64),
    /// The thread stands still for so many ms, between what it decided and what it does.
    Pause(u64),
}

pub const TTL: Duration = Duration::from_millis(1000);

pub(crate) enum Brain {
    Down,
    Master(Box<Master>),
    App(Box<Tenure>),
}

pub struct Node {
    pub name: NodeId,
    pub(crate) brain: Brain,
    pub(crate) incarnation: Incarnation,
    pub(crate) paused: bool,
    pub(crate) backlog: Vec<What>,
    /// Clock: local = offset + real · rate / 1000.
    pub(crate) rate: u64,
    pub(crate) offset: u64,
    /// When its machine booted last: its clock began then.
    pub(crate) booted: u64,
    pub(crate) tick_at: Option<u64>,
    pub(crate) last_round: u64,
    /// Database connection: grows when it is dropped.
    pub(crate) opened: u64,
    pub(crate) last_exec: u64,
    pub(crate) last_reply: u64,
    /// What the kernel of its machine lets through, deadlines by the own clock. Outlives the process.
    pub gate: Gate,
    /// Connections in that kernel: they outlive the process as well.
    pub(crate) sockets: BTreeMap<u64, Socket>,
    /// The tenure for which its sender sends, and whether that thread turns.
    pub(crate) sending: Option<Ownership>,
    pub(crate) sender_turns: bool,
    /// Its sender does not look at the deadline before it writes.
    pub careless: bool,
    /// The next connection escapes the abort at the end of its tenure.
    pub(crate) leak_next: bool,
    /// Threads that stand still.
    pub(crate) stopped: Vec<Thread>,
    /// Since when the driver stands still, by the own clock.
    pub(crate) driver_since: Option<Instant>,
    /// The whole machine stands still, kernel and host agent with it.
    pub(crate) frozen: bool,
    pub(crate) frozen_backlog: Vec<What>,
    /// No signal reaches it while it is paused (stuck in the kernel).
    pub(crate) unkillable: bool,
    /// The work of its tenure.
    pub(crate) work: Option<Box<Work>>,
    /// Its disk is slow by so many ms.
    pub(crate) disk_ms: u64,
    /// Something happens to it between one action and the next.
    pub(crate) trap: Option<(u32, Trap)>,
    pub(crate) obeyed: Epoch,
    /// The highest epoch that it has obeyed, whatever its disk remembers: promise S2.
    pub(crate) obeyed_ever: Epoch,
    /// How many starts its disk counts.
    pub(crate) counted: u64,
    /// What the host agent of its machine has seen, on the same disk.
    pub(crate) ledger: Ledger,
    /// A state of the disk that somebody kept.
    pub(crate) kept: Option<Disk>,
    /// It stands beside another node of the same name: a copy of that machine.
    pub(crate) copy: bool,
    /// The numbers of its hardware are those of that node's machine.
    pub(crate) doubles: Option<usize>,
    /// Master: what its disk says that it has read.
    pub(crate) seen: Seen,
    /// What its files held before they were overwritten with rubbish.
    pub(crate) rotten: Option<(Epoch, Seen)>,
    /// The number that it names in its heartbeats, whatever is true.
    pub boast: Option<u64>,
    pub(crate) beat: u64,
    pub draining: bool,
    /// Health bits that it does not report.
    pub ill: Health,
    pub progress_age_ms: u32,
    /// Its timers are late.
    pub late: bool,
    /// The server that answered it last, and the making of its table.
    pub(crate) server_seen: u64,
    pub(crate) made_seen: u64,
    /// It has read the rows since it started.
    pub(crate) informed: bool,
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
    /// Its next change of the shard count is carried out this late.
    pub reshard_after_ms: Option<u64>,
    /// The next read of the rows is carried out so late.
    pub read_after_ms: Option<u64>,
    /// Length of its lease.
    pub ttl: Duration,
    pub(crate) host: HostAgent,
}

impl Node {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: NodeId::new(name),
            brain: Brain::Down,
            incarnation: Incarnation::default(),
            paused: false,
            backlog: Vec::new(),
            rate: 1000,
            offset: 0,
            booted: 0,
            host: HostAgent::default(),
            tick_at: None,
            last_round: 0,
            opened: 0,
            last_exec: 0,
            last_reply: 0,
            gate: Gate::default(),
            sockets: BTreeMap::new(),
            sending: None,
            sender_turns: false,
            careless: false,
            leak_next: false,
            stopped: Vec::new(),
            driver_since: None,
            frozen: false,
            frozen_backlog: Vec::new(),
            unkillable: false,
            work: None,
            disk_ms: 0,
            trap: None,
            obeyed: Epoch(0),
            obeyed_ever: Epoch(0),
            counted: 0,
            ledger: Ledger::default(),
            kept: None,
            copy: false,
            doubles: None,
            seen: Seen::default(),
            rotten: None,
            boast: None,
            beat: 0,
            draining: false,
            ill: Health(0),
            progress_age_ms: 0,
            late: false,
            server_seen: 0,
            made_seen: 0,
            informed: false,
            deaf: false,
            lose_answer: false,
            restart_ms: None,
            answer_after_ms: None,
            handover_after_ms: None,
            reshard_after_ms: None,
            read_after_ms: None,
            ttl: TTL,
        }
    }
}

impl Sim {
    pub(crate) fn happen(&mut self, node: usize, life: Incarnation, what: What) {
        if self.nodes[node].frozen && what.of_the_machine() {
            return self.nodes[node].frozen_backlog.push(what);
        }
        match &what {
            What::Fault(fault) => return self.fault(fault.clone()),
            What::Kernel(id) => return self.again(node, *id),
            What::Acked(id) => return self.acked(node, *id),
            What::Commit(id, write) => return self.carry_out(node, *id, (**write).clone()),
            What::Outside(what) => return self.outside((**what).clone()),
            What::Obituary(incarnation) => return self.obituary(node, *incarnation),
            What::Start => return self.start(node),
            What::Database(id, server, op, then) => {
                return self.executed(node, *id, *server, op, *then);
            }
            What::Fence(master, own, nonce) => return self.fence(node, *master, own, *nonce),
            _ => {}
        }
        if life != self.nodes[node].incarnation || matches!(self.nodes[node].brain, Brain::Down) {
            return;
        }
        let n = &mut self.nodes[node];
        if n.paused || n.frozen || n.stopped.contains(&what.thread()) {
            n.backlog.push(what);
            return;
        }
        match what {
            What::Tick => {
                self.nodes[node].tick_at = None;
                self.step_either(node);
            }
            What::Round => self.round(node),
            What::Send => self.send(node),
            What::Write(own, id) => self.write(node, own, id),
            What::Turn => self.turn(node),
            What::Take(ask) => self.take(node, *ask),
            What::Committed(id, answer) => self.committed(node, id, answer),
            What::CommitLate(id) => self.committed(node, id, Answer::Unknown),
            What::Unclaim(what) => self.look_for_claims(node, *what),
            What::UpstreamSaid(id, code) => self.upstream_said(node, id, code),
            What::GiveUp(id) => self.give_up(node, id),
            What::Probed(grant) => self.probed(node, grant),
            What::Joined(epoch) => self.joined(node, epoch),
            What::MasterAct(action) => self.master_action(node, *action),
            What::AppAct(action) => {
                self.app_action(node, *action);
                self.check();
            }
            What::Master(event) => self.step_master(node, event),
            What::Answer(of, event) if of == life => self.step_master(node, *event),
            What::App(event) => self.step_app(node, event),
            What::Ping(from, asked) => self.answer(node, from, asked),
            What::Reply(id, rows, by) => self.reply(id, rows, by),
            What::Outcome(id, outcome, server) => {
                self.server(node, server);
                self.outcome(id, outcome);
            }
            What::Timeout(id) => self.timeout(id),
            What::Beat => {
                self.beat(node);
                self.read_memory_again(node);
                self.push(1000 * MS, node, What::Beat);
            }
            _ => {}
        }
    }

    /// What a connect began just before the end is aborted too: only then is the sender's thread done.
    fn joined(&mut self, node: usize, epoch: Epoch) {
        self.abort(node, false);
        let stopped = tenure::Event::WorkStopped { epoch };
        let driver = &mut self.nodes[node];
        if driver.stopped.contains(&Thread::Driver) {
            driver.backlog.push(What::App(stopped));
        } else {
            self.step_app(node, stopped);
        }
    }

    pub(crate) fn start(&mut self, node: usize) {
        let now = self.local(node);
        let seed = splitmix(&mut self.random);
        let random = splitmix(&mut self.random);
        let n = &mut self.nodes[node];
        if !matches!(n.brain, Brain::Down) || n.name.as_str() == disk::SPARE {
            return;
        }
        n.counted += 1;
        n.incarnation = Incarnation {
            counter: n.counted,
            random,
        };
        (n.tick_at, n.paused, n.draining) = (None, false, false);
        (n.sending, n.sender_turns, n.leak_next) = (None, false, false);
        n.work = None;
        n.stopped.clear();
        n.driver_since = None;
        n.trap = None;
        n.gate.attest(n.incarnation);
        (n.server_seen, n.made_seen, n.informed) = (0, 0, false);
        n.backlog.clear();
        n.opened += 1;
        let (name, incarnation, obeyed) = (n.name.clone(), n.incarnation, n.obeyed);
        self.see_start(node);
        let n = &self.nodes[node];
        let seen = n.seen;
        self.nodes[node].brain = if node < self.masters {
            Brain::Master(Box::new(Master::new(
                now,
                master::Config {
                    seen,
                    ..self.master_config(name, incarnation, seed)
                },
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
        self.tell(format!("{} starts", self.who(node)));
        if node < self.masters {
            self.push(0, node, What::Round);
        }
        self.push(0, node, What::Beat);
        self.push(0, node, What::Tick);
    }

    /// The process is gone; `restart_ms` overrides what its supervisor does.
    pub(crate) fn crash(&mut self, node: usize, restart_ms: Option<u64>) {
        let restart_ms = restart_ms.or(self.nodes[node].restart_ms);
        if matches!(self.nodes[node].brain, Brain::Down) {
            return;
        }
        self.tell(format!("{} dies", self.who(node)));
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

    /// The machine goes down without a word and comes up with a new clock: its gate and seals are gone, its disk is not.
    pub(crate) fn reboot(&mut self, node: usize, after_ms: u64) {
        self.tell(format!("the machine of {} reboots", self.who(node)));
        let before = self.host_named(node);
        self.switch_off(node);
        self.boot_host(node, before, after_ms);
        self.push(after_ms * MS, node, What::Start);
    }

    /// Its power is gone: no process, no gate, no seal, no packet is left, and the clock begins anew.
    pub(crate) fn switch_off(&mut self, node: usize) {
        let now = self.now;
        let n = &mut self.nodes[node];
        n.brain = Brain::Down;
        n.gate.clear();
        n.sockets.clear();
        (n.frozen, n.unkillable) = (false, false);
        n.frozen_backlog.clear();
        (n.offset, n.booted) = (0, now);
        n.last_round = 0;
    }

    /// Host agents sign without sealing.
    pub(crate) fn lies(&self) -> bool {
        self.lying_hosts || !on(Guard::SealInKernel)
    }

    /// The host agent found the cgroup empty: it deletes the gate's entry, then signs.
    pub(crate) fn obituary(&mut self, node: usize, incarnation: Incarnation) {
        if let Some(wait) = self.host_down(node) {
            return self.push(wait, node, What::Obituary(incarnation));
        }
        let lies = self.lies();
        let gate = &mut self.nodes[node].gate;
        let own = if lies {
            gate.owned(incarnation).cloned()
        } else {
            gate.remove(incarnation)
        };
        let name = self.nodes[node].name.clone();
        let own = own.unwrap_or(Ownership {
            shard: ShardId(0),
            epoch: Epoch(0),
            grant: Default::default(),
            owner: name,
            incarnation,
        });
        for master in 0..self.masters {
            let receipt = receipt(&own, incarnation, Nonce(0), true);
            self.datagram(node, master, What::Master(self.signed(node, receipt)));
        }
    }

    /// The host agent seals, kills if that incarnation still runs, and answers.
    pub(crate) fn fence(&mut self, node: usize, master: usize, own: &Ownership, nonce: Nonce) {
        if !self.hosts || self.host_down(node).is_some() {
            return;
        }
        if !self.signs_for(node, own) {
            return self.count("host agent: it never saw that start here, and signs nothing");
        }
        let lies = self.lies();
        let n = &mut self.nodes[node];
        if !lies {
            n.gate.seal = n.gate.seal.max(own.epoch);
        }
        let runs = !matches!(n.brain, Brain::Down) && n.incarnation == own.incarnation;
        let newest = n.gate.owned(n.incarnation).map(|o| o.epoch);
        let newer = newest.is_some_and(|e| e > own.epoch) && on(Guard::FenceSparesNewer);
        let stuck = n.unkillable;
        if runs && !newer && !lies && !stuck {
            self.crash(node, None);
        }
        let empty = !(runs && (newer || stuck));
        let receipt = receipt(own, own.incarnation, nonce, empty);
        self.datagram(node, master, What::Master(self.signed(node, receipt)));
    }

    pub(crate) fn datagram(&mut self, from: usize, to: usize, what: What) {
        if self.cut.contains(&(from, to)) {
            return self.count("network: cut");
        }
        if self.loss > 0 && self.below(1000) < self.loss {
            return self.count("network: lost");
        }
        let delay = if self.rare(50) {
            self.below(40 * MS)
        } else {
            self.delay(2)
        };
        if self.rare(100) {
            // Once more, much later: a replay, or a packet that took the long way.
            self.count("network: repeated late");
            let late = self.below(3000 * MS);
            self.push(late, to, what.clone());
        }
        self.push(delay, to, what);
    }

    pub(crate) fn round(&mut self, node: usize) {
        let every = self.intervals.heartbeat.as_nanos() as u64 * 1000 / self.nodes[node].rate;
        let last = self.nodes[node].last_round;
        let late = self.nodes[node].late || last != 0 && self.now > last + every + every / 2;
        self.nodes[node].last_round = self.now;
        self.step_master(node, master::Event::Round { late });
        let (at, n) = (self.local(node), &self.nodes[node]);
        let epoch = match &n.brain {
            Brain::Master(master) => n.boast.map_or(master.epoch_high(), Epoch),
            _ => Epoch(0),
        };
        let by = n.incarnation;
        let asked = Asked { by, at, epoch };
        for other in 0..self.nodes.len() {
            if other != node {
                self.datagram(node, other, What::Ping(node, asked));
            }
        }
        self.push(every, node, What::Round);
    }

    pub(crate) fn answer(&mut self, node: usize, from: usize, asked: Asked) {
        // A living thread answers for a driver that stands still: with what that published last, and how long ago.
        let now = self.nodes[node].driver_since.unwrap_or(self.local(node));
        let age = self.local(node).since(now).as_millis();
        let n = &self.nodes[node];
        let mut all = Health(0b1_1111 & !n.ill.0);
        let (shard, epoch, grant, stopping) = match &n.brain {
            Brain::App(tenure) => {
                // What its disk does shows by writing only.
                all = all.with(Health::HIGH_WATER_OK, tenure.disk_takes(now));
                let own = tenure.ownership();
                let live = tenure.live(now).is_some();
                let shard = own.filter(|_| live).map(|own| own.shard);
                let (epoch, grant) =
                    own.map_or_else(Default::default, |own| (own.epoch, own.grant));
                (shard, epoch, grant, tenure.stopping())
            }
            _ => (None, Epoch(0), Default::default(), false),
        };
        // Whoever runs does not read its file again.
        let obeyed = match &n.brain {
            Brain::App(tenure) => tenure.known(),
            Brain::Master(master) => master.epoch_high(),
            Brain::Down => n.obeyed,
        };
        let report = Report {
            shard,
            epoch,
            grant,
            epoch_high: n.boast.map_or(obeyed, Epoch),
            health: all.with(Health::STOPPING, stopping).with(
                Health::DATABASE_OK,
                n.informed && !self.db_cut.contains(&node) && !n.ill.has(Health::DATABASE_OK),
            ),
            progress_age_ms: n
                .progress_age_ms
                .max(u32::try_from(age).unwrap_or(u32::MAX)),
            lateness_ms: 0,
            in_flight: 0,
        };
        let answer = master::Event::Answered {
            node: n.name.clone(),
            incarnation: n.incarnation,
            asked: asked.at,
            report,
        };
        self.datagram(node, from, What::Answer(asked.by, Box::new(answer)));
        if matches!(&self.nodes[node].brain, Brain::App(tenure) if tenure.known() < asked.epoch) {
            let told = tenure::Event::Told { epoch: asked.epoch };
            self.push(0, node, What::App(told));
        }
    }

    pub(crate) fn step_either(&mut self, node: usize) {
        if node < self.masters {
            self.step_master(node, master::Event::Tick);
        } else {
            self.step_app(node, tenure::Event::Tick);
        }
    }

    pub(crate) fn step_master(&mut self, node: usize, event: master::Event) {
        let now = self.local(node);
        let Brain::Master(brain) = &mut self.nodes[node].brain else {
            return;
        };
        let mut actions = Vec::new();
        let receipt = matches!(event, master::Event::Receipt(..));
        brain.step(now, event, &mut actions);
        let deadline = brain.deadline();
        self.count_waited(receipt, &actions);
        for action in actions {
            if self.goes_on(node) {
                self.master_action(node, action);
            } else {
                let late = What::MasterAct(Box::new(action));
                self.nodes[node].backlog.push(late);
            }
        }
        self.tick_at(node, deadline);
    }

    pub(crate) fn step_app(&mut self, node: usize, event: tenure::Event) {
        let now = self.local(node);
        let Brain::App(brain) = &mut self.nodes[node].brain else {
            return;
        };
        let mut actions = Vec::new();
        brain.step(now, event, &mut actions);
        let deadline = brain.deadline();
        for action in actions {
            if self.goes_on(node) {
                self.app_action(node, action);
            } else {
                let late = What::AppAct(Box::new(action));
                self.nodes[node].backlog.push(late);
            }
        }
        self.tick_at(node, deadline);
        self.check();
    }

    /// Between two actions: true when the thread still runs; a trap may be what ends that.
    fn goes_on(&mut self, node: usize) -> bool {
        let n = &mut self.nodes[node];
        match &mut n.trap {
            Some((0, trap)) => {
                let trap = *trap;
                n.trap = None;
                self.spring(node, trap);
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        let n = &self.nodes[node];
        !n.stopped.contains(&Thread::Driver)
    }

    fn spring(&mut self, node: usize, trap: Trap) {
        match trap {
            Trap::Crash(restart_ms) => {
                self.count("fault: crash between two actions");
                self.crash(node, Some(restart_ms));
            }
            Trap::Pause(ms) => {
                self.count("fault: pause between a decision and its action");
                let name = self.nodes[node].name.host().to_owned();
                self.tell(format!("{name} stands still before what it decided"));
                self.stop_thread(node, Thread::Driver);
                let fault = What::Fault(Fault::Go(node, Thread::Driver));
                self.push(ms * MS, node, fault);
            }
        }
    }

    pub(crate) fn tick_at(&mut self, node: usize, deadline: Instant) {
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
}

impl Sim {
    pub(crate) fn master_config(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        seed: u64,
    ) -> master::Config {
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
            seen: Default::default(),
            seed,
        }
    }
}
