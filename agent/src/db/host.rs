//! The hosts of the database: the first good one is used, and left when it is none any more.
//! Judges no server: `domain.rs` does. Never goes back by itself: a host that returns is used when this one fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use sqlx::Connection as _;
use sqlx::mysql::{MySqlPool, MySqlPoolOptions};

use super::connection::{self, Holder};
use super::domain::Domain;
use super::{DbError, STATEMENT_WITHIN, domain};
use crate::config::DatabaseSettings;

/// The next host is asked as well when the ones before it have not answered for so long.
const STAGGER: Duration = Duration::from_millis(250);
/// A statement or a connection that takes longer than this makes us look whether the host is still good.
const DOUBT_AFTER: Duration = Duration::from_millis(400);
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
}

/// All hosts, and the pool of the one in use.
#[derive(Debug)]
pub struct Hosts {
    settings: DatabaseSettings,
    connections: u32,
    holder: Option<Holder>,
    used: ArcSwap<Used>,
    looking: AtomicBool,
}

impl Hosts {
    /// Opens a pool at the first good host.
    pub(super) async fn open(
        settings: &DatabaseSettings,
        connections: u32,
        holder: Option<Holder>,
    ) -> Result<Arc<Self>, DbError> {
        let within = settings.connect_timeout;
        let (at, domain) = first_good(settings, |at| probe(settings, at, within)).await?;
        let pool = pool_at(settings, at, connections, holder.as_ref())?;
        Ok(Arc::new(Self {
            settings: settings.clone(),
            connections,
            holder,
            used: ArcSwap::from_pointee(Used { at, domain, pool }),
            looking: AtomicBool::new(false),
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
            Ok((at, domain)) => {
                let holder = self.holder.as_ref();
                pool_at(&self.settings, at, self.connections, holder).map(|pool| Used {
                    at,
                    domain,
                    pool,
                })
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
                // Whoever waits for the old host hears of it now; closing itself waits for them.
                let old = used.pool.clone();
                tokio::spawn(async move { old.close().await });
            }
            Ok(_) => return false,
            Err(error) => tracing::debug!(error = %error.brief(), "no database host is good"),
        }
        true
    }

    /// A connection of the pool in use, whichever that is by the time.
    pub(super) async fn acquire(
        self: &Arc<Self>,
    ) -> Result<sqlx::pool::PoolConnection<sqlx::MySql>, DbError> {
        let mut tries = 0..=self.settings.urls.len();
        loop {
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
                Err(error) => {
                    self.doubt();
                    return Err(error.into());
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
    let url = &settings.urls[at];
    let options = super::mysql_options(settings, url)?;
    let probe = async {
        let mut connection = sqlx::MySqlConnection::connect_with(&options).await?;
        let domain = domain::prepare(&mut connection, STATEMENT_WITHIN).await?;
        connection.close().await?;
        Ok((at, domain))
    };
    let unreachable = |why: String| DbError::Unreachable {
        url: crate::config::without_password(url),
        why,
    };
    match tokio::time::timeout(within, probe).await {
        Ok(Err(DbError::Sqlx(sqlx::Error::Io(error)))) if error.get_ref().is_none() => {
            Err(unreachable(error.to_string()))
        }
        Ok(done) => done,
        Err(_) => Err(unreachable(format!("nothing came within {within:?}"))),
    }
}

fn pool_at(
    settings: &DatabaseSettings,
    at: usize,
    connections: u32,
    holder: Option<&Holder>,
) -> Result<MySqlPool, DbError> {
    let options = super::mysql_options(settings, &settings.urls[at])?;
    let holder = holder.cloned().map(Arc::new);
    Ok(MySqlPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(settings.connect_timeout)
        .after_connect(move |c, _| {
            let holder = holder.clone();
            Box::pin(async move {
                match domain::prepare(c, STATEMENT_WITHIN).await {
                    Ok(_) => {}
                    Err(DbError::Sqlx(error)) => return Err(error),
                    Err(error) => {
                        return Err(sqlx::Error::Configuration(error.to_string().into()));
                    }
                }
                match holder {
                    Some(holder) => connection::record(c, &holder).await,
                    None => Ok(()),
                }
            })
        })
        .connect_lazy_with(options))
}
