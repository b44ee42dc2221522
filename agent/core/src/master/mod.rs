//! A master: holds or watches the master lease, judges owners, moves shards.
//! No IO: `agent/src/master/driver.rs` carries out the actions and feeds every outcome back as an event.
//!
//! ```text
//!   Watching ──free or lapsed──▶ Taking ──held──▶ Primary ──expired/lost/blind/stop──▶ Watching
//! ```
//! What carries safety is the compare-and-set of (epoch, grant, nonce) in every transaction, not the lease.

mod candidate;
mod evidence;
mod failover;
mod heard;
mod numbers;
mod operator;
mod primary;
mod server;
mod settle;
mod verdict;
mod witness;
#[cfg(test)]
mod zone_tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::detector::{Detector, Intervals};
use crate::guard::{self, Guard};
use crate::id::{
    Epoch, Generation, Grant, Incarnation, NodeId, Nonce, Ownership, Role, ShardId, Term, splitmix,
};
use crate::lease::{Tolerance, Watch};
use crate::opinion::{Opinions, Said, Voice};
use crate::reason::Reason;
use crate::shard_map::{MasterRow, Phase, Previous, ShardRow};
use crate::time::{Duration, Instant};
use crate::wire::{Nudge, Opinion, Receipt, Report};

pub use candidate::Candidate;
pub use numbers::Odd;
pub use server::{Seen, Server};
pub use verdict::Verdict;
pub use witness::Home;
use witness::Witnesses;

/// Whether a kernel gate is demanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fence {
    /// No gate, no promotion; only sealed receipts settle.
    Required,
    /// A receipt of an empty cgroup settles as well (promise S1 is then weaker: `status` says so).
    BestEffort,
}

/// What a master needs to know beforehand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Config {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub ttl: Duration,
    pub tolerance: Tolerance,
    pub intervals: Intervals,
    pub db_unhealthy: Duration,
    pub fence: Fence,
    /// How many shards a new cluster gets.
    pub shard_count: u16,
    /// Longest wait for an owner to finish its requests before a planned handover goes on without.
    pub quiesce_max: Duration,
    /// Failovers that anti-flap counts, in `flap_window`, before it blocks.
    pub flap_max: u32,
    pub flap_window: Duration,
    /// What this master's disk says that it has read before.
    pub seen: Seen,
    /// Seed for grants and nonces; fresh at each start.
    pub seed: u64,
}

/// A registered node, as the deciding read shows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeRow {
    pub node: NodeId,
    pub role: Role,
    pub incarnation: Incarnation,
    /// Nodes with the same word share a machine.
    pub machine: String,
    pub zone: String,
    /// Age of its database beat by the database's own clock.
    pub beat_age: Option<Duration>,
    pub draining: bool,
    /// Configured preference; higher first.
    pub weight: i32,
    /// Where this start runs; `None` of a release that does not say it.
    pub home: Option<Home>,
}

/// One deciding read: rows, nodes, and who answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// Names server and connection: another value means that either is new (rule 5.5).
    pub identity: u64,
    /// Names the making of the lease table: another value on the same server means that it was dropped and made anew since, as
    /// a restored dump does (rule 5.5). In an embedded store any other change of the schema counts too.
    pub made: u64,
    pub server: Server,
    pub master: MasterRow,
    pub shards: Vec<ShardRow>,
    pub nodes: Vec<NodeRow>,
}

/// Outcome of a conditional write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Held,
    Lost,
    Unknown,
}

/// Names one action whose outcome comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u64);

/// What an operator asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Command {
    Switchover {
        shard: ShardId,
        to: Option<NodeId>,
    },
    /// Forget the anti-flap block of a shard.
    Ack {
        shard: ShardId,
    },
    ShardCount(u16),
    /// Replace the owner without a verdict. Everything else holds: its grant is settled before the next one acts.
    Failover {
        shard: ShardId,
        to: Option<NodeId>,
    },
    /// No owner of the shard (of any shard) is replaced on evidence until then; `None` ends it.
    Pause {
        shard: Option<ShardId>,
        until: Option<Instant>,
    },
    /// Nobody acts by what the former database server granted: time is evidence again (rule 5.9).
    AckServer,
    /// The database was restored from an older state: raise its counter, settle every grant that it shows, go on.
    Adopt,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    Tick,
    /// A deciding read was answered. Reads are delivered in the order in which they were asked.
    Snapshot(Box<Snapshot>),
    ReadFailed,
    /// A round of pings leaves.
    Round {
        late: bool,
    },
    Answered {
        node: NodeId,
        incarnation: Incarnation,
        /// When the ping left that it answers.
        asked: Instant,
        report: Report,
    },
    Opinions {
        from: NodeId,
        said: Said,
    },
    /// A receipt, and who sent it.
    Receipt((NodeId, Incarnation), Receipt),
    Ended {
        from: NodeId,
        incarnation: Incarnation,
        shard: ShardId,
        epoch: Epoch,
        grant: Grant,
    },
    Quiesced {
        from: NodeId,
        shard: ShardId,
        epoch: Epoch,
        grant: Grant,
    },
    Ask {
        from: NodeId,
        shard: ShardId,
        epoch: Epoch,
        grant: Grant,
    },
    /// What came of taking or renewing the lease with this nonce.
    Lease {
        nonce: Nonce,
        outcome: Outcome,
    },
    Done {
        attempt: Attempt,
        outcome: Outcome,
    },
    Command(Command),
    Intervals(Intervals),
    /// Somebody says that the shard map changed.
    Nudged,
    Stop,
}

/// A handover transaction (promotion 2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Handover {
    pub shard: ShardId,
    /// The row must still show this epoch, grant, nonce and phase, and `generation`: a change of the shard count leaves
    /// a free row's name as it was, and its new `previous` must not be overwritten by a handover that was late.
    pub expect: (Epoch, Grant, Nonce, Phase),
    pub to: NodeId,
    pub to_incarnation: Incarnation,
    pub epoch: Epoch,
    pub grant: Grant,
    pub ttl: Duration,
    /// First nonce of the row: nobody sent it, so a renewal always changes it.
    pub nonce: Nonce,
    /// The whole list as it shall be: earlier entries and the owner that is replaced.
    pub previous: Vec<Previous>,
    pub generation: Generation,
}

/// A change of the shard count, or the same count once more: every row free under the next generation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Regroup {
    pub count: u16,
    /// Generation and counter that the master's row must still show: every grant moves the one, every such change the
    /// other. One that is carried out late would free rows that have other owners by now, and name none of them (S1).
    pub seen: (Generation, Epoch),
    /// Of every row: nobody acts again before all of it is settled.
    pub previous: Vec<Previous>,
    /// The counter is raised to this at least.
    pub epoch_high: Epoch,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// One deciding read.
    Read,
    Take {
        expect: (Term, Grant, Nonce),
        term: Term,
        grant: Grant,
        nonce: Nonce,
        ttl: Duration,
    },
    Renew {
        term: Term,
        grant: Grant,
        nonce: Nonce,
        ttl: Duration,
    },
    GiveBack {
        term: Term,
        grant: Grant,
    },
    /// Insert the rows of a new cluster, under the term.
    InsertShards {
        attempt: Attempt,
        term: Term,
        term_grant: Grant,
        count: u16,
    },
    Handover {
        attempt: Attempt,
        term: Term,
        term_grant: Grant,
        handover: Box<Handover>,
    },
    /// Phase active, `previous` emptied, if the row still shows this handover.
    Activate {
        attempt: Attempt,
        term: Term,
        term_grant: Grant,
        shard: ShardId,
        epoch: Epoch,
        grant: Grant,
    },
    ChangeShardCount {
        attempt: Attempt,
        term: Term,
        term_grant: Grant,
        regroup: Regroup,
    },
    /// Write that the rows are complete on this server.
    KnowServer {
        term: Term,
        term_grant: Grant,
        server: u64,
    },
    /// Keep on disk what was read; nothing waits for it.
    StoreSeen(Seen),
    /// Ask the host agent of the previous owner's machine for a receipt.
    Fence {
        term: Term,
        ownership: Ownership,
        nonce: Nonce,
    },
    Quiesce {
        ownership: Ownership,
        on: bool,
    },
    Nudge(Nudge),
    /// Tell the other masters.
    SayOpinions {
        term: Term,
        heard: u16,
        of: u16,
        opinions: Vec<Opinion>,
    },
    /// A decision to record: history, journal, metrics.
    Decide {
        shard: Option<ShardId>,
        what: &'static str,
        node: Option<NodeId>,
        reason: Reason,
    },
    /// Lease given back: the process may exit.
    Exit,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Holding {
    Watching,
    Taking {
        term: Term,
        grant: Grant,
        nonce: Nonce,
        sent: Instant,
        reason: Reason,
    },
    Primary {
        term: Term,
        grant: Grant,
        deadline: Instant,
        renew_at: Instant,
        in_flight: Option<(Nonce, Instant)>,
    },
}

/// How an entry of `previous` was settled, and from when on it counts (ε for device queues after (a) and (b)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Settled {
    from: Instant,
    reason: Reason,
}

/// What goes on with one shard beyond its row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Work {
    /// A transaction under way.
    attempt: Option<Attempt>,
    /// A planned move: wish, reason, and since when the owner was asked to quiesce.
    moving: Option<Moving>,
    fenced_at: Option<Instant>,
    /// Since when this master has seen the handover of this epoch.
    handover_seen: Option<(Epoch, Instant)>,
    /// First seen active and not renewed yet; cleared by the first renewal.
    activated_at: Option<Instant>,
    last_activated: Option<Epoch>,
    activated_nonce: Option<Nonce>,
    last_verdict: Option<Reason>,
    /// Whom the transaction under way names.
    naming: Option<NodeId>,
    /// The grant for which its owner was excluded (once).
    excluded_for: Option<Epoch>,
    /// Failovers that anti-flap counts.
    flaps: Vec<Instant>,
    /// The transaction under way will count as one.
    flapping: bool,
    blocked_until: Option<Instant>,
    blocks: u32,
    /// Whom this master gave the shard last: the epoch, and the nonce that nobody has renewed.
    given: Option<(NodeId, Epoch, Nonce)>,
    /// An operator wants this epoch's owner replaced, by this node if one is named.
    forced: Option<(Epoch, Option<NodeId>)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Moving {
    to: Option<NodeId>,
    reason: Reason,
    epoch: Epoch,
    since: Instant,
    asked_at: Option<Instant>,
    quiesced: bool,
}

/// One master.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Master {
    config: Config,
    detector: Detector,
    opinions: Opinions,
    watch: Watch,
    holding: Holding,
    map: Option<Snapshot>,
    safe_until: Option<Instant>,
    read_at: Instant,
    /// When the reads under way were asked, oldest first: answers come in that order.
    reading: VecDeque<Instant>,
    /// Nothing is decided on the map until a read that was asked at or after this was answered.
    stale_since: Option<Instant>,
    /// A read asked before this may not show what the nudge was about.
    nudged_at: Option<Instant>,
    epoch_heard: Epoch,
    term_heard: Term,
    /// Who names numbers that cannot be true, or named some before there were rows to hold them against.
    numbers: numbers::Numbers,
    settled: BTreeMap<(Epoch, Grant), Settled>,
    obituaries: BTreeMap<(NodeId, Incarnation), Instant>,
    /// Starts whose receipt settles everything that they ever held, and from when on.
    ashes: BTreeMap<(NodeId, Incarnation), Instant>,
    /// Where starts run, and whose receipts did not count.
    witnesses: Witnesses,
    work: BTreeMap<ShardId, Work>,
    inserting: Option<Attempt>,
    /// Who did not take over: the start that was asked, and until when its node is passed over.
    excluded: BTreeMap<NodeId, (Incarnation, Instant)>,
    /// Names that two living starts use, as it was said.
    twice: BTreeSet<NodeId>,
    not_before: Option<Instant>,
    blind_since: Option<Instant>,
    wanted_count: Option<u16>,
    /// Until when nothing is replaced on evidence, by shard; `None` stands for all.
    paused: BTreeMap<Option<ShardId>, Instant>,
    /// The highest epoch that the present server has shown, now or before this start.
    seen: Seen,
    /// When the present server answered first.
    server_since: Instant,
    /// When the server was last written to be known: a try a ttl.
    knowing_at: Option<Instant>,
    /// What holds every promotion, as it was said last.
    held: Option<Reason>,
    adopting: bool,
    stopping: bool,
    last_step: Option<Instant>,
    attempts: u64,
    random: u64,
}

impl Master {
    /// A master that knows nothing yet; the first thing it does is read.
    pub fn new(now: Instant, config: Config) -> Self {
        Self {
            detector: Detector::new(config.intervals),
            random: config.seed,
            seen: config.seen,
            server_since: now,
            knowing_at: None,
            held: None,
            adopting: false,
            epoch_heard: Epoch(0),
            numbers: numbers::Numbers::default(),
            config,
            opinions: Opinions::default(),
            watch: Watch::default(),
            holding: Holding::Watching,
            map: None,
            safe_until: None,
            read_at: now,
            reading: VecDeque::new(),
            stale_since: Some(now),
            nudged_at: None,
            term_heard: Term(0),
            settled: BTreeMap::new(),
            obituaries: BTreeMap::new(),
            ashes: BTreeMap::new(),
            witnesses: Witnesses::default(),
            work: BTreeMap::new(),
            inserting: None,
            excluded: BTreeMap::new(),
            twice: BTreeSet::new(),
            not_before: None,
            blind_since: None,
            wanted_count: None,
            paused: BTreeMap::new(),
            stopping: false,
            last_step: None,
            attempts: 0,
        }
    }

    /// Term and grant of the lease, while it lives.
    pub fn primary(&self, now: Instant) -> Option<(Term, Grant)> {
        match self.holding {
            Holding::Primary {
                term,
                grant,
                deadline,
                ..
            } => {
                let lives = now < deadline || !guard::on(Guard::MasterLeaseEnds);
                lives.then_some((term, grant))
            }
            Holding::Watching | Holding::Taking { .. } => None,
        }
    }

    /// Time left on the own lease.
    pub fn lease_margin(&self, now: Instant) -> Option<Duration> {
        match self.holding {
            Holding::Primary { deadline, .. } => (now < deadline).then(|| deadline.since(now)),
            Holding::Watching | Holding::Taking { .. } => None,
        }
    }

    /// How long SAFE still lasts.
    pub fn safe_left(&self, now: Instant) -> Option<Duration> {
        self.safe_until
            .filter(|until| now < *until)
            .map(|until| until.since(now))
    }

    /// The newest map, as far as one was read.
    pub fn map(&self) -> Option<&Snapshot> {
        self.map.as_ref()
    }

    /// What heartbeats say.
    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    /// The other masters' newest words, as far as they are fresh.
    pub fn voices(&self, now: Instant) -> impl Iterator<Item = (&NodeId, &Voice)> {
        self.opinions.live(now, self.config.intervals.unhealthy)
    }

    /// Since when the owner's lease state has been seen unchanged.
    pub fn renewal_seen(&self, row: &ShardRow) -> Option<Instant> {
        self.watch.since(&mark(row))
    }

    /// Since when the master lease has been seen unchanged.
    pub fn lease_seen(&self) -> Option<Instant> {
        let row = &self.map.as_ref()?.master;
        self.watch.since(&(row.term.0, row.grant, row.nonce))
    }

    /// When the database last answered a read that was taken in.
    pub fn answered_at(&self) -> Option<Instant> {
        self.watch.read_at
    }

    /// The newest verdict on a shard's owner, or what hinders a decision.
    pub fn verdict_reason(&self, shard: ShardId) -> Option<Reason> {
        // A row beyond the count is kept for its epochs only: what hindered it once hinders nothing now.
        let counts = |map: &Snapshot| shard.0 < map.master.shard_count;
        let work = self
            .work
            .get(&shard)
            .filter(|_| self.map.as_ref().is_some_and(counts));
        work.and_then(|work| work.last_verdict)
    }

    /// Highest epoch seen anywhere.
    pub fn epoch_high(&self) -> Epoch {
        let rows = self.map.as_ref().map_or(Epoch(0), Snapshot::shown);
        if !guard::on(Guard::EpochAboveAll) {
            return rows;
        }
        // What the own disk remembers counts as well (rule 5.6): on a restored dump nobody else may.
        rows.max(self.epoch_heard).max(self.remembered().epoch)
    }

    /// Takes in one event and appends what is to be done.
    pub fn step(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        self.expire(now, actions);
        match event {
            Event::Tick => {}
            Event::Snapshot(snapshot) => self.snapshot(now, *snapshot, actions),
            Event::ReadFailed => {
                self.reading.pop_front();
                self.read_at = now + self.read_every();
            }
            Event::Round { late } => self.round(now, late, actions),
            Event::Answered {
                node,
                incarnation,
                asked,
                report,
            } => self.answered(now, node, (incarnation, asked), report, actions),
            Event::Opinions { from, said } => {
                self.hear_term(&from, said.term, actions);
                self.opinions.heard(now, &from, said);
            }
            Event::Receipt(from, receipt) => self.receipt(now, &from, &receipt, actions),
            Event::Ended {
                from,
                incarnation,
                epoch,
                grant,
                ..
            } => {
                self.ended(now, &from, incarnation, (epoch, grant), actions);
            }
            Event::Quiesced {
                from, shard, epoch, ..
            } => self.quiesced(&from, shard, epoch),
            Event::Ask {
                from, shard, epoch, ..
            } => {
                self.plan_move(
                    now,
                    shard,
                    Some((&from, epoch)),
                    None,
                    Reason::OwnerStopping,
                );
            }
            Event::Lease { nonce, outcome } => self.lease_done(now, nonce, outcome, actions),
            Event::Done { attempt, outcome } => self.done(now, attempt, outcome, actions),
            Event::Command(command) => self.command(now, command, actions),
            Event::Intervals(intervals) => self.detector.set_intervals(intervals),
            Event::Nudged => {
                self.nudged_at = Some(now);
                self.read_soon(now);
            }
            Event::Stop => self.stopping = true,
        }
        self.act(now, actions);
        self.last_step = Some(now);
    }

    /// When to call `step` with [`Event::Tick`] at the latest.
    pub fn deadline(&self) -> Instant {
        let mut at = match self.reading.front() {
            Some(since) => (*since + self.config.ttl).max(self.read_at),
            None => self.read_at,
        };
        if let Holding::Primary {
            deadline,
            renew_at,
            in_flight,
            ..
        } = &self.holding
        {
            at = at.min(*deadline);
            if in_flight.is_none() {
                at = at.min(*renew_at);
            }
        }
        if let Some(wake) = self.wake_for_failover() {
            at = at.min(wake);
        }
        at
    }

    fn read_every(&self) -> Duration {
        self.config.ttl / 3
    }

    /// A read asked earlier than this is not enough.
    fn must_show(&self) -> Option<Instant> {
        self.stale_since.max(self.nudged_at)
    }

    fn read_soon(&mut self, now: Instant) {
        self.read_at = now;
    }

    fn random(&mut self) -> u64 {
        splitmix(&mut self.random)
    }

    fn next_attempt(&mut self) -> Attempt {
        self.attempts += 1;
        Attempt(self.attempts)
    }

    /// A read was answered.
    fn snapshot(&mut self, now: Instant, snapshot: Snapshot, actions: &mut Vec<Action>) {
        let asked = self.reading.pop_front();
        if let Some(reason) = server::safe_because(self.map.as_ref(), &snapshot) {
            self.begin_safe(now, &snapshot, reason, actions);
        }
        let fresh = |asked, since| asked >= since || !guard::on(Guard::FreshMapOnly);
        if asked.is_some_and(|asked| self.stale_since.is_some_and(|since| fresh(asked, since))) {
            self.stale_since = None;
        }
        let seen = asked.filter(|_| !guard::on(Guard::AnswerArrivalStamp));
        self.watch
            .saw(seen.unwrap_or(now), &snapshot.master, &snapshot.shards);
        // A lease that nobody renews is read again at the very moment at which it lapses.
        let regular = now + self.read_every();
        self.read_at = self
            .watch
            .next_lapse(now, &self.config.tolerance)
            .map_or(regular, |lapse| lapse.min(regular));
        let newest = self.reading.back().copied().max(asked);
        if self
            .must_show()
            .is_some_and(|must| newest.is_none_or(|newest| newest < must))
        {
            self.read_at = now;
        }
        self.forget(&snapshot);
        self.note_server(now, &snapshot, actions);
        self.map = Some(snapshot);
        self.weigh_numbers(actions);
        self.learn_homes(now, actions);
        self.note_activation(now);
        self.note_given_back(now, actions);
    }

    /// Watches who is registered now, and forgets what no row speaks of any more.
    fn forget(&mut self, snapshot: &Snapshot) {
        self.detector.watch(
            snapshot
                .nodes
                .iter()
                .filter(|n| n.role != Role::Webapp && n.node != self.config.node)
                .map(|n| &n.node),
        );
        self.opinions.keep(
            snapshot
                .nodes
                .iter()
                .filter(|n| n.role == Role::Master)
                .map(|n| &n.node),
        );
        let known = |node: &NodeId| snapshot.nodes.iter().any(|n| n.node == *node);
        self.twice.retain(known);
        let live: BTreeSet<_> = snapshot
            .shards
            .iter()
            .flat_map(|row| row.previous.iter().map(|p| (p.epoch, p.grant)))
            .collect();
        // Settlements of entries that no row lists any more are done with; a receipt may also come before its entry.
        let newest = snapshot.shown().0;
        self.settled
            .retain(|key, _| live.contains(key) || key.0.0.saturating_add(64) > newest);
        while self.obituaries.len() > 256 {
            self.obituaries.pop_first();
        }
        while self.ashes.len() > 256 {
            self.ashes.pop_first();
        }
    }
}

/// The lease state that a shard row shows.
fn mark(row: &ShardRow) -> crate::lease::Mark {
    (row.epoch.0, row.grant, row.nonce)
}
