//! The numbered migrations: run by the primary master under its lease, each statement re-runnable.
//! Takes no lock of its own: two runners at once do no harm.

use super::{Db, DbError, on_pool};

macro_rules! migrations {
    ($($name:literal),* $(,)?) => {
        &[$((
            $name,
            include_str!(concat!("../../../migrations/mysql/", $name, ".sql")),
            include_str!(concat!("../../../migrations/sqlite/", $name, ".sql")),
        )),*]
    };
}

/// Name, MySQL text, SQLite text. The number in front of the name is the version that it makes.
const MIGRATIONS: &[(&str, &str, &str)] = migrations![
    "0000-create-lease",
    "0000-create-shard-guard",
    "0000-create-schema-version",
    "0001-create-node",
    "0002-create-message",
    "0003-index-message-state",
    "0004-create-inbox",
    "0005-index-inbox-processed",
    "0006-create-webhook",
    "0007-index-webhook-next",
    "0008-create-user",
    "0009-create-token",
    "0010-create-setting",
    "0011-create-history",
    "0012-create-history-evidence",
    "0013-create-node-key",
    "0014-create-node-connection",
    "0015-create-mount",
    "0016-create-media",
    "0017-create-fence",
    "0018-add-message-claim-order",
    "0019-add-message-receipt",
    "0020-add-message-receipt-lag",
    "0021-index-message-receipt",
    "0022-add-message-kind",
    "0023-add-message-form",
    "0024-convert-message-text",
    "0025-convert-message-media",
    "0026-create-node-form",
    "0027-widen-message-recipient",
    "0028-create-message-id",
    "0029-fill-message-id",
    "0030-create-template",
    "0031-add-message-doubt",
    "0032-create-route",
    "0033-index-message-id-our",
    "0034-index-message-id-at",
    "0035-create-customer",
    "0036-add-message-told",
    "0037-create-identity-key",
    "0038-create-collection",
    "0039-create-stickerpack",
    "0040-index-webhook-customer",
    "0041-index-route-spelling",
    "0042-add-webhook-since",
    "0043-create-webhook-parked",
    "0044-index-webhook-parked",
    "0045-create-node-home",
    "0046-create-audit",
    "0047-add-token-user",
    "0048-add-user-id",
    "0049-add-token-used",
    "0050-index-token-used",
];

/// The version that the last migration makes.
const NEWEST: i64 = 50;
/// The version that the migration before it makes.
const BEFORE: i64 = 49;
/// The version that this build knows.
pub const SCHEMA_VERSION: i64 = if cfg!(feature = "previous") {
    BEFORE
} else {
    NEWEST
};

fn version_of(name: &str) -> i64 {
    name.get(..4)
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

fn statement(mysql: &'static str, sqlite: &'static str, db: &Db) -> String {
    let text = if db.embedded() { sqlite } else { mysql };
    text.trim().trim_end_matches(';').to_owned()
}

/// Every migration in MySQL's words.
pub(super) fn texts() -> impl Iterator<Item = &'static str> {
    MIGRATIONS.iter().map(|m| m.1)
}

/// The statements that make the frozen lease tables.
pub(super) fn lease_tables(db: &Db) -> impl Iterator<Item = String> {
    MIGRATIONS
        .iter()
        .filter(|m| version_of(m.0) == 0)
        .map(|m| statement(m.1, m.2, db))
}

impl Db {
    /// The version that the database has; 0 when it is empty.
    ///
    /// # Errors
    /// When the database does not answer; [`DbError::SchemaNewer`] when it is newer than this build.
    pub async fn schema_version(&self) -> Result<i64, DbError> {
        let sql = "SELECT COALESCE(MAX(version), 0) FROM schema_version";
        let found: i64 = on_pool!(self, pool => {
            let row: (i64,) = sqlx::query_as(sql).fetch_one(pool).await?;
            row.0
        });
        if found > SCHEMA_VERSION {
            Err(DbError::SchemaNewer {
                found,
                known: SCHEMA_VERSION,
            })
        } else {
            Ok(found)
        }
    }

    /// Runs what is missing, whoever is primary: for tests and tools.
    ///
    /// # Errors
    /// See [`Self::migrate_while`].
    pub async fn migrate(&self) -> Result<i64, DbError> {
        self.migrate_while(|| true).await
    }

    /// Runs what is missing. The caller holds the master lease and goes on renewing it meanwhile; without it no further
    /// statement is begun, for the next primary may be of another release.
    ///
    /// # Errors
    /// When a statement fails; what was done stays done, and the next run goes on from there.
    pub async fn migrate_while(&self, primary: impl Fn() -> bool) -> Result<i64, DbError> {
        let found = self.schema_version().await?;
        let missing = |name| (found + 1..=SCHEMA_VERSION).contains(&version_of(name));
        for (name, mysql, sqlite) in MIGRATIONS.iter().filter(|m| missing(m.0)) {
            if !primary() {
                return self.schema_version().await;
            }
            let sql = statement(mysql, sqlite, self);
            self.run_ddl(&sql).await?;
            let record = format!(
                "INSERT {{ignore}} INTO schema_version (version) VALUES ({})",
                version_of(name)
            );
            self.run_ddl(&super::text(self, &record).0).await?;
            tracing::info!(
                MESSAGE_ID = crate::log::message_id::SCHEMA_UPGRADED,
                migration = name,
                "schema moved on"
            );
        }
        self.schema_version().await
    }

    /// One statement, tried again while somebody else's work (another master at the same step) is in its way.
    pub(super) async fn run_ddl(&self, sql: &str) -> Result<(), DbError> {
        let mut tries = 0;
        loop {
            let done = match self {
                Self::Sqlite(pool) => run_alone(pool, sql).await,
                Self::MySql(hosts) => run_unbounded(&hosts.pool(), sql).await,
            };
            match done {
                Err(error) if tries < TRIES_MAX && in_the_way(&error) => {
                    tries += 1;
                    tracing::info!(
                        tries,
                        "another statement is in the way of a migration; trying again"
                    );
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
                Err(error) if is_there_already(&error) => return Ok(()),
                other => return Ok(other?),
            }
        }
    }
}

/// Somebody else's work was in the way. 1317: a cluster ended this statement for one that every node carries out, such as another
/// master's migration.
fn in_the_way(error: &sqlx::Error) -> bool {
    super::is_busy(error) || super::mysql_number(error) == Some(1317)
}

/// Each try waits up to a second by itself.
const TRIES_MAX: u32 = 20;

async fn run_alone(pool: &sqlx::SqlitePool, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(pool)
        .await
        .map(|_| ())
}

/// Data definition may take long; only its wait for locks is bounded. The connection is not used for anything else.
async fn run_unbounded(pool: &sqlx::MySqlPool, sql: &str) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?.detach();
    // Unknown to MySQL, which bounds no data definition.
    let _ = sqlx::raw_sql("SET SESSION max_statement_time=0")
        .execute(&mut connection)
        .await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(&mut connection)
        .await?;
    sqlx::Connection::close(connection).await
}

/// MySQL 1061 and 1060: the index or the column is there already; an earlier run was killed before it could write its number.
/// SQLite has no number of its own for that.
fn is_there_already(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        return false;
    };
    match error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        Some(mysql) => matches!(mysql.number(), 1060 | 1061),
        None => error.message().starts_with("duplicate column name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_versions_are_those_of_the_list() {
        let mut versions: Vec<i64> = MIGRATIONS.iter().map(|m| version_of(m.0)).collect();
        assert!(versions.is_sorted(), "{versions:?}");
        versions.dedup();
        assert!(versions.ends_with(&[BEFORE, NEWEST]), "{versions:?}");
    }
}
