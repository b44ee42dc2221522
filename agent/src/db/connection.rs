//! Connections to a server: opened, written down under the start that holds them, and ended when a frozen holder's lock is
//! in the way of its successor (rule 5.8). Decides nothing: `lease.rs` names whom a step replaces.

use std::time::Duration;

use sqlx::Connection as _;
use wa_core::id::{Incarnation, NodeId};

use super::domain::Domain;
use super::{DbError, number};
use crate::config::DatabaseSettings;

/// Whose a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub node: NodeId,
    pub incarnation: Incarnation,
}

/// One connection of either kind, outside any pool.
pub(super) enum Connection {
    MySql(sqlx::MySqlConnection),
    Sqlite(sqlx::SqliteConnection),
}

/// Runs one body with either kind of connection.
macro_rules! on_connection {
    ($connection:expr, $c:ident => $body:expr) => {
        match $connection {
            Connection::MySql($c) => $body,
            Connection::Sqlite($c) => $body,
        }
    };
}
pub(super) use on_connection;

/// Connection numbers mean something on one server only.
const SERVER: &str = "CONCAT(@@hostname, ':', @@port, ':', @@server_id)";
/// A client that works is not idle for so long in the middle of a transaction: its transactions are one packet each.
const IDLE_S: i64 = 1;

/// Opens the first host that answers and may be used.
pub(super) async fn open_first(
    settings: &DatabaseSettings,
    within: Duration,
    holder: Option<&Holder>,
) -> Result<(Connection, Domain), DbError> {
    let open = |at: usize| {
        let opening = open_one(settings, &settings.urls[at], within, holder);
        let limit = settings.connect_timeout;
        async move {
            let opened = tokio::time::timeout(limit, opening).await;
            opened.unwrap_or(Err(DbError::Deadline(limit)))
        }
    };
    super::host::first_good(settings, open).await
}

async fn open_one(
    settings: &DatabaseSettings,
    url: &str,
    within: Duration,
    holder: Option<&Holder>,
) -> Result<(Connection, Domain), DbError> {
    if url.starts_with("sqlite:") {
        let options = super::sqlite_options(settings, url)?;
        let connection = sqlx::SqliteConnection::connect_with(&options).await?;
        return Ok((Connection::Sqlite(connection), Domain::Alone));
    }
    let options = super::mysql_options(settings, url)?;
    let mut connection = sqlx::MySqlConnection::connect_with(&options).await?;
    let domain = super::domain::prepare(&mut connection, within).await?;
    if let Some(holder) = holder {
        record(&mut connection, holder).await?;
    }
    Ok((Connection::MySql(connection), domain))
}

/// A text as a literal.
fn quoted(text: &str) -> String {
    format!("_utf8mb4 x'{}'", hex::encode(text))
}

/// Writes a new connection down, and forgets those of the same node that are gone. Where the table is not there yet, or
/// somebody else's work is in the way, it goes unrecorded: then a successor waits for the server's own limits.
///
/// # Errors
/// When the connection does not work.
pub(super) async fn record(
    c: &mut sqlx::MySqlConnection,
    holder: &Holder,
) -> Result<(), sqlx::Error> {
    let node = quoted(holder.node.as_str());
    let packet = format!(
        "DELETE FROM node_connection WHERE server={SERVER} AND node={node} AND connection_id NOT IN \
         (SELECT ID FROM information_schema.PROCESSLIST); \
         REPLACE INTO node_connection (server, connection_id, client, node, inc_counter, inc_random) \
         SELECT {SERVER}, ID, HOST, {node}, {}, {} FROM information_schema.PROCESSLIST WHERE ID=CONNECTION_ID()",
        number(holder.incarnation.counter),
        number(holder.incarnation.random)
    );
    match super::guard::run_on(c, packet).await {
        Err(sqlx::Error::Database(error)) => {
            tracing::debug!(%error, "a database connection goes unrecorded");
            Ok(())
        }
        other => other.map(|_| ()),
    }
}

/// Ends the idle connections of these holders: what they have locked is free then. Returns how many. They belong to the same
/// account, so that no further right is needed.
///
/// # Errors
/// When the server does not answer.
pub(super) async fn end_idle(
    settings: &DatabaseSettings,
    within: Duration,
    holders: &[Holder],
) -> Result<u64, DbError> {
    let (Connection::MySql(mut c), _) = open_first(settings, within, None).await? else {
        return Ok(0);
    };
    let mut ended = 0;
    for holder in holders {
        let recorded = format!(
            "SELECT connection_id, client FROM node_connection WHERE server={SERVER} AND node=? AND inc_counter=? AND inc_random=?"
        );
        let recorded: Vec<(i64, String)> = sqlx::query_as(sqlx::AssertSqlSafe(recorded))
            .bind(holder.node.as_str())
            .bind(number(holder.incarnation.counter))
            .bind(number(holder.incarnation.random))
            .fetch_all(&mut c)
            .await?;
        let idle: Vec<(i64, String)> = sqlx::query_as(
            "SELECT CAST(ID AS SIGNED), CAST(HOST AS CHAR) FROM information_schema.PROCESSLIST \
             WHERE COMMAND='Sleep' AND TIME>=? AND ID<>CONNECTION_ID()",
        )
        .bind(IDLE_S)
        .fetch_all(&mut c)
        .await?;
        // A server that was restarted counts from 1 again: the number alone is not the connection.
        for (id, client) in recorded.iter().filter(|one| idle.contains(one)) {
            let kill = sqlx::AssertSqlSafe(format!("KILL CONNECTION {id}"));
            if sqlx::raw_sql(kill).execute(&mut c).await.is_ok() {
                tracing::warn!(node = %holder.node, client, "ended an idle database connection of a node that is replaced");
                ended += 1;
            }
        }
    }
    Ok(ended)
}
