//! What a deciding read asks in one round trip: which server answers, whether it may be used, which making of the lease table it
//! shows, and the rows. Draws no conclusion: `wa_core::master` does.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use sqlx::Row as _;

use super::DbError;
use super::connection::Connection;
use super::domain::Domain;
use super::known_server;
use super::lease_row::{COLUMNS, LeaseRow};

/// Who answers, as a MySQL server says it. A proxy may put another server behind the same connection.
macro_rules! server_sql {
    () => {
        "CONCAT(@@hostname, ':', @@port, ':', @@server_id, ':', CONNECTION_ID())"
    };
}
pub(super) use server_sql;

/// When the lease table was made, to a second: a restored dump drops it and makes it anew (rule 5.5). The statement that asks
/// holds the table, so nobody does that between this and the rows. Needs no right but to read the table.
const MADE_ON_SERVER: &str = "(SELECT CAST(CREATE_TIME AS CHAR) FROM information_schema.TABLES \
     WHERE TABLE_SCHEMA=DATABASE() AND TABLE_NAME='lease')";

/// Counts every statement that makes or drops a table of the file; a backup that is put back raises it as well.
const MADE_IN_FILE: &str = "(SELECT CAST(schema_version AS TEXT) FROM pragma_schema_version)";

/// The answer.
pub(super) struct Said {
    pub server: String,
    /// Name of the database on that server.
    pub schema: String,
    /// See [`Domain::lineage`].
    pub lineage: String,
    /// Names the making of the lease table.
    pub made: u64,
    pub rows: Vec<LeaseRow>,
}

/// Asks.
///
/// # Errors
/// When the server does not answer, is read-only, or is out of service.
pub(super) async fn ask(
    connection: &mut Connection,
    domain: &Domain,
    urls: &[String],
) -> Result<Said, DbError> {
    let (mut server, mut schema, mut lineage) = (String::new(), String::new(), String::new());
    let (mut made, mut rows) = (None::<String>, Vec::new());
    match connection {
        Connection::MySql(c) => {
            let sql = format!(
                "SELECT {} AS server, COALESCE(DATABASE(), '') AS home, CAST(@@global.read_only AS CHAR) AS ro, {} AS state, \
                 {MADE_ON_SERVER} AS made, {COLUMNS} FROM lease",
                server_sql!(),
                domain.state_sql()
            );
            let raw = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(c).await?;
            for row in &raw {
                server = row.try_get("server")?;
                schema = row.try_get("home")?;
                made = row.try_get("made")?;
                if super::is_read_only(&row.try_get::<String, _>("ro")?) {
                    return Err(DbError::ReadOnly { server });
                }
                let state: Option<String> = row.try_get("state")?;
                let state = state.unwrap_or_default();
                domain.judge(&state, &server, false)?;
                lineage = domain.lineage(&server, &state);
                rows.push(<LeaseRow as sqlx::FromRow<_>>::from_row(row)?);
            }
        }
        Connection::Sqlite(c) => {
            let sql = format!("SELECT {MADE_IN_FILE} AS made, {COLUMNS} FROM lease");
            let raw = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(c).await?;
            for row in &raw {
                made = row.try_get("made")?;
                rows.push(<LeaseRow as sqlx::FromRow<_>>::from_row(row)?);
            }
            server = known_server::file_identity(urls);
        }
    }
    let mut hasher = DefaultHasher::new();
    made.hash(&mut hasher);
    Ok(Said {
        server,
        schema,
        lineage,
        made: hasher.finish(),
        rows,
    })
}
