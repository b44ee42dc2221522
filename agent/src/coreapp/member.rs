//! Membership: connects to the store, registers, beats, and keeps the list of masters and the settings fresh.
//! A lost database ends nothing: it is said in `/readyz` and waited for.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wa_core::backoff::exponential;
use wa_core::id::Role;
use wa_core::time::Instant;

use super::node::Node;
use crate::api::v1::setting::ApplicationSettings;
use crate::db::connection::Holder;
use crate::db::identity::Identity;
use crate::db::migrate::SCHEMA_VERSION;
use crate::db::node::Registration;
use crate::db::setting::APPLICATION;
use crate::db::{Db, DbError};
use crate::net::keys::Keys;
use crate::sys::clock;

/// Connections of a coreapp to the database, beside the one for its lease.
const CONNECTIONS_MAX: u32 = 8;
/// How often masters and settings are read when nobody says that they changed.
const READ_EVERY: Duration = Duration::from_millis(500);
/// After so many failed reads in a row the next configured host is tried.
const FAILURES_MAX: u32 = 3;

/// Runs until `ended`.
pub async fn run(node: Arc<Node>, ended: CancellationToken) {
    ended.run_until_cancelled_owned(keep(&node)).await;
}

async fn keep(node: &Node) {
    node.set_db(join(node).await);
    let beat_every = node.settings.timers.db_beat_interval;
    let mut beat_at = clock::now() + beat_every;
    let mut failures = 0u32;
    // Told anew at the first look: it may have changed since the own row was written.
    let mut told_keys = u64::MAX;
    loop {
        let _ = tokio::time::timeout(READ_EVERY, node.settings_changed.notified()).await;
        match refresh(node, &mut beat_at, &mut told_keys, beat_every).await {
            Ok(()) => {
                if failures > 0 {
                    tracing::info!("the database answers again");
                }
                failures = 0;
            }
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    tracing::warn!(error = %error.brief(), "the database does not answer; retrying");
                }
                if failures.is_multiple_of(FAILURES_MAX) && node.settings.database.urls.len() > 1 {
                    reconnect(node).await;
                }
            }
        }
    }
}

async fn connect(node: &Node) -> Result<Db, DbError> {
    let holder = Holder {
        node: node.settings.node.clone(),
        incarnation: node.incarnation,
    };
    Db::connect_as(&node.settings.database, CONNECTIONS_MAX, holder).await
}

async fn reconnect(node: &Node) {
    if let Ok(db) = connect(node).await {
        tracing::info!("connected to the database anew");
        node.set_db(db);
    }
}

/// Connects, waits for the schema, registers: again and again until all of it has worked once.
async fn join(node: &Node) -> Db {
    let mut failures = 0u32;
    let mut said = String::new();
    let mut open: Option<Db> = None;
    loop {
        let error = match try_join(node, &mut open).await {
            Ok(()) => {
                if let Some(db) = open {
                    return db;
                }
                "the database went away".to_owned()
            }
            Err(why) => why,
        };
        failures += 1;
        let wait = exponential(
            Duration::from_millis(50),
            failures,
            Duration::from_secs(2),
            0,
        );
        node.readiness.not_ready(&error);
        if said != error {
            tracing::warn!("{error}; retrying in {wait:?}");
            said = error;
        }
        clock::sleep(wait).await;
    }
}

async fn try_join(node: &Node, open: &mut Option<Db>) -> Result<(), String> {
    if open.is_none() {
        let db = connect(node).await;
        *open = Some(db.map_err(|error| format!("waiting for the database: {}", error.brief()))?);
    }
    let Some(db) = open.as_ref() else {
        return Ok(());
    };
    match db.schema_version().await {
        Ok(found) if found < SCHEMA_VERSION => {
            return Err(format!(
                "waiting for a master to bring the schema from version {found} to {SCHEMA_VERSION}"
            ));
        }
        Ok(_) => {}
        Err(error @ DbError::SchemaNewer { .. }) => return Err(error.brief()),
        Err(error) => {
            return Err(format!(
                "waiting for a master to make the schema: {}",
                error.brief()
            ));
        }
    }
    let mut beat_at = Instant::ZERO;
    let same = db.same_cluster(&Identity::of(&node.settings)).await;
    same.map_err(|error| error.brief())?;
    let registered = db.register(&registration(node)).await;
    registered.map_err(|error| format!("waiting to register: {}", error.brief()))?;
    read(node, db, &mut beat_at)
        .await
        .map_err(|error| error.brief())
}

/// `told_keys`: how often the key was replaced when the own row was written last.
async fn refresh(
    node: &Node,
    beat_at: &mut Instant,
    told_keys: &mut u64,
    beat_every: Duration,
) -> Result<(), DbError> {
    let Some(db) = node.db() else { return Ok(()) };
    let now = clock::now();
    let replaced = node.settings.cluster_key.replaced();
    if now >= *beat_at || replaced != *told_keys {
        db.register(&registration(node)).await?;
        (*beat_at, *told_keys) = (now + beat_every, replaced);
    }
    read(node, &db, beat_at).await
}

/// Masters and application settings. A node that is missing from the table (restored from a backup) registers again.
async fn read(node: &Node, db: &Db, beat_at: &mut Instant) -> Result<(), DbError> {
    let nodes = db.nodes().await?;
    if !nodes
        .iter()
        .any(|n| n.registration.node == node.settings.node)
    {
        *beat_at = Instant::ZERO;
    }
    let address = |r: &Registration| {
        Some(SocketAddr::new(
            r.address.parse::<IpAddr>().ok()?,
            r.port_heartbeat,
        ))
    };
    let masters = nodes
        .iter()
        .filter(|n| n.registration.role == Role::Master)
        .filter_map(|n| address(&n.registration));
    node.masters.store(Arc::new(masters.collect()));
    let (version, json) = db.setting(APPLICATION).await?;
    node.metrics
        .settings_version
        .set(i64::try_from(version).unwrap_or(i64::MAX));
    match ApplicationSettings::from_stored(&json) {
        Ok(settings) if settings != **node.application.load() => {
            tracing::info!(version, "application settings are in force");
            node.application.store(Arc::new(settings));
            if let Some(work) = node.work() {
                work.webhook_wanted.notify_one();
            }
        }
        Ok(_) => {}
        Err(error) => {
            tracing::error!(version, %error, "the stored application settings cannot be read; the old ones stay in force")
        }
    }
    Ok(())
}

fn registration(node: &Node) -> Registration {
    let settings = &node.settings;
    Registration {
        node: settings.node.clone(),
        role: Role::Coreapp,
        incarnation: node.incarnation,
        machine: settings.machine.clone(),
        zone: settings.zone.clone(),
        address: settings.advertise.to_string(),
        port_heartbeat: settings.ports.heartbeat,
        port_control: settings.ports.control,
        port_api: settings.ports.api,
        version: env!("CARGO_PKG_VERSION").into(),
        weight: settings.weight,
        keys: Keys::of(&settings.cluster_key).ids(),
    }
}
