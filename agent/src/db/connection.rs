//! Connections to a server: opened, written down under the start that holds them, and ended when a frozen holder's lock is
//! in the way of its successor (rule 5.8). Decides nothing: `lease.rs` names whom a step replaces.

use std::time::Duration;

use sqlx::Connection as _;
use tokio::task::JoinSet;
use wa_core::id::{Incarnation, NodeId};
use wa_core::time::Instant;

use super::domain::Domain;
use super::{DbError, number};
use crate::config::DatabaseSettings;
use crate::sys::clock;

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

/// A connection that is not there yet is tried for anew after so long, beside the tries that are under way: TCP repeats what
/// was lost in a network that was cut only after 1, 3, 7 s.
const TRY_ANEW: Duration = Duration::from_secs(1);
/// Tries at a time.
const TRIES_MAX: usize = 3;

/// How a lease connection is opened.
pub(super) struct Opener {
    settings: DatabaseSettings,
    /// Of its statements.
    within: Duration,
    holder: Holder,
}

impl Opener {
    pub(super) fn new(settings: &DatabaseSettings, within: Duration, holder: Holder) -> Self {
        let settings = DatabaseSettings {
            // `run_sqlite` asks by itself, oftener than the file's own waiting would.
            busy_timeout: Duration::from_millis(1),
            ..settings.clone()
        };
        Self {
            settings,
            within,
            holder,
        }
    }

    pub(super) fn open(&self) -> impl Future<Output = Result<Opened, DbError>> + Send + use<> {
        let (settings, within, holder) = (self.settings.clone(), self.within, self.holder.clone());
        async move { open_first(&settings, within, Some(&holder)).await }
    }
}

/// A connection, and the consistency domain of its server.
pub(super) type Opened = (Connection, Domain);

/// A connection on its way. Whoever stops waiting for it ends no try: a server that is slow gets it done by the next time.
pub(super) struct Opening<T> {
    again: Duration,
    /// When the next try is due.
    next: Instant,
    tries: JoinSet<Result<T, DbError>>,
}

impl<T: Send + 'static> Opening<T> {
    pub(super) fn new() -> Self {
        Self::every(TRY_ANEW)
    }

    fn every(again: Duration) -> Self {
        Self {
            again,
            next: clock::now(),
            tries: JoinSet::new(),
        }
    }

    /// Begins one in advance, unless one is left.
    pub(super) fn in_advance(
        &mut self,
        open: impl Future<Output = Result<T, DbError>> + Send + 'static,
    ) {
        if self.tries.is_empty() {
            self.begin(open);
        }
    }

    fn begin(&mut self, open: impl Future<Output = Result<T, DbError>> + Send + 'static) {
        self.next = clock::now() + self.again;
        self.tries.spawn(open);
    }

    /// Waits for the first that is open; can be cut short, and asked again, at any time.
    ///
    /// # Errors
    /// When nothing is under way any more; the last try's. That of one which was begun before is no answer: it is old.
    pub(super) async fn ready<F>(&mut self, open: impl Fn() -> F) -> Result<T, DbError>
    where
        F: Future<Output = Result<T, DbError>> + Send + 'static,
    {
        let mut begun = false;
        loop {
            if self.tries.is_empty() {
                self.begin(open());
                begun = true;
            }
            let more = self.tries.len() < TRIES_MAX;
            let done = tokio::select! {
                biased;
                done = self.tries.join_next() => done,
                () = clock::sleep_until(self.next), if more => {
                    self.begin(open());
                    begun = true;
                    continue;
                }
            };
            let opened = match done {
                Some(Ok(opened)) => opened,
                Some(Err(error)) => Err(DbError::Value(format!("opening a connection: {error}"))),
                None => return Err(DbError::Deadline(self.again)),
            };
            match opened {
                Ok(connection) => {
                    // Those beside it have lost; a single one that was begun in advance is kept for the next time.
                    if self.tries.len() > 1 {
                        self.tries = JoinSet::new();
                    }
                    return Ok(connection);
                }
                Err(error) if begun && self.tries.is_empty() => return Err(error),
                Err(_) => {}
            }
        }
    }
}

/// Opens the first host that answers and may be used.
pub(super) async fn open_first(
    settings: &DatabaseSettings,
    within: Duration,
    holder: Option<&Holder>,
) -> Result<(Connection, Domain), DbError> {
    let open = |at: usize| {
        let opening = open_one(settings, at, within, holder);
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
    at: usize,
    within: Duration,
    holder: Option<&Holder>,
) -> Result<(Connection, Domain), DbError> {
    let url = &settings.urls[at];
    if url.starts_with("sqlite:") {
        let options = super::sqlite_options(settings, url)?;
        let connection = sqlx::SqliteConnection::connect_with(&options).await?;
        return Ok((Connection::Sqlite(connection), Domain::Alone));
    }
    let way = super::reach::Way::to(settings, at).await?;
    let (mut connection, domain) = super::session::open(&way, within).await?;
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

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const AGAIN: Duration = Duration::from_millis(5);

    /// Goal: what got lost in a network that was cut holds nothing up for as long as TCP waits. Method: tries that never end
    /// but for the third; callers that wait for less than it takes.
    #[tokio::test]
    async fn a_try_that_hangs_is_not_all_there_is() {
        let tries = AtomicUsize::new(0);
        let open = || {
            let nth = tries.fetch_add(1, Ordering::Relaxed);
            async move {
                match nth {
                    2 => Ok(nth),
                    _ => pending().await,
                }
            }
        };
        let mut opening = Opening::every(AGAIN);
        let opened = loop {
            let asked = tokio::time::timeout(AGAIN / 2, opening.ready(open)).await;
            if let Ok(opened) = asked {
                break opened;
            }
        };
        assert_eq!(opened.ok(), Some(2));
        assert!(opening.tries.is_empty(), "what hangs is given up");
    }

    /// Goal: a server that nobody reaches is not asked by ever more at once, and a refusal is told.
    #[tokio::test]
    async fn tries_are_bounded_and_the_last_error_is_told() {
        let tries = AtomicUsize::new(0);
        let hangs = || {
            tries.fetch_add(1, Ordering::Relaxed);
            pending::<Result<(), DbError>>()
        };
        let mut opening = Opening::every(AGAIN);
        while tries.load(Ordering::Relaxed) < TRIES_MAX {
            let asked = tokio::time::timeout(AGAIN * 2, opening.ready(hangs)).await;
            assert!(asked.is_err());
        }
        for _ in 0..10 {
            let asked = tokio::time::timeout(AGAIN * 2, opening.ready(hangs)).await;
            assert!(asked.is_err());
        }
        assert_eq!(tries.load(Ordering::Relaxed), TRIES_MAX);
        let refused = || async { Err::<(), _>(DbError::Conflict) };
        let mut opening = Opening::new();
        opening.in_advance(async { Ok(()) });
        opening.in_advance(pending());
        assert!(opening.ready(refused).await.is_ok(), "begun in advance");
        let again = opening.ready(refused).await;
        assert!(matches!(again, Err(DbError::Conflict)));
        // One that failed while nobody waited for it says nothing about now.
        opening.in_advance(refused());
        assert!(opening.ready(|| async { Ok(()) }).await.is_ok());
    }
}
