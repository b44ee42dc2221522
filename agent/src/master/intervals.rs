//! The intervals of the application settings: as a reading for the loop, and what they mean for a takeover, for people.
//! Judges nothing: `api/v1/interval.rs` says which pair is in force.

use wa_core::detector::Intervals;

use super::fresh::{Reading, RowRead};
use super::view::ms;
use crate::api::control::TimersStatus;
use crate::api::v1::setting::ApplicationSettings;
use crate::config::{Timers, takeover_with};
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

/// What is in force beside what is configured.
pub fn told(in_force: Intervals, timers: &Timers) -> TimersStatus {
    let configured = timers.intervals();
    TimersStatus {
        by_api: in_force != configured,
        takeover_ms: ms(takeover_with(timers, in_force)),
        configured_heartbeat_interval_ms: ms(configured.heartbeat),
        configured_unhealthy_interval_ms: ms(configured.unhealthy),
        configured_takeover_ms: ms(takeover_with(timers, configured)),
    }
}

/// The same as a sentence; `None` where the configured intervals are in force.
pub fn sentence(in_force: Intervals, timers: &Timers) -> Option<String> {
    let told = told(in_force, timers);
    let span = |ms: u64| humantime::format_duration(std::time::Duration::from_millis(ms));
    told.by_api.then(|| {
        format!(
            "the timers were set over the API ({} and {}): a takeover from a lost machine takes at most {}, and with the configured \
             ones ({} and {}) it would take {}; to go back, PATCH /v1/settings/application with heartbeat_interval and \
             unhealthy_interval null",
            span(ms(in_force.heartbeat)),
            span(ms(in_force.unhealthy)),
            span(told.takeover_ms),
            span(told.configured_heartbeat_interval_ms),
            span(told.configured_unhealthy_interval_ms),
            span(told.configured_takeover_ms),
        )
    })
}

/// For the journal, after a change.
pub fn said(in_force: Intervals, timers: &Timers) -> String {
    let configured = || "the configured timers are in force".into();
    sentence(in_force, timers).unwrap_or_else(configured)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::timers_of;

    /// Goal: people are told both takeovers, and nothing where nothing was set.
    #[test]
    fn both_takeovers_are_told() {
        let timers = timers_of("fast").expect("a profile");
        assert_eq!(sentence(timers.intervals(), &timers), None);
        let slow = Intervals {
            heartbeat: Duration::from_secs(5),
            unhealthy: Duration::from_secs(20),
        };
        let told = told(slow, &timers);
        assert!(told.by_api && told.takeover_ms >= 30_000, "{told:?}");
        assert!(told.configured_takeover_ms < 2_000, "{told:?}");
        let said = sentence(slow, &timers).expect("said");
        assert!(
            said.contains("(5s and 20s)") && said.contains("(50ms and 300ms)"),
            "{said}"
        );
    }
}
