//! Watches the shard map for this webapp: it is read again when a master says so, often while requests wait, seldom otherwise.
//! Believes the database only; a coreapp that refuses is a reason to read again, not an answer.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use wa_core::id::{Incarnation, Role};
use wa_core::judgement::{self, Evidence};
use wa_core::roll::Roll;
use wa_core::shard_map::Phase;

use super::shard_map::{Map, Places, places};
use crate::api::v1::setting::ApplicationSettings;
use crate::config::{Settings, worst_cases};
use crate::db::identity::Identity;
use crate::db::migrate::SCHEMA_VERSION;
use crate::db::node::Registration;
use crate::db::node_form::read_by_all;
use crate::db::{Db, DbError};
use crate::log::seldom;
use crate::media::Media;
use crate::member::register::{OwnRow, row};
use crate::member::settings;
use crate::metrics::WebappMetrics;
use crate::net::health::Readiness;
use crate::sys::trouble::Trouble;
use crate::sys::{clock, notify};

/// Fastest and slowest rereads while requests are held.
const HELD_INTERVAL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));
/// A read that takes longer is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// After this long without a good read the database is connected anew: another host of the list may be the writer now.
const RECONNECT_AFTER: Duration = Duration::from_secs(5);
/// How often settings and addresses are read even when nothing asks for them.
const SLOW_INTERVAL: Duration = Duration::from_millis(500);
const CONNECTIONS: u32 = 8;
/// A request that was refused longer ago says nothing about now.
const REFUSED_WITHIN: Duration = Duration::from_secs(15);

/// The map, its changes, and the means to ask for a reread.
pub struct Watched {
    sender: watch::Sender<Arc<Map>>,
    /// When the newest reading began.
    begun: watch::Sender<Option<wa_core::time::Instant>>,
    again: Notify,
    /// The settings changed: the next reading asks for them, too.
    settings_too: AtomicBool,
    held: AtomicUsize,
    hold: watch::Sender<Duration>,
    settings_version: AtomicU64,
    /// The business wants to hear of changed identity keys.
    pub security_notifications: AtomicBool,
    /// Requests that were answered 503 for want of an owner.
    pub refused: Trouble,
    /// Who is still a member.
    pub roll: Mutex<Roll>,
    /// Names and addresses of all webapps.
    webapps: ArcSwap<Vec<String>>,
    db: Arc<ArcSwapOption<Db>>,
}

/// Counts one waiting request or batch for as long as it lives; the map is read often meanwhile.
pub struct Held<'a>(&'a Watched);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Watched {
    /// Knows nothing yet.
    pub fn new(hold_timeout: Duration) -> Self {
        Self {
            sender: watch::Sender::new(Arc::default()),
            begun: watch::Sender::new(None),
            again: Notify::new(),
            settings_too: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            hold: watch::Sender::new(hold_timeout),
            settings_version: AtomicU64::new(0),
            security_notifications: AtomicBool::new(false),
            refused: Trouble::default(),
            roll: Mutex::default(),
            webapps: ArcSwap::default(),
            db: Arc::default(),
        }
    }

    pub(super) fn shared_db(&self) -> Arc<ArcSwapOption<Db>> {
        Arc::clone(&self.db)
    }

    /// The newest reading.
    pub fn now(&self) -> Arc<Map> {
        Arc::clone(&self.sender.borrow())
    }

    /// Wakes at every change.
    pub fn changes(&self) -> watch::Receiver<Arc<Map>> {
        self.sender.subscribe()
    }

    /// Reads again at once.
    pub fn reread(&self) {
        self.again.notify_one();
    }

    /// A reading that began after this call; `None` when none came in time.
    pub async fn fresh(&self, within: Duration) -> Option<Arc<Map>> {
        let (since, mut begun) = (clock::now(), self.begun.subscribe());
        self.reread();
        let newer = begun.wait_for(|begun| begun.is_some_and(|begun| begun >= since));
        tokio::time::timeout(within, newer).await.ok()?.ok()?;
        Some(self.now())
    }

    /// Reads the settings at once.
    pub fn reread_settings(&self) {
        self.settings_too.store(true, Ordering::Release);
        self.again.notify_one();
    }

    /// How long a request may wait for an owner: at least the worst-case takeover under the settings in force.
    pub fn hold_timeout(&self) -> Duration {
        *self.hold.borrow()
    }

    /// Version of the application settings that were read last.
    pub fn settings_version(&self) -> u64 {
        self.settings_version.load(Ordering::Relaxed)
    }

    /// Names and addresses of all webapps, as they registered; empty before the first reading.
    pub fn webapps(&self) -> Arc<Vec<String>> {
        self.webapps.load_full()
    }

    /// Puts a hold in place, as settings that were read do.
    #[cfg(test)]
    pub fn set_hold(&self, hold: Duration) {
        self.hold.send_replace(hold);
    }

    /// Reads often until the answer is dropped.
    pub fn hold(&self) -> Held<'_> {
        self.held.fetch_add(1, Ordering::Relaxed);
        self.reread();
        Held(self)
    }

    /// Puts a reading in place; tests use it too.
    pub fn set(&self, map: Map) {
        self.sender.send_if_modified(|current| {
            let changed = **current != map;
            if changed {
                *current = Arc::new(map);
            }
            changed
        });
    }

    /// What this webapp knows by itself of what is wrong.
    pub fn evidence(&self) -> Evidence {
        Evidence {
            refused: self.refused.standing(REFUSED_WITHIN),
            ..Evidence::default()
        }
    }

    /// Hands over a database that is ready.
    pub fn set_db(&self, db: Db) {
        self.db.store(Some(Arc::new(db)));
    }
}

/// The reader of the map: one task for as long as the webapp runs.
pub struct Reader {
    settings: Arc<Settings>,
    watched: Arc<Watched>,
    readiness: Readiness,
    places: Places,
    /// See [`Map::form`].
    form: u16,
    last_good: wa_core::time::Instant,
    last_slow: Option<wa_core::time::Instant>,
    own: OwnRow,
    media: Arc<Media>,
    metrics: Arc<WebappMetrics>,
}

impl Reader {
    /// Reads nothing yet.
    pub fn new(
        settings: Arc<Settings>,
        watched: Arc<Watched>,
        readiness: Readiness,
        incarnation: Incarnation,
        media: Arc<Media>,
        metrics: Arc<WebappMetrics>,
    ) -> Self {
        let own = OwnRow::new(
            row(&settings, incarnation),
            &settings.cluster_key,
            settings.timers.db_beat_interval,
        );
        Self {
            metrics,
            own,
            settings,
            watched,
            readiness,
            places: Places::new(),
            form: 0,
            last_good: clock::now(),
            last_slow: None,
            media,
        }
    }

    /// Connects, then reads until the stop.
    pub async fn run(mut self, stop: CancellationToken) {
        self.readiness.not_ready("connecting to the database");
        let mut backoff = Duration::from_millis(50);
        while !stop.is_cancelled() {
            // This loop decides where requests go; a lost database does not stop it, only a hang does.
            notify::watchdog();
            let db = self.watched.db.load_full();
            let outcome = match db {
                None => self.connect().await,
                Some(db) => self.read(&db).await,
            };
            let pause = match outcome {
                Ok(()) => {
                    backoff = Duration::from_millis(50);
                    self.last_good = clock::now();
                    self.pause()
                }
                Err(error) => {
                    self.failed(&error);
                    backoff = (backoff * 2).min(Duration::from_secs(1));
                    backoff
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = clock::sleep(pause) => {}
                // Even when asked again and again, a short rest in between.
                () = self.watched.again.notified() => clock::sleep(Duration::from_millis(2)).await,
            }
        }
    }

    fn pause(&self) -> Duration {
        let ttl = self.settings.timers.lease_ttl;
        if self.watched.held.load(Ordering::Relaxed) > 0 {
            (ttl / 50).clamp(HELD_INTERVAL.0, HELD_INTERVAL.1)
        } else {
            (ttl / 3).min(SLOW_INTERVAL)
        }
    }

    fn failed(&mut self, error: &DbError) {
        let why = format!("database: {}", error.brief());
        seldom!(tracing::warn!(error = %error.brief(), "reading the shard map failed; retrying"));
        self.readiness.not_ready(&why);
        if clock::now().since(self.last_good) > RECONNECT_AFTER
            && let Some(old) = self.watched.db.swap(None)
        {
            // Requests that still use it finish; closing waits for them.
            tokio::spawn(async move { old.close().await });
        }
    }

    async fn connect(&mut self) -> Result<(), DbError> {
        let db = Db::connect(&self.settings.database, CONNECTIONS).await?;
        let found = db.schema_version().await;
        if !matches!(found, Ok(SCHEMA_VERSION..)) {
            db.close().await;
            if let Err(error @ DbError::SchemaNewer { .. }) = found {
                return Err(error);
            }
            let why = "the schema is not there yet; the primary master makes it";
            return Err(DbError::Value(why.to_owned()));
        }
        if let Err(error) = db.same_cluster(&Identity::of(&self.settings)).await {
            db.close().await;
            return Err(error);
        }
        self.last_slow = None;
        self.own.again();
        self.read(&db).await?;
        self.watched.set_db(db);
        notify::ready();
        Ok(())
    }

    async fn read(&mut self, db: &Db) -> Result<(), DbError> {
        let begun = clock::now();
        let reading = tokio::time::timeout(READ_TIMEOUT, self.read_map(db));
        let map = reading
            .await
            .map_err(|_| DbError::Deadline(READ_TIMEOUT))??;
        let owners = map
            .routes
            .iter()
            .filter(|route| route.url.is_some())
            .count();
        let mut text = format!("{owners} of {} shards have an owner", map.count);
        let problems = judgement::judge(&self.watched.evidence());
        self.metrics.problems.set(&problems);
        if let Some(wrong) = judgement::remark(&problems) {
            text.push_str("; ");
            text.push_str(&wrong);
        }
        if let Some(remark) = self.media.remark() {
            text.push_str("; ");
            text.push_str(&remark);
        }
        self.watched.set(map);
        self.watched.begun.send_replace(Some(begun));
        self.readiness.ready(&text);
        Ok(())
    }

    async fn read_map(&mut self, db: &Db) -> Result<Map, DbError> {
        let now = clock::now();
        let due = |last: Option<wa_core::time::Instant>, every| {
            last.is_none_or(|at| now.since(at) >= every)
        };
        let told = self.watched.settings_too.swap(false, Ordering::AcqRel);
        let slow = told || due(self.last_slow, SLOW_INTERVAL);
        if slow {
            self.read_hold_timeout(db).await?;
        }
        self.own.keep(db).await?;
        let (master, rows) = db.shard_map().await?;
        let owners = rows
            .iter()
            .filter(|row| row.phase == Phase::Active)
            .filter_map(|row| row.owner.as_ref());
        let unknown = owners
            .chain(&master.holder)
            .any(|node| !self.places.contains_key(node));
        if slow || unknown {
            self.read_addresses(db).await?;
            self.last_slow = Some(now);
        }
        Ok(Map::of(&master, &rows, &self.places, self.form))
    }

    async fn read_addresses(&mut self, db: &Db) -> Result<(), DbError> {
        let forms = db.forms().await?;
        let members = db.members(&self.watched.roll).await?;
        let all = members.iter().map(|member| &member.registration);
        self.form = read_by_all(all, &forms);
        self.places = places(&members);
        let webapps = members.iter().map(|member| &member.registration);
        self.watched.webapps.store(Arc::new(hosts(webapps)));
        Ok(())
    }

    async fn read_hold_timeout(&self, db: &Db) -> Result<(), DbError> {
        let stored = settings::read::<ApplicationSettings>(db).await?;
        self.watched
            .settings_version
            .store(stored.version, Ordering::Relaxed);
        let mut timers = self.settings.timers.clone();
        let application = stored.or_default();
        self.watched
            .security_notifications
            .store(application.show_security_notifications, Ordering::Relaxed);
        let intervals = settings::intervals(&application, &timers);
        timers.heartbeat_interval = intervals.heartbeat;
        timers.unhealthy_interval = intervals.unhealthy;
        let worst = worst_cases(&timers, false)
            .iter()
            .map(|case| case.takeover)
            .max()
            .unwrap_or_default();
        let hold = timers.hold_timeout.max(worst * 6 / 5);
        self.watched
            .hold
            .send_if_modified(|current| std::mem::replace(current, hold) != hold);
        Ok(())
    }
}

/// Names and addresses of the webapps among these nodes.
fn hosts<'a>(nodes: impl Iterator<Item = &'a Registration>) -> Vec<String> {
    let webapps = nodes.filter(|node| node.role == Role::Webapp);
    let hosts = webapps.flat_map(|node| {
        let name = node.node.as_str().rsplit_once(':').map(|(host, _)| host);
        [name.unwrap_or_default().to_owned(), node.address.clone()]
    });
    let mut hosts: Vec<String> = hosts.filter(|host| !host.is_empty()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn watchers_wake_on_changes_only() {
        let watched = Watched::new(Duration::from_secs(1));
        let mut changes = watched.changes();
        watched.set(Map::default());
        assert!(!changes.has_changed().expect("open"));
        watched.set(Map {
            count: 1,
            ..Map::default()
        });
        changes.changed().await.expect("open");
        assert_eq!(watched.now().count, 1);
    }
}
