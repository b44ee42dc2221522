//! What the loop of a master is made of, as it is handed over at the start.
//! Does nothing.

use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;
use wa_core::id::Incarnation;
use wa_core::master::Master;

use crate::config::Settings;
use crate::db::Db;
use crate::metrics::MasterMetrics;
use crate::net::door::Door;
use crate::net::health::Readiness;
use crate::net::udp::{Heartbeats, Identity, SharedReport};
use crate::sys::state::NumbersFile;

/// What the driver is made of.
pub struct Parts {
    pub settings: Arc<Settings>,
    pub incarnation: Incarnation,
    pub identity: Identity,
    pub core: Master,
    /// Where [`wa_core::master::Seen`] is kept.
    pub seen: Arc<Mutex<NumbersFile>>,
    pub db: Db,
    /// Settings of the database that void a promise, as they were at the start.
    pub voided: Vec<String>,
    pub heartbeats: Arc<Heartbeats>,
    pub report: Arc<SharedReport>,
    pub metrics: Arc<MasterMetrics>,
    pub readiness: Readiness,
    pub door: Arc<Door>,
    pub shutdown: CancellationToken,
}
