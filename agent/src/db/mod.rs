//! The database: MySQL or MariaDB in production, SQLite for one machine. The only folder with SQL.
//! Decides nothing: conditions are in the statements, outcomes are typed, time is the database's own.

pub mod history;
pub mod inbox;
pub mod lease;
pub mod message;
pub mod migrate;
pub mod node;
pub mod setting;
pub mod user;
pub mod webhook;

use std::str::FromStr;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions, MySqlSslMode};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::config::DatabaseSettings;

/// Why a call to the database failed. Nothing is known to be lost: callers retry or report.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error("the database URL {url} cannot be used: {why}")]
    Url { url: String, why: String },
    #[error("the database does not answer")]
    Sqlx(#[from] sqlx::Error),
    #[error("the database server {server} is read-only; point [database] urls at the writer")]
    ReadOnly { server: String },
    #[error("the database did not answer within {0:?}")]
    Deadline(Duration),
    #[error(
        "the schema has version {found}, this build knows {known}; install the newer wa-agent on this machine"
    )]
    SchemaNewer { found: i64, known: i64 },
    #[error("a stored value cannot be read: {0}")]
    Value(String),
}

impl DbError {
    /// The first cause in one line, without statement texts.
    pub fn brief(&self) -> String {
        match self {
            Self::Sqlx(sqlx::Error::Database(error)) => {
                format!("database error: {}", error.message())
            }
            Self::Sqlx(error) => format!("database: {error}"),
            other => other.to_string(),
        }
    }
}

/// The two kinds of server behind one set of statements.
#[derive(Debug, Clone)]
pub enum Db {
    MySql(MySqlPool),
    Sqlite(SqlitePool),
}

/// Runs one body with either pool: the statements are the same text.
macro_rules! on_pool {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db {
            $crate::db::Db::MySql($pool) => $body,
            $crate::db::Db::Sqlite($pool) => $body,
        }
    };
}
pub(crate) use on_pool;

/// A statement text with the words that differ between the dialects filled in.
pub(crate) fn text(db: &Db, sql: &str) -> sqlx::AssertSqlSafe<String> {
    let mysql = matches!(db, Db::MySql(_));
    let now = if mysql {
        "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"
    } else {
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    };
    let ignore = if mysql { "IGNORE" } else { "OR IGNORE" };
    sqlx::AssertSqlSafe(sql.replace("{now}", now).replace("{ignore}", ignore))
}

/// A text value as a MySQL literal: hexadecimal, so that no byte of it can end the literal.
pub(crate) fn literal(value: &str) -> String {
    if value.is_empty() {
        "''".into()
    } else {
        format!("CONVERT(x'{}' USING utf8mb4)", hex::encode(value))
    }
}

/// A 63-bit number as the rows hold it.
pub(crate) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A row's number as the core holds it.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

impl Db {
    /// Opens a pool of at most `connections`; hosts are tried in the order of the setting until one answers.
    ///
    /// # Errors
    /// The last host's error when none answers.
    pub async fn connect(settings: &DatabaseSettings, connections: u32) -> Result<Self, DbError> {
        let mut last = DbError::Url {
            url: String::new(),
            why: "no [database] urls are set".into(),
        };
        for url in &settings.urls {
            match Self::connect_one(settings, url, connections).await {
                Ok(db) => return Ok(db),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_one(
        settings: &DatabaseSettings,
        url: &str,
        connections: u32,
    ) -> Result<Self, DbError> {
        if url.starts_with("sqlite:") {
            let pool = SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(settings.connect_timeout)
                .connect_with(sqlite_options(settings, url)?)
                .await?;
            return Ok(Self::Sqlite(pool));
        }
        let pool = MySqlPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(settings.connect_timeout)
            .after_connect(|connection, _| Box::pin(mysql_session(connection)))
            .connect_with(mysql_options(settings, url)?)
            .await?;
        let db = Self::MySql(pool);
        db.refuse_read_only().await?;
        Ok(db)
    }

    /// Rule 5.9: a connection to a read-only server is not used.
    async fn refuse_read_only(&self) -> Result<(), DbError> {
        let Self::MySql(pool) = self else {
            return Ok(());
        };
        let (read_only, server): (i64, String) = sqlx::query_as(
            "SELECT CAST(@@global.read_only AS SIGNED), CONCAT(@@hostname, ':', @@port)",
        )
        .fetch_one(pool)
        .await?;
        if read_only != 0 {
            Err(DbError::ReadOnly { server })
        } else {
            Ok(())
        }
    }

    /// Closes all connections.
    pub async fn close(&self) {
        on_pool!(self, pool => pool.close().await);
    }

    /// The store is one file on this machine.
    pub fn embedded(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }
}

/// Session settings of every MySQL connection: waits are short, statements see what is committed.
const MYSQL_SESSION: &str = "SET SESSION innodb_lock_wait_timeout=1, SESSION wait_timeout=600, \
     SESSION transaction_isolation='READ-COMMITTED'";
const MARIADB_SESSION: &str = "SET SESSION innodb_lock_wait_timeout=1, SESSION wait_timeout=600, SESSION tx_isolation='READ-COMMITTED'";

pub(crate) fn mysql_options(
    settings: &DatabaseSettings,
    url: &str,
) -> Result<MySqlConnectOptions, DbError> {
    let shown = || crate::config::without_password(url);
    let mut options = MySqlConnectOptions::from_str(url).map_err(|e| DbError::Url {
        url: shown(),
        why: e.to_string(),
    })?;
    let mut mode = MySqlSslMode::Preferred;
    if let Some(ca) = &settings.ssl_ca {
        options = options.ssl_ca(ca);
        mode = MySqlSslMode::VerifyCa;
    }
    if let (Some(cert), Some(key)) = (&settings.ssl_cert, &settings.ssl_key) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    Ok(options
        .ssl_mode(mode)
        .charset("utf8mb4")
        .pipes_as_concat(false)
        .no_engine_substitution(false))
}

/// Session settings that differ by server kind: MariaDB 10 has no `transaction_isolation`.
pub(crate) async fn mysql_session(
    connection: &mut sqlx::MySqlConnection,
) -> Result<(), sqlx::Error> {
    if sqlx::query(MYSQL_SESSION)
        .execute(&mut *connection)
        .await
        .is_err()
    {
        sqlx::query(MARIADB_SESSION)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

pub(crate) fn sqlite_options(
    settings: &DatabaseSettings,
    url: &str,
) -> Result<SqliteConnectOptions, DbError> {
    Ok(SqliteConnectOptions::from_str(url)
        .map_err(|e| DbError::Url {
            url: url.into(),
            why: e.to_string(),
        })?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(settings.busy_timeout))
}
