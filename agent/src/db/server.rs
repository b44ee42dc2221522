//! What an operator wants to know of a database server: its version, settings that void a promise, rights of the user;
//! and making a database and a user with an administrator's connection.
//! Touches no table.

use std::path::Path;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};

use super::reach::{self, Way};
use super::{Db, DbError, on_pool, session};

/// How long an administrator's server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What the user of the roles may do: read and write rows, and bring the schema up to date.
pub const GRANTS: [&str; 8] = [
    "SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "INDEX", "DROP",
];

/// What a server says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// For example `10.11.6-MariaDB`, `8.4.2`, `SQLite 3.45.1`.
    pub version: String,
    /// A sentence for each setting that voids a promise.
    pub voids: Vec<String>,
    /// Of [`GRANTS`], what the user lacks.
    pub lacking: Vec<&'static str>,
    /// Most connections at a time, and how many are open; 0 where it has no such limit.
    pub connections_max: u64,
    pub connections: u64,
}

/// Rights that the lines of `SHOW GRANTS` do not give on a database.
pub fn lacking(grants: &[String], database: &str) -> Vec<&'static str> {
    let mut missing = GRANTS.to_vec();
    for line in grants {
        let Some((rights, rest)) = line
            .strip_prefix("GRANT ")
            .and_then(|rest| rest.split_once(" ON "))
        else {
            continue;
        };
        // The name stands in backquotes, with its underscores escaped or not.
        let on = rest
            .split(" TO ")
            .next()
            .unwrap_or_default()
            .replace('\\', "");
        if on != "*.*" && on != format!("`{database}`.*") {
            continue;
        }
        let all = rights.starts_with("ALL PRIVILEGES");
        missing.retain(|right| !all && !rights.split(',').any(|given| given.trim() == *right));
    }
    missing
}

impl Db {
    /// Version, settings and rights.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn facts(&self) -> Result<Facts, DbError> {
        let voids = self.voided_promises().await?;
        let Self::MySql(hosts) = self else {
            let row: (String,) = on_pool!(self, pool => sqlx::query_as("SELECT sqlite_version()").fetch_one(pool).await?);
            return Ok(Facts {
                version: format!("SQLite {}", row.0),
                voids,
                ..Facts::default()
            });
        };
        let mut connection = hosts.pool().acquire().await?;
        let (version, database, most): (String, String, i64) =
            sqlx::query_as("SELECT VERSION(), DATABASE(), CAST(@@max_connections AS SIGNED)")
                .fetch_one(&mut *connection)
                .await?;
        let mut facts = Facts {
            version,
            voids,
            connections_max: super::unsigned(most),
            ..Facts::default()
        };
        let grants: Vec<(String,)> = sqlx::query_as("SHOW GRANTS")
            .fetch_all(&mut *connection)
            .await?;
        let grants: Vec<String> = grants.into_iter().map(|(line,)| line).collect();
        facts.lacking = lacking(&grants, &database);
        let open: Option<(String, String)> =
            sqlx::query_as("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
                .fetch_optional(&mut *connection)
                .await?;
        facts.connections = open.and_then(|(_, n)| n.parse().ok()).unwrap_or(0);
        Ok(facts)
    }
}

/// Tables that the migrations make.
pub(super) fn tables() -> impl Iterator<Item = &'static str> {
    super::migrate::texts().filter_map(|text| {
        let rest = text
            .trim_start()
            .strip_prefix("CREATE TABLE IF NOT EXISTS ")?;
        rest.split_whitespace().next()
    })
}

impl Db {
    /// Rows of each table: about, on a server; in an embedded database exactly, where there are few (`count.rs`).
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn row_counts(&self) -> Result<Vec<(String, u64)>, DbError> {
        if !self.embedded() {
            let sql = "SELECT CAST(table_name AS CHAR), CAST(COALESCE(table_rows, 0) AS SIGNED) FROM information_schema.tables \
                       WHERE table_schema = DATABASE() ORDER BY table_name";
            let Self::MySql(hosts) = self else {
                return Ok(Vec::new());
            };
            let rows: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(&hosts.pool()).await?;
            return Ok(rows
                .into_iter()
                .map(|(name, rows)| (name, super::unsigned(rows)))
                .collect());
        }
        let mut counts = Vec::new();
        for table in tables() {
            match self.about(table, "rowid").await {
                Ok(count) => counts.push((table.to_owned(), count)),
                Err(error) if super::identity::is_missing_table(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(counts)
    }

    /// Drops our tables and no others; an empty database stays.
    ///
    /// # Errors
    /// When the database does not answer or refuses; what was dropped stays so, and the next run goes on.
    pub async fn drop_tables(&self) -> Result<usize, DbError> {
        let mut dropped = 0;
        for table in tables() {
            self.run_ddl(&format!("DROP TABLE IF EXISTS {table}"))
                .await?;
            dropped += 1;
        }
        Ok(dropped)
    }
}

/// What is to be made.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub database: String,
    pub user: String,
    /// Host patterns of the user.
    pub hosts: Vec<String>,
    pub password: String,
    /// Give a user that exists this password.
    pub replace_password: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    Done,
    /// The user is there already, with a password that nobody told us. Nothing was changed.
    UserExists,
}

/// A connection that may make databases and users.
pub struct Admin {
    connection: MySqlConnection,
    /// TCP port of the server.
    pub port: u16,
    pub version: String,
}

impl Admin {
    /// By URL: `mysql://root:password@host:3306`.
    ///
    /// # Errors
    /// When it cannot be read, or nobody answers, or the password is wrong.
    pub async fn by_url(url: &str) -> Result<Self, DbError> {
        let options = reach::of_administrator(url)?;
        Self::open(options, crate::config::without_password(url)).await
    }

    /// By the socket of a server on this machine, as the user of the same name: MariaDB and MySQL let root in so.
    ///
    /// # Errors
    /// When nobody answers, or the server wants a password.
    pub async fn by_socket(socket: &Path, user: &str) -> Result<Self, DbError> {
        let options = reach::of_socket(socket, user);
        Self::open(options, socket.display().to_string()).await
    }

    async fn open(options: MySqlConnectOptions, shown: String) -> Result<Self, DbError> {
        let way = Way::by(options, shown, ANSWER_WITHIN).await?;
        let opening = session::open_any(&way, ANSWER_WITHIN);
        let opened = tokio::time::timeout(ANSWER_WITHIN, opening).await;
        let (connection, said) = opened.map_err(|_| way.silent(ANSWER_WITHIN))??;
        Ok(Self {
            connection,
            port: said.value("port").parse().unwrap_or(3306),
            version: said.value("version").to_owned(),
        })
    }

    /// Makes the database and the user with the rights of [`GRANTS`]; what is there stays.
    ///
    /// # Errors
    /// When a name is no name, or the server refuses.
    pub async fn provision(&mut self, wanted: &Wanted) -> Result<Made, DbError> {
        check_name("the name of the database", &wanted.database)?;
        check_name("the name of the database user", &wanted.user)?;
        let (database, user) = (&wanted.database, &wanted.user);
        let find = "SELECT COUNT(*) FROM mysql.user WHERE user = ?";
        let (known,): (i64,) = sqlx::query_as(find)
            .bind(user)
            .fetch_one(&mut self.connection)
            .await?;
        if known > 0 && !wanted.replace_password {
            return Ok(Made::UserExists);
        }
        self.run(&format!(
            "CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        ))
        .await?;
        // Hexadecimal by construction; written as a literal, because no server takes a parameter here.
        let password = wanted.password.replace(['\'', '\\'], "");
        for host in &wanted.hosts {
            check_host(host)?;
            let account = format!("'{user}'@'{host}'");
            self.run(&format!(
                "CREATE USER IF NOT EXISTS {account} IDENTIFIED BY '{password}'"
            ))
            .await?;
            self.run(&format!("ALTER USER {account} IDENTIFIED BY '{password}'"))
                .await?;
            let rights = GRANTS.join(", ");
            // An underscore in a grant's database is a wildcard.
            let on = database.replace('_', "\\_");
            self.run(&format!("GRANT {rights} ON `{on}`.* TO {account}"))
                .await?;
        }
        Ok(Made::Done)
    }

    /// Removes a database with everything in it.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn drop_database(&mut self, database: &str) -> Result<(), DbError> {
        check_name("the name of the database", database)?;
        self.run(&format!("DROP DATABASE IF EXISTS `{database}`"))
            .await
    }

    async fn run(&mut self, sql: &str) -> Result<(), DbError> {
        let running = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut self.connection);
        match tokio::time::timeout(ANSWER_WITHIN, running).await {
            Ok(done) => Ok(done.map(|_| ())?),
            Err(_) => Err(DbError::Deadline(ANSWER_WITHIN)),
        }
    }
}

/// Names are written into statements: letters, digits, `_`, `-`, at most 32.
fn check_name(what: &'static str, name: &str) -> Result<(), DbError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || name.len() > 32 || !name.chars().all(good) {
        return Err(DbError::Value(format!(
            "{what} is {name:?}: use at most 32 letters, digits, _ and -"
        )));
    }
    Ok(())
}

fn check_host(host: &str) -> Result<(), DbError> {
    let good =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '%' | '_' | '-' | '/');
    if host.is_empty() || host.len() > 60 || !host.chars().all(good) {
        return Err(DbError::Value(format!(
            "{host:?} is no host of a database user: write a name, an address, or %"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(ToString::to_string).collect()
    }

    /// Goal: rights on this database or on all count, others do not.
    #[test]
    fn rights_are_read_from_grants() {
        let usage = "GRANT USAGE ON *.* TO `wa`@`%` IDENTIFIED BY PASSWORD '*1'";
        assert_eq!(lacking(&lines(&[usage]), "wa").len(), GRANTS.len());
        let all = "GRANT ALL PRIVILEGES ON `wa`.* TO `wa`@`%`";
        assert!(lacking(&lines(&[usage, all]), "wa").is_empty());
        assert_eq!(lacking(&lines(&[all]), "wb").len(), GRANTS.len());
        let some = "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER ON `x\\_wa`.* TO `wa`@`%`";
        assert_eq!(lacking(&lines(&[some]), "x_wa"), ["INDEX", "DROP"]);
    }

    /// Goal: nothing that ends a name or a literal gets into a statement.
    #[test]
    fn names_cannot_end_a_statement() {
        for bad in ["", "a`b", "a'b", "a b", "a;b", &"a".repeat(33)] {
            assert!(check_name("x", bad).is_err(), "{bad:?}");
        }
        assert!(check_name("x", "wa_prod-2").is_ok());
        assert!(check_host("10.0.0.%").is_ok());
        assert!(check_host("a'b").is_err());
    }
}
