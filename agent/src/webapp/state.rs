//! What all requests of one webapp share.
//! Nothing that another webapp would miss: this is caches, queues and counters.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::StatusCode;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use wa_core::time::Instant;

use super::certificate::Certificates;
use super::console::sampler::Sampler;
use super::console::standing::Standing;
use super::forward::Forwarder;
use super::owner::Owners;
use super::password::Passwords;
use super::routes::Routes;
use super::shared::Shared;
use super::throttle::Throttle;
use super::tokens::{Token, Tokens};
use super::uploads::Uploads;
use super::watcher::Watched;
use crate::api::error::ApiError;
use crate::api::v1::code::Code;
use crate::api::v1::health::HealthAnswer;
use crate::api::v1::support::Support;
use crate::config::Settings;
use crate::db::Db;
use crate::db::inbox::NewEvent;
use crate::media::Media;
use crate::media::file::Files;
use crate::member::audit::Audit;
use crate::metrics::WebappMetrics;
use crate::metrics::figure::{Page, Pages};
use crate::net::client::{CallError, InternalClient};
use crate::net::doer::{At, DeedError, Doer};
use crate::net::keys::Keys;
use crate::sys::clock;

/// Photos of the profile at once: each is in memory, twice for a moment.
pub const PHOTOS_MAX: usize = 4;

/// The events of one webhook call, and who waits for their being stored.
pub struct Batch {
    pub events: Vec<NewEvent>,
    pub stored: oneshot::Sender<Result<(), ApiError>>,
}

/// Shared by all requests.
pub struct Webapp {
    pub settings: Arc<Settings>,
    pub metrics: Arc<WebappMetrics>,
    pub tokens: Tokens,
    /// Who did what, for people who ask later.
    pub audit: Arc<Audit>,
    pub throttle: Throttle,
    pub passwords: Passwords,
    pub map: Arc<Watched>,
    /// Which customer an address belongs to.
    pub routes: Routes,
    /// The way to the owner of a shard.
    pub owners: Arc<Owners>,
    pub forwarder: Forwarder,
    /// What the public port shows in TLS handshakes.
    pub certificates: Certificates,
    pub events: mpsc::Sender<Batch>,
    /// The shared media directory: whether it works, and its files.
    pub media: Arc<Media>,
    pub files: Files,
    /// Answers that are made for many at once.
    pub health: Shared<HealthAnswer>,
    pub support: Shared<Support>,
    pub stats_app: Shared<Pages>,
    pub stats_db: Shared<Page>,
    /// What the consoles show of the number.
    pub standing: Shared<Standing>,
    pub began: Instant,
    /// What the consoles of this webapp look at.
    pub console: Arc<Sampler>,
    /// Room for uploads.
    pub uploads: Uploads,
    /// Room for photos of the profile.
    pub photos: tokio::sync::Semaphore,
    /// Cancelled by the stop signal, some time before connections are closed.
    pub stopping: CancellationToken,
    /// For what changes nothing where it is asked.
    looks: InternalClient,
    /// For what an administrator asks of the primary master.
    doer: Doer,
    db: Arc<ArcSwapOption<Db>>,
}

/// The credential that calls between nodes carry.
pub fn internal_client(settings: &Settings) -> InternalClient {
    InternalClient::of_node(&Keys::of(&settings.cluster_key))
}

impl Webapp {
    /// Puts the parts together.
    pub fn new(
        settings: Arc<Settings>,
        (owners, forwarder, certificates): (Arc<Owners>, Forwarder, Certificates),
        events: mpsc::Sender<Batch>,
        media: Arc<Media>,
        stopping: CancellationToken,
    ) -> Self {
        let uploads = owners.metrics.uploads.clone();
        Self {
            looks: InternalClient::of_looks(&Keys::of(&settings.cluster_key)),
            doer: Doer::new(&Keys::of(&settings.cluster_key)),
            tokens: Tokens::default(),
            audit: Audit::start(settings.node.as_str(), owners.map.shared_db()),
            throttle: Throttle::default(),
            routes: Routes::default(),
            passwords: Passwords::default(),
            db: owners.map.shared_db(),
            settings,
            metrics: Arc::clone(&owners.metrics),
            map: Arc::clone(&owners.map),
            owners,
            forwarder,
            certificates,
            events,
            files: Files::keeping(&media.settings.directory, media.settings.free_min_bytes),
            health: Shared::default(),
            support: Shared::default(),
            stats_app: Shared::default(),
            stats_db: Shared::default(),
            standing: Shared::default(),
            began: clock::now(),
            console: Arc::default(),
            uploads: Uploads::new(uploads),
            photos: tokio::sync::Semaphore::new(PHOTOS_MAX),
            media,
            stopping,
        }
    }

    /// The database, once it was reached and its schema is there.
    ///
    /// # Errors
    /// 1011 until then.
    pub fn db(&self) -> Result<Arc<Db>, ApiError> {
        self.db.load_full().ok_or_else(|| {
            ApiError::with(
                Code::NotReady,
                "The database is not reached yet, or its schema is not there yet",
            )
        })
    }

    /// Figures that others keep are brought up to date.
    pub fn shown_metrics(&self) {
        let version = i64::try_from(self.map.settings_version()).unwrap_or(i64::MAX);
        self.metrics.settings_version.set(version);
        let (ok, free) = (&self.metrics.media_ok, &self.metrics.media_free);
        self.media.measure(ok, free);
    }

    /// A call without a body that changes nothing at another node. A node of a release before answers 401.
    ///
    /// # Errors
    /// See [`InternalClient::call`].
    pub async fn look(
        &self,
        method: http::Method,
        url: &str,
        deadline: Duration,
    ) -> Result<(StatusCode, bytes::Bytes), CallError> {
        self.looks.call(method, url, Vec::new(), deadline).await
    }

    /// A call that changes something at a master, for an administrator with this token.
    ///
    /// # Errors
    /// See [`Doer::administrator`].
    pub async fn do_for<T: Serialize + Sync>(
        &self,
        at: At<'_>,
        path: &str,
        (wish, token): (&T, &Token),
        deadline: Duration,
    ) -> Result<(StatusCode, bytes::Bytes), DeedError> {
        let body = serde_json::to_vec(wish).expect("plain data is JSON");
        self.doer
            .administrator(at, path, (body, &*token.0), deadline)
            .await
    }
}
