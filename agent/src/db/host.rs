//! The hosts of the database: the first good one is used, and left when it is none any more.
//! Judges no server: `domain.rs` does. Never goes back by itself: a host that returns is used when this one fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use sqlx::Connection as _;
use sqlx::mysql::MySqlPool;

use super::connection::Holder;
use super::domain::Domain;
use super::reach::Way;
use super::session::{self, Refusal};
use super::{DbError, STATEMENT_WITHIN};
use crate::config::DatabaseSettings;

/// The next host is asked as well when the ones before it have not answered for so long.
const STAGGER: Duration = Duration::from_millis(250);
/// A statement or a connection that takes longer than this makes us look whether the host is still good.
const DOUBT_AFTER: Duration = Duration::from_millis(400);
/// To look a name up before a probe, and to take leave after it.
const FAREWELL: Duration = Duration::from_millis(500);
/// Within this a host in doubt has to answer.
const PROBE_WITHIN: Duration = Duration::from_millis(800);

/// Opens something at the first host that is good for it, in the order of the setting; a silent host holds up the ones after
/// it for [`STAGGER`] only.
///
/// # Errors
/// The last host's error when none is.
pub(super) async fn first_good<T, F: Future<Output = Result<T, DbError>>>(
    settings: &DatabaseSettings,
    open: impl Fn(usize) -> F,
) -> Result<T, DbError> {
    let mut last = DbError::Url {
        url: String::new(),
        why: "no [database] urls are set".into(),
    };
    let mut next = 0;
    let mut asked = FuturesUnordered::new();
    loop {
        if next < settings.urls.len() {
            asked.push(open(next));
            next += 1;
        }
        let more = next < settings.urls.len();
        let answer = tokio::select! {
            answer = asked.next() => answer,
            () = tokio::time::sleep(STAGGER), if more => continue,
        };
        match answer {
            Some(Ok(opened)) => return Ok(opened),
            Some(Err(error)) => last = error,
            None if more => {}
            None => return Err(last),
        }
    }
}

/// The pool of the host in use.
#[derive(Debug)]
struct Used {
    at: usize,
    domain: Domain,
    pool: MySqlPool,
    way: Way,
}

/// All hosts, and the pool of the one in use.
#[derive(Debug)]
pub struct Hosts {
    settings: DatabaseSettings,
    connections: u32,
    holder: Option<Holder>,
    used: ArcSwap<Used>,
    looking: AtomicBool,
    /// Of the newer passwords, how many the pool knows.
    logins_known: AtomicU64,
    /// Why a new connection was not taken, while that is so.
    refusal: Refusal,
}

impl Hosts {
    /// Opens a pool at the first good host.
    pub(super) async fn open(
        settings: &DatabaseSettings,
        connections: u32,
        holder: Option<Holder>,
    ) -> Result<Arc<Self>, DbError> {
        let within = settings.connect_timeout;
        let logins_known = AtomicU64::new(settings.logins.count());
        let good = first_good(settings, |at| probe(settings, at, within)).await?;
        let refusal = Refusal::default();
        let used = pool_at(settings, good, connections, holder.as_ref(), &refusal).await?;
        Ok(Arc::new(Self {
            settings: settings.clone(),
            connections,
            holder,
            used: ArcSwap::from_pointee(used),
            looking: AtomicBool::new(false),
            logins_known,
            refusal,
        }))
    }

    /// The pool of the host in use. It is closed when another host is used.
    pub fn pool(&self) -> MySqlPool {
        self.used.load().pool.clone()
    }

    /// The host in use is a node of a Galera cluster.
    pub(super) fn on_galera(&self) -> bool {
        self.used.load().domain == Domain::Galera
    }

    /// There are others to fail over to.
    pub(super) fn several(&self) -> bool {
        self.settings.urls.len() > 1
    }

    pub(super) async fn close(&self) {
        // No look may open another pool any more.
        self.looking.store(true, Ordering::Release);
        self.pool().close().await;
    }

    /// Something went wrong: looks, beside what the caller does, whether the host is still good, and moves if not.
    pub(super) fn doubt(self: &Arc<Self>) {
        if !self.several() || self.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let hosts = Arc::clone(self);
        tokio::spawn(async move {
            if hosts.look().await {
                hosts.looking.store(false, Ordering::Release);
            }
        });
    }

    /// False: closed meanwhile.
    async fn look(&self) -> bool {
        let used = self.used.load_full();
        if used.pool.is_closed() {
            return false;
        }
        if probe(&self.settings, used.at, PROBE_WITHIN).await.is_ok() {
            return true;
        }
        let others = first_good(&self.settings, |at| probe(&self.settings, at, PROBE_WITHIN));
        let opened = match others.await {
            Ok(good) => {
                let holder = self.holder.as_ref();
                pool_at(
                    &self.settings,
                    good,
                    self.connections,
                    holder,
                    &self.refusal,
                )
                .await
            }
            Err(error) => Err(error),
        };
        match opened {
            Ok(next) if !used.pool.is_closed() => {
                tracing::warn!(
                    from = %crate::config::without_password(&self.settings.urls[used.at]),
                    to = %crate::config::without_password(&self.settings.urls[next.at]),
                    "another database host is used from now on"
                );
                self.used.store(Arc::new(next));
                // Opened before a newer password was known, perhaps.
                self.logins_known.store(u64::MAX, Ordering::Release);
                // Whoever waits for the old host hears of it now; closing itself waits for them.
                let old = used.pool.clone();
                tokio::spawn(async move { old.close().await });
            }
            Ok(_) => return false,
            Err(error) => tracing::debug!(error = %error.brief(), "no database host is good"),
        }
        true
    }

    /// Hands the pool a newer password, for the connections that it opens from now on. False: there is none.
    fn renew(&self) -> bool {
        let count = self.settings.logins.count();
        if self.logins_known.swap(count, Ordering::AcqRel) == count {
            return false;
        }
        let used = self.used.load();
        match used.way.renewed(&self.settings, used.at) {
            Ok(options) => used.pool.set_connect_options(options),
            Err(error) => {
                tracing::warn!(error = %error.brief(), "the new password of the database is not used");
            }
        }
        true
    }

    /// A connection of the pool in use, whichever that is by the time.
    pub(super) async fn acquire(
        self: &Arc<Self>,
    ) -> Result<sqlx::pool::PoolConnection<sqlx::MySql>, DbError> {
        let mut tries = 0..=self.settings.urls.len();
        loop {
            self.renew();
            let pool = self.pool();
            let mut asked = std::pin::pin!(pool.acquire());
            let done = tokio::select! {
                biased;
                done = &mut asked => done,
                () = tokio::time::sleep(DOUBT_AFTER) => {
                    self.doubt();
                    asked.await
                }
            };
            match done {
                Err(sqlx::Error::PoolClosed)
                    if !self.pool().is_closed() && tries.next().is_some() => {}
                // Refused with the old password while the new one came into force.
                Err(error)
                    if super::is_denied(&error)
                        && self.logins_known.load(Ordering::Acquire)
                            != self.settings.logins.count()
                        && tries.next().is_some() => {}
                Err(error) => {
                    self.doubt();
                    let refused = self.refusal.load_full();
                    return Err(match (error, refused) {
                        (sqlx::Error::PoolTimedOut, Some(why)) => DbError::Refused(why),
                        (error, _) => self.used.load().way.explain(error),
                    });
                }
                Ok(connection) => return Ok(connection),
            }
        }
    }

    /// The answer of the database, or that none came in time, or that its host was given up meanwhile.
    pub(super) async fn in_time<F: Future>(
        self: &Arc<Self>,
        pool: &MySqlPool,
        asked: F,
    ) -> Result<F::Output, DbError> {
        let mut asked = std::pin::pin!(asked);
        tokio::select! {
            biased;
            done = &mut asked => return Ok(done),
            () = tokio::time::sleep(DOUBT_AFTER) => self.doubt(),
        }
        let rest = STATEMENT_WITHIN.saturating_sub(DOUBT_AFTER);
        tokio::select! {
            biased;
            done = &mut asked => Ok(done),
            () = pool.close_event() => Err(DbError::HostLeft),
            () = tokio::time::sleep(rest) => Err(DbError::Deadline(STATEMENT_WITHIN)),
        }
    }
}

/// Whether a host is good, on a connection of its own: a pool would go on trying, and say only that it took too long.
async fn probe(
    settings: &DatabaseSettings,
    at: usize,
    within: Duration,
) -> Result<(usize, Domain), DbError> {
    let opened = async {
        let way = Way::to(settings, at).await?;
        let opening = session::open(&way, STATEMENT_WITHIN);
        let opened = tokio::time::timeout(within, opening).await;
        let (connection, domain) = opened.map_err(|_| way.silent(within))??;
        // A farewell that fails says nothing against the server: it may have hung up at once.
        let _ = connection.close().await;
        Ok((at, domain))
    };
    let unreachable = |_| DbError::Unreachable {
        url: crate::config::without_password(&settings.urls[at]),
        why: format!("nothing came within {within:?}"),
    };
    tokio::time::timeout(within + FAREWELL, opened)
        .await
        .map_err(unreachable)?
}

/// The pool of a host, opened on the way that it keeps.
async fn pool_at(
    settings: &DatabaseSettings,
    (at, domain): (usize, Domain),
    connections: u32,
    holder: Option<&Holder>,
    refusal: &Refusal,
) -> Result<Used, DbError> {
    let way = Way::to(settings, at).await?;
    let within = settings.connect_timeout;
    let pool = session::pool(&way, connections, within, holder.cloned(), refusal);
    Ok(Used {
        at,
        domain,
        pool,
        way,
    })
}
