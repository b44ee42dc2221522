//! The intervals of the application settings, as a reading for the loop.
//! Tells nobody.

use super::fresh::{Reading, RowRead};
use crate::api::v1::setting::ApplicationSettings;
use crate::config::Timers;
use crate::db::{Db, DbError};
use crate::member::settings;
use crate::sys::clock;

/// The intervals of the application settings. Those that nobody can read are as if there were none.
///
/// # Errors
/// When the database does not answer.
pub async fn read(db: &Db, timers: &Timers) -> Result<Reading, DbError> {
    let begun = clock::now();
    let stored = settings::read::<ApplicationSettings>(db).await?;
    let version = stored.version;
    let intervals = settings::intervals(&stored.or_default(), timers);
    Ok(Reading {
        begun,
        what: RowRead::Settings { intervals, version },
    })
}
