//! The main loop: receive or reach the deadline, step the tenure, start the actions. Never awaits an action.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use wa_core::id::{Incarnation, Role};
use wa_core::tenure::{Action, Event, Renewal, Tenure};
use wa_core::time::Instant;
use wa_core::wire::{Body, Health, Nudge, Report};

use super::webhook::Application;
use super::work::{Queue, Work};
use super::{Shared, sender};
use crate::db::lease::LeaseConnection;
use crate::db::message::Claimed;
use crate::db::node::Registration;
use crate::net::health::Readiness;
use crate::net::udp::{Heard, Heartbeats, SharedReport};
use crate::sys::state::NumberFile;
use crate::sys::{clock, notify};

const QUEUE_LEN: usize = 256;
/// How often masters' addresses and the settings are read.
const READ_EVERY: Duration = Duration::from_millis(500);

/// What the driver is made of.
pub struct Parts {
    pub shared: Arc<Shared>,
    pub core: Tenure,
    pub incarnation: Incarnation,
    pub high_water: NumberFile,
    pub heartbeats: Heartbeats,
    pub report: Arc<SharedReport>,
    pub readiness: Readiness,
    pub shutdown: CancellationToken,
    pub from_intake: mpsc::Receiver<Claimed>,
}

/// What the loop is told beside heartbeats.
enum Told {
    Event(Event),
    /// The map was read: how many shards, and the rows.
    Map(u16, Vec<wa_core::shard_map::ShardRow>),
    Quiesced(wa_core::id::Ownership),
}

pub struct Driver {
    shared: Arc<Shared>,
    core: Tenure,
    incarnation: Incarnation,
    high_water: NumberFile,
    heartbeats: Heartbeats,
    report: Arc<SharedReport>,
    readiness: Readiness,
    shutdown: CancellationToken,
    queue: Queue,
    work: Option<Work>,
    masters: Arc<ArcSwap<Vec<SocketAddr>>>,
    told: mpsc::Receiver<Told>,
    tell: mpsc::Sender<Told>,
    lease_jobs: mpsc::Sender<Action>,
    map_jobs: mpsc::Sender<Action>,
    reread_settings: Arc<tokio::sync::Notify>,
    read_ok_at: Instant,
    high_water_ok: bool,
    exit: bool,
}

impl Driver {
    /// Starts the store workers.
    pub fn new(parts: Parts) -> Self {
        let (tell, told) = mpsc::channel(QUEUE_LEN);
        let settings = &parts.shared.settings;
        let deadline = settings.timers.lease_ttl / 4;
        let worker = || {
            let (sender, jobs) = mpsc::channel(QUEUE_LEN);
            let connection = LeaseConnection::new(
                settings.database.clone(),
                deadline,
                settings.node.clone(),
                parts.incarnation,
            );
            tokio::spawn(work_store(connection, jobs, tell.clone()));
            sender
        };
        let (lease_jobs, map_jobs) = (worker(), worker());
        let high_water_ok = parts.high_water.store(parts.core.obeyed().0).is_ok();
        Self {
            queue: Arc::new(Mutex::new(parts.from_intake)),
            shared: parts.shared,
            core: parts.core,
            incarnation: parts.incarnation,
            high_water: parts.high_water,
            heartbeats: parts.heartbeats,
            report: parts.report,
            readiness: parts.readiness,
            shutdown: parts.shutdown,
            work: None,
            masters: Arc::default(),
            told,
            tell,
            lease_jobs,
            map_jobs,
            reread_settings: Arc::default(),
            read_ok_at: Instant::ZERO,
            high_water_ok,
            exit: false,
        }
    }

    /// Runs until the tenure says `Exit`.
    pub async fn run(mut self, mut heard: mpsc::Receiver<Heard>) {
        self.spawn_register();
        self.spawn_settings();
        self.spawn_probe();
        notify::ready();
        let mut stop_sent = false;
        while !self.exit {
            // Never idle for longer than this: the report shows progress.
            let deadline = self
                .core
                .deadline()
                .min(clock::now() + Duration::from_millis(100));
            tokio::select! {
                biased;
                () = self.shutdown.cancelled(), if !stop_sent => {
                    stop_sent = true;
                    self.step(Event::Stop);
                }
                Some(told) = self.told.recv() => self.told(told),
                Some(heard) = heard.recv() => self.heard(heard),
                () = clock::sleep_until(deadline) => self.step(Event::Tick),
            }
            self.publish();
        }
    }

    fn step(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.core.step(clock::now(), event, &mut actions);
        for action in actions {
            self.act(action);
        }
    }

    fn told(&mut self, told: Told) {
        match told {
            Told::Event(event) => self.step(event),
            Told::Map(count, rows) => {
                self.read_ok_at = clock::now();
                self.shared
                    .shard_count
                    .store(usize::from(count), Ordering::Relaxed);
                self.step(Event::Rows(rows));
            }
            Told::Quiesced(own) => self.say(sender::quiesced(&own)),
        }
    }

    fn heard(&mut self, heard: Heard) {
        let Heard::Body { body, .. } = heard else {
            return;
        };
        match body {
            Body::Nudge(Nudge::ShardMap) => self.step(Event::Nudged),
            Body::Nudge(Nudge::Settings) => self.reread_settings.notify_one(),
            Body::Quiesce { epoch, on, .. } => self.step(Event::Quiesce { epoch, on }),
            _ => {}
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Read => self.queue(false, action),
            Action::Renew { .. } | Action::Release(_) => self.queue(true, action),
            Action::StoreHighWater(epoch) => {
                let (file, tell) = (self.high_water.clone(), self.tell.clone());
                tokio::spawn(async move {
                    let stored = tokio::task::spawn_blocking(move || file.store(epoch.0)).await;
                    let stored = matches!(stored, Ok(Ok(())));
                    if !stored {
                        tracing::error!(
                            EPOCH = epoch.0,
                            "the epoch cannot be written to the state directory: is the disk full or read-only?"
                        );
                    }
                    let _ = tell
                        .send(Told::Event(Event::HighWater { epoch, stored }))
                        .await;
                });
            }
            Action::Open {
                ownership,
                deadline,
            } => {
                tracing::info!(
                    SHARD = ownership.shard.0,
                    EPOCH = ownership.epoch.0,
                    "primary: the gate is open"
                );
                self.shared.hold.store(false, Ordering::Release);
                self.shared.upstream_answered();
                self.shared.gate.open(ownership.clone(), deadline);
                self.work = Some(Work::start(&self.shared, ownership, &self.queue));
            }
            Action::Extend { epoch, deadline } => self.shared.gate.extend(epoch, deadline),
            Action::Close { ownership, reason } => self.close(ownership, reason),
            Action::Hold { on, .. } => self.hold(on),
            Action::SayEnded(own) => self.say(Body::Ended {
                shard: own.shard,
                epoch: own.epoch,
                grant: own.grant,
            }),
            Action::Ask(own) => self.say(Body::Ask {
                shard: own.shard,
                epoch: own.epoch,
                grant: own.grant,
            }),
            Action::Exit => self.exit = true,
        }
    }

    fn queue(&self, lease: bool, action: Action) {
        let jobs = if lease {
            &self.lease_jobs
        } else {
            &self.map_jobs
        };
        if jobs.try_send(action).is_err() {
            tracing::error!("the store worker is stuck; the tenure will run out");
        }
    }

    fn close(&mut self, own: wa_core::id::Ownership, reason: wa_core::reason::Reason) {
        tracing::info!(
            SHARD = own.shard.0,
            EPOCH = own.epoch.0,
            REASON = reason.name(),
            "secondary: the gate is shut"
        );
        self.shared.gate.shut();
        let (work, tell) = (self.work.take(), self.tell.clone());
        tokio::spawn(async move {
            if let Some(work) = work {
                work.stop().await;
            }
            let _ = tell
                .send(Told::Event(Event::WorkStopped { epoch: own.epoch }))
                .await;
        });
    }

    /// Holds the intake; once nothing is under way, the masters hear of it.
    fn hold(&mut self, on: bool) {
        self.shared.hold.store(on, Ordering::Release);
        let Some(own) = self
            .work
            .as_ref()
            .map(|work| work.own.clone())
            .filter(|_| on)
        else {
            return;
        };
        let (shared, tell, until) = (
            Arc::clone(&self.shared),
            self.tell.clone(),
            clock::now() + self.shared.settings.timers.lease_ttl,
        );
        tokio::spawn(async move {
            while shared.hold.load(Ordering::Acquire) && clock::now() < until {
                let queued = shared.to_sender.max_capacity() - shared.to_sender.capacity();
                if queued == 0 && shared.busy.load(Ordering::Acquire) == 0 {
                    let _ = tell.send(Told::Quiesced(own)).await;
                    return;
                }
                clock::sleep(Duration::from_millis(1)).await;
            }
        });
    }

    /// To every master: whoever is primary needs it.
    fn say(&self, body: Body) {
        for master in self.masters.load().iter() {
            self.heartbeats.send(*master, body.clone());
        }
    }

    fn publish(&mut self) {
        let now = clock::now();
        let live = self.core.live(now).cloned();
        let upstream = now.since(Instant(self.shared.upstream_ok_at.load(Ordering::Relaxed)))
            < Duration::from_secs(30);
        let database = now.since(self.read_ok_at) < self.shared.settings.timers.lease_ttl;
        let health = Health(0)
            .with(Health::DATABASE_OK, database)
            .with(Health::UPSTREAM_OK, upstream || live.is_none())
            .with(Health::MEDIA_OK, true)
            .with(Health::HIGH_WATER_OK, self.high_water_ok)
            .with(Health::STOPPING, self.core.stopping())
            .with(Health::QUIESCED, self.core.quiesced());
        let of = |own: &wa_core::id::Ownership| (own.shard, own.epoch, own.grant);
        let (shard, epoch, grant) = live.as_ref().map(of).map_or(
            (None, Default::default(), Default::default()),
            |(s, e, g)| (Some(s), e, g),
        );
        let in_flight =
            u32::try_from(self.shared.in_flight.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let epoch_high = self.core.obeyed();
        self.report.store(Report {
            shard,
            epoch,
            grant,
            epoch_high,
            health,
            progress_age_ms: 0,
            lateness_ms: 0,
            in_flight,
        });
        let m = &self.shared.metrics;
        m.owner.set(i64::from(live.is_some()));
        m.tenure_margin
            .set(self.core.margin(now).map_or(0.0, |left| left.as_secs_f64()));
        m.in_flight.set(i64::from(in_flight));
        match (live, database) {
            (Some(own), _) => self.readiness.ready(&format!(
                "primary for shard {}, epoch {}",
                own.shard, own.epoch
            )),
            (None, true) => self.readiness.ready("secondary, ready to take over"),
            (None, false) => self
                .readiness
                .not_ready("the shard map cannot be read: is the database up?"),
        }
        notify::watchdog();
    }

    /// Registers, beats the database, and keeps the masters' addresses.
    fn spawn_register(&self) {
        let (shared, shutdown, masters) = (
            Arc::clone(&self.shared),
            self.shutdown.clone(),
            Arc::clone(&self.masters),
        );
        let own = registration(&shared, self.incarnation);
        tokio::spawn(async move {
            let mut beat_at = clock::now();
            loop {
                if !shutdown.is_cancelled() && clock::now() >= beat_at {
                    match shared.db.register(&own).await {
                        Ok(()) => beat_at = clock::now() + shared.settings.timers.db_beat_interval,
                        Err(error) => {
                            tracing::warn!(error = %error.brief(), "the database beat failed; retrying")
                        }
                    }
                }
                if let Ok(nodes) = shared.db.nodes().await {
                    let found = nodes
                        .iter()
                        .map(|n| &n.registration)
                        .filter(|r| r.role == Role::Master);
                    let addresses = found.filter_map(|r| {
                        Some(SocketAddr::new(r.address.parse().ok()?, r.port_heartbeat))
                    });
                    masters.store(Arc::new(addresses.collect()));
                }
                if let (Ok(outbox), Ok(webhooks)) = (
                    shared.db.outbox_depth().await,
                    shared.db.webhook_depth().await,
                ) {
                    shared
                        .metrics
                        .outbox_depth
                        .set(i64::try_from(outbox).unwrap_or(i64::MAX));
                    shared
                        .metrics
                        .webhook_depth
                        .set(i64::try_from(webhooks).unwrap_or(i64::MAX));
                }
                clock::sleep(READ_EVERY).await;
            }
        });
    }

    /// Pulls the application settings; a nudge makes it sooner.
    fn spawn_settings(&self) {
        let (shared, again) = (Arc::clone(&self.shared), Arc::clone(&self.reread_settings));
        tokio::spawn(async move {
            let mut seen = u64::MAX;
            loop {
                if let Ok((version, value)) =
                    shared.db.setting(crate::db::setting::APPLICATION).await
                    && version != seen
                {
                    seen = version;
                    shared
                        .application
                        .store(Arc::new(Application::parse(&value)));
                    shared.webhooks_ready.notify_one();
                }
                tokio::select! {
                    () = again.notified() => {}
                    () = clock::sleep(READ_EVERY) => {}
                }
            }
        });
    }

    /// While it is primary: is the upstream there although nothing is sent?
    fn spawn_probe(&self) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            loop {
                clock::sleep(Duration::from_secs(10)).await;
                if shared.gate.live().is_none() {
                    continue;
                }
                let u = &shared.settings.upstream;
                let client = crate::net::client::OutsideClient::new(u.connect_timeout, 1);
                let request = http::Request::get(format!(
                    "{}/{}/{}?fields=id",
                    u.base_url, u.version, u.phone_number_id
                ))
                .header(
                    "authorization",
                    format!("Bearer {}", secrecy::ExposeSecret::expose_secret(&u.token)),
                )
                .body(http_body_util::Full::new(bytes::Bytes::new()));
                if let Ok(request) = request
                    && client.call(request, u.request_timeout).await.is_ok()
                {
                    shared.upstream_answered();
                }
            }
        });
    }
}

/// Carries out reads, renewals and releases one after the other.
async fn work_store(
    mut c: LeaseConnection,
    mut jobs: mpsc::Receiver<Action>,
    tell: mpsc::Sender<Told>,
) {
    while let Some(action) = jobs.recv().await {
        let told = match action {
            Action::Read => match c.snapshot().await {
                Ok(snapshot) => Told::Map(snapshot.master.shard_count.max(1), snapshot.shards),
                Err(error) => {
                    tracing::warn!(error = %error.brief(), "reading the shard map failed; retrying");
                    Told::Event(Event::ReadFailed)
                }
            },
            Action::Renew {
                ownership,
                nonce,
                ttl,
            } => {
                let outcome = match c.renew_shard(&ownership, nonce, ttl).await {
                    wa_core::master::Outcome::Held => Renewal::Held,
                    wa_core::master::Outcome::Lost => Renewal::Lost,
                    wa_core::master::Outcome::Unknown => Renewal::Unknown,
                };
                Told::Event(Event::Renewed { nonce, outcome })
            }
            Action::Release(ownership) => {
                c.release_shard(&ownership).await;
                Told::Event(Event::ReleaseDone)
            }
            _ => continue,
        };
        if tell.send(told).await.is_err() {
            return;
        }
    }
}

fn registration(shared: &Shared, incarnation: Incarnation) -> Registration {
    let s = &shared.settings;
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
    }
}
