//! Pulls what is stored for masters, again and again; a nudge only makes this one pull sooner.
//! Takes nothing over itself: the loop does.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::certificate::Ending;
use super::directory::READ_EVERY;
use super::request::Request;
use super::{intervals, pauses, planned, registration};
use crate::config::Settings;
use crate::db::Db;
use crate::metrics::MasterMetrics;
use crate::sys::clock;

/// What the pulling needs.
pub struct Puller {
    pub db: Db,
    pub settings: Arc<Settings>,
    pub metrics: Arc<MasterMetrics>,
    pub requests: mpsc::Sender<Request>,
    /// Rung when the rows are to be read at once.
    pub read_now: Arc<Notify>,
}

impl Puller {
    /// Runs until the stop.
    pub async fn run(self, shutdown: CancellationToken) {
        let db = &self.db;
        let mut certificate = Ending::default();
        while !shutdown.is_cancelled() {
            let settings = intervals::read(db, &self.settings.timers).await.ok();
            let pauses = pauses::read(db).await.ok();
            // Known from the step before; the row goes to one master only, whoever asks.
            if self.metrics.primary.get() == 1 {
                planned::carry_out_due(db, &self.requests).await;
            }
            let planned = planned::reading(db).await.ok();
            let registration = registration::reading(db).await.ok();
            let certificate = certificate.reading(db).await.ok();
            let readings = [settings, pauses, planned, registration, certificate];
            for reading in readings.into_iter().flatten() {
                if self.requests.send(Request::Read(reading)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = clock::sleep(READ_EVERY) => {}
                () = self.read_now.notified() => {}
            }
        }
    }
}
