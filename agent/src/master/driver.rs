//! The main loop: receive or reach the deadline, step, start the actions. Never awaits an action.
//! All waiting is done by tasks whose results come back through one bounded channel.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use wa_core::detector::Intervals;
use wa_core::id::{Grant, Term};
use wa_core::judgement;
use wa_core::master::{Action, Attempt, Command, Event};
use wa_core::roll::Roll;
use wa_core::time::Instant;
use wa_core::wire::{Body, Health, Nudge, Report};

use super::control::Control;
use super::directory::Directory;
use super::fresh::{ReadWaiters, Reading};
use super::parts::Parts;
use super::post::Post;
use super::pull::Puller;
use super::registrar::Registrar;
use super::request::Request;
use super::rewinds::Rewinds;
use super::rows::{Rows, Taken};
use super::store::{LeaseJob, MapJob, MapWrite};
use super::translate::{event_of, message_of};
use super::view::{READS_WITHIN, View, writes_within};
use super::watch::Watch;
use super::{
    alarms, claim, decisions, evidence, explain, figures, intervals, moves, operate, port, record,
    seen, status, store, unit, words,
};
use crate::api::control::DecisionStatus;
use crate::db::history::Record;
use crate::db::lease::LeaseConnection;
use crate::log::message_id;
use crate::member::heartbeat;
use crate::net::NetError;
use crate::net::client::InternalClient;
use crate::net::udp::{Heard, Inbox};
use crate::sys::trouble::Trouble;
use crate::sys::{clock, notify};

const QUEUE_LEN: usize = 1024;
/// How often it is judged what is wrong.
const JUDGE_EVERY: Duration = Duration::from_secs(1);

/// The loop's state beside the core.
pub struct Driver {
    parts: Parts,
    directory: Arc<Directory>,
    /// What is remembered of the node table.
    roll: Arc<std::sync::Mutex<Roll>>,
    decisions: std::collections::VecDeque<DecisionStatus>,
    rows: Rows,
    map_waiters: ReadWaiters,
    /// Rung when stored rows are to be read at once.
    read_now: Arc<Notify>,
    /// Whether the database answers reads and takes writes.
    reads: Arc<Trouble>,
    writes: Arc<Trouble>,
    rewinds: Arc<Rewinds>,
    /// What is watched for the alarms.
    watch: Watch,
    /// What is wrong, for people who look at the unit, and when that was judged.
    wrong: Option<String>,
    judged_at: Option<Instant>,
    lease_jobs: mpsc::Sender<LeaseJob>,
    lease_worker: tokio::task::JoinHandle<()>,
    map_jobs: mpsc::Sender<MapJob>,
    events: mpsc::Receiver<Event>,
    events_sender: mpsc::Sender<Event>,
    exit: bool,
}

impl Driver {
    /// Starts the store workers.
    pub fn new(parts: Parts) -> Self {
        let (events_sender, events) = mpsc::channel(QUEUE_LEN);
        let deadline = parts.settings.timers.lease_ttl / 4;
        let (reads, writes) = (Arc::<Trouble>::default(), Arc::<Trouble>::default());
        let connection = || {
            let (database, node) = (&parts.settings.database, &parts.settings.node);
            let (database, node) = (database.clone(), node.clone());
            LeaseConnection::new(database, deadline, node, parts.incarnation)
                .telling(Arc::clone(&writes))
        };
        let (lease_jobs, jobs) = mpsc::channel(QUEUE_LEN);
        let work = store::keep_lease(connection(), jobs, events_sender.clone());
        let lease_worker = tokio::spawn(work);
        let (map_jobs, jobs) = mpsc::channel(QUEUE_LEN);
        let events_of_map = events_sender.clone();
        let work = store::keep_map(connection(), jobs, events_of_map, Arc::clone(&reads));
        tokio::spawn(work);
        Self {
            parts,
            directory: Arc::default(),
            roll: Arc::default(),
            decisions: Default::default(),
            rows: Rows::default(),
            map_waiters: ReadWaiters::default(),
            read_now: Arc::default(),
            reads,
            writes,
            rewinds: Arc::default(),
            watch: Watch::default(),
            wrong: None,
            judged_at: None,
            lease_jobs,
            lease_worker,
            map_jobs,
            events,
            events_sender,
            exit: false,
        }
    }

    /// Runs until the core says `Exit`.
    pub async fn run(mut self, mut heard: Inbox) -> Result<(), NetError> {
        let (requests_sender, mut requests) = mpsc::channel(64);
        let parts = &self.parts;
        let at = SocketAddr::new(parts.settings.bind, parts.settings.ports.control);
        let own = &parts.settings.node;
        let figures = figures::Source::of(own, parts.incarnation, &parts.metrics);
        let control = Control::new(
            (&parts.identity, &parts.settings),
            (requests_sender.clone(), Arc::clone(&self.directory)),
            (parts.db.clone(), Arc::clone(&self.roll), figures),
        );
        let audit = Arc::clone(&control.audit);
        port::start((at, &parts.door), control, parts.shutdown.clone()).await?;
        tokio::spawn(self.registrar().run(self.parts.shutdown.clone()));
        tokio::spawn(words::run(
            Arc::clone(&self.directory),
            InternalClient::of_looks(&self.parts.identity.keys),
            self.parts.shutdown.clone(),
        ));
        let puller = Puller {
            db: self.parts.db.clone(),
            settings: Arc::clone(&self.parts.settings),
            metrics: Arc::clone(&self.parts.metrics),
            requests: requests_sender,
            read_now: Arc::clone(&self.read_now),
        };
        tokio::spawn(puller.run(self.parts.shutdown.clone()));
        notify::ready();
        let mut stop_sent = false;
        while !self.exit {
            let deadline = self.parts.core.deadline();
            tokio::select! {
                biased;
                () = self.parts.shutdown.cancelled(), if !stop_sent => {
                    stop_sent = true;
                    self.step(Event::Stop);
                }
                Some(event) = self.events.recv() => self.step(event),
                Some(heard) = heard.recv() => self.heard(heard),
                Some(request) = requests.recv() => self.request(request),
                () = clock::sleep_until(deadline) => self.step(Event::Tick),
            }
            self.publish();
        }
        drop(self.lease_jobs);
        // Longer than a lease lasts nobody waits for it.
        let ttl = self.parts.settings.timers.lease_ttl;
        if !store::finish(self.lease_worker, &mut self.events, ttl).await {
            tracing::warn!(
                "the database did not answer before the lease ran out; another master takes it"
            );
        }
        audit.flush().await;
        Ok(())
    }

    fn registrar(&self) -> Registrar {
        let parts = &self.parts;
        Registrar {
            db: parts.db.clone(),
            settings: Arc::clone(&parts.settings),
            incarnation: parts.incarnation,
            metrics: Arc::clone(&parts.metrics),
            heartbeats: Arc::clone(&parts.heartbeats),
            directory: Arc::clone(&self.directory),
            roll: Arc::clone(&self.roll),
            writes: Arc::clone(&self.writes),
            rewinds: Arc::clone(&self.rewinds),
            events: self.events_sender.clone(),
        }
    }

    /// What others are told from, as of now.
    fn view(&self) -> View<'_> {
        let parts = &self.parts;
        View {
            now: clock::now(),
            core: &parts.core,
            settings: &parts.settings,
            incarnation: parts.incarnation,
            voided: &parts.voided,
            table: self.directory.table(),
            pauses: &self.rows.pauses,
            planned: &self.rows.planned,
            registration: self.rows.registration.as_ref(),
            certificate: self.rows.certificate.as_ref(),
            decisions: &self.decisions,
            settings_version: self.rows.settings_version,
            lateness_ms: parts.report.lateness_ms(),
            reads: self.reads.standing(READS_WITHIN),
            writes: self.writes.standing(writes_within(&parts.settings.timers)),
            rewound: self.rewinds.told(),
            watch: &self.watch,
            disk_free_percent: parts.metrics.room.percent(),
        }
    }

    fn step(&mut self, event: Event) {
        let mut actions = Vec::new();
        let now = clock::now();
        let map_read = if matches!(event, Event::Snapshot(_)) {
            Some(true)
        } else {
            matches!(event, Event::ReadFailed).then_some(false)
        };
        if let Event::Lease { outcome, .. } = &event
            && *outcome == wa_core::master::Outcome::Held
            && let Some(left) = self.parts.core.lease_margin(now)
        {
            self.parts.metrics.renewal_margin.observe(left);
        }
        self.parts.core.step(now, event, &mut actions);
        if let Some(read) = map_read {
            self.map_waiters.ends(read);
            self.watch.read_ends(now);
            let rows = self.parts.core.map().map(|map| map.shards.iter());
            self.watch.rows(now, rows.into_iter().flatten());
        }
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Take {
                expect,
                term,
                grant,
                nonce,
                ttl,
            } => self.lease(LeaseJob::Take {
                expect,
                own: (term, grant, nonce),
                ttl,
            }),
            Action::Renew {
                term,
                grant,
                nonce,
                ttl,
            } => self.lease(LeaseJob::Renew {
                own: (term, grant, nonce),
                ttl,
            }),
            Action::GiveBack { term, grant } => self.lease(LeaseJob::GiveBack(term, grant)),
            Action::Read => {
                self.map_waiters.begins();
                self.watch.read_begins(clock::now());
                self.map(MapJob::Read);
            }
            Action::InsertShards {
                attempt,
                term,
                term_grant,
                count,
            } => self.write(attempt, (term, term_grant), MapWrite::InsertShards(count)),
            Action::Handover {
                attempt,
                term,
                term_grant,
                handover,
            } => {
                let parts = &self.parts;
                alarms::handover(&mut self.watch, (&parts.core, &parts.settings), &handover);
                self.write(attempt, (term, term_grant), MapWrite::Handover(handover));
            }
            Action::Activate {
                attempt,
                term,
                term_grant,
                shard,
                epoch,
                grant,
            } => self.write(
                attempt,
                (term, term_grant),
                MapWrite::Activate(shard, epoch, grant),
            ),
            Action::ChangeShardCount {
                attempt,
                term,
                term_grant,
                regroup,
            } => self.write(
                attempt,
                (term, term_grant),
                MapWrite::ChangeShardCount(regroup),
            ),
            Action::KnowServer {
                term,
                term_grant,
                server,
            } => self.map(MapJob::KnowServer((term, term_grant), server)),
            Action::StoreSeen(seen) => seen::keep(&self.parts.seen, seen),
            Action::Fence {
                term,
                ownership,
                nonce,
            } => self.post().fence(term, &ownership, nonce),
            Action::Quiesce { ownership, on } => self.post().quiesce(&ownership, on),
            Action::Nudge(nudge) => self.post().nudge(nudge),
            Action::SayOpinions {
                term,
                heard,
                of,
                opinions,
            } => {
                let lateness_ms = self.parts.report.lateness_ms();
                self.post()
                    .opinions(term, lateness_ms, (heard, of), &opinions);
            }
            Action::Decide {
                shard,
                what,
                node,
                reason,
            } => self.decide(shard, what, node, reason),
            Action::Exit => self.exit = true,
        }
    }

    fn lease(&self, job: LeaseJob) {
        queued(self.lease_jobs.try_send(job).is_ok());
    }

    fn map(&self, job: MapJob) {
        queued(self.map_jobs.try_send(job).is_ok());
    }

    fn write(&self, attempt: Attempt, under: (Term, Grant), what: MapWrite) {
        self.map(MapJob::Write(attempt, under, what));
    }

    fn post(&self) -> Post<'_> {
        Post {
            heartbeats: &self.parts.heartbeats,
            table: self.directory.table(),
            own: &self.parts.settings.node,
        }
    }

    fn decide(
        &mut self,
        shard: Option<wa_core::id::ShardId>,
        what: &'static str,
        node: Option<wa_core::id::NodeId>,
        reason: wa_core::reason::Reason,
    ) {
        let subject = node.map_or_else(String::new, |n| n.as_str().to_owned());
        let number = shard.map_or(-1, |s| i64::from(s.0));
        tracing::info!(MESSAGE_ID = message_of(what, reason), SHARD = number, REASON = reason.name(), node = %subject, "{what}: {}", reason.sentence());
        if what == "handover" {
            self.parts.metrics.handovers.inc();
        }
        if what == "primary" {
            self.watch.primary(clock::now());
            let parts = &self.parts;
            claim::start(
                parts.db.clone(),
                &parts.settings,
                Arc::clone(&parts.metrics),
            );
            self.read_now.notify_one();
        }
        self.decisions
            .push_back(decisions::shown(shard, (what, &subject), reason));
        while self.decisions.len() > decisions::KEPT_MAX {
            self.decisions.pop_front();
        }
        // What one master merely watches is in its journal only.
        if !matches!(what, "watch" | "settled") {
            let evidence = explain::stored(&self.view(), shard, reason.sentence());
            let record = Record {
                node: self.parts.settings.node.as_str().into(),
                shard: number,
                what: what.into(),
                subject,
                reason: reason.name().into(),
                evidence: serde_json::to_string(&evidence).unwrap_or_default(),
            };
            decisions::record(self.parts.db.clone(), record);
        }
    }

    fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Round { late, lateness } => {
                self.parts.metrics.round_lateness.observe(lateness);
                if late {
                    self.parts.metrics.rounds_abstained.inc();
                }
                self.step(Event::Round { late });
            }
            Heard::Answered {
                node,
                incarnation,
                report,
                rtt,
                arrived,
            } => {
                self.parts.metrics.heartbeat_rtt.observe(rtt);
                self.directory.table().replies.took(&node, rtt);
                if self.watch.answered(arrived, &node, incarnation) {
                    self.parts.metrics.false_starts.inc();
                    tracing::warn!(%node, "this owner was replaced for silence, and the same process answers again: it was held up, not gone; see wa-agent history, then wa-agent doctor on its machine");
                }
                self.step(Event::Answered {
                    node,
                    incarnation,
                    asked: arrived - rtt,
                    report,
                });
            }
            Heard::Body {
                from,
                incarnation,
                body,
                ..
            } => {
                if body == Body::Nudge(Nudge::Settings) {
                    self.read_now.notify_one();
                }
                if let Some(event) = event_of(from, incarnation, body) {
                    self.step(event);
                }
            }
        }
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Status(answer) => {
                let _ = answer.send(status::of(&self.view()));
            }
            Request::Switchover(wish, answer) => {
                let reply = moves::switchover(&self.view(), &wish);
                let now = wish.at_ms.is_none() && wish.in_ms.is_none() && !wish.cancel;
                if reply.accepted && !wish.dry_run && now {
                    record::journal((wish.reason.as_deref(), wish.by.as_deref()), &reply.message);
                    let to = wish.to.as_deref().map(wa_core::id::NodeId::new);
                    self.step(Event::Command(Command::Switchover {
                        shard: wa_core::id::ShardId(wish.shard),
                        to,
                    }));
                }
                let _ = answer.send(reply);
            }
            Request::ShardCount(wish, answer) => {
                let reply = moves::shards(&self.view(), &wish);
                if reply.accepted && !wish.dry_run {
                    self.step(Event::Command(Command::ShardCount(wish.shards)));
                }
                let _ = answer.send(reply);
            }
            Request::Operate(wish, answer) => {
                let (reply, command) = operate::answer(&self.view(), &wish);
                if let Some(command) = command {
                    self.step(Event::Command(command));
                }
                if reply.accepted && !wish.dry_run {
                    record::journal((wish.reason.as_deref(), wish.by.as_deref()), &reply.message);
                }
                let _ = answer.send(reply);
            }
            Request::Explain(answer) => {
                let _ = answer.send(explain::all(&self.view()));
            }
            Request::Read(reading) => self.read(reading),
            Request::Written(reading, told) => {
                self.read(reading);
                // Other masters decide by their own copies: a verb is in force with the next primary, too.
                self.post().nudge(Nudge::Settings);
                let _ = told.send(());
            }
            Request::ReadMap(told) => {
                self.map_waiters.wait(told);
                self.step(Event::Nudged);
            }
            Request::SettingsChanged(answer) => {
                let primary = self.parts.core.primary(clock::now()).is_some();
                if primary {
                    self.post().nudge(Nudge::Settings);
                }
                let _ = answer.send(primary);
            }
        }
    }

    fn read(&mut self, reading: Reading) {
        match self.rows.take(reading) {
            Taken::Nothing => {}
            Taken::Pauses(commands) => {
                for command in commands {
                    self.step(Event::Command(command));
                }
            }
            Taken::Intervals(intervals) => self.take_intervals(intervals),
        }
    }

    fn take_intervals(&mut self, new: Intervals) {
        let shown = i64::try_from(self.rows.settings_version).unwrap_or(i64::MAX);
        self.parts.metrics.settings_version.set(shown);
        if self.parts.core.detector().intervals != new {
            let timers = &self.parts.settings.timers;
            let said = intervals::said(new, timers);
            tracing::info!(MESSAGE_ID = message_id::SETTINGS_CHANGED, heartbeat = ?new.heartbeat, unhealthy = ?new.unhealthy, "intervals changed: {said}");
            self.parts.heartbeats.set_interval(new.heartbeat);
            self.step(Event::Intervals(new));
        }
    }

    /// What heartbeats, pages and systemd say after each step.
    fn publish(&mut self) {
        let now = clock::now();
        let core = &self.parts.core;
        let term = core.primary(now).map_or(Term(0), |(term, _)| term);
        self.parts.heartbeats.set_pings(term, core.epoch_high());
        self.parts.report.store(Report {
            shard: None,
            epoch: Default::default(),
            grant: Default::default(),
            epoch_high: core.epoch_high(),
            health: Health::DATABASE_OK,
            progress_age_ms: 0,
            lateness_ms: 0,
            in_flight: 0,
        });
        let m = &self.parts.metrics;
        m.primary.set(i64::from(term.0 != 0));
        heartbeat::show(&self.parts.heartbeats, &m.heartbeat());
        m.lease_margin.set(
            core.lease_margin(now)
                .map_or(0.0, |left| left.as_secs_f64()),
        );
        self.judge(now);
        let parts = &self.parts;
        let map = parts.core.map().is_some();
        unit::tell(&parts.readiness, map, term, self.wrong.as_deref());
        notify::watchdog();
    }

    /// Once a second: figures and the unit's status are for people.
    fn judge(&mut self, now: Instant) {
        if self.judged_at.is_some_and(|at| now.since(at) < JUDGE_EVERY) {
            return;
        }
        self.judged_at = Some(now);
        let view = self.view();
        let problems = evidence::problems(&view);
        self.parts.metrics.problems.set(&problems);
        alarms::show(&view, &self.parts.metrics);
        self.wrong = judgement::remark(&problems);
    }
}

/// The core has at most a handful under way; a full queue means that the worker is stuck, and time ends the lease.
fn queued(done: bool) {
    if !done {
        tracing::error!(
            "the database connection of this master does not answer; if that goes on, it stops being primary when its lease ends, and another master takes over"
        );
    }
}
