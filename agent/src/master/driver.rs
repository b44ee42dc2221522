//! The main loop: receive or reach the deadline, step, start the actions. Never awaits an action.
//! All waiting is done by tasks whose results come back through one bounded channel.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use wa_core::detector::Intervals;
use wa_core::id::{Incarnation, Role};
use wa_core::master::{Action, Command, Event, Master};
use wa_core::opinion::Said;
use wa_core::wire::{Body, Health, Nudge, OPINIONS_MAX, Report};

use super::directory::{Directory, READ_EVERY};
use super::{MasterError, control, explain, operate, planned, status, store};
use crate::api::control::{
    ClusterStatus, DecisionStatus, Explanation, OperatorAnswer, OperatorRequest, ShardsAnswer,
    ShardsRequest, StoredSwitchover, SwitchoverAnswer, SwitchoverRequest,
};
use crate::config::Settings;
use crate::db::history::Record;
use crate::db::identity;
use crate::db::lease::LeaseConnection;
use crate::db::node::Registration;
use crate::db::{Db, DbError};
use crate::log::message_id;
use crate::media::watch::REPORT_AGE_MAX_MS;
use crate::metrics::MasterMetrics;
use crate::net::health::Readiness;
use crate::net::keys::Keys;
use crate::net::udp::{Heard, Heartbeats, Identity, Inbox, SharedReport};
use crate::sys::state::NumbersFile;
use crate::sys::{clock, notify};

const QUEUE_LEN: usize = 1024;
/// Decisions kept for `status`.
const DECISIONS_MAX: usize = 32;

/// What the driver is made of.
pub struct Parts {
    pub settings: Arc<Settings>,
    pub incarnation: Incarnation,
    pub identity: Identity,
    pub core: Master,
    /// Where [`wa_core::master::Seen`] is kept.
    pub seen: Arc<Mutex<NumbersFile>>,
    pub db: Db,
    /// Settings of the database that void a promise, as they were at the start.
    pub voided: Vec<String>,
    pub heartbeats: Arc<Heartbeats>,
    pub report: Arc<SharedReport>,
    pub metrics: Arc<MasterMetrics>,
    pub readiness: Readiness,
    pub shutdown: CancellationToken,
}

/// What other tasks ask of the loop.
pub enum Request {
    Status(oneshot::Sender<ClusterStatus>),
    Switchover(SwitchoverRequest, oneshot::Sender<SwitchoverAnswer>),
    ShardCount(ShardsRequest, oneshot::Sender<ShardsAnswer>),
    Operate(OperatorRequest, oneshot::Sender<OperatorAnswer>),
    Explain(oneshot::Sender<Vec<Explanation>>),
    /// The switchovers that wait, as they were read.
    Planned(Vec<StoredSwitchover>),
    /// The pauses that were read, by shard, and until when.
    Pauses(operate::Pauses),
    /// The settings row changed: read it and tell everybody.
    SettingsChanged(oneshot::Sender<bool>),
    /// New intervals were read.
    Intervals {
        intervals: Intervals,
        version: u64,
    },
}

/// The loop's state beside the core.
pub struct Driver {
    pub(super) parts: Parts,
    pub(super) directory: Arc<Directory>,
    pub(super) decisions: std::collections::VecDeque<DecisionStatus>,
    pub(super) settings_version: u64,
    pub(super) pauses: operate::Pauses,
    pub(super) planned: Vec<StoredSwitchover>,
    lease_jobs: mpsc::Sender<Action>,
    map_jobs: mpsc::Sender<Action>,
    events: mpsc::Receiver<Event>,
    events_sender: mpsc::Sender<Event>,
    exit: bool,
}

impl Driver {
    /// Starts the store workers.
    pub fn new(parts: Parts) -> Self {
        let (events_sender, events) = mpsc::channel(QUEUE_LEN);
        let deadline = parts.settings.timers.lease_ttl / 4;
        let worker = || {
            let (sender, jobs) = mpsc::channel(QUEUE_LEN);
            let database = parts.settings.database.clone();
            let connection = LeaseConnection::new(
                database,
                deadline,
                parts.settings.node.clone(),
                parts.incarnation,
            );
            tokio::spawn(store::work(connection, jobs, events_sender.clone()));
            sender
        };
        let (lease_jobs, map_jobs) = (worker(), worker());
        Self {
            parts,
            directory: Arc::default(),
            decisions: Default::default(),
            settings_version: 0,
            pauses: Default::default(),
            planned: Vec::new(),
            lease_jobs,
            map_jobs,
            events,
            events_sender,
            exit: false,
        }
    }

    /// Runs until the core says `Exit`.
    pub async fn run(mut self, mut heard: Inbox) -> Result<(), MasterError> {
        let (requests_sender, mut requests) = mpsc::channel(64);
        let parts = &self.parts;
        let at = SocketAddr::new(parts.settings.bind, parts.settings.ports.control);
        control::start(
            at,
            (
                parts.identity.keys.clone(),
                parts.settings.timers.db_unhealthy_interval,
            ),
            requests_sender.clone(),
            parts.db.clone(),
            parts.shutdown.clone(),
        )
        .await?;
        self.spawn_register();
        self.spawn_settings(requests_sender);
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
        // The lease worker gives the lease back before the connection closes; bounded by its statement deadline.
        drop(self.lease_jobs);
        clock::sleep(Duration::from_millis(50)).await;
        Ok(())
    }

    fn step(&mut self, event: Event) {
        let mut actions = Vec::new();
        let now = clock::now();
        if let Event::Lease { outcome, .. } = &event
            && *outcome == wa_core::master::Outcome::Held
            && let Some(left) = self.parts.core.lease_margin(now)
        {
            self.parts
                .metrics
                .renewal_margin
                .observe(left.as_secs_f64());
        }
        self.parts.core.step(now, event, &mut actions);
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Take { .. } | Action::Renew { .. } | Action::GiveBack { .. } => {
                self.queue(true, action)
            }
            Action::Read
            | Action::InsertShards { .. }
            | Action::Handover { .. }
            | Action::Activate { .. }
            | Action::ChangeShardCount { .. }
            | Action::KnowServer { .. } => self.queue(false, action),
            Action::StoreSeen(seen) => self.store_seen(seen),
            Action::Fence {
                term,
                ownership: o,
                nonce,
            } => {
                let body = Body::Fence {
                    term,
                    node: o.owner.clone(),
                    incarnation: o.incarnation,
                    shard: o.shard,
                    epoch: o.epoch,
                    grant: o.grant,
                    nonce,
                };
                for host in self.directory.hosts_of(&o.owner) {
                    self.parts.heartbeats.send(host, body.clone());
                }
            }
            Action::Quiesce { ownership: o, on } => {
                if let Some(to) = self.directory.heartbeat_of(&o.owner) {
                    self.parts.heartbeats.send(
                        to,
                        Body::Quiesce {
                            shard: o.shard,
                            epoch: o.epoch,
                            grant: o.grant,
                            on,
                        },
                    );
                }
            }
            Action::Nudge(nudge) => self.nudge(nudge),
            Action::SayOpinions {
                term,
                heard,
                of,
                opinions,
            } => {
                for (_, master) in self
                    .directory
                    .of_role(Role::Master)
                    .iter()
                    .filter(|(n, _)| *n != self.parts.settings.node)
                {
                    for part in opinions.chunks(OPINIONS_MAX.min(3)) {
                        let body = Body::Opinions {
                            term,
                            lateness_ms: self.parts.report.lateness_ms(),
                            heard,
                            of,
                            opinions: part.to_vec(),
                        };
                        self.parts.heartbeats.send(*master, body);
                    }
                }
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

    fn queue(&mut self, lease: bool, action: Action) {
        let jobs = if lease {
            &self.lease_jobs
        } else {
            &self.map_jobs
        };
        // The core has at most a handful under way; a full queue means that the worker is stuck, and time ends the lease.
        if jobs.try_send(action).is_err() {
            tracing::error!("the store worker is stuck; the lease will run out");
        }
    }

    /// Kept for the next start of this master; a disk that refuses it costs only that knowledge.
    fn store_seen(&self, seen: wa_core::master::Seen) {
        let file = Arc::clone(&self.parts.seen);
        tokio::task::spawn_blocking(move || {
            // One at a time, and never backwards: tasks may overtake each other.
            let file = file
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let newer = |kept: &[u64]| matches!(*kept, [server, epoch] if server == seen.server && epoch >= seen.epoch.0);
            if file.load().is_ok_and(|kept| newer(&kept)) {
                return;
            }
            if let Err(error) = file.store(&[seen.server, seen.epoch.0]) {
                tracing::warn!(%error, "the highest epoch read was not kept on disk; going on");
            }
        });
    }

    pub(super) fn nudge(&self, nudge: Nudge) {
        for role in [Role::Coreapp, Role::Webapp, Role::Master] {
            for (node, address) in self.directory.of_role(role) {
                if node != self.parts.settings.node {
                    self.parts.heartbeats.send(address, Body::Nudge(nudge));
                }
            }
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
            self.spawn_migrate();
        }
        self.decisions.push_back(DecisionStatus {
            at_unix_s: clock::wall_ms() / 1000,
            shard: shard.map(|s| s.0),
            what: if subject.is_empty() {
                what.into()
            } else {
                format!("{what} {subject}")
            },
            reason: reason.name().into(),
            sentence: reason.sentence().into(),
        });
        while self.decisions.len() > DECISIONS_MAX {
            self.decisions.pop_front();
        }
        // What one master merely watches is in its journal only.
        if !matches!(what, "watch" | "settled") {
            let evidence = explain::stored(self, shard, reason.sentence());
            let (db, own) = (self.parts.db.clone(), self.parts.settings.node.clone());
            let record = Record {
                node: own.as_str().into(),
                shard: number,
                what: what.into(),
                subject,
                reason: reason.name().into(),
                evidence: serde_json::to_string(&evidence).unwrap_or_default(),
            };
            tokio::spawn(async move {
                let record = db.record(&record);
                if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(5), record).await {
                    tracing::debug!(error = %error.brief(), "the decision was not recorded");
                }
            });
        }
    }

    fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Round { late, lateness } => {
                self.parts
                    .metrics
                    .round_lateness
                    .observe(lateness.as_secs_f64());
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
                ..
            } => {
                self.parts.metrics.heartbeat_rtt.observe(rtt.as_secs_f64());
                self.step(Event::Answered {
                    node,
                    incarnation,
                    report,
                });
            }
            Heard::Body {
                from,
                incarnation,
                body,
                ..
            } => {
                if let Some(event) = event_of(from, incarnation, body) {
                    self.step(event);
                }
            }
        }
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Status(answer) => {
                let _ = answer.send(status::of(self));
            }
            Request::Switchover(wish, answer) => {
                let reply = status::switchover_answer(self, &wish);
                let now = wish.at_ms.is_none() && wish.in_ms.is_none() && !wish.cancel;
                if reply.accepted && !wish.dry_run && now {
                    operate::journal((wish.reason.as_deref(), wish.by.as_deref()), &reply.message);
                    let to = wish.to.as_deref().map(wa_core::id::NodeId::new);
                    self.step(Event::Command(Command::Switchover {
                        shard: wa_core::id::ShardId(wish.shard),
                        to,
                    }));
                }
                let _ = answer.send(reply);
            }
            Request::ShardCount(wish, answer) => {
                let reply = status::shards_answer(self, &wish);
                if reply.accepted && !wish.dry_run {
                    self.step(Event::Command(Command::ShardCount(wish.shards)));
                }
                let _ = answer.send(reply);
            }
            Request::Operate(wish, answer) => {
                let (reply, command) = operate::answer(self, &wish);
                if let Some(command) = command {
                    self.step(Event::Command(command));
                }
                if reply.accepted && !wish.dry_run {
                    operate::journal((wish.reason.as_deref(), wish.by.as_deref()), &reply.message);
                }
                let _ = answer.send(reply);
            }
            Request::Explain(answer) => {
                let _ = answer.send(explain::all(self));
            }
            Request::Planned(read) => self.planned = read,
            Request::Pauses(read) => {
                for command in operate::changes(&mut self.pauses, read) {
                    self.step(Event::Command(command));
                }
            }
            Request::SettingsChanged(answer) => {
                let primary = self.parts.core.primary(clock::now()).is_some();
                if primary {
                    self.nudge(Nudge::Settings);
                }
                let _ = answer.send(primary);
            }
            Request::Intervals { intervals, version } => {
                self.settings_version = version;
                let shown = i64::try_from(version).unwrap_or(i64::MAX);
                self.parts.metrics.settings_version.set(shown);
                if self.parts.core.detector().intervals != intervals {
                    tracing::info!(MESSAGE_ID = message_id::SETTINGS_CHANGED, heartbeat = ?intervals.heartbeat, unhealthy = ?intervals.unhealthy, "intervals changed");
                    self.parts.heartbeats.set_interval(intervals.heartbeat);
                    self.step(Event::Intervals(intervals));
                }
            }
        }
    }

    /// What heartbeats, pages and systemd say after each step.
    fn publish(&mut self) {
        let now = clock::now();
        let core = &self.parts.core;
        let term = core
            .primary(now)
            .map_or(wa_core::id::Term(0), |(term, _)| term);
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
        self.publish_heartbeats();
        m.lease_margin.set(
            core.lease_margin(now)
                .map_or(0.0, |left| left.as_secs_f64()),
        );
        match core.map() {
            None => self
                .parts
                .readiness
                .not_ready("the shard map was not read yet"),
            Some(_) if term.0 != 0 => self
                .parts
                .readiness
                .ready(&format!("primary master, term {term}")),
            Some(_) => self.parts.readiness.ready("secondary master"),
        }
        notify::watchdog();
    }

    fn publish_heartbeats(&self) {
        let (m, heartbeats) = (&self.parts.metrics, &self.parts.heartbeats);
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let (drops, standing) = (heartbeats.drops(), heartbeats.standing());
        m.datagrams_dropped.set(count(drops.sum()));
        m.datagrams_kept_away
            .set(count(drops.kernel.load(Ordering::Relaxed)));
        m.datagrams_refused
            .set(count(drops.refused.load(Ordering::Relaxed)));
        m.heartbeat_realtime
            .set(i64::from(standing.realtime.load(Ordering::Relaxed)));
        m.heartbeat_locked
            .set(count(standing.locked_bytes.load(Ordering::Relaxed)));
    }

    fn spawn_migrate(&self) {
        let (db, metrics) = (self.parts.db.clone(), Arc::clone(&self.parts.metrics));
        let own = super::cluster_of(&self.parts.settings);
        // Known to be primary in this very step; the page of figures says so after it.
        metrics.primary.set(1);
        tokio::spawn(async move {
            let primary = || metrics.primary.get() == 1;
            if let Err(error) = db.migrate_while(primary).await {
                tracing::error!(error = %error.brief(), "the schema could not be brought up to date; the next primary tries again");
            } else if primary()
                && let Err(error) = db.claim_for(&own).await
            {
                tracing::error!(error = %error.brief(), "whose database this is could not be written down");
            }
        });
    }

    /// Keeps the own row and the directory fresh.
    fn spawn_register(&self) {
        let metrics = Arc::clone(&self.parts.metrics);
        let (db, directory) = (self.parts.db.clone(), Arc::clone(&self.directory));
        let (heartbeats, s) = (
            Arc::clone(&self.parts.heartbeats),
            Arc::clone(&self.parts.settings),
        );
        let (incarnation, shutdown, events) = (
            self.parts.incarnation,
            self.parts.shutdown.clone(),
            self.events_sender.clone(),
        );
        let cluster = identity::Identity::of(&s);
        tokio::spawn(async move {
            let mut beat_at = clock::now();
            let mut told_keys = 0;
            let mut known = 0;
            while !shutdown.is_cancelled() {
                if clock::now() >= beat_at
                    && let Err(error @ DbError::OtherCluster(_)) = db.same_cluster(&cluster).await
                {
                    // Another cluster was quicker on an empty database.
                    tracing::error!(error = %error.brief(), "ending");
                    shutdown.cancel();
                    return;
                }
                let replaced = s.cluster_key.replaced();
                let due = clock::now() >= beat_at || told_keys != replaced;
                if due && db.register(&registration(&s, incarnation)).await.is_ok() {
                    beat_at = clock::now() + s.timers.db_beat_interval;
                    told_keys = replaced;
                    // The row says by which key the database's cluster is known.
                    if replaced > 0 && metrics.primary.get() == 1 {
                        let _ = db.claim_for(&super::cluster_of(&s)).await;
                    }
                }
                if let Ok(nodes) = db.nodes().await {
                    let count = nodes.len();
                    directory.store(nodes);
                    directory.point(&heartbeats, &s.node);
                    if count != known {
                        known = count;
                        let _ = events.send(Event::Nudged).await;
                    }
                }
                if let Ok(mounts) = db.mounts(REPORT_AGE_MAX_MS).await {
                    directory.store_mounts(mounts);
                }
                if let Ok(fences) = db.fences(REPORT_AGE_MAX_MS).await {
                    directory.store_fences(fences);
                }
                clock::sleep(READ_EVERY.min(s.timers.lease_ttl / 4)).await;
            }
        });
    }

    /// Pulls the application settings; a nudge only makes others pull sooner.
    fn spawn_settings(&self, requests: mpsc::Sender<Request>) {
        let metrics = Arc::clone(&self.parts.metrics);
        let (db, s, shutdown) = (
            self.parts.db.clone(),
            Arc::clone(&self.parts.settings),
            self.parts.shutdown.clone(),
        );
        tokio::spawn(async move {
            while !shutdown.is_cancelled() {
                if let Ok((version, value)) = db.setting(crate::db::setting::APPLICATION).await {
                    let intervals = status::intervals(&value, &s.timers);
                    if requests
                        .send(Request::Intervals { intervals, version })
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
                if let Ok(pauses) = operate::read(&db).await
                    && requests.send(Request::Pauses(pauses)).await.is_err()
                {
                    return;
                }
                // Known from the step before; the row goes to one master only, whoever asks.
                if metrics.primary.get() == 1 {
                    carry_out_due(&db, &requests).await;
                }
                if let Ok((_, planned)) = planned::read(&db).await
                    && requests.send(Request::Planned(planned)).await.is_err()
                {
                    return;
                }
                clock::sleep(READ_EVERY).await;
            }
        });
    }
}

/// Switchovers whose time has come.
async fn carry_out_due(db: &Db, requests: &mpsc::Sender<Request>) {
    let Ok((due, missed)) = planned::take_due(db, clock::wall_ms()).await else {
        return;
    };
    for p in missed {
        let said = "nobody was primary master at that time; it is dropped";
        let asked = (p.reason.as_deref(), p.by.as_deref());
        let _ = operate::record(db, "switchover-missed", (Some(p.shard), ""), asked, said).await;
        operate::journal(asked, said);
    }
    for p in due {
        let wish = SwitchoverRequest {
            shard: p.shard,
            to: p.to,
            reason: p.reason,
            by: p.by,
            ..SwitchoverRequest::default()
        };
        let (sender, answer) = oneshot::channel();
        let asked = requests
            .send(Request::Switchover(wish.clone(), sender))
            .await;
        if asked.is_err() {
            return;
        }
        let Ok(Ok(answer)) = tokio::time::timeout(READ_EVERY * 4, answer).await else {
            continue;
        };
        let what = if answer.accepted {
            "switchover"
        } else {
            "refused"
        };
        let words = (wish.reason.as_deref(), wish.by.as_deref());
        let subject = answer.to.as_deref().unwrap_or_default();
        let record = operate::record(
            db,
            what,
            (Some(wish.shard), subject),
            words,
            &answer.message,
        );
        if let Err(error) = record.await {
            tracing::debug!(error = %error.brief(), "the switchover was not recorded");
        }
    }
}

/// The own row of the node table.
fn registration(s: &Settings, incarnation: Incarnation) -> Registration {
    Registration {
        node: s.node.clone(),
        role: s.role,
        incarnation,
        machine: s.machine.clone(),
        zone: s.zone.clone(),
        address: s.advertise.to_string(),
        port_heartbeat: s.ports.heartbeat,
        port_control: s.ports.control,
        port_api: s.ports.api,
        version: env!("CARGO_PKG_VERSION").into(),
        weight: s.weight,
        keys: Keys::of(&s.cluster_key).ids(),
    }
}

/// The journal's name of a decision, where it has one.
fn message_of(what: &str, reason: wa_core::reason::Reason) -> Option<&'static str> {
    use wa_core::reason::Reason;
    Some(match what {
        "primary" => message_id::LEASE_WON,
        "secondary" if matches!(reason, Reason::LeaseExpired | Reason::LeaseLost) => {
            message_id::LEASE_LOST
        }
        "secondary" => message_id::LEASE_RELEASED,
        "handover" => message_id::FAILOVER_DECIDED,
        _ if matches!(
            reason,
            Reason::AntiFlap | Reason::NoStandby | Reason::NoGatedStandby
        ) =>
        {
            message_id::FAILOVER_BLOCKED
        }
        _ => return None,
    })
}

fn event_of(from: wa_core::id::NodeId, incarnation: Incarnation, body: Body) -> Option<Event> {
    Some(match body {
        Body::Opinions {
            term,
            lateness_ms,
            heard,
            opinions,
            ..
        } => Event::Opinions {
            from,
            said: Said {
                term,
                lateness_ms,
                heard,
                opinions,
            },
        },
        Body::Receipt(receipt) => Event::Receipt(receipt),
        Body::Ended {
            shard,
            epoch,
            grant,
        } => Event::Ended {
            from,
            incarnation,
            shard,
            epoch,
            grant,
        },
        Body::Quiesced {
            shard,
            epoch,
            grant,
        } => Event::Quiesced {
            from,
            shard,
            epoch,
            grant,
        },
        Body::Ask {
            shard,
            epoch,
            grant,
        } => Event::Ask {
            from,
            shard,
            epoch,
            grant,
        },
        Body::Nudge(Nudge::ShardMap) => Event::Nudged,
        _ => return None,
    })
}
