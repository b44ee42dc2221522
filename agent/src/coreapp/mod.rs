//! Role coreapp: holds the upstream connection of at most one shard, accepts messages, delivers webhooks.
//! Decides nothing about ownership: `wa_core::tenure` does; nothing leaves without a live tenure.

mod driver;
mod gate;
mod inbox;
mod intake;
mod sender;
mod webhook;
mod work;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use wa_core::tenure::{Config, Tenure};

use crate::config::Settings;
use crate::db::{Db, DbError};
use crate::metrics::CoreappMetrics;
use crate::net::health::Readiness;
use crate::net::keys::Keys;
use crate::net::{NetError, health, udp};
use crate::sys::state::NumberFile;
use crate::sys::{clock, state};

/// Why a coreapp cannot run.
#[derive(Debug, thiserror::Error)]
pub enum CoreappError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("cannot use the state directory {directory}")]
    State {
        directory: std::path::PathBuf,
        source: std::io::Error,
    },
}

/// What the tasks of this role share.
pub(crate) struct Shared {
    pub settings: Arc<Settings>,
    pub db: Db,
    pub gate: gate::Gate,
    /// The intake is held for a handover.
    pub hold: AtomicBool,
    /// Things under way that a handover must wait for: commits, sends, outcomes that are not recorded.
    pub busy: AtomicUsize,
    pub in_flight: AtomicUsize,
    /// Boot time of the newest upstream answer, in nanoseconds.
    pub upstream_ok_at: AtomicU64,
    pub shard_count: AtomicUsize,
    pub application: ArcSwap<webhook::Application>,
    pub inbox_ready: Notify,
    pub outbox_ready: Notify,
    pub webhooks_ready: Notify,
    pub to_sender: mpsc::Sender<crate::db::message::Claimed>,
    pub metrics: Arc<CoreappMetrics>,
}

impl Shared {
    /// How many shards there are, as the map said last.
    pub fn shard_count(&self) -> u16 {
        u16::try_from(self.shard_count.load(Ordering::Relaxed))
            .unwrap_or(1)
            .max(1)
    }

    /// The upstream answered.
    pub fn upstream_answered(&self) {
        self.upstream_ok_at.store(clock::now().0, Ordering::Relaxed);
    }
}

/// Runs the role until `shutdown`, handing its shard over first.
///
/// # Errors
/// [`CoreappError`] at the start only: no role dies of a lost database.
pub async fn run(settings: Arc<Settings>, shutdown: CancellationToken) -> Result<(), CoreappError> {
    let directory = settings.instance_directory();
    let at_directory = |source| CoreappError::State {
        directory: directory.clone(),
        source,
    };
    let incarnation = state::next_incarnation(&directory).map_err(at_directory)?;
    let high_water = NumberFile::open(&directory, "epoch").map_err(at_directory)?;
    let obeyed = wa_core::id::Epoch(high_water.load().map_err(at_directory)?);
    let metrics = Arc::new(CoreappMetrics::new());
    let readiness = Readiness::default();
    readiness.not_ready("waiting for the database");
    let of_page = Arc::clone(&metrics);
    let health_at = SocketAddr::new(settings.bind, settings.ports.health);
    let run_on = CancellationToken::new();
    health::start(
        health_at,
        readiness.clone(),
        Arc::new(move || of_page.encode()),
        run_on.clone(),
    )
    .await?;
    let identity = udp::Identity {
        cluster: settings.cluster_id,
        node: settings.node.clone(),
        role: settings.role,
        incarnation,
        keys: Keys::new(secrecy::ExposeSecret::expose_secret(&settings.cluster_key)),
    };
    let report = Arc::new(udp::SharedReport::default());
    let at = SocketAddr::new(settings.bind, settings.ports.heartbeat);
    let (heartbeats, heard) = udp::start(identity.clone(), at, None, Arc::clone(&report))?;
    let Some(db) = connect(&settings, &readiness, &shutdown).await else {
        return Ok(());
    };
    let (to_sender, from_intake) = mpsc::channel(sender::QUEUE_LEN);
    let shared = Arc::new(Shared {
        db,
        gate: gate::Gate::default(),
        hold: AtomicBool::new(false),
        busy: AtomicUsize::new(0),
        in_flight: AtomicUsize::new(0),
        upstream_ok_at: AtomicU64::new(0),
        shard_count: AtomicUsize::new(1),
        application: ArcSwap::default(),
        inbox_ready: Notify::new(),
        outbox_ready: Notify::new(),
        webhooks_ready: Notify::new(),
        to_sender,
        metrics,
        settings: Arc::clone(&settings),
    });
    intake::start(Arc::clone(&shared), identity.keys.clone(), run_on.clone()).await?;
    let config = tenure_config(&settings, incarnation);
    let core = Tenure::new(clock::now(), config, obeyed);
    let parts = driver::Parts {
        shared,
        core,
        incarnation,
        high_water,
        heartbeats,
        report,
        readiness,
        shutdown,
        from_intake,
    };
    driver::Driver::new(parts).run(heard).await;
    run_on.cancel();
    Ok(())
}

fn tenure_config(settings: &Settings, incarnation: wa_core::id::Incarnation) -> Config {
    let t = &settings.timers;
    Config {
        node: settings.node.clone(),
        incarnation,
        ttl: t.lease_ttl,
        drift: t.tolerance.drift,
        margin: t.tolerance.margin,
        quiesce_max: t.lease_ttl,
        stop_max: (t.lease_ttl * 3).max(Duration::from_secs(5)),
        seed: state::random_u64(),
    }
}

/// Connects and waits for the schema, again and again until it works or the stop comes.
async fn connect(
    settings: &Settings,
    readiness: &Readiness,
    shutdown: &CancellationToken,
) -> Option<Db> {
    let mut failures = 0;
    loop {
        let tried = async {
            let db = Db::connect(&settings.database, 8).await?;
            db.ensure_lease_table().await?;
            Ok::<_, DbError>((db.schema_version().await?, db))
        };
        let (why, wait) = match tried.await {
            Ok((version, db)) if version >= crate::db::migrate::SCHEMA_VERSION => return Some(db),
            Ok(_) => (
                "waiting for the primary master to bring the schema up to date".to_owned(),
                Duration::from_millis(100),
            ),
            Err(error) => {
                failures += 1;
                let wait = wa_core::backoff::exponential(
                    Duration::from_millis(100),
                    failures,
                    Duration::from_secs(5),
                    0,
                );
                tracing::warn!(error = %error.brief(), retry_in = ?wait, "cannot use the database");
                (format!("no database: {}", error.brief()), wait)
            }
        };
        readiness.not_ready(&why);
        tokio::select! {
            () = clock::sleep(wait) => {}
            () = shutdown.cancelled() => return None,
        }
    }
}
