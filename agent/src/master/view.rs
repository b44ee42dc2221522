//! What a master sees at one moment, as one value: `status`, `explain`, verbs and the judgement are told from it.
//! The loop builds it. Whoever reads it can change nothing, and reads no clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use wa_core::id::Incarnation;
use wa_core::judgement::Failing;
use wa_core::judgement::Kind;
use wa_core::master::Master;
use wa_core::registration::Told;
use wa_core::time::Instant;

use super::fresh::Pauses;
use super::table::Table;
use super::watch::Watch;
use crate::api::control::{DecisionStatus, StoredSwitchover};
use crate::config::{Settings, Timers};

/// A read that failed longer ago says nothing about now.
pub const READS_WITHIN: Duration = Duration::from_secs(60);

/// Writes are tried with every renewal and every beat; one that failed longer ago says nothing about now.
pub fn writes_within(timers: &Timers) -> Duration {
    timers.db_beat_interval * 3 + Duration::from_secs(5)
}

/// Ages and spans are told in milliseconds.
pub fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Everything that a master tells others from.
pub struct View<'a> {
    /// Every age is counted up to here.
    pub now: Instant,
    pub core: &'a Master,
    pub settings: &'a Settings,
    pub incarnation: Incarnation,
    /// Settings of the database that void a promise, as they were at the start.
    pub voided: &'a [String],
    pub table: Arc<Table>,
    pub pauses: &'a Pauses,
    pub planned: &'a [StoredSwitchover],
    /// What is to be told of the registration of the number.
    pub registration: Option<&'a Told>,
    /// What is to be told of the certificate of the public port that was sent.
    pub certificate: Option<&'a (Kind, String)>,
    /// The newest last.
    pub decisions: &'a VecDeque<DecisionStatus>,
    pub settings_version: u64,
    /// By how much the own timers were late lately.
    pub lateness_ms: u32,
    /// Reads of the database fail, and writes.
    pub reads: Option<Failing>,
    pub writes: Option<Failing>,
    /// What is watched for the alarms.
    pub watch: &'a Watch,
    /// Of the file system of the state directory.
    pub disk_free_percent: Option<i64>,
    /// How much of the database's time is gone, for as long as that is a problem.
    pub rewound: Option<Duration>,
}
