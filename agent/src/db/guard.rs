//! Commits under the guard: statements that take effect only while (epoch, grant) are the shard's (rule 5.9, S5).
//! Knows nothing of what the statements do.

use std::sync::Arc;
use std::time::Duration;

use wa_core::id::Ownership;

use super::host::Hosts;
use super::{Db, DbError, STATEMENT_WITHIN, number};

/// The guard row's condition for one ownership.
pub(super) fn condition(own: &Ownership) -> String {
    format!(
        "shard={} AND epoch={} AND grant_id={}",
        own.shard.0,
        number(own.epoch.0),
        number(own.grant.0)
    )
}

impl Db {
    /// The write of the guard row that begins every commit. `touch` grows with each, and is the time of the database's clock in
    /// µs where that is higher: numbers of different shards can be compared, and those of one never go back with the clock.
    /// SQLite's clock counts milliseconds, in which many commits fit: there each is above those of all shards, which costs
    /// nothing where one writes at a time.
    pub(super) fn touch(&self, own: &Ownership) -> String {
        let higher = if self.embedded() {
            "MAX((SELECT MAX(touch) FROM shard_guard)+1, CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000)"
        } else {
            "GREATEST(touch+1, CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED))"
        };
        format!(
            "UPDATE shard_guard SET touch={higher} WHERE {}",
            condition(own)
        )
    }
}

/// Adds the guard's condition to an UPDATE or DELETE (behind its WHERE); an INSERT ... SELECT says where it goes.
fn guard_statement(statement: &str, alive: &str) -> String {
    if statement.starts_with("UPDATE") || statement.starts_with("DELETE") {
        format!("{statement} AND {alive}")
    } else {
        statement.replace("{alive}", alive)
    }
}

/// A pooled connection in the middle of something. Dropped there, it is closed and not given back: a transaction may still
/// be open and hold the guard row's lock, an answer may still be on its way.
pub(super) struct Lent<D: sqlx::Database>(Option<sqlx::pool::PoolConnection<D>>);

impl<D: sqlx::Database> Lent<D> {
    pub(super) async fn from(pool: &sqlx::Pool<D>) -> Result<Self, DbError> {
        Ok(Self(Some(pool.acquire().await?)))
    }

    pub(super) fn of(connection: sqlx::pool::PoolConnection<D>) -> Self {
        Self(Some(connection))
    }

    pub(super) fn connection(&mut self) -> &mut D::Connection {
        self.0.as_mut().expect("lent until it is given back")
    }

    /// Back to the pool if an answer came, an error of the statement included; not if it says that this server is of no use.
    pub(super) fn give_back_if_known<T>(
        mut self,
        done: Result<Result<T, DbError>, DbError>,
    ) -> Result<T, DbError> {
        let useless = |error: &DbError| matches!(error, DbError::Sqlx(error) if super::is_out_of_service(error));
        match &done {
            Ok(Err(error)) if useless(error) => {}
            Ok(_) => drop(self.0.take()),
            Err(_) => {}
        }
        done?
    }
}

impl Lent<sqlx::MySql> {
    /// A connection to the host in use.
    pub(super) async fn at(hosts: &Arc<Hosts>) -> Result<Self, DbError> {
        hosts.acquire().await.map(Self::of)
    }
}

impl<D: sqlx::Database> Drop for Lent<D> {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// The answer of the database, or that none came in time.
pub(super) async fn in_time<F: Future>(asked: F) -> Result<F::Output, DbError> {
    tokio::time::timeout(STATEMENT_WITHIN, asked)
        .await
        .map_err(|_| DbError::Deadline(STATEMENT_WITHIN))
}

/// Tries of a packet that another commit came before: nothing was changed, and the next one sees that commit.
const CONFLICTS_MAX: u32 = 8;

/// Sends several statements in one packet and collects the rows that each changed.
///
/// # Errors
/// [`DbError::Conflict`]: nothing was changed. After any other error the outcome is unknown.
pub(super) async fn run_packet(hosts: &Arc<Hosts>, packet: &str) -> Result<Vec<u64>, DbError> {
    for _ in 0..CONFLICTS_MAX {
        if let Some(counts) = run_packet_once(hosts, packet).await? {
            return Ok(counts);
        }
    }
    Err(DbError::Conflict)
}

/// `None`: another commit came first, and a second try may succeed at once.
async fn run_packet_once(hosts: &Arc<Hosts>, packet: &str) -> Result<Option<Vec<u64>>, DbError> {
    let pool = hosts.pool();
    let mut lent = Lent::at(hosts).await?;
    // An error in the middle leaves the transaction open: then, too, the connection is not given back.
    let run = run_whole(lent.connection(), packet, hosts.on_galera());
    match hosts.in_time(&pool, run).await? {
        // Rolled back between two of its statements, which the server tells nobody.
        Ok(None) => Ok(None),
        Ok(counts) => lent.give_back_if_known(Ok(Ok(counts))),
        // Whatever was locked or written goes with the connection.
        Err(error) if super::is_deadlock(&error) => Ok(None),
        Err(error) if super::is_busy(&error) && !super::is_cut_short(&error) => {
            Err(DbError::Conflict)
        }
        Err(error) => {
            hosts.doubt();
            Err(error.into())
        }
    }
}

/// What this connection wrote last, as Galera numbers commits.
const LAST_WRITTEN: &str = "SELECT WSREP_LAST_WRITTEN_GTID()";

/// Runs a transaction. `None`: it was not committed, though no statement said so. Galera rolls a transaction back when another
/// node's commit needs its rows; where that strikes between two statements of one packet, the COMMIT that follows finds no
/// transaction and succeeds. So the packet also says what was committed last, before and after.
async fn run_whole(
    connection: &mut sqlx::MySqlConnection,
    packet: &str,
    galera: bool,
) -> Result<Option<Vec<u64>>, sqlx::Error> {
    use futures_util::TryStreamExt as _;
    use sqlx::Row as _;
    if !galera {
        return run_on(connection, packet.to_owned()).await.map(Some);
    }
    let packet = format!("{LAST_WRITTEN};{packet};{LAST_WRITTEN}");
    let (mut counts, mut written) = (Vec::new(), Vec::<String>::new());
    let mut stream = sqlx::raw_sql(sqlx::AssertSqlSafe(packet)).fetch_many(connection);
    while let Some(part) = stream.try_next().await? {
        match part {
            sqlx::Either::Left(done) => counts.push(done.rows_affected()),
            // By its bytes: servers call the type VARCHAR or VARBINARY, as their character sets have it.
            sqlx::Either::Right(row) => written.push(row.try_get_unchecked(0)?),
        }
    }
    // The two questions are no statements of the transaction.
    counts.pop();
    if !counts.is_empty() {
        counts.remove(0);
    }
    let touched = counts.get(1).is_some_and(|rows| *rows > 0);
    let committed = written.len() == 2 && written[0] != written[1];
    Ok((committed || !touched).then_some(counts))
}

/// The same on a connection of one's own.
pub(super) async fn run_on(
    connection: &mut sqlx::MySqlConnection,
    packet: String,
) -> Result<Vec<u64>, sqlx::Error> {
    use futures_util::TryStreamExt as _;
    let mut counts = Vec::new();
    let mut stream = sqlx::raw_sql(sqlx::AssertSqlSafe(packet)).execute_many(connection);
    while let Some(done) = stream.try_next().await? {
        counts.push(done.rows_affected());
    }
    Ok(counts)
}

impl Db {
    /// Runs statements in one commit behind a write of the guard row; the rows that each changed. `None`: stale, nothing
    /// was done.
    pub(super) async fn guarded(
        &self,
        own: &Ownership,
        statements: &[String],
    ) -> Result<Option<Vec<u64>>, DbError> {
        let touch = self.touch(own);
        match self {
            Self::Sqlite(pool) => {
                let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
                let touched = sqlx::raw_sql(sqlx::AssertSqlSafe(touch))
                    .execute(&mut *tx)
                    .await?;
                if touched.rows_affected() == 0 {
                    tx.rollback().await?;
                    return Ok(None);
                }
                let mut counts = Vec::with_capacity(statements.len());
                for statement in statements {
                    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(statement.clone()))
                        .execute(&mut *tx)
                        .await?;
                    counts.push(done.rows_affected());
                }
                tx.commit().await?;
                Ok(Some(counts))
            }
            Self::MySql(hosts) => {
                // One packet: the statements see the guard by a condition, so that a stale owner's change nothing, and a
                // client that freezes in the middle holds no lock.
                let mut packet = format!("START TRANSACTION;{touch};");
                let alive = format!(
                    "EXISTS (SELECT 1 FROM shard_guard WHERE {})",
                    condition(own)
                );
                for statement in statements {
                    packet.push_str(&guard_statement(statement, &alive));
                    packet.push(';');
                }
                packet.push_str("COMMIT");
                let counts = run_packet(hosts, &packet).await?;
                if counts.get(1).is_none_or(|touched| *touched == 0) {
                    return Ok(None);
                }
                // Without BEGIN and the guard row before them, and the COMMIT behind them: as on SQLite.
                let own = counts.into_iter().skip(2).take(statements.len());
                Ok(Some(own.collect()))
            }
        }
    }
}

/// Waits before the looks for rows of a commit whose outcome nobody learned.
const LOOKS_AFTER: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(20),
];

/// A commit that claims rows. Dropped before its outcome is known (an error, a deadline of the caller), it queues the
/// rows that it may have claimed: their sender has never heard of them.
pub(super) struct Claiming {
    db: Db,
    own: Ownership,
    pub batch: u64,
    settled: bool,
}

impl Claiming {
    pub(super) fn new(db: &Db, own: &Ownership) -> Self {
        Self {
            db: db.clone(),
            own: own.clone(),
            batch: getrandom::u64().unwrap_or_default() >> 1,
            settled: false,
        }
    }

    /// The outcome is known: whoever asked looks after the rows.
    pub(super) fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for Claiming {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if self.settled {
            return;
        }
        let (db, own, batch) = (self.db.clone(), self.own.clone(), self.batch);
        runtime.spawn(async move {
            let queue = format!("UPDATE message SET state=0 WHERE state=1 AND claim_batch={batch}");
            // More than one look: the commit may still be on its way to the server.
            for wait in LOOKS_AFTER {
                tokio::time::sleep(wait).await;
                if let Ok(None) = db.guarded(&own, std::slice::from_ref(&queue)).await {
                    return;
                }
            }
        });
    }
}
