//! What the parts of a coreapp share: settings, store, gate, the work under way, what is known of the upstream.
//! Runs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify};
use wa_core::id::Incarnation;
use wa_core::master::Fence;
use wa_core::roll::Roll;
use wa_core::time::Instant;

use super::blanking::Blanking;
use super::gate::Gate;
use super::owed::Watch;
use super::spared::Spared;
use super::trouble::Troubles;
use super::trust::Trust;
use super::work::Work;
use crate::api::cloud::checkup;
use crate::api::cloud::code::NOT_REGISTERED;
use crate::api::v1::setting::ApplicationSettings;
use crate::config::Settings;
use crate::db::Db;
use crate::media::Media;
use crate::media::file::Files;
use crate::member::certificate::WebhookCa;
use crate::member::masters::Masters;
use crate::metrics::CoreappMetrics;
use crate::metrics::coreapp::Documented;
use crate::metrics::figure::Page;
use crate::net::health::Readiness;
use crate::net::keys::Keys;
use crate::net::roots::Roots;
use crate::sys::clock;

/// A success of the upstream younger than this means `connected`.
pub const CONNECTED: Duration = Duration::from_secs(30);

/// How long the embedded store is left free after a write.
const GAP_MIN: Duration = Duration::from_millis(2);
const GAP_MAX: Duration = Duration::from_millis(5);

/// One coreapp process.
pub struct Node {
    pub settings: Arc<Settings>,
    pub keys: Keys,
    pub incarnation: Incarnation,
    pub metrics: CoreappMetrics,
    /// The same under the names of the reference client, where they are not measured anyway.
    pub documented: Documented,
    pub readiness: Readiness,
    /// Where messages, events and webhooks are worked on: not the driver's own runtime.
    pub runtime: Handle,
    pub gate: Arc<Gate>,
    /// The shared media directory, as the last probe found it.
    pub media: Arc<Media>,
    pub files: Files,
    pub application: ArcSwap<ApplicationSettings>,
    /// Whom the upstream is vouched for by: read at the start, for a takeover has no time for it.
    pub roots: Roots,
    /// Whom webhook servers are vouched for by, beside the usual authorities.
    pub trust: ArcSwap<Trust>,
    /// Somebody says that the application settings changed.
    pub settings_changed: Notify,
    /// Where the masters listen for heartbeats.
    pub masters: Masters,
    /// What is old may be younger than the database's clock says.
    pub spared: Spared,
    /// The store holds messages in a newer form than this release reads.
    pub store_newer: AtomicBool,
    /// Content of finished messages may go.
    pub blanking: Blanking,
    /// Who is still a member.
    pub roll: std::sync::Mutex<Roll>,
    db: ArcSwapOption<Db>,
    /// When the embedded store may be written next; held during a write.
    turn: Mutex<Instant>,
    /// Lease writes that wait for their turn.
    urgent: AtomicUsize,
    work: ArcSwapOption<Work>,
    /// What fails of this node's own work.
    pub troubles: Troubles,
    /// What is watched for the alarms.
    pub watch: Watch,
    upstream_ok_ns: AtomicU64,
    upstream_failed_ns: AtomicU64,
    /// The upstream says that the number is not registered.
    unregistered: AtomicBool,
}

impl Node {
    /// With no store and no work yet. Called on the runtime that does the work.
    pub fn new(settings: Arc<Settings>, keys: Keys, incarnation: Incarnation) -> Self {
        let trust = Trust::of(&settings, (0, &WebhookCa::default()));
        let metrics = CoreappMetrics::new();
        let end_s = checkup::version_end_s(&settings.upstream.version);
        metrics.version_end.set(end_s.unwrap_or(0));
        Self {
            gate: Arc::new(Gate::shut_both(settings.fence == Fence::Required)),
            media: Media::new(&settings, true),
            files: Files::keeping(&settings.media.directory, settings.media.free_min_bytes),
            roots: Roots::with(&settings.upstream.authorities),
            settings,
            keys,
            incarnation,
            metrics,
            documented: Documented::default(),
            readiness: Readiness::default(),
            runtime: Handle::current(),
            application: ArcSwap::default(),
            trust: ArcSwap::from_pointee(trust),
            settings_changed: Notify::new(),
            masters: Masters::default(),
            spared: Spared::default(),
            store_newer: AtomicBool::new(false),
            blanking: Blanking::default(),
            roll: std::sync::Mutex::default(),
            db: ArcSwapOption::empty(),
            turn: Mutex::new(Instant::ZERO),
            urgent: AtomicUsize::new(0),
            work: ArcSwapOption::empty(),
            troubles: Troubles::default(),
            watch: Watch::default(),
            upstream_ok_ns: AtomicU64::new(0),
            upstream_failed_ns: AtomicU64::new(0),
            unregistered: AtomicBool::new(false),
        }
    }

    /// The metrics, as a scraper reads them.
    pub fn metrics_text(&self) -> String {
        let metrics = &self.metrics;
        self.media.measure(&metrics.media_ok, &metrics.media_free);
        metrics.encode()
    }

    /// What this node measures, as it tells others.
    pub fn figures(&self) -> Page {
        let metrics = &self.metrics;
        self.media.measure(&metrics.media_ok, &metrics.media_free);
        Page {
            node: self.settings.node.to_string(),
            start: self.incarnation.to_string(),
            documented: self.documented.figures(metrics),
            own: metrics.figures(),
        }
    }

    /// The store, once it has answered and its schema is there.
    pub fn db(&self) -> Option<Arc<Db>> {
        self.db.load_full()
    }

    /// Puts a store in place.
    pub fn set_db(&self, db: Db) {
        self.db.store(Some(Arc::new(db)));
    }

    /// Runs a write of messages, events or webhooks. The embedded store has one writer at a time and no queue: here they
    /// take turns, and leave the file free in between, or leases of this and other processes would starve.
    pub async fn in_turn<T>(&self, write: impl Future<Output = T>) -> T {
        if !self.db().is_some_and(|db| db.embedded()) {
            let began = clock::now();
            let out = write.await;
            self.documented.commits.add(clock::now().since(began));
            return out;
        }
        let mut free_at = self.turn.lock().await;
        while self.urgent.load(Ordering::Acquire) > 0 {
            // The lock is fair: whoever lets go and asks again comes behind the lease.
            drop(free_at);
            free_at = self.turn.lock().await;
        }
        clock::sleep_until(*free_at).await;
        let began = clock::now();
        let out = write.await;
        let ended = clock::now();
        self.documented.commits.add(ended.since(began));
        *free_at = ended + ended.since(began).clamp(GAP_MIN, GAP_MAX);
        out
    }

    /// Runs a write of the lease: before all others that wait, and without waiting for the gap.
    pub async fn in_turn_at_once<T>(&self, write: impl Future<Output = T>) -> T {
        if !self.db().is_some_and(|db| db.embedded()) {
            return write.await;
        }
        self.urgent.fetch_add(1, Ordering::AcqRel);
        // The turns are a courtesy: the file's own lock decides. Nobody may keep a lease waiting for longer than it lives.
        let _turn = tokio::time::timeout(self.settings.timers.lease_ttl / 4, self.turn.lock())
            .await
            .ok();
        self.urgent.fetch_sub(1, Ordering::AcqRel);
        write.await
    }

    /// The work of the tenure, if there is one.
    pub fn work(&self) -> Option<Arc<Work>> {
        self.work.load_full()
    }

    /// Begins or ends the work; returns what was there.
    pub fn set_work(&self, work: Option<Arc<Work>>) -> Option<Arc<Work>> {
        self.metrics.owner.set(i64::from(work.is_some()));
        if work.is_none() {
            self.documented.nothing_waits();
            self.watch.over(&self.metrics);
        }
        self.work.swap(work)
    }

    /// The upstream answered, or did not.
    pub fn upstream_seen(&self, ok: bool) {
        if ok {
            self.troubles.upstream.over();
        }
        let cell = if ok {
            &self.upstream_ok_ns
        } else {
            &self.upstream_failed_ns
        };
        cell.store(clock::now().0, Ordering::Relaxed);
    }

    /// What the upstream says of the number.
    pub fn set_unregistered(&self, unregistered: bool) {
        self.unregistered.store(unregistered, Ordering::Relaxed);
    }

    /// The number must be registered before anything can be sent. Known only to an owner.
    pub fn unregistered(&self) -> bool {
        self.unregistered.load(Ordering::Relaxed) && self.work().is_some()
    }

    /// The upstream refused a send with this number. Where it says that ours is not registered, that is looked at.
    pub fn refused_with(&self, code: u32) {
        if let Some(work) = self.work().filter(|_| code == NOT_REGISTERED) {
            work.number_wanted.notify_one();
        }
    }

    /// The upstream answered well within the last 30 s.
    pub fn connected(&self) -> bool {
        let ok = self.upstream_ok_ns.load(Ordering::Relaxed);
        ok != 0 && clock::now().since(Instant(ok)) < CONNECTED
    }

    /// Nothing speaks against the upstream: it answered lately, or nobody asked it.
    pub fn upstream_ok(&self) -> bool {
        self.connected()
            || self.work().is_none_or(|work| {
                let failed = self.upstream_failed_ns.load(Ordering::Relaxed);
                failed == 0 || clock::now().since(work.began) < CONNECTED
            })
    }
}
