//! The host agent: one per machine, privileged. Owns the kernel gate, tells masters of a unit's death the moment the
//! kernel knows it, and makes sure on request that a start is over. Its own death changes nothing for the roles.

pub mod fallback;
mod fence;
mod gate;
mod lend;
mod look;
mod probe;
mod register;
mod store_lock;
mod units;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use wa_core::id::{Epoch, Grant, Incarnation, NodeId, Nonce, Role, ShardId};
use wa_core::wire::{Body, Health, Receipt, Report};

use crate::config::Settings;
use crate::db::Db;
use crate::log::message_id;
use crate::media::{self, Media};
use crate::metrics::HostMetrics;
use crate::net::health::Readiness;
use crate::net::keys::Keys;
use crate::net::udp::{self, Heartbeats, Inbox};
use crate::net::{NetError, health};
use crate::sys::cgroup::{self, Watcher};
use crate::sys::machine::Machine;
use crate::sys::systemd::{Changes, Systemd, UnitState};
use crate::sys::{clock, notify, state};
use units::{Death, Units};

/// The loop looks at everything at least this often, signals or not.
const TURN_EVERY: Duration = Duration::from_secs(1);
/// An obituary is one datagram: it is said again after this, in case it got lost.
const SAY_AGAIN: Duration = Duration::from_millis(100);
/// Between a change and the list that is made because of it, so that a burst is one reason.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Longest wait for the service manager.
const BUS_DEADLINE: Duration = Duration::from_secs(10);

/// Why a host agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("cannot use the state directory {directory}; make it writable for this user")]
    State {
        directory: std::path::PathBuf,
        source: std::io::Error,
    },
    #[error("this machine has no usable identity")]
    Machine(#[source] std::io::Error),
    #[error("control groups cannot be watched")]
    Cgroup(#[source] std::io::Error),
}

/// What the tasks of the agent share.
struct Host {
    settings: Arc<Settings>,
    machine: Machine,
    heartbeats: Heartbeats,
    units: Mutex<Units>,
    /// Somebody's group became empty, or units were listed again.
    looked: Notify,
    masters: register::Masters,
    /// The media directory of this machine; the agent only looks at it.
    media: Arc<Media>,
    /// The database, once it was reached.
    db: arc_swap::ArcSwapOption<Db>,
    metrics: HostMetrics,
    gate: Arc<gate::Owner>,
}

/// What a receipt says of the kernel: seals and groups.
#[derive(Debug, Clone, Copy)]
struct Verified {
    /// The seal that holds, where the gate does.
    seal: Option<Epoch>,
    cgroup_empty: bool,
}

impl Host {
    fn units(&self) -> std::sync::MutexGuard<'_, Units> {
        self.units
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The node that an instance on this machine is.
    fn node_of(&self, (role, number): &units::Instance) -> NodeId {
        let own = self.settings.node.as_str();
        let hostname = own.rsplit_once(':').map_or(own, |(hostname, _)| hostname);
        NodeId::new(&format!("{hostname}:{role}-{number}"))
    }

    fn receipt(
        &self,
        node: NodeId,
        run: &state::Run,
        (shard, epoch, grant): (ShardId, Epoch, Grant),
        nonce: Nonce,
        verified: Verified,
    ) -> Receipt {
        Receipt {
            machine_id: self.machine.id,
            boot_id: self.machine.boot,
            invocation: run.invocation,
            node,
            incarnation: run.incarnation,
            shard,
            epoch,
            grant,
            seal: verified.seal.unwrap_or_default(),
            nonce,
            sealed: verified.seal.is_some(),
            cgroup_empty: verified.cgroup_empty,
        }
    }

    /// Tells all masters of deaths, twice.
    fn tell(self: &Arc<Self>, deaths: Vec<Death>) {
        for death in deaths {
            let node = self.node_of(&death.instance);
            let Some(run) = death.run else {
                tracing::debug!(%node, "ended before it did anything");
                continue;
            };
            self.metrics.obituaries.inc();
            // The seal first: what a dead process has queued would still leave (attack 2).
            let coreapp = death.instance.0 == Role::Coreapp.as_str();
            let verified = Verified {
                seal: death
                    .group
                    .filter(|_| coreapp)
                    .and_then(|group| self.gate.bury(group)),
                cgroup_empty: true,
            };
            let nothing = (ShardId(0), Epoch(0), Grant(0));
            let obituary = self.receipt(node.clone(), &run, nothing, Nonce(0), verified);
            self.say(&obituary);
            let sealed = obituary.sealed;
            tracing::info!(MESSAGE_ID = message_id::OBITUARY, %node, incarnation = %run.incarnation, sealed, "obituary: nobody is left of this start");
            let host = Arc::clone(self);
            tokio::spawn(async move {
                clock::sleep(SAY_AGAIN).await;
                host.say(&obituary);
            });
        }
    }

    fn say(&self, receipt: &Receipt) {
        for master in self.masters.addresses().iter() {
            self.heartbeats
                .send(*master, Body::Receipt(receipt.clone()));
        }
    }
}

/// Runs the role until `shutdown`.
///
/// # Errors
/// [`HostError`] at the start only.
pub async fn run(settings: Arc<Settings>, shutdown: CancellationToken) -> Result<(), HostError> {
    let directory = settings.instance_directory();
    let incarnation = state::next_incarnation(&directory).map_err(|source| HostError::State {
        directory: directory.clone(),
        source,
    })?;
    // Before anything else: READY lets coreapps start.
    let gate = Arc::new(gate::Owner::start(&settings));
    let watcher = Arc::new(Watcher::new().map_err(HostError::Cgroup)?);
    let report = Arc::<udp::SharedReport>::default();
    let (host, heard) = build(
        &settings,
        incarnation,
        Arc::clone(&watcher),
        &report,
        Arc::clone(&gate),
    )?;
    lend::start(gate, shutdown.clone());
    let readiness = Readiness::default();
    readiness.not_ready("waiting for the service manager");
    let of_page = Arc::clone(&host);
    health::start(
        SocketAddr::new(settings.bind, settings.ports.health),
        readiness.clone(),
        Arc::new(move || {
            of_page.metrics.gate.set(&of_page.gate.counters());
            of_page
                .metrics
                .gate_attested
                .set(i64::from(of_page.gate.attested()));
            let metrics = &of_page.metrics;
            of_page
                .media
                .measure(&metrics.media_ok, &metrics.media_free);
            metrics.encode()
        }),
        shutdown.clone(),
    )
    .await?;
    let reachable = probe::start(
        settings.upstream.base_url.clone(),
        settings.upstream.connect_timeout,
        shutdown.clone(),
    );
    register::start(Arc::clone(&host), incarnation, shutdown.clone());
    let of_media = Arc::clone(&host);
    tokio::spawn(media::watch::run(
        Arc::clone(&host.media),
        move || of_media.db.load_full(),
        shutdown.clone(),
    ));
    fence::start(Arc::clone(&host), heard);
    look::start(Arc::clone(&host), shutdown.clone());
    store_lock::start(&settings, shutdown.clone());
    let (listing, listed) = mpsc::channel(4);
    tokio::spawn(follow_units(listing, shutdown.clone()));
    let turn = Turn {
        host,
        watcher,
        report,
        reachable,
        readiness,
        ready: false,
        told_ready: false,
    };
    turn.run(listed, shutdown).await;
    Ok(())
}

fn build(
    settings: &Arc<Settings>,
    incarnation: Incarnation,
    watcher: Arc<Watcher>,
    report: &Arc<udp::SharedReport>,
    gate: Arc<gate::Owner>,
) -> Result<(Arc<Host>, Inbox), HostError> {
    let machine = Machine::read().map_err(HostError::Machine)?;
    let cgroups = cgroup::root().map_err(HostError::Cgroup)?;
    let identity = udp::Identity {
        cluster: settings.cluster_id,
        node: settings.node.clone(),
        role: Role::Host,
        incarnation,
        keys: Keys::of(&settings.cluster_key),
    };
    let at = SocketAddr::new(settings.bind, settings.ports.heartbeat);
    let (heartbeats, heard) = udp::start(identity, at, None, Arc::clone(report))?;
    let units = Units::new(
        settings.state_directory.clone(),
        cgroups,
        machine.boot,
        watcher,
    );
    let host = Host {
        machine,
        heartbeats,
        units: Mutex::new(units),
        looked: Notify::new(),
        masters: register::Masters::default(),
        media: Media::new(settings, false),
        db: arc_swap::ArcSwapOption::empty(),
        metrics: HostMetrics::new(),
        gate,
        settings: Arc::clone(settings),
    };
    Ok((Arc::new(host), heard))
}

/// Lists the units whenever the service manager says that something changed, and reconnects for ever.
async fn follow_units(listing: mpsc::Sender<Vec<UnitState>>, stop: CancellationToken) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        match follow_once(&listing, &stop).await {
            Ok(()) => return,
            Err(error) => {
                failures += 1;
                let wait = wa_core::backoff::exponential(
                    Duration::from_millis(100),
                    failures,
                    Duration::from_secs(5),
                    0,
                );
                tracing::warn!(%error, retry_in = ?wait, "the service manager does not answer on the system bus");
                clock::sleep(wait).await;
            }
        }
    }
}

async fn follow_once(
    listing: &mpsc::Sender<Vec<UnitState>>,
    stop: &CancellationToken,
) -> zbus::Result<()> {
    let late = |_| zbus::Error::InputOutput(Arc::new(std::io::ErrorKind::TimedOut.into()));
    let systemd = tokio::time::timeout(BUS_DEADLINE, Systemd::connect())
        .await
        .map_err(late)??;
    let mut changes = tokio::time::timeout(BUS_DEADLINE, systemd.changes())
        .await
        .map_err(late)??;
    loop {
        let (units, again) = list(&systemd, &mut changes).await?;
        if listing.send(units).await.is_err() {
            return Ok(());
        }
        tokio::select! {
            () = std::future::ready(()), if again => {}
            alive = changes.next() => {
                if !alive {
                    return Err(broken());
                }
            }
            // Signals may be lost while the manager re-executes itself.
            () = clock::sleep(BUS_DEADLINE) => {}
            () = stop.cancelled() => return Ok(()),
        }
        // One change brings many signals: they are one reason to look, and looking is dozens of calls.
        clock::sleep(LOOK_AGAIN).await;
    }
}

fn broken() -> zbus::Error {
    zbus::Error::InputOutput(Arc::new(std::io::ErrorKind::BrokenPipe.into()))
}

/// Lists the units, and takes signals off the queue meanwhile: a full queue would hold up the connection, the answers
/// that we wait for included. True: there were some, and the list may be stale already.
async fn list(systemd: &Systemd, changes: &mut Changes) -> zbus::Result<(Vec<UnitState>, bool)> {
    let late = |_| zbus::Error::InputOutput(Arc::new(std::io::ErrorKind::TimedOut.into()));
    let mut again = false;
    let listed = tokio::time::timeout(BUS_DEADLINE, systemd.units());
    tokio::pin!(listed);
    loop {
        tokio::select! {
            biased;
            units = &mut listed => return Ok((units.map_err(late)??, again)),
            alive = changes.next() => {
                if !alive {
                    return Err(broken());
                }
                again = true;
            }
        }
    }
}

/// The agent's loop.
struct Turn {
    host: Arc<Host>,
    watcher: Arc<Watcher>,
    report: Arc<udp::SharedReport>,
    reachable: probe::Reachable,
    readiness: Readiness,
    ready: bool,
    told_ready: bool,
}

impl Turn {
    async fn run(
        mut self,
        mut listed: mpsc::Receiver<Vec<UnitState>>,
        shutdown: CancellationToken,
    ) {
        loop {
            let deaths = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                changed = self.watcher.changed() => {
                    if let Err(error) = changed {
                        tracing::error!(%error, "control groups cannot be watched any more; looking every second");
                        clock::sleep(TURN_EVERY).await;
                    }
                    self.host.units().ended()
                }
                Some(units) = listed.recv() => {
                    self.ready = true;
                    self.host.units().list(units)
                }
                () = clock::sleep(TURN_EVERY) => self.host.units().ended(),
            };
            self.host.tell(deaths);
            self.host.looked.notify_waiters();
            self.host.gate.look();
            self.publish();
        }
    }

    fn publish(&mut self) {
        let health = Health(0)
            .with(Health::UPSTREAM_OK, self.reachable.get())
            .with(Health::GATE_ATTESTED, self.host.gate.attested())
            .with(Health::MEDIA_OK, self.host.media.ok());
        self.report.store(Report {
            shard: None,
            epoch: Epoch(0),
            grant: Grant(0),
            epoch_high: Epoch(0),
            health,
            progress_age_ms: 0,
            lateness_ms: 0,
            in_flight: 0,
        });
        if self.ready {
            let upstream = if self.reachable.get() {
                "upstream reachable"
            } else {
                "upstream does not answer"
            };
            let units = self.host.units().summary();
            let fence = self.host.gate.kind();
            let media = self.host.media.remark();
            let media = media.map_or(String::new(), |remark| format!("; {remark}"));
            self.readiness
                .ready(&format!("{units}; {upstream}{media}; {fence}"));
            // Once: each word to the service manager is a change of this unit, and would be heard as one.
            if !std::mem::replace(&mut self.told_ready, true) {
                notify::ready();
            }
        }
        notify::watchdog();
    }
}
