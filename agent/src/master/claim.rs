//! Whose database this is, and its schema: what a new primary writes down and brings forward.
//! Whether it may is decided elsewhere: a database of another cluster is left alone.

use std::sync::Arc;

use crate::config::Settings;
use crate::db::Db;
use crate::member::claim::cluster_of;
use crate::metrics::MasterMetrics;

/// Brings the schema forward in a task of its own, for as long as this master is primary.
pub fn start(db: Db, settings: &Settings, metrics: Arc<MasterMetrics>) {
    let own = cluster_of(settings);
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
