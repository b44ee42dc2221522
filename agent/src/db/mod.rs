//! The database: MySQL or MariaDB in production, SQLite for one machine. The only folder with SQL.
//! Decides nothing: conditions are in the statements, outcomes are typed, time is the database's own.

pub mod alias;
pub mod ambiguity;
pub mod audit;
pub mod body;
mod claimed;
pub mod collection;
pub mod connection;
pub mod count;
pub mod customer;
mod deciding_read;
pub mod domain;
pub mod due;
mod durability;
pub mod event;
pub mod fence;
pub mod find;
mod guard;
pub mod history;
mod host;
pub mod identity;
pub mod identity_key;
pub mod inbox;
pub mod known_server;
pub mod lease;
mod lease_row;
mod lease_rows;
pub mod left;
pub mod media;
pub mod message;
pub mod message_id;
pub mod migrate;
pub mod mount;
#[cfg(feature = "mutants")]
mod mutant;
pub mod node;
pub mod node_form;
pub mod node_home;
pub mod node_key;
pub mod parked;
pub mod past;
mod pipe;
mod reach;
pub mod remote;
pub mod renew;
pub mod reply;
pub mod restore;
pub mod route;
pub mod server;
mod session;
pub mod setting;
pub mod stickerpack;
pub mod template;
mod together;
pub mod token;
pub mod user;
pub mod webhook;
mod write;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::config::DatabaseSettings;

/// Why a call to the database failed. Nothing is known to be lost: callers retry or report.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error("the database URL {url} cannot be used: {why}")]
    Url { url: String, why: String },
    #[error(
        "{url} does not answer ({why}): start that server, or set [database] urls (WA_DB_HOSTNAME)"
    )]
    Unreachable { url: String, why: String },
    /// Nobody says anything of the name: whether the server is well is not known.
    #[error(
        "the name {name} in [database] urls could not be looked up ({why}): the name server of this machine does not answer, and \
         whether the database does is not known; mend the name server (/etc/resolv.conf), or write the database's address into \
         [database] urls or /etc/hosts"
    )]
    NameServer { name: String, why: String },
    #[error(
        "the name {name} in [database] urls has no address ({why}): correct [database] urls (WA_DB_HOSTNAME), or give the name an \
         address in the name server or in /etc/hosts"
    )]
    NoSuchName { name: String, why: String },
    #[error("the row {0:?} of table setting changes all the time; try again")]
    Crowded(String),
    #[error("the database does not answer")]
    Sqlx(#[from] sqlx::Error),
    #[error("[database] {setting} = {path}: {source}; name a file that this user may read")]
    TlsFile {
        setting: &'static str,
        path: String,
        source: std::io::Error,
    },
    #[error("the database server {server} is read-only; point [database] urls at the writer")]
    ReadOnly { server: String },
    #[error(
        "the database server {server} is cut off from its cluster or not in step with it ({state}); it is used again when it has a majority"
    )]
    OutOfService { server: String, state: String },
    #[error(
        "the database server {server} has {variable}={found} for our connections, and what we write is not safe then ({why}); type \
         on it: SET GLOBAL {variable}='{wanted}', write it into its my.cnf, and take it out of init_connect"
    )]
    Session {
        server: String,
        variable: String,
        wanted: String,
        found: String,
        why: String,
    },
    #[error(
        "the database server {server} puts our connections into the database {found:?} instead of {wanted:?}; take USE out of \
         its init_connect"
    )]
    OtherDatabase {
        server: String,
        wanted: String,
        found: String,
    },
    #[error(
        "the database server ended the connection right after the login ({0}): it stops, or its init_connect fails; its own log \
         says which"
    )]
    AfterLogin(std::io::Error),
    /// What was wrong with the last new connection of the pool.
    #[error("{0}")]
    Refused(Arc<String>),
    #[error("the database did not answer within {0:?}")]
    Deadline(Duration),
    #[error("the database host was given up for another one before it answered")]
    HostLeft,
    /// Nothing was changed: a lock was not to be had, or on a cluster another server's commit came first.
    #[error("another commit came first; nothing was changed")]
    Conflict,
    #[error(
        "the schema has version {found}, this build knows {known}; install the newer wa-agent on this machine"
    )]
    SchemaNewer { found: i64, known: i64 },
    #[error("{0}")]
    OtherCluster(String),
    #[error("a stored value cannot be read: {0}")]
    Value(String),
    #[error("{what} is {length} bytes long, the database takes {limit}")]
    TooLong {
        what: &'static str,
        length: usize,
        limit: usize,
    },
}

impl DbError {
    /// Somebody else has what may be only once.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Sqlx(sqlx::Error::Database(error)) if error.is_unique_violation())
    }

    /// The schema is of a release before: a table or a column is not there yet.
    pub fn is_older_schema(&self) -> bool {
        let Self::Sqlx(sqlx::Error::Database(error)) = self else {
            return false;
        };
        match error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
            Some(mysql) => matches!(mysql.number(), 1054 | 1146),
            None => ["no such table", "no such column"]
                .iter()
                .any(|words| error.message().starts_with(words)),
        }
    }

    /// The first cause in one line, without statement texts, and what to look at where that is known.
    pub fn brief(&self) -> String {
        match self {
            Self::Sqlx(sqlx::Error::Database(error)) => {
                let message = error.message();
                let insists = ["secure transport", "secure connection"];
                let hint = if insists.iter().any(|words| message.contains(words)) {
                    "; set WA_DB_SSL_CA (or [database] ssl_ca), and no ssl-mode=DISABLED in the URL"
                } else if message.starts_with("Access denied") {
                    // MariaDB says no more than this also where it insists on TLS and got none.
                    "; check the user and the password in [database] urls (WA_DB_USERNAME, WA_DB_PASSWORD); where the server \
                     insists on TLS, WA_DB_SSL_CA, and no ssl-mode=DISABLED in the URL; after a new password type: systemctl reload \
                     'wa-*@*' 'wa-host*'"
                } else if message.contains("init_connect") {
                    "; correct init_connect on that server: its own log says which statement failed"
                } else {
                    ""
                };
                format!("database error: {message}{hint}")
            }
            Self::Sqlx(error) => {
                let text = error.to_string();
                let tls = ["certificate", "TLS", "tls"];
                let hint = if tls.iter().any(|word| text.contains(word)) {
                    "; [database] ssl_ca (WA_DB_SSL_CA) must name the file of the CA that signed the server's certificate"
                } else {
                    ""
                };
                format!("database: {text}{hint}")
            }
            other => other.to_string(),
        }
    }
}

/// The two kinds of server behind one set of statements.
#[derive(Debug, Clone)]
pub enum Db {
    MySql(Arc<host::Hosts>),
    Sqlite(SqlitePool),
}

/// Runs one body with a connection of either pool: the statements are the same text. A body that takes too long is cut
/// short, and its connection closed: a server that has vanished must not keep the pool's connections for ever.
macro_rules! on_pool {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db {
            $crate::db::Db::MySql(hosts) => {
                let pool = hosts.pool();
                let mut lent = $crate::db::guard::Lent::at(hosts).await?;
                let $pool = lent.connection();
                let asked = async { Ok::<_, DbError>($body) };
                let done = hosts.in_time(&pool, asked).await;
                lent.give_back_if_known(done)?
            }
            $crate::db::Db::Sqlite(pool) => {
                let mut lent = $crate::db::guard::Lent::from(pool).await?;
                let $pool = lent.connection();
                let done = $crate::db::guard::in_time(async { Ok::<_, DbError>($body) }).await;
                lent.give_back_if_known(done)?
            }
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

/// Refuses what `INSERT IGNORE` would cut off without a word.
pub(crate) fn check_length(what: &'static str, value: &str, limit: usize) -> Result<(), DbError> {
    if value.len() > limit {
        return Err(DbError::TooLong {
            what,
            length: value.len(),
            limit,
        });
    }
    Ok(())
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
        Self::open(settings, connections, None).await
    }

    /// The same for a role, whose connections its successor may end (rule 5.8).
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_as(
        settings: &DatabaseSettings,
        connections: u32,
        holder: connection::Holder,
    ) -> Result<Self, DbError> {
        Self::open(settings, connections, Some(holder)).await
    }

    async fn open(
        settings: &DatabaseSettings,
        connections: u32,
        holder: Option<connection::Holder>,
    ) -> Result<Self, DbError> {
        let embedded = settings
            .urls
            .first()
            .filter(|url| url.starts_with("sqlite:"));
        if let Some(url) = embedded {
            let pool = SqlitePoolOptions::new()
                .max_connections(connections)
                // Without limits of age the driver starts no task that looks after idle connections. That task counts them while the
                // pool is closed, and may then count for ever on a thread of ours.
                .idle_timeout(None)
                .max_lifetime(None)
                .acquire_timeout(settings.connect_timeout)
                .connect_with(sqlite_options(settings, url)?)
                .await?;
            return Ok(Self::Sqlite(pool));
        }
        Ok(Self::MySql(
            host::Hosts::open(settings, connections, holder).await?,
        ))
    }

    /// Closes all connections.
    pub async fn close(&self) {
        match self {
            Self::MySql(hosts) => hosts.close().await,
            Self::Sqlite(pool) => pool.close().await,
        }
    }

    /// Milliseconds since 1970 by the database's clock, in this dialect.
    pub(crate) fn now_sql(&self) -> &'static str {
        if self.embedded() {
            "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
        } else {
            "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"
        }
    }

    /// A text as a literal of this dialect: hexadecimal, so that no byte of it can end the literal.
    pub(crate) fn quote(&self, value: &str) -> String {
        if self.embedded() {
            format!("CAST(x'{}' AS TEXT)", hex::encode(value))
        } else {
            format!("_utf8mb4 x'{}'", hex::encode(value))
        }
    }

    /// The store is one file on this machine.
    pub fn embedded(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }
}

/// The variable is a number on older servers and a word on newer ones.
pub(crate) fn is_read_only(value: &str) -> bool {
    !matches!(value, "0" | "OFF")
}

/// Longest time that a statement of the pool may take.
pub(crate) const STATEMENT_WITHIN: Duration = Duration::from_secs(5);

/// The server says that the statement was not carried out, and the connection is as good as before.
pub(crate) fn is_busy(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        return false;
    };
    if let Some(mysql) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        // Lock wait timeout, deadlock, statement time used up (MariaDB, MySQL), NOWAIT.
        return matches!(mysql.number(), 1205 | 1213 | 1969 | 3024 | 3572);
    }
    // SQLITE_BUSY and SQLITE_LOCKED with their extended codes.
    error
        .code()
        .and_then(|code| code.parse::<u32>().ok())
        .is_some_and(|code| matches!(code & 0xff, 5 | 6))
}

/// The server knows the account and does not let it in with this password, or at all.
pub(crate) fn is_denied(error: &sqlx::Error) -> bool {
    // Access denied (to the server, to the database, without a password), expired, locked (MySQL, MariaDB).
    mysql_number(error).is_some_and(|n| matches!(n, 1044 | 1045 | 1698 | 1862 | 3118 | 4151))
}

/// MySQL 1146 and its SQLite counterpart: the migrations have not come so far yet.
pub(crate) fn is_missing_table(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        return false;
    };
    match error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        Some(mysql) => mysql.number() == 1146,
        None => error.message().starts_with("no such table"),
    }
}

/// The server says that the whole transaction was undone: a deadlock, which on Galera is also the word for a commit that
/// another node's commit came before. A node that loses its cluster in the middle of a commit says 1180 instead: the others
/// may have it.
pub(crate) fn is_deadlock(error: &sqlx::Error) -> bool {
    mysql_number(error) == Some(1213)
}

/// The statement's time was used up; where it was a COMMIT, nobody knows.
pub(crate) fn is_cut_short(error: &sqlx::Error) -> bool {
    mysql_number(error).is_some_and(|number| matches!(number, 1969 | 3024))
}

/// The server will not take writes, this one or any: read-only, or outside its cluster's majority.
pub(crate) fn is_out_of_service(error: &sqlx::Error) -> bool {
    // WSREP not ready, error during commit, read-only (option, mode), the group's hooks refuse.
    mysql_number(error)
        .is_some_and(|number| matches!(number, 1047 | 1180 | 1290 | 1836 | 3098 | 3100 | 3101))
}

fn mysql_number(error: &sqlx::Error) -> Option<u16> {
    let sqlx::Error::Database(error) = error else {
        return None;
    };
    let mysql = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>();
    mysql.map(sqlx::mysql::MySqlDatabaseError::number)
}

/// The file of an embedded database; `None` where a server holds it.
pub fn file(settings: &DatabaseSettings) -> Option<PathBuf> {
    let url = settings.urls.first()?;
    if !url.starts_with("sqlite:") {
        return None;
    }
    let options = SqliteConnectOptions::from_str(url).ok()?;
    Some(options.get_filename().to_owned())
}

/// The embedded database belongs to the group of the roles.
const SHARED: u32 = 0o660;

/// Makes the file before SQLite does, which would let only its owner write: installed roles are users of one group.
/// The files beside it take its mode. Whether it worked, the connection shows.
///
/// # Errors
/// When this is root, and somebody else has put a link or something that is no file in its place: SQLite would follow it.
fn make_shared(url: &str) -> Result<(), DbError> {
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
    let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
    let path = path.split('?').next().unwrap_or_default();
    if !path.starts_with('/') {
        return Ok(());
    }
    let mut options = std::fs::OpenOptions::new();
    let options = options.write(true).create_new(true).mode(SHARED);
    if let Ok(file) = options.open(path) {
        // Whatever the mask of this process is.
        let _ = file.set_permissions(std::fs::Permissions::from_mode(SHARED));
        return Ok(());
    }
    let root = nix::unistd::geteuid();
    match std::fs::symlink_metadata(path) {
        Ok(found) if root.is_root() && !found.is_file() && found.uid() != root.as_raw() => {
            Err(DbError::Url {
                url: url.into(),
                why: format!(
                    "{path} is no file, and the user {} made it: look who that is, then type: rm {path}",
                    found.uid()
                ),
            })
        }
        _ => Ok(()),
    }
}

pub(crate) fn sqlite_options(
    settings: &DatabaseSettings,
    url: &str,
) -> Result<SqliteConnectOptions, DbError> {
    make_shared(url)?;
    Ok(SqliteConnectOptions::from_str(url)
        .map_err(|e| DbError::Url {
            url: url.into(),
            why: e.to_string(),
        })?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(settings.busy_timeout)
        // As `reach.rs` has it for servers.
        .disable_statement_logging())
}

/// Holds the write lock of an embedded database until it is rolled back: a slow disk, for tests.
#[cfg(test)]
pub(crate) async fn lock_for_writing(
    file: &std::path::Path,
) -> sqlx::Transaction<'static, sqlx::Sqlite> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = sqlx::SqlitePool::connect_with(options).await;
    let begun = pool.expect("connected").begin_with("BEGIN IMMEDIATE").await;
    begun.expect("locked")
}
