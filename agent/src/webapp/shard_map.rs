//! The shard map as this webapp knows it: read again when a master says so, often while requests wait, seldom otherwise.
//! Believes the database only; a coreapp that refuses is a reason to read again, not an answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use wa_core::id::{Incarnation, NodeId};
use wa_core::shard_map::{Phase, shard_of};

use crate::api::v1::setting::ApplicationSettings;
use crate::config::{Settings, worst_cases};
use crate::db::identity::Identity;
use crate::db::migrate::SCHEMA_VERSION;
use crate::db::node::Registration;
use crate::db::setting::APPLICATION;
use crate::db::{Db, DbError};
use crate::media::Media;
use crate::net::health::Readiness;
use crate::net::keys::Keys;
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

/// Where requests for one shard go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub shard: u16,
    pub generation: u32,
    pub epoch: u64,
    /// Base URL of the owner's API port; `None` while there is no owner that may act.
    pub url: Option<Arc<str>>,
}

/// One reading of the map.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Map {
    /// 0 until it was read.
    pub count: u16,
    pub generation: u32,
    pub routes: Vec<Route>,
    /// Holder of the master lease, and the base URL of its control port.
    pub master: Option<(NodeId, Arc<str>)>,
}

impl Map {
    /// The shard of a recipient; `None` before the map was read.
    pub fn shard(&self, recipient_hash: u32) -> Option<u16> {
        (self.count > 0).then(|| shard_of(recipient_hash, self.count).0)
    }

    /// The route of a shard under the newest generation.
    pub fn route(&self, shard: u16) -> Option<&Route> {
        self.routes
            .iter()
            .find(|route| route.shard == shard && route.generation == self.generation)
    }
}

/// The map, its changes, and the means to ask for a reread.
pub struct Watched {
    sender: watch::Sender<Arc<Map>>,
    again: Notify,
    /// The settings changed: the next reading asks for them, too.
    settings_too: AtomicBool,
    held: AtomicUsize,
    hold: watch::Sender<Duration>,
    settings_version: AtomicU64,
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
            again: Notify::new(),
            settings_too: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            hold: watch::Sender::new(hold_timeout),
            settings_version: AtomicU64::new(0),
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
    addresses: HashMap<NodeId, (Arc<str>, Arc<str>)>,
    last_good: wa_core::time::Instant,
    last_slow: Option<wa_core::time::Instant>,
    last_beat: Option<wa_core::time::Instant>,
    /// How often the key was replaced when the own row was written last.
    told_keys: u64,
    incarnation: Incarnation,
    media: Arc<Media>,
}

impl Reader {
    /// Reads nothing yet.
    pub fn new(
        settings: Arc<Settings>,
        watched: Arc<Watched>,
        readiness: Readiness,
        incarnation: Incarnation,
        media: Arc<Media>,
    ) -> Self {
        Self {
            settings,
            watched,
            readiness,
            addresses: HashMap::new(),
            last_good: clock::now(),
            last_slow: None,
            last_beat: None,
            told_keys: 0,
            incarnation,
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
        tracing::warn!(error = %error.brief(), "reading the shard map failed; retrying");
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
            return Err(match found {
                Err(error @ DbError::SchemaNewer { .. }) => error,
                _ => DbError::Value(
                    "the schema is not there yet; the primary master makes it".to_owned(),
                ),
            });
        }
        if let Err(error) = db.same_cluster(&Identity::of(&self.settings)).await {
            db.close().await;
            return Err(error);
        }
        self.last_slow = None;
        self.last_beat = None;
        self.read(&db).await?;
        self.watched.set_db(db);
        notify::ready();
        Ok(())
    }

    async fn read(&mut self, db: &Db) -> Result<(), DbError> {
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
        if let Some(remark) = self.media.remark() {
            text.push_str("; ");
            text.push_str(&remark);
        }
        self.watched.set(map);
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
        let replaced = self.settings.cluster_key.replaced();
        let beat = self.settings.timers.db_beat_interval;
        if due(self.last_beat, beat) || self.told_keys != replaced {
            db.register(&self.registration()).await?;
            self.last_beat = Some(now);
            self.told_keys = replaced;
        }
        let (master, rows) = db.shard_map().await?;
        let owners = rows
            .iter()
            .filter(|row| row.phase == Phase::Active)
            .filter_map(|row| row.owner.as_ref());
        let unknown = owners
            .chain(&master.holder)
            .any(|node| !self.addresses.contains_key(node));
        if slow || unknown {
            self.read_addresses(db).await?;
            self.last_slow = Some(now);
        }
        let routes = rows
            .iter()
            .map(|row| {
                let owner = row.owner.as_ref().filter(|_| row.phase == Phase::Active);
                Route {
                    shard: row.shard.0,
                    generation: row.generation.0,
                    epoch: row.epoch.0,
                    url: owner
                        .and_then(|node| self.addresses.get(node))
                        .map(|(api, _)| Arc::clone(api)),
                }
            })
            .collect();
        let master_url = master.holder.and_then(|node| {
            let (_, control) = self.addresses.get(&node)?;
            Some((node, Arc::clone(control)))
        });
        Ok(Map {
            count: master.shard_count,
            generation: master.generation.0,
            routes,
            master: master_url,
        })
    }

    async fn read_addresses(&mut self, db: &Db) -> Result<(), DbError> {
        self.addresses = db
            .nodes()
            .await?
            .into_iter()
            .map(|node| {
                let r = node.registration;
                let url = |port| Arc::from(base_url(&r.address, port));
                (r.node.clone(), (url(r.port_api), url(r.port_control)))
            })
            .collect();
        Ok(())
    }

    async fn read_hold_timeout(&self, db: &Db) -> Result<(), DbError> {
        let (version, json) = db.setting(APPLICATION).await?;
        self.watched
            .settings_version
            .store(version, Ordering::Relaxed);
        let stored = ApplicationSettings::from_stored(&json).unwrap_or_default();
        let mut timers = self.settings.timers.clone();
        if let Some(interval) = stored.heartbeat_interval {
            timers.heartbeat_interval = Duration::from_millis(interval.ms);
        }
        if let Some(interval) = stored.unhealthy_interval {
            timers.unhealthy_interval = Duration::from_millis(interval.ms);
        }
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

    fn registration(&self) -> Registration {
        let s = &self.settings;
        Registration {
            node: s.node.clone(),
            role: s.role,
            incarnation: self.incarnation,
            machine: s.machine.clone(),
            zone: s.zone.clone(),
            address: s.advertise.to_string(),
            port_heartbeat: s.ports.heartbeat,
            port_control: s.ports.control,
            port_api: s.ports.api,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            weight: s.weight,
            keys: Keys::of(&s.cluster_key).ids(),
        }
    }
}

/// `http://address:port`, with brackets around an IPv6 address.
pub fn base_url(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("http://[{address}]:{port}")
    } else {
        format!("http://{address}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_of_the_newest_generation() {
        let route = |shard, generation| Route {
            shard,
            generation,
            epoch: 1,
            url: None,
        };
        let map = Map {
            count: 2,
            generation: 3,
            routes: vec![route(0, 2), route(1, 3)],
            master: None,
        };
        assert_eq!(map.route(0), None);
        assert_eq!(map.route(1), Some(&route(1, 3)));
        assert_eq!(Map::default().shard(7), None);
        assert_eq!(map.shard(7), Some(1));
    }

    #[test]
    fn ipv6_addresses_get_brackets() {
        assert_eq!(base_url("192.0.2.1", 80), "http://192.0.2.1:80");
        assert_eq!(base_url("2001:db8::1", 80), "http://[2001:db8::1]:80");
    }

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
