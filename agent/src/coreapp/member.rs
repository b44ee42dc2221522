//! Membership: connects to the store, registers, beats, and keeps the list of masters and the settings fresh.
//! A lost database ends nothing: it is said in `/readyz` and waited for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wa_core::backoff::exponential;

use super::node::Node;
use super::trust::Trust;
use crate::api::v1::message::stored::{Form, SAID};
use crate::api::v1::setting::ApplicationSettings;
use crate::db::connection::Holder;
use crate::db::identity::Identity;
use crate::db::migrate::SCHEMA_VERSION;
use crate::db::{Db, DbError};
use crate::member::certificate::WebhookCa;
use crate::member::register::{OwnRow, row};
use crate::member::settings::{self, Row as _};
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
    let settings = &node.settings;
    let mut own = OwnRow::new(
        row(settings, node.incarnation),
        &settings.cluster_key,
        settings.timers.db_beat_interval,
    )
    .telling(Arc::clone(&node.troubles.writes));
    node.set_db(join(node, &mut own).await);
    let mut failures = 0u32;
    loop {
        let _ = tokio::time::timeout(READ_EVERY, node.settings_changed.notified()).await;
        match refresh(node, &mut own).await {
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
async fn join(node: &Node, own: &mut OwnRow) -> Db {
    let mut failures = 0u32;
    let mut said = String::new();
    let mut open: Option<Db> = None;
    loop {
        let error = match try_join(node, own, &mut open).await {
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

async fn try_join(node: &Node, own: &mut OwnRow, open: &mut Option<Db>) -> Result<(), String> {
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
    let same = db.same_cluster(&Identity::of(&node.settings)).await;
    same.map_err(|error| error.brief())?;
    register(node, db, own)
        .await
        .map_err(|error| format!("waiting to register: {}", error.brief()))?;
    look_at_forms(node, db)
        .await
        .map_err(|error| error.brief())?;
    read(node, db, own).await.map_err(|error| error.brief())
}

async fn refresh(node: &Node, own: &mut OwnRow) -> Result<(), DbError> {
    let Some(db) = node.db() else { return Ok(()) };
    let beats = own.due();
    if beats {
        register(node, &db, own).await?;
    }
    if beats || node.store_newer.load(Ordering::Acquire) {
        look_at_forms(node, &db).await?;
    }
    read(node, &db, own).await
}

/// Writes the own row and beats, and says which forms of messages this release reads.
async fn register(node: &Node, db: &Db, own: &mut OwnRow) -> Result<(), DbError> {
    // Before the row: whoever finds this start there finds its word, too.
    db.tell_form(&node.settings.node, node.incarnation, SAID)
        .await
        .inspect_err(|error| node.troubles.writes.failed(&error.brief()))?;
    own.write(db).await
}

/// Whether the store holds what cannot be read here. It may have to look through all that is not finished, so that it is asked
/// at each beat, and often only as long as it does.
async fn look_at_forms(node: &Node, db: &Db) -> Result<(), DbError> {
    let newest = Form::NEWEST.number();
    let newer = db.newer_form(newest).await?;
    if newer != node.store_newer.swap(newer, Ordering::AcqRel) {
        match newer {
            true => tracing::warn!(
                form = newest,
                "the store holds messages in a newer form than this release reads: no shard is given to this node. \
                 Install the release of the other nodes here, or wait until these messages are sent"
            ),
            false => tracing::info!("every message in the store can be read here again"),
        }
    }
    Ok(())
}

/// Masters and application settings.
async fn read(node: &Node, db: &Db, own: &mut OwnRow) -> Result<(), DbError> {
    let nodes = db.members(&node.roll).await?;
    own.seen(&nodes);
    node.blanking.look(db, &nodes).await?;
    node.masters.learn(&nodes);
    read_trust(node, db).await?;
    let stored = settings::read::<ApplicationSettings>(db).await?;
    let version = stored.version;
    node.metrics
        .settings_version
        .set(i64::try_from(version).unwrap_or(i64::MAX));
    match stored.value {
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

/// The authorities of webhook servers, if they changed; whoever delivers is woken.
async fn read_trust(node: &Node, db: &Db) -> Result<(), DbError> {
    if db.setting_version(WebhookCa::NAME).await? == node.trust.load().version {
        return Ok(());
    }
    let stored = settings::read::<WebhookCa>(db).await?;
    let trust = Trust::of(&node.settings, (stored.version, &stored.or_default()));
    tracing::info!(
        authorities = trust.also.len(),
        "the certificate authorities for webhook servers changed"
    );
    node.trust.store(Arc::new(trust));
    if let Some(work) = node.work() {
        work.webhook_wanted.notify_one();
    }
    Ok(())
}
