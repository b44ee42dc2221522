//! Role master: the loop around `wa_core::master::Master` and the tasks that carry its actions out.
//! Decides nothing itself.

mod acts;
mod alarms;
mod asked;
mod asker;
mod audit;
mod backup;
mod certificate;
mod claim;
mod control;
mod decisions;
mod deeds;
mod directory;
mod driver;
mod evidence;
mod explain;
mod figures;
mod fit;
mod former;
mod fresh;
mod intervals;
mod keys;
mod moves;
mod news;
mod nodes;
mod opened;
mod operate;
mod parked;
mod parts;
mod pauses;
mod planned;
mod port;
mod post;
mod provider;
mod pull;
mod record;
mod registrar;
mod registration;
mod replies;
mod request;
mod rewinds;
mod rows;
mod seen;
mod spread;
mod status;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod told;
mod translate;
mod unit;
mod view;
mod watch;
mod words;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wa_core::detector::Intervals;
use wa_core::master::{Config, Master};

use crate::config::Settings;
use crate::db::connection::Holder;
use crate::db::identity::Identity;
use crate::db::{Db, DbError};
use crate::metrics::MasterMetrics;
use crate::net::door::Door;
use crate::net::health::Readiness;
use crate::net::keys::Keys;
use crate::net::{NetError, health, udp};
use crate::sys::{clock, notify, room, state};

/// Of the watchdog, while the database is waited for.
const FED_EVERY: Duration = Duration::from_secs(1);

/// Why a master cannot run.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("cannot use the state directory {directory}")]
    State {
        directory: std::path::PathBuf,
        source: std::io::Error,
    },
    #[error("cannot use the database")]
    Db(#[from] DbError),
}

/// Runs the role until `shutdown`, then gives the lease back.
///
/// # Errors
/// [`MasterError`] at the start only: no role dies of a lost database.
pub async fn run(settings: Arc<Settings>, shutdown: CancellationToken) -> Result<(), MasterError> {
    let directory = settings.instance_directory();
    let incarnation = state::next_incarnation(&directory).map_err(|source| MasterError::State {
        directory: directory.clone(),
        source,
    })?;
    let metrics = Arc::new(MasterMetrics::new());
    let readiness = Readiness::default();
    readiness.not_ready("waiting for the database");
    tokio::spawn(room::watch(
        directory.clone(),
        metrics.room.clone(),
        shutdown.clone(),
    ));
    let of_page = Arc::clone(&metrics);
    let door = Door::new(&metrics.door);
    health::start(
        (settings.health_addresses(), &door),
        readiness.clone(),
        Arc::new(move || of_page.encode()),
        shutdown.clone(),
    )
    .await?;
    let identity = udp::Identity {
        cluster: settings.cluster_id,
        node: settings.node.clone(),
        role: settings.role,
        incarnation,
        keys: Keys::of(&settings.cluster_key),
    };
    let report = Arc::new(udp::SharedReport::measured(metrics.heartbeat_wait.clone()));
    let at = SocketAddr::new(settings.bind, settings.ports.heartbeat);
    let (heartbeats, heard) = udp::start(
        identity.clone(),
        at,
        Some(settings.timers.heartbeat_interval),
        Arc::clone(&report),
    )?;
    let holder = Holder {
        node: settings.node.clone(),
        incarnation,
    };
    let Some(db) = connect(&settings, &holder, &readiness, &shutdown).await else {
        return Ok(());
    };
    let voided = db.voided_promises().await.unwrap_or_default();
    for promise in &voided {
        tracing::warn!("{promise}");
    }
    let seen = state::NumbersFile::new(&directory, "seen");
    let core = Master::new(clock::now(), core_config(&settings, incarnation, &seen));
    let driver = driver::Driver::new(parts::Parts {
        settings,
        incarnation,
        identity,
        core,
        seen: Arc::new(std::sync::Mutex::new(seen)),
        db,
        voided,
        heartbeats: Arc::new(heartbeats),
        report,
        metrics,
        readiness,
        door,
        shutdown,
    });
    Ok(driver.run(heard).await?)
}

/// Connects and makes the lease table, again and again until it works or the stop comes.
async fn connect(
    settings: &Settings,
    holder: &Holder,
    readiness: &Readiness,
    shutdown: &CancellationToken,
) -> Option<Db> {
    let mut failures = 0;
    loop {
        let tried = async {
            let db = Db::connect_as(&settings.database, 3, holder.clone()).await?;
            db.ensure_lease_table().await?;
            db.same_cluster(&Identity::of(settings)).await?;
            Ok::<_, DbError>(db)
        };
        match fed(tried).await {
            Ok(db) => return Some(db),
            Err(error) => {
                failures += 1;
                let wait = wa_core::backoff::exponential(
                    Duration::from_millis(100),
                    failures,
                    Duration::from_secs(5),
                    0,
                );
                tracing::warn!(error = %error.brief(), retry_in = ?wait, "cannot use the database");
                readiness.not_ready(&format!("no database: {}", error.brief()));
                tokio::select! {
                    () = fed(clock::sleep(wait)) => {}
                    () = shutdown.cancelled() => return None,
                }
            }
        }
    }
}

/// Nothing is decided before the database answers, so that waiting for it is all that the decision loop has to do: whoever
/// waits feeds the watchdog.
async fn fed<T>(waiting: impl Future<Output = T>) -> T {
    tokio::pin!(waiting);
    loop {
        tokio::select! {
            done = &mut waiting => return done,
            () = clock::sleep(FED_EVERY) => notify::watchdog(),
        }
    }
}

fn core_config(
    settings: &Settings,
    incarnation: wa_core::id::Incarnation,
    seen: &state::NumbersFile,
) -> Config {
    let t = &settings.timers;
    Config {
        node: settings.node.clone(),
        incarnation,
        ttl: t.lease_ttl,
        tolerance: t.tolerance,
        intervals: Intervals {
            heartbeat: t.heartbeat_interval,
            unhealthy: t.unhealthy_interval,
        },
        db_unhealthy: t.db_unhealthy_interval,
        fence: settings.fence,
        shard_count: settings.shard_count,
        quiesce_max: t.lease_ttl / 2,
        flap_max: 3,
        flap_window: Duration::from_secs(600),
        seen: seen::kept(seen),
        seed: state::random_u64(),
    }
}
