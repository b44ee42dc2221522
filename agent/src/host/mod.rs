//! The host agent: one per machine, privileged. Owns the kernel gate, tells masters of a unit's death the moment the
//! kernel knows it, and makes sure on request that a start is over. Its own death changes nothing for the roles.

mod agent;
pub mod fallback;
mod fence;
mod gate;
mod lend;
mod look;
mod probe;
mod register;
mod store_lock;
mod units;
mod written;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use wa_core::id::{Epoch, Grant, Incarnation, Role};
use wa_core::starts::Ledger;
use wa_core::wire::{Health, Report};

use crate::config::Settings;
use crate::media::{self, Media};
use crate::member::masters::Masters;
use crate::metrics::HostMetrics;
use crate::net::door::Door;
use crate::net::health::Readiness;
use crate::net::keys::Keys;
use crate::net::udp::{self, Inbox};
use crate::net::{NetError, health};
use crate::sys::cgroup::{self, Watcher};
use crate::sys::machine::{self, Machine};
use crate::sys::systemd::{Changes, Systemd, UnitState};
use crate::sys::{clock, notify, room, state};
use agent::Host;
use units::Units;

/// The loop looks at everything at least this often, signals or not.
const TURN_EVERY: Duration = Duration::from_secs(1);
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
    lend::start(gate, Arc::clone(&host.written), shutdown.clone());
    let readiness = Readiness::default();
    readiness.not_ready("waiting for the service manager");
    tokio::spawn(room::watch(
        directory.clone(),
        host.metrics.room.clone(),
        shutdown.clone(),
    ));
    let of_page = Arc::clone(&host);
    health::start(
        (settings.health_addresses(), &Door::new(&host.metrics.door)),
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
    let reachable = probe::start(&settings.upstream, shutdown.clone());
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
        told_short: false,
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
    if !settings.development || machine::own_invocation().is_some() {
        let written = machine::write_boot_down();
        if let Err(error) = written {
            tracing::warn!(%error, "this boot could not be written down for the other roles of this machine; in a container receipts may not count");
        }
    }
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
    let hardware = machine::hardware().map_err(HostError::Machine)?;
    let directory = settings.instance_directory();
    let ledger = state::load_starts(&directory).unwrap_or_else(|error| {
        tracing::warn!(%error, "which starts were seen here before is not known: there are no receipts for them");
        Ledger::default()
    });
    let units = Units::new(cgroups, machine.boot, watcher, (hardware, ledger));
    let written = Arc::new(written::Written::new(settings.state_directory.clone()));
    let host = Host {
        machine,
        heartbeats,
        units: Mutex::new(units),
        written,
        saving: tokio::sync::Mutex::new(()),
        learned: Notify::new(),
        looked: Notify::new(),
        masters: Masters::default(),
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
    told_short: bool,
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
                () = self.host.learned.notified() => self.host.units().ended(),
                () = clock::sleep(TURN_EVERY) => self.host.units().ended(),
            };
            self.host.tell(deaths);
            self.host.read_unread();
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
            let short = self.room();
            self.readiness
                .ready(&format!("{units}; {upstream}{media}; {fence}{short}"));
            // Once: each word to the service manager is a change of this unit, and would be heard as one.
            if !std::mem::replace(&mut self.told_ready, true) {
                notify::ready();
            }
        }
        notify::watchdog();
    }

    /// What is to be said of the room in /run, with a separator; the journal hears it once.
    fn room(&mut self) -> String {
        let short = room::short_in(Path::new(room::RUN));
        match &short {
            Some(short) if !std::mem::replace(&mut self.told_short, true) => {
                tracing::warn!("{short}; {}", room::ADVICE);
            }
            Some(_) => {}
            None => self.told_short = false,
        }
        short.map_or(String::new(), |short| format!("; {short}"))
    }
}
