//! The world of one seed: nodes, network, database, and the queue of what happens next.
//! Decides nothing: `node` does what the core says, `fault` draws what goes wrong.

mod by_hand;

use std::collections::{BTreeMap, BTreeSet};

use wa_core::detector::Intervals;
use wa_core::id::{Epoch, Grant, Incarnation, NodeId, Nonce, Ownership, splitmix};
use wa_core::master::{self, Attempt, Fence};
use wa_core::tenure;
use wa_core::time::{Duration, Instant};

use crate::bound::Single;
use crate::database::{Database, Op, Rows};
use crate::fault::{self, FAULTS_END, Fault};
use crate::invariant::{Judge, exclude, short};
use crate::message::{Answer, Id, Write};
use crate::node::Node;
use crate::node::work::For;
use crate::web::{Ask, Outside, Web};

/// Nanoseconds in a millisecond: the simulation counts real time in nanoseconds.
pub const MS: u64 = 1_000_000;
/// Many times what the longest story needs.
const EVENTS_MAX: u64 = 2_000_000;
/// Traffic comes after the protocol's events of the same instant.
const TRAFFIC: u64 = 1 << 63;
/// How long packets have to show what two open gates are about to let through.
const SUSPECT_FOR: u64 = 400 * MS;
const HEARTBEAT: Duration = Duration::from_millis(100);
const UNHEALTHY: Duration = Duration::from_millis(400);

/// A ping.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// By that start of a master.
    pub by: Incarnation,
    /// When it left, by the master's clock.
    pub at: Instant,
    /// The highest epoch that the master names.
    pub epoch: Epoch,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    Tick,
    Round,
    Master(master::Event),
    App(tenure::Event),
    Ping(usize, Asked),
    /// An answer to a ping of that start of a master: no other waits for it.
    Answer(Incarnation, Box<master::Event>),
    Database(u64, u64, Op, Then),
    Reply(u64, Rows, (u64, u64)),
    Outcome(u64, master::Outcome, u64),
    Timeout(u64),
    Fence(usize, Ownership, Nonce),
    Obituary(Incarnation),
    Start,
    Beat,
    Fault(Fault),
    /// A turn of the sender's thread.
    Send,
    /// The sender writes, perhaps a message. Without an ownership it is a process that ignores every rule.
    Write(Option<Ownership>, Option<Id>),
    /// The sender's thread has ended and its sockets are aborted.
    Joined(Epoch),
    /// The kernel's timer of a socket, and its peer's answer.
    Kernel(u64),
    Acked(u64),
    /// A turn of the work of a tenure, and what comes to it.
    Turn,
    Take(Box<Ask>),
    Commit(u64, Box<(Ownership, u16, Write)>),
    Committed(u64, Answer),
    CommitLate(u64),
    Unclaim(Box<(Ownership, u16, u64)>),
    UpstreamSaid(Id, u32),
    GiveUp(Id),
    Probed(Grant),
    /// Clients, webapp, upstream, business.
    Outside(Box<Outside>),
    /// What a thread was about to do when it was stopped.
    MasterAct(Box<master::Action>),
    AppAct(Box<tenure::Action>),
}

/// The threads of a process, each of which can stand still alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thread {
    Heartbeats,
    Driver,
    Sender,
}

impl What {
    pub(crate) fn thread(&self) -> Thread {
        match self {
            Self::Ping(..) | Self::Round => Thread::Heartbeats,
            Self::Send
            | Self::Write(..)
            | Self::Joined(_)
            | Self::Turn
            | Self::Take(_)
            | Self::Committed(..)
            | Self::CommitLate(_)
            | Self::Unclaim(_)
            | Self::UpstreamSaid(..)
            | Self::GiveUp(_) => Thread::Sender,
            _ => Thread::Driver,
        }
    }

    /// The machine does it, whatever its processes do.
    pub(crate) fn of_the_machine(&self) -> bool {
        use What as W;
        matches!(
            self,
            W::Obituary(_) | W::Start | W::Fence(..) | W::Kernel(_) | W::Acked(_)
        )
    }
}

/// What an answer of the database is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then {
    /// The shard map, asked for at that moment of the node's own clock.
    Map(Instant),
    Lease(Nonce),
    Attempt(Attempt),
    Renewed(Nonce),
    Released,
    Nothing,
}

/// The world.
pub struct Sim {
    pub(crate) now: u64,
    pub(crate) order: u64,
    pub(crate) random: u64,
    pub(crate) queue: BTreeMap<(u64, u64), (usize, Incarnation, What)>,
    pub nodes: Vec<Node>,
    pub masters: usize,
    pub db: Database,
    pub(crate) pending: BTreeMap<u64, (usize, Incarnation, Then)>,
    pub(crate) next_op: u64,
    pub(crate) cut: BTreeSet<(usize, usize)>,
    pub(crate) db_cut: BTreeSet<usize>,
    pub(crate) loss: u64,
    /// Host agents run.
    pub hosts: bool,
    pub lying_hosts: bool,
    pub(crate) calm: bool,
    pub(crate) hostile: bool,
    /// Load and loss below every threshold: nothing may be replaced (promise L3).
    pub(crate) quiet: bool,
    /// How often each kind of fault and transition happened.
    pub counts: BTreeMap<String, u64>,
    /// Renewals given up at their deadline whose answers come all the same.
    pub(crate) late: BTreeMap<u64, (usize, Incarnation, Nonce)>,
    pub shards: u16,
    pub fence: Fence,
    pub flap_max: u32,
    pub intervals: Intervals,
    /// Whether a database server that takes over may lack commits; `None`: masters know nothing of servers (rule 5.9).
    pub lossy: Option<bool>,
    pub(crate) broken: Option<String>,
    /// Two gates are open for one shard: until when packets may show it, and what else is said then.
    pub(crate) suspect: Option<(u64, String)>,
    /// The dice of the traffic, apart from those of the protocol.
    pub(crate) traffic: u64,
    pub(crate) traffic_order: u64,
    pub(crate) next_socket: u64,
    pub judge: Judge,
    /// There is a message path: clients, a webapp, work in every tenure.
    pub messages: bool,
    /// What is ambiguous is reported, not sent again.
    pub(crate) report_ambiguous: bool,
    pub(crate) commits: BTreeMap<u64, (Ownership, For)>,
    pub web: Web,
    /// One failure, whose takeover is measured (promise L4).
    pub(crate) single: Option<Single>,
    /// Lost on the way from the webapp (true), or on the way back.
    pub(crate) web_cut: BTreeSet<(bool, usize)>,
    /// Nodes whose statements are carried out and whose answers are lost.
    pub(crate) db_deaf: BTreeSet<usize>,
    /// Another server, with the rows as they were when the two lost each other, and who reaches only that one.
    pub(crate) replica: Option<Box<Database>>,
    /// Whose row a name has: the one of several machines that wrote it last.
    pub(crate) registered: BTreeMap<NodeId, usize>,
    pub(crate) on_replica: BTreeSet<usize>,
    /// That one takes writes too (what no configuration may allow).
    pub two_writers: bool,
    /// How far the database's wall clock has been set, ms.
    pub(crate) db_clock_ms: i64,
    /// Repeated requests are told once.
    pub(crate) said: BTreeSet<String>,
    /// What happened, for people.
    pub story: Vec<String>,
}

impl Sim {
    /// A cluster whose size, clocks and faults come from the seed.
    pub fn new(seed: u64) -> Self {
        let mut sim = Self::plain(seed);
        for (at, fault) in fault::draw(&mut sim.random, sim.masters, 3) {
            sim.push(at, 0, What::Fault(fault));
        }
        sim
    }

    /// The same without faults.
    fn plain(seed: u64) -> Self {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed;
        let masters = 1 + (splitmix(&mut random) % 3) as usize;
        let mut sim = Self::bare(masters, 3, random);
        for node in &mut sim.nodes {
            node.careless = splitmix(&mut sim.traffic).is_multiple_of(2);
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
        sim
    }

    /// The same with clocks at their limits, slow statements, answers after their deadline, and faults in bursts.
    pub fn hostile(seed: u64) -> Self {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xbad;
        let masters = 1 + (splitmix(&mut random) % 3) as usize;
        let mut sim = Self::bare(masters, 3, random);
        sim.hostile = true;
        for node in &mut sim.nodes {
            node.careless = splitmix(&mut sim.traffic).is_multiple_of(2);
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

    /// Single threads and whole machines that stand still, between a decision and its action too, and processes that
    /// do what they must not: what the gate is for.
    pub fn threads(seed: u64) -> Self {
        let mut sim = Self::new(seed);
        for (at, fault) in fault::draw_threads(&mut sim.random, sim.masters, 3) {
            sim.push(at, 0, What::Fault(fault));
        }
        sim
    }

    /// All of it together.
    pub fn harsh(seed: u64) -> Self {
        let mut sim = Self::machines(seed);
        for (at, fault) in fault::draw_threads(&mut sim.random, sim.masters, 3) {
            sim.push(at, 0, What::Fault(fault));
        }
        sim
    }

    /// With clients, a webapp, the upstream and the business around it.
    #[must_use]
    pub fn with_messages(mut self) -> Self {
        self.messages = true;
        self.report_ambiguous = self.dice(2) == 0;
        self.db.history_max = 4096;
        self.web.draw_receipts(self.traffic);
        self.draw_clients();
        self
    }

    /// What happens between nodes and their database, under messages.
    pub fn database(seed: u64) -> Self {
        Self::servers(seed).with_messages()
    }

    /// The same without messages.
    pub fn servers(seed: u64) -> Self {
        let mut sim = Self::new(seed);
        for (at, fault) in fault::draw_database(&mut sim.random, sim.masters, 3) {
            sim.push(at, 0, What::Fault(fault));
        }
        sim
    }

    /// Database servers that take over and may lack commits, and restored dumps: masters that know of it (rule 5.9).
    pub fn failovers(seed: u64) -> Self {
        let mut sim = Self::new(seed);
        sim.lossy = Some(true);
        for (at, fault) in fault::draw_failovers(&mut sim.random, sim.masters, 3) {
            sim.push(at, 0, What::Fault(fault));
        }
        sim
    }

    /// Numbers that nothing counts up to, in files, heartbeats and rows.
    pub fn rotten(seed: u64) -> Self {
        let mut sim = Self::new(seed);
        for (at, fault) in fault::draw_rotten(&mut sim.random, sim.masters, 3) {
            sim.push(at, 0, What::Fault(fault));
        }
        sim
    }

    /// New disks, older states of disks, and copies of machines beside their originals, which live, die or stand still. Some
    /// master lives all the time: where rows, disks and masters forget together, nobody is left who could know (promise S2).
    pub fn disks(seed: u64) -> Self {
        let mut sim = Self::plain(seed);
        let copy = sim.add_spare();
        for (at, fault) in fault::draw_disks(&mut sim.random, sim.masters, 3, copy) {
            sim.push(at, 0, What::Fault(fault));
        }
        sim
    }

    /// Everything at once, under messages.
    pub fn storm(seed: u64) -> Self {
        let mut sim = Self::harsh(seed).with_messages();
        for (at, fault) in fault::draw_database(&mut sim.random, sim.masters, 3) {
            sim.push(at, 0, What::Fault(fault));
        }
        sim
    }

    /// Two servers that both take writes: what no configuration may allow (rule 5.9).
    #[must_use]
    pub fn with_two_writers(mut self) -> Self {
        self.two_writers = true;
        self
    }

    /// A cluster without a kernel gate (`fence = "best-effort"`): its senders ask their own process only. Promise S1 does
    /// not hold there when a process stands still between that question and its bytes.
    #[must_use]
    pub fn without_gate(mut self) -> Self {
        self.fence = Fence::BestEffort;
        for node in &mut self.nodes {
            (node.gate.absent, node.careless) = (true, false);
        }
        self
    }

    /// One of the kinds by the seed.
    pub fn of_seed(seed: u64) -> Self {
        let inner = seed / 8;
        match seed % 8 {
            0 if inner % 4 == 3 => Self::disks(inner / 4),
            0 => Self::new(inner),
            1 if inner % 4 == 1 => Self::rotten(inner / 4),
            1 => Self::hostile(inner),
            2 if inner % 4 == 3 => Self::hosts(inner / 4),
            2 => Self::machines(inner),
            3 if inner.is_multiple_of(2) => Self::quiet(inner / 2),
            3 => Self::single(inner / 2),
            4 => Self::threads(inner).with_messages(),
            5 => Self::harsh(inner),
            6 if inner % 4 == 3 => Self::failovers(inner / 4),
            6 => Self::database(inner),
            _ => Self::storm(inner),
        }
    }

    /// No fault crosses a threshold: clocks at different rates, one datagram in a hundred lost, pauses of 150 ms.
    pub fn quiet(seed: u64) -> Self {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x0411;
        let masters = 1 + (splitmix(&mut random) % 3) as usize;
        let mut sim = Self::bare(masters, 3, random);
        sim.quiet = true;
        for node in &mut sim.nodes {
            node.careless = splitmix(&mut sim.traffic).is_multiple_of(2);
            node.rate = 900 + splitmix(&mut sim.random) % 201;
            node.offset = splitmix(&mut sim.random) % (1 << 40);
        }
        sim.loss = sim.below(11);
        sim.shards = 1 + u16::try_from(sim.below(2)).unwrap_or(0);
        for index in 0..sim.nodes.len() {
            let at = sim.below(300) * MS;
            sim.push(at, index, What::Start);
        }
        let nodes = sim.nodes.len() as u64;
        for _ in 0..sim.below(12) {
            let (at, node) = (6000 + sim.below(12_000), sim.below(nodes) as usize);
            let until = at + 10 + sim.below(140);
            sim.push(at * MS, 0, What::Fault(Fault::Pause(node)));
            sim.push(until * MS, 0, What::Fault(Fault::Resume(node)));
        }
        sim
    }

    /// Plays the seed to its end; a quiet one must have replaced nobody (L3), any other must be served again (L4).
    pub fn play(&mut self) -> Result<(), String> {
        if let Some(single) = self.single {
            return self.play_single(single);
        }
        if !self.quiet {
            return self.run();
        }
        while self.now < 5000 * MS {
            self.one_event()?.ok_or("nothing left to do")?;
        }
        if !self.served() {
            return Err("L3: a quiet cluster is not served after 5 s".into());
        }
        let standing = |sim: &Self| (sim.db.rows.master.term, sim.db.rows.master.epoch_high);
        let before = standing(self);
        while self.now < 20_000 * MS {
            self.one_event()?.ok_or("nothing left to do")?;
            if standing(self) != before {
                let ms = self.now / MS;
                return Err(format!("L3 at {ms} ms: a quiet cluster moved something"));
            }
        }
        if self.served() {
            Ok(())
        } else {
            Err("L3: a quiet cluster is not served after 20 s".into())
        }
    }

    pub(crate) fn count(&mut self, kind: &str) {
        match self.counts.get_mut(kind) {
            Some(count) => *count += 1,
            None => drop(self.counts.insert(kind.to_owned(), 1)),
        }
    }

    /// A cluster without surprises, for scenarios: exact clocks, a millisecond for everything, no faults.
    pub fn calm(masters: usize, apps: usize) -> Self {
        let mut sim = Self::bare(masters, apps, 1);
        sim.calm = true;
        sim
    }

    pub(crate) fn bare(masters: usize, apps: usize, random: u64) -> Self {
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
            db: Database::default(),
            pending: BTreeMap::new(),
            next_op: 0,
            cut: BTreeSet::new(),
            db_cut: BTreeSet::new(),
            loss: 0,
            hosts: true,
            lying_hosts: false,
            calm: false,
            hostile: false,
            quiet: false,
            counts: BTreeMap::new(),
            late: BTreeMap::new(),
            shards: 1,
            fence: Fence::Required,
            flap_max: 1000,
            intervals: Intervals {
                heartbeat: HEARTBEAT,
                unhealthy: UNHEALTHY,
            },
            lossy: None,
            broken: None,
            suspect: None,
            traffic: random ^ 0x7a11,
            traffic_order: 0,
            next_socket: 0,
            judge: Judge::default(),
            messages: false,
            report_ambiguous: false,
            commits: BTreeMap::new(),
            web: Web::default(),
            single: None,
            web_cut: BTreeSet::new(),
            db_deaf: BTreeSet::new(),
            replica: None,
            registered: BTreeMap::new(),
            on_replica: BTreeSet::new(),
            two_writers: false,
            db_clock_ms: 0,
            said: BTreeSet::new(),
            story: Vec::new(),
        }
    }

    /// The database's wall clock, ms: far enough from zero that no step back reaches it.
    pub(crate) fn wall_ms(&self) -> u64 {
        const BEGAN_MS: u64 = 1_000_000_000;
        (BEGAN_MS + self.now / MS).saturating_add_signed(self.db_clock_ms)
    }

    /// A span in ms drawn below `n`; exactly one in a calm cluster.
    pub(crate) fn delay(&mut self, n: u64) -> u64 {
        if self.calm {
            MS
        } else {
            MS / 10 + self.below(n * MS)
        }
    }

    /// Something rare, one time in `n`; never in a calm cluster.
    pub(crate) fn rare(&mut self, n: u64) -> bool {
        !self.calm && !self.quiet && self.below(n) == 0
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        splitmix(&mut self.random) % n
    }

    pub(crate) fn push(&mut self, after: u64, node: usize, what: What) {
        self.order += 1;
        let life = self.nodes[node].incarnation;
        self.queue
            .insert((self.now + after, self.order), (node, life, what));
    }

    /// The same for traffic: counted apart, so that the course of the protocol does not depend on it.
    pub(crate) fn push_traffic(&mut self, after: u64, node: usize, what: What) {
        self.traffic_order += 1;
        let life = self.nodes[node].incarnation;
        let key = (self.now + after, TRAFFIC + self.traffic_order);
        self.queue.insert(key, (node, life, what));
    }

    /// Tells what is repeated only at its first time.
    pub(crate) fn tell_once(&mut self, text: String) {
        if self.said.insert(text.clone()) {
            self.tell(text);
        }
    }

    pub(crate) fn tell(&mut self, text: String) {
        self.story.push(format!("{:>6} ms {text}", self.now / MS));
    }

    pub(crate) fn local(&self, node: usize) -> Instant {
        let n = &self.nodes[node];
        Instant(n.offset + (self.now - n.booted) / 1000 * n.rate)
    }

    /// Runs until all shards are served after the last fault and all is told, or time is up. For the telling it is later: a message
    /// may be of unknown fate three times, each for as long as patience lasts.
    pub fn run(&mut self) -> Result<(), String> {
        let end = FAULTS_END + 45_000 * MS;
        let told_end = end + 20_000 * MS;
        let mut was_served = false;
        while let Some(at) = self.one_event()? {
            if at > FAULTS_END + 300 * MS && self.served() && self.all_told() {
                return Ok(());
            }
            if at > told_end {
                return self.in_the_end();
            }
            if at <= end || was_served {
                continue;
            }
            was_served = self.served();
            if !was_served {
                let rows = &self.db.rows;
                return Err(format!(
                    "L4: nobody took over: {:?} {:?}",
                    rows.master, rows.shards
                ));
            }
        }
        Err("nothing left to do".into())
    }

    pub(crate) fn one_event(&mut self) -> Result<Option<u64>, String> {
        let Some((&(at, order), _)) = self.queue.first_key_value() else {
            return Ok(None);
        };
        let (node, life, what) = self.queue.remove(&(at, order)).expect("just seen");
        self.now = at;
        // Events make events: a world that runs in circles is broken too.
        if self.order + self.traffic_order > EVENTS_MAX {
            return Err(format!("{EVENTS_MAX} events and no end"));
        }
        self.happen(node, life, what);
        if let Some(why) = self.broken.take() {
            return Err(why);
        }
        self.suspicion(at)?;
        Ok(Some(at))
    }

    /// Two gates were open for one shard: wrong, even if no packet has used it by now.
    pub fn suspicion(&self, at: u64) -> Result<(), String> {
        match &self.suspect {
            Some((until, why)) if at >= *until => Err(why.clone()),
            _ => Ok(()),
        }
    }

    pub(crate) fn is_primary(&self, node: usize) -> bool {
        let row = &self.db.rows.master;
        row.holder.as_ref() == Some(&self.nodes[node].name)
    }

    pub(crate) fn served(&self) -> bool {
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
        self.nodes[node].gate.open_now(self.local(node))
    }

    /// Two gates that stand open for the same recipients: packets will show it, or nothing but luck prevents it.
    pub(crate) fn check(&mut self) {
        if self.suspect.is_some() || self.nodes.iter().any(|n| n.gate.absent) {
            return;
        }
        let open: Vec<(usize, &Ownership)> = (self.masters..self.nodes.len())
            .filter_map(|node| self.live(node).map(|own| (node, own)))
            .collect();
        for (i, (_, own)) in open.iter().enumerate() {
            for (_, other) in &open[i + 1..] {
                if exclude(&self.db, own, other) {
                    let (ms, until) = (self.now / MS, self.now + SUSPECT_FOR);
                    let (a, b) = (short(own), short(other));
                    let why = format!("S1 at {ms} ms by open gates: {a}, and {b}");
                    self.suspect = Some((until, why));
                    return;
                }
            }
        }
    }
}
