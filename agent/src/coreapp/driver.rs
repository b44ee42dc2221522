//! The loop around `wa_core::tenure`: hears events, steps, starts the actions. Awaits no action inside the loop.
//! Outcomes come back through one bounded channel; the gate is shut here, before anything else of a tenure's end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wa_core::id::{Epoch, Nonce, Ownership, Role};
use wa_core::master::Outcome;
use wa_core::plausible;
use wa_core::reason::Reason;
use wa_core::shard_map::{MasterRow, ShardRow};
use wa_core::tenure::{Action, Config, Event, Renewal, Tenure};
use wa_core::time::Instant;
use wa_core::wire::{Body, Health, Nudge, Report};

use super::foreman;
use super::node::Node;
use super::word::Judge;
use crate::db::lease::LeaseConnection;
use crate::log::message_id;
use crate::member::heartbeat;
use crate::net::udp::{Heard, Heartbeats, Inbox, SharedReport};
use crate::sys::high_water::HighWater;
use crate::sys::{clock, notify, state};

/// Events that wait for the loop.
const EVENTS_LEN_MAX: usize = 256;
/// Lease statements that wait for their connection.
const JOBS_LEN_MAX: usize = 4;
/// An idle lease connection is used this often.
const WARM_EVERY: Duration = Duration::from_secs(30);
/// The loop turns at least this often, so that its progress shows.
const TURN_EVERY: Duration = Duration::from_millis(50);

/// An epoch file that cannot be true is read again this often.
const REMEMBER_EVERY: Duration = Duration::from_secs(1);

/// What the loop is told.
enum Input {
    Event(Event),
    /// When the shard map was asked for, and the map; `None` when it could not be read.
    Map(Option<(Instant, MasterRow, Vec<ShardRow>)>),
    /// Held, and nothing of this ownership is in flight.
    Quiet(Ownership),
}

/// A statement on the lease connection.
enum Job {
    Renew {
        own: Ownership,
        nonce: Nonce,
        ttl: Duration,
    },
    Release(Ownership),
}

/// The driver of one coreapp's tenure.
pub struct Driver {
    node: Arc<Node>,
    tenure: Tenure,
    heartbeats: Heartbeats,
    report: Arc<SharedReport>,
    high_water: Arc<HighWater>,
    /// What was said of the disk last.
    disk_takes: bool,
    events: mpsc::Sender<Input>,
    inputs: Option<mpsc::Receiver<Input>>,
    jobs: mpsc::Sender<Job>,
    map: Option<(MasterRow, Vec<ShardRow>)>,
    map_at: Option<Instant>,
    reads: mpsc::Sender<()>,
    /// When the epoch file is read again, where what it says cannot be true.
    remember_at: Instant,
    status: String,
    database_lost: bool,
    judge: Judge,
    exit: bool,
}

impl Driver {
    /// A standby with its lease connection; nothing is read before [`Self::run`].
    pub fn new(
        node: Arc<Node>,
        heartbeats: Heartbeats,
        report: Arc<SharedReport>,
        high_water: HighWater,
        obeyed: Epoch,
    ) -> Self {
        let settings = &node.settings;
        let ttl = settings.timers.lease_ttl;
        let config = Config {
            node: settings.node.clone(),
            incarnation: node.incarnation,
            ttl,
            drift: settings.timers.tolerance.drift,
            margin: settings.timers.tolerance.margin,
            quiesce_max: ttl * 2,
            stop_max: ttl * 2 + Duration::from_secs(1),
            seed: state::random_u64(),
        };
        let connection = || {
            LeaseConnection::new(
                settings.database.clone(),
                ttl / 4,
                settings.node.clone(),
                node.incarnation,
            )
            .telling(Arc::clone(&node.troubles.writes))
        };
        let (events, inputs) = mpsc::channel(EVENTS_LEN_MAX);
        let (jobs, waiting) = mpsc::channel(JOBS_LEN_MAX);
        let (reads, asked) = mpsc::channel(1);
        tokio::spawn(lease(
            Arc::clone(&node),
            connection(),
            waiting,
            events.clone(),
        ));
        tokio::spawn(read_map(connection(), asked, events.clone()));
        // Written once now: a disk that is full or read-only must show before a shard is given to this node.
        let stored = high_water.store(obeyed.0).is_ok();
        let _ = events.try_send(Input::Event(Event::DiskTried { stored }));
        Self {
            tenure: Tenure::new(clock::now(), config, obeyed),
            node,
            heartbeats,
            report,
            high_water: Arc::new(high_water),
            disk_takes: true,
            events,
            inputs: Some(inputs),
            jobs,
            map: None,
            map_at: None,
            reads,
            remember_at: Instant::ZERO,
            status: String::new(),
            database_lost: false,
            judge: Judge::default(),
            exit: false,
        }
    }

    /// Runs until the stop has come and nothing is held any more.
    pub async fn run(mut self, mut heard: Inbox, shutdown: CancellationToken) {
        let Some(mut inputs) = self.inputs.take() else {
            return;
        };
        let mut stopping = false;
        let mut seals = self.node.gate.seals();
        seals.mark_changed();
        while !self.exit {
            let wake = self.tenure.deadline().min(clock::now() + TURN_EVERY);
            let event = tokio::select! {
                biased;
                Some(input) = inputs.recv() => self.take_in(input),
                // Sealed by the host agent: over, whatever the row says.
                Ok(()) = seals.changed() => Some(Event::Sealed { epoch: *seals.borrow_and_update() }),
                Some(heard) = heard.recv() => self.hear(heard),
                () = shutdown.cancelled(), if !stopping => {
                    stopping = true;
                    tracing::info!("stopping: asking the masters to move the shard");
                    Some(Event::Stop)
                }
                () = clock::sleep_until(wake) => Some(Event::Tick),
            };
            if let Some(event) = event {
                self.step(event);
            }
            self.publish();
        }
    }

    fn step(&mut self, event: Event) {
        let mut actions = Vec::new();
        let now = clock::now();
        if let Event::Renewed {
            outcome: Renewal::Held,
            ..
        } = &event
            && let Some(left) = self.tenure.margin(now)
        {
            self.node.metrics.renewal_margin.observe(left);
        }
        self.tenure.step(now, event, &mut actions);
        for action in actions {
            self.carry_out(action);
        }
    }

    fn take_in(&mut self, input: Input) -> Option<Event> {
        match input {
            Input::Event(event) => Some(event),
            Input::Map(map) => {
                let Some((begun, master, rows)) = map else {
                    return Some(Event::ReadFailed);
                };
                self.map_at = Some(clock::now());
                let credible = plausible::credible(&master, &rows);
                self.map = Some((master, rows));
                Some(Event::Rows {
                    begun,
                    rows: credible,
                })
            }
            Input::Quiet(own) => {
                if self.node.work().is_some_and(|w| w.own == own && w.quiet()) {
                    self.say(Body::Quiesced {
                        shard: own.shard,
                        epoch: own.epoch,
                        grant: own.grant,
                    });
                }
                None
            }
        }
    }

    fn hear(&mut self, heard: Heard) -> Option<Event> {
        let Heard::Body {
            role: Role::Master,
            body,
            ..
        } = heard
        else {
            return None;
        };
        match body {
            Body::Nudge(Nudge::ShardMap) => Some(Event::Nudged),
            Body::Nudge(Nudge::Settings) => {
                self.node.settings_changed.notify_one();
                None
            }
            Body::Quiesce {
                shard,
                epoch,
                grant,
                on,
            } => {
                let own = self.tenure.ownership()?.clone();
                if (own.shard, own.epoch, own.grant) != (shard, epoch, grant) {
                    return None;
                }
                if on && self.node.work().is_some_and(|w| w.own == own && w.quiet()) {
                    self.say(Body::Quiesced {
                        shard,
                        epoch,
                        grant,
                    });
                }
                Some(Event::Quiesce { epoch, on })
            }
            // Not for coreapps.
            Body::Ping { .. }
            | Body::Answer { .. }
            | Body::Opinions { .. }
            | Body::Fence { .. }
            | Body::Receipt(_)
            | Body::Ended { .. }
            | Body::Quiesced { .. }
            | Body::Ask { .. } => None,
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Read => self.read(),
            Action::StoreHighWater(epoch) => {
                self.store_high_water(epoch, move |stored| Event::HighWater { epoch, stored });
            }
            Action::TryDisk(epoch) => {
                self.store_high_water(epoch, |stored| Event::DiskTried { stored });
            }
            Action::Renew {
                ownership,
                nonce,
                ttl,
            } => {
                if self
                    .jobs
                    .try_send(Job::Renew {
                        own: ownership,
                        nonce,
                        ttl,
                    })
                    .is_err()
                {
                    self.tell(Event::Renewed {
                        nonce,
                        outcome: Renewal::Unknown,
                    });
                }
            }
            Action::Open {
                ownership,
                deadline,
            } => self.open(ownership, deadline),
            Action::Extend { epoch, deadline } => self.node.gate.extend(epoch, deadline),
            Action::Close { ownership, reason } => self.close(ownership, reason),
            Action::Hold { epoch, on } => self.hold(epoch, on),
            Action::SayEnded(own) => {
                self.say(Body::Ended {
                    shard: own.shard,
                    epoch: own.epoch,
                    grant: own.grant,
                });
            }
            Action::Ask(own) => {
                self.say(Body::Ask {
                    shard: own.shard,
                    epoch: own.epoch,
                    grant: own.grant,
                });
            }
            Action::Release(own) => {
                if self.jobs.try_send(Job::Release(own)).is_err() {
                    self.tell(Event::ReleaseDone);
                }
            }
            Action::Exit => self.exit = true,
        }
    }

    /// To every master: the primary acts on it, the others take note.
    fn say(&self, body: Body) {
        for master in self.node.masters.addresses().iter() {
            self.heartbeats.send(*master, body.clone());
        }
    }

    /// An event that is the outcome of an action which could not even start.
    fn tell(&self, event: Event) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let _ = events.send(Input::Event(event)).await;
        });
    }

    /// One read waits at most: it will see whatever is there when its turn comes.
    fn read(&self) {
        let _ = self.reads.try_send(());
    }

    fn store_high_water(&self, epoch: Epoch, said: impl FnOnce(bool) -> Event + Send + 'static) {
        let (file, events) = (Arc::clone(&self.high_water), self.events.clone());
        tokio::spawn(async move {
            let stored = tokio::task::spawn_blocking(move || file.store(epoch.0)).await;
            let stored = matches!(stored, Ok(Ok(())));
            let _ = events.send(Input::Event(said(stored))).await;
        });
    }

    /// Tells once that the disk refuses, and once that it takes writes again.
    fn tell_disk(&mut self, takes: bool) {
        if std::mem::replace(&mut self.disk_takes, takes) == takes {
            return;
        }
        let directory = self.node.settings.instance_directory();
        let directory = directory.display();
        if takes {
            tracing::info!(%directory, "the state directory takes writes again: this node can take a shard");
        } else {
            tracing::error!(%directory, "the state directory takes no writes: this node takes no shard. It tries again every second. Make room there or make it writable (df -h {directory})");
        }
    }

    fn open(&mut self, own: Ownership, deadline: Instant) {
        let Some((master, rows)) = &self.map else {
            return;
        };
        let Some(generation) = rows
            .iter()
            .find(|r| r.shard == own.shard)
            .map(|r| r.generation)
        else {
            return;
        };
        tracing::info!(MESSAGE_ID = message_id::COREAPP_PROMOTED, shard = %own.shard, epoch = %own.epoch, "tenure begins");
        if let Some(epoch) = self.node.gate.open(own.epoch, deadline) {
            tracing::warn!(shard = %own.shard, epoch = %own.epoch, seal = %epoch, "the gate has sealed this epoch: asking for a new grant");
            return self.tell(Event::Sealed { epoch });
        }
        let work = foreman::begin(&self.node, own, master.shard_count, generation);
        self.node.set_work(Some(work));
    }

    /// The gate first; then everything that could still write is dropped and joined.
    fn close(&mut self, own: Ownership, reason: Reason) {
        self.node.gate.shut(own.epoch);
        tracing::info!(MESSAGE_ID = message_id::COREAPP_DEMOTED, shard = %own.shard, epoch = %own.epoch, reason = reason.name(), "tenure ends");
        let work = self.node.set_work(None);
        let events = self.events.clone();
        if let Some(work) = &work {
            work.stop.cancel();
            work.upstream.abort();
        }
        tokio::spawn(async move {
            if let Some(work) = work {
                work.end().await;
            }
            let _ = events
                .send(Input::Event(Event::WorkStopped { epoch: own.epoch }))
                .await;
        });
    }

    fn hold(&self, epoch: Epoch, on: bool) {
        let Some(work) = self.node.work().filter(|w| w.own.epoch == epoch) else {
            return;
        };
        work.set_hold(on);
        if !on {
            return;
        }
        let events = self.events.clone();
        let (began, in_hand) = (clock::now(), work.outbox.len());
        tokio::spawn(async move {
            while work.held() && !work.stop.is_cancelled() {
                if work.quiet() {
                    let took_ms = clock::now().since(began).as_millis();
                    tracing::info!(shard = %work.own.shard, in_hand, took_ms, "held: nothing is under way any more");
                    let _ = events.send(Input::Quiet(work.own.clone())).await;
                    return;
                }
                clock::sleep(Duration::from_millis(1)).await;
            }
        });
    }

    /// What the epoch file says cannot be true: somebody has to mend it, and it is read until then.
    fn remember_again(&mut self, now: Instant) {
        if !self.tenure.implausible() || now < self.remember_at {
            return;
        }
        if self.remember_at == Instant::ZERO {
            let highest = self
                .map
                .as_ref()
                .map_or(0, |(m, rows)| plausible::shown(m, rows).0);
            tracing::error!(
                epoch = self.tenure.obeyed().0,
                highest,
                "the file \"epoch\" in the state directory names an epoch that \
                this cluster never gave out: no shard is given to this node. Write {highest} into the file; it is read again each second"
            );
        }
        self.remember_at = now + REMEMBER_EVERY;
        let (file, events) = (Arc::clone(&self.high_water), self.events.clone());
        tokio::task::spawn_blocking(move || {
            if let Ok(epoch) = file.read_again() {
                let epoch = Epoch(epoch);
                // A full queue: the next second brings another try.
                let _ = events.try_send(Input::Event(Event::Remembered { epoch }));
            }
        });
    }

    /// Report for heartbeats, readiness, metrics, watchdog.
    fn publish(&mut self) {
        let now = clock::now();
        self.remember_again(now);
        let epoch = self.heartbeats.told();
        if epoch > self.tenure.known() {
            self.step(Event::Told { epoch });
        }
        let ttl = self.node.settings.timers.lease_ttl;
        let database_ok = self.map_at.is_some_and(|at| now.since(at) < ttl);
        let disk_takes = self.tenure.disk_takes(now);
        self.tell_disk(disk_takes);
        let own = self.tenure.ownership();
        let quiet = self.node.work().is_some_and(|w| w.quiet());
        // Who owns a shard keeps it: what it cannot read yet waits, and everything else is sent.
        let newer = own.is_none() && self.node.store_newer.load(Ordering::Acquire);
        let health = Health(0)
            .with(Health::DATABASE_OK, database_ok && !newer)
            .with(Health::STORE_NEWER, newer)
            .with(Health::UPSTREAM_OK, self.node.upstream_ok())
            .with(Health::MEDIA_OK, self.node.media.ok())
            .with(Health::HIGH_WATER_OK, disk_takes)
            .with(Health::GATE_ATTESTED, self.node.gate.attested(now))
            .with(Health::STOPPING, self.tenure.stopping())
            .with(Health::QUIESCED, quiet);
        let in_flight = self.node.metrics.in_flight.get();
        self.report.store(Report {
            shard: own.map(|o| o.shard),
            epoch: own.map_or(Epoch(0), |o| o.epoch),
            grant: own.map_or_else(Default::default, |o| o.grant),
            epoch_high: self.tenure.known(),
            health,
            progress_age_ms: 0,
            lateness_ms: 0,
            in_flight: u32::try_from(in_flight).unwrap_or(0),
        });
        let margin = self.tenure.margin(now).unwrap_or_default();
        self.node.metrics.tenure_margin.set(margin.as_secs_f64());
        self.node.metrics.tenure.set(ttl.as_secs_f64());
        heartbeat::show(&self.heartbeats, &self.node.metrics.heartbeat());
        self.judge.look(&self.node, self.map_at, now);
        self.tell_readiness(now, database_ok);
        notify::watchdog();
    }

    fn tell_readiness(&mut self, now: Instant, database_ok: bool) {
        if self.node.db().is_none() {
            // The membership task says what it waits for.
            return;
        }
        let first = self.status.is_empty();
        if first && !database_ok {
            // Connected, and not asked yet: nothing was lost.
            return;
        }
        let status = if !database_ok {
            "the database does not answer; retrying".to_owned()
        } else if let Some(own) = self.tenure.live(now) {
            let held = if self.tenure.quiesced() {
                ", held for a handover"
            } else {
                ""
            };
            format!(
                "primary of shard {} in epoch {}{held}",
                own.shard, own.epoch
            )
        } else {
            format!("secondary, highest epoch {}", self.tenure.obeyed())
        };
        let status = format!("{status}; {}", self.node.gate.kind(now));
        let status = match self.disk_takes {
            true => status,
            false => format!("{status}; the state directory takes no writes, so it takes no shard"),
        };
        let status = match self.node.media.remark() {
            Some(remark) => format!("{status}; {remark}"),
            None => status,
        };
        let status = match database_ok {
            true => self.judge.before(status),
            false => status,
        };
        if status == self.status {
            return;
        }
        if database_ok {
            if self.database_lost {
                tracing::info!(
                    MESSAGE_ID = message_id::DATABASE_BACK,
                    "the database answers again"
                );
            }
            self.node.readiness.ready(&status);
        } else {
            tracing::warn!(
                MESSAGE_ID = message_id::DATABASE_LOST,
                "the database does not answer; retrying"
            );
            self.node.readiness.not_ready(&status);
        }
        self.database_lost = !database_ok;
        self.status = status;
        if first {
            notify::ready();
        }
    }
}

/// Carries out statements on the lease connection, one after the other. It is opened in advance, and anew when it was lost, and
/// used now and then: a standby must not find it closed at the moment of its first renewal.
async fn lease(
    node: Arc<Node>,
    mut connection: LeaseConnection,
    mut jobs: mpsc::Receiver<Job>,
    events: mpsc::Sender<Input>,
) {
    // A failure shows again at the first renewal.
    let _ = connection.snapshot().await;
    let mut opened = connection.opened();
    let mut told = None;
    loop {
        let dropped = !connection.is_open();
        let event = tokio::select! {
            biased;
            job = jobs.recv() => match job {
                Some(job) => Some(lease_job(&node, &mut connection, job, &mut told).await),
                None => return,
            },
            () = connection.reopen(), if dropped => None,
            () = clock::sleep(WARM_EVERY) => {
                let _ = connection.snapshot().await;
                None
            }
        };
        let before = std::mem::replace(&mut opened, connection.opened());
        let changed = (before != opened && before != 0).then_some(Event::ServerChanged);
        for event in changed.into_iter().chain(event) {
            if events.send(Input::Event(event)).await.is_err() {
                return;
            }
        }
    }
}

/// `told` is the last outcome of giving a shard back that the journal has.
async fn lease_job(
    node: &Node,
    connection: &mut LeaseConnection,
    job: Job,
    told: &mut Option<(Epoch, Outcome)>,
) -> Event {
    match job {
        Job::Renew { own, nonce, ttl } => {
            let renewal = node.in_turn_at_once(connection.renew_shard(&own, nonce, ttl));
            let outcome = match renewal.await {
                Outcome::Held => Renewal::Held,
                Outcome::Lost => Renewal::Lost,
                Outcome::Unknown => Renewal::Unknown,
            };
            if outcome != Renewal::Held {
                tracing::warn!(shard = %own.shard, epoch = %own.epoch, ?outcome, "a renewal was not confirmed");
            }
            Event::Renewed { nonce, outcome }
        }
        Job::Release(own) => {
            let outcome = node.in_turn_at_once(connection.release_shard(&own)).await;
            if told.replace((own.epoch, outcome)) != Some((own.epoch, outcome)) {
                match outcome {
                    Outcome::Held => {
                        tracing::info!(shard = %own.shard, epoch = %own.epoch, "shard given back");
                    }
                    Outcome::Lost => {
                        tracing::info!(shard = %own.shard, epoch = %own.epoch, "the shard was not this node's any more when it was to be given back");
                    }
                    Outcome::Unknown => {
                        tracing::warn!(shard = %own.shard, epoch = %own.epoch, "the database did not confirm that the shard was given back; trying again until it is not this node's any more");
                    }
                }
            }
            Event::ReleaseDone
        }
    }
}

/// Reads the shard map when asked, on a connection of its own: a slow read delays no renewal, and no load of messages
/// delays either.
async fn read_map(
    mut connection: LeaseConnection,
    mut asked: mpsc::Receiver<()>,
    events: mpsc::Sender<Input>,
) {
    let mut before = None;
    while asked.recv().await.is_some() {
        let begun = clock::now();
        let map = match connection.snapshot().await {
            Ok(snapshot) => {
                // A table that was made anew knows as little of what came before as another server.
                let from = (snapshot.identity, snapshot.made);
                if before.replace(from).is_some_and(|before| before != from)
                    && events
                        .send(Input::Event(Event::ServerChanged))
                        .await
                        .is_err()
                {
                    return;
                }
                Some((begun, snapshot.master, snapshot.shards))
            }
            Err(error) => {
                tracing::debug!(error = %error.brief(), "reading the shard map failed; retrying");
                None
            }
        };
        if events.send(Input::Map(map)).await.is_err() {
            return;
        }
    }
}
