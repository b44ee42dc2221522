//! The host agent's part in a development cluster: obituaries, fencing by SIGKILL, signed receipts.
//! Without a kernel gate: it can promise only that the process is gone (`fence = "best-effort"`).

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio_util::sync::CancellationToken;
use wa_core::id::{Epoch, Grant, Incarnation, NodeId, Nonce, Role, ShardId};
use wa_core::wire::{Body, Receipt};

use super::cluster::{Plan, Process, say};
use crate::config::{ClusterKey, HealthAddresses};
use crate::db::Db;
use crate::db::node::Registration;
use crate::member::register::OwnRow;
use crate::metrics::HostMetrics;
use crate::net::NetError;
use crate::net::door::Door;
use crate::net::health::{self, Readiness};
use crate::net::keys::Keys;
use crate::net::udp::{self, Heard, Heartbeats};
use crate::sys::machine::Machine;
use crate::sys::state::{last_run, random_u64};
use crate::sys::{clock, room};

/// How long a killed process may take to be reaped before no receipt is given.
const REAP_WITHIN: Duration = Duration::from_secs(2);
/// How often the own row is refreshed.
const BEAT_EVERY: Duration = Duration::from_secs(30);

/// The stand-in for `wa-host`.
pub struct Host {
    heartbeats: Heartbeats,
    key: ClusterKey,
    masters: Vec<SocketAddr>,
    state: PathBuf,
    port: u16,
    address: IpAddr,
    incarnation: Incarnation,
    processes: BTreeMap<String, Arc<Process>>,
    /// A drill: fence requests are not answered and processes not killed.
    pub ignore_fences: AtomicBool,
    pub fences: AtomicU64,
    metrics: Arc<HostMetrics>,
    events: Arc<Mutex<VecDeque<String>>>,
}

impl Host {
    /// Binds the host agent's port and answers fence requests from now on.
    ///
    /// # Errors
    /// When the port is taken: another `dev` runs.
    pub fn start(
        plan: &Plan,
        key: ClusterKey,
        processes: BTreeMap<String, Arc<Process>>,
        events: Arc<Mutex<VecDeque<String>>>,
    ) -> Result<Arc<Self>, NetError> {
        let incarnation = Incarnation {
            counter: clock::wall_ms(),
            random: random_u64() >> 1,
        };
        let settings = crate::config::load(Role::Host, 1, Some(&plan.state.join("wa-agent.toml")));
        let cluster = settings.map_or(0, |loaded| loaded.settings.cluster_id);
        let identity = udp::Identity {
            cluster,
            node: node(),
            role: Role::Host,
            incarnation,
            keys: Keys::of(&key),
        };
        let port = 6248 + plan.offset;
        let at = SocketAddr::new(plan.center(), port);
        let (heartbeats, mut heard) = udp::start(identity, at, None, Arc::default())?;
        let host = Arc::new(Self {
            metrics: Self::metrics(),
            heartbeats,
            key,
            masters: plan.masters_at(),
            state: plan.state.clone(),
            port,
            address: plan.center(),
            incarnation,
            processes,
            ignore_fences: AtomicBool::new(false),
            fences: AtomicU64::new(0),
            events,
        });
        let of_loop = Arc::clone(&host);
        tokio::spawn(async move {
            while let Some(heard) = heard.recv().await {
                if let Heard::Body {
                    body:
                        Body::Fence {
                            node,
                            incarnation,
                            shard,
                            epoch,
                            grant,
                            nonce,
                            ..
                        },
                    address,
                    ..
                } = heard
                {
                    let host = Arc::clone(&of_loop);
                    tokio::spawn(async move {
                        host.fence(&node, incarnation, (shard, epoch, grant), nonce, address)
                            .await
                    });
                }
            }
        });
        Ok(host)
    }

    fn metrics() -> Arc<HostMetrics> {
        let metrics = HostMetrics::new();
        // It has no media directory to look at.
        metrics.media_ok.set(1);
        Arc::new(metrics)
    }

    /// Shows its figures where a host agent does.
    async fn show(
        metrics: Arc<HostMetrics>,
        (state, at): (PathBuf, SocketAddr),
        stop: CancellationToken,
    ) {
        tokio::spawn(room::watch(state, metrics.room.clone(), stop.clone()));
        let addresses = HealthAddresses {
            main: at,
            instead: None,
            beside: Vec::new(),
        };
        let door = Door::new(&metrics.door);
        let text = Arc::new(move || metrics.encode());
        let shown = health::start((addresses, &door), Readiness::default(), text, stop);
        if let Err(error) = shown.await {
            tracing::warn!(%error, "the figures of the host agent are not shown");
        }
    }

    /// Registers in the node table, so that masters know where to send fence requests.
    pub fn register_in(&self, db: Db, stop: CancellationToken) {
        let at = SocketAddr::new(self.address, self.port + 1);
        let own = (Arc::clone(&self.metrics), (self.state.clone(), at));
        tokio::spawn(Self::show(own.0, own.1, stop.clone()));
        let mut own = OwnRow::new(self.registration(), &self.key, BEAT_EVERY);
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                // Until the primary master has made the schema there is no such table.
                let _ = own.keep(&db).await;
                clock::sleep(Duration::from_millis(100)).await;
            }
        });
    }

    /// One small write; true when it was carried out.
    pub async fn beat(&self, db: &Db) -> bool {
        db.register(&self.registration()).await.is_ok()
    }

    fn registration(&self) -> Registration {
        Registration {
            node: node(),
            role: Role::Host,
            incarnation: self.incarnation,
            machine: "dev".into(),
            zone: "dev".into(),
            address: self.address.to_string(),
            port_heartbeat: self.port,
            port_control: 0,
            port_api: 0,
            version: env!("CARGO_PKG_VERSION").into(),
            weight: 0,
            keys: Keys::of(&self.key).ids(),
        }
    }

    fn last(&self, process: &Process) -> Option<Incarnation> {
        let directory = format!("{}-{}", process.role.as_str(), process.instance);
        let run = last_run(&self.state, &directory).ok().flatten();
        run.map(|run| run.incarnation)
    }

    /// A process was reaped: every master hears of it at once.
    pub fn died(&self, process: &Process) {
        if process.role != Role::Coreapp || self.ignore_fences.load(Ordering::Acquire) {
            return;
        }
        if let Some(incarnation) = self.last(process) {
            let obituary = receipt(
                &process.node,
                incarnation,
                (ShardId(0), Epoch(0), Grant(0)),
                Nonce(0),
            );
            self.metrics.obituaries.inc();
            for master in &self.masters {
                self.heartbeats
                    .send(*master, Body::Receipt(obituary.clone()));
            }
        }
    }

    /// Makes sure that the process of this incarnation is gone, then says so.
    async fn fence(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
        what: (ShardId, Epoch, Grant),
        nonce: Nonce,
        master: SocketAddr,
    ) {
        self.fences.fetch_add(1, Ordering::Relaxed);
        self.metrics.fences.inc();
        if self.ignore_fences.load(Ordering::Acquire) {
            return;
        }
        let Some(process) = self.processes.values().find(|p| p.node == *node) else {
            return;
        };
        // Only the incarnation that is meant: a newer start of the same unit is left alone (attack 10).
        if self.last(process) == Some(incarnation) && process.pid().is_some() {
            say(
                &self.events,
                format!("host: fencing {node} (epoch {})", what.1),
            );
            let gone = process.gone.notified();
            process.signal(Signal::SIGKILL);
            if process.pid().is_some() && tokio::time::timeout(REAP_WITHIN, gone).await.is_err() {
                return;
            }
        }
        self.heartbeats.send(
            master,
            Body::Receipt(receipt(node, incarnation, what, nonce)),
        );
    }
}

fn node() -> NodeId {
    NodeId::new("dev:host-1")
}

fn receipt(
    node: &NodeId,
    incarnation: Incarnation,
    (shard, epoch, grant): (ShardId, Epoch, Grant),
    nonce: Nonce,
) -> Receipt {
    // As the processes say it of themselves.
    let machine = Machine::read().ok();
    Receipt {
        machine_id: machine.map_or(0, |machine| machine.id),
        boot_id: machine.map_or(0, |machine| machine.boot),
        invocation: u128::from(incarnation.random),
        node: node.clone(),
        incarnation,
        shard,
        epoch,
        grant,
        seal: Epoch(0),
        nonce,
        sealed: false,
        cgroup_empty: true,
    }
}
