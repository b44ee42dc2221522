//! The session of a server: its defaults (my.cnf, init_connect) are not ours, so each connection sets what our statements rely
//! on, and reads it back. The only file that opens a connection to a server. Judges no server: `domain.rs` does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::TryStreamExt as _;
use sqlx::mysql::{MySqlConnection, MySqlPool, MySqlPoolOptions};
use sqlx::{Connection as _, Row as _};

use super::connection::{self, Holder};
use super::domain::Domain;
use super::reach::Way;
use super::{DbError, STATEMENT_WITHIN};

/// A variable, and what it has to be.
type Rule = (&'static str, &'static str);

/// Set before anything is asked: without them the questions themselves would be cut, misread, or end the connection.
const FIRST: &[Rule] = &[
    ("completion_type", "NO_CHAIN"),
    ("autocommit", "1"),
    (
        "sql_mode",
        "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION",
    ),
    // To a server, SHOW is a SELECT like others.
    ("sql_select_limit", "18446744073709551615"),
    ("max_join_size", "18446744073709551615"),
    // Behind the one above, which switches it off.
    ("sql_big_selects", "1"),
    ("character_set_client", "utf8mb4"),
    ("character_set_connection", "utf8mb4"),
    ("character_set_results", "utf8mb4"),
    // Of the tables: a literal is compared as a column is, byte by byte.
    ("collation_connection", "utf8mb4_bin"),
];

/// Known to one family each, in the comments that only that family reads.
const FIRST_OF_A_FAMILY: &str =
    "/*M! , SESSION max_statement_time=0 */ /*!80000 , SESSION max_execution_time=0 */";

/// The rest, each where the server knows it: who may read and write what, when a commit is one, how long who waits.
const RULES: &[Rule] = &[
    ("tx_isolation", "READ-COMMITTED"),
    ("transaction_isolation", "READ-COMMITTED"),
    ("tx_read_only", "0"),
    ("transaction_read_only", "0"),
    ("innodb_snapshot_isolation", "0"),
    ("time_zone", "+00:00"),
    ("sql_safe_updates", "0"),
    ("sql_auto_is_null", "0"),
    // Without both, MariaDB 10.6 and later load an insert into an empty table in bulk, at its end; where max_statement_time ends the
    // load it answers success with the count of the rows, and keeps none (seen on 10.11 with 60,000 rows).
    ("foreign_key_checks", "1"),
    ("unique_checks", "1"),
    ("old_mode", ""),
    ("alter_algorithm", "DEFAULT"),
    ("group_concat_max_len", "1048576"),
    ("max_sort_length", "1024"),
    ("query_cache_type", "OFF"),
    // What a replica or another node would not get.
    ("sql_log_bin", "1"),
    ("skip_replication", "0"),
    ("wsrep_osu_method", "TOI"),
    ("wsrep_dirty_reads", "0"),
    ("wsrep_trx_fragment_size", "0"),
    ("innodb_lock_wait_timeout", "1"),
    ("lock_wait_timeout", "1"),
    ("wait_timeout", "3600"),
    // A server that cannot tell a cut-off client what became of a statement waits in the middle of the transaction, a
    // minute by default, with the guard row locked against whoever is to take over: a dozen small answers are enough.
    ("net_write_timeout", "1"),
    // A client that freezes in the middle of a transaction holds its locks for so long (MariaDB).
    ("idle_transaction_timeout", "2"),
];

/// Asked for beside the rules: who the server is, and what some rules depend on.
const FACTS: &[&str] = &[
    "version",
    "hostname",
    "port",
    "read_only",
    "log_bin",
    "binlog_format",
    "enforce_storage_engine",
    "wsrep_on",
    "group_replication_group_name",
    "group_replication_consistency",
    "wsrep_sync_wait",
    "max_statement_time",
    "max_execution_time",
    "timestamp",
];

/// What a server says of itself and of this session.
pub(super) struct Said {
    found: BTreeMap<String, String>,
    /// Of the server; the session has one of its own.
    wsrep_on: bool,
}

impl Said {
    pub(super) fn value(&self, name: &str) -> &str {
        self.found.get(name).map_or("", String::as_str)
    }

    /// Host and port as it calls itself.
    pub(super) fn server(&self) -> String {
        format!("{}:{}", self.value("hostname"), self.value("port"))
    }

    pub(super) fn read_only(&self) -> bool {
        super::is_read_only(self.value("read_only"))
    }

    pub(super) fn domain(&self) -> Domain {
        let group = self.value("group_replication_group_name");
        if self.wsrep_on {
            Domain::Galera
        } else if group.is_empty() {
            Domain::Alone
        } else {
            Domain::Group(group.to_owned())
        }
    }

    /// All that holds for this server, in the order in which it is set.
    fn rules(&self, domain: &Domain, within: Duration) -> Vec<(&'static str, String)> {
        let all = FIRST.iter().chain(RULES);
        let mut rules: Vec<_> = all
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        // MySQL bounds only SELECTs; for the rest the client's own deadline has to do.
        rules.push(("max_execution_time", within.as_millis().to_string()));
        rules.push(("max_statement_time", format!("{:.3}", within.as_secs_f64())));
        // Where reads see every commit that was acknowledged anywhere in the cluster.
        match domain {
            Domain::Alone => {}
            Domain::Galera => {
                rules.push(("wsrep_on", "1".into()));
                // Reads (and BEGIN), updates and deletes, inserts.
                rules.push(("wsrep_sync_wait", "7".into()));
            }
            Domain::Group(_) => rules.push(("group_replication_consistency", "BEFORE".into())),
        }
        // Statements in a binary log do not say what a READ COMMITTED transaction did: the server refuses to write.
        if is("log_bin", self.value("log_bin"), "1") && self.value("binlog_format") == "STATEMENT" {
            rules.push(("binlog_format", "ROW".into()));
        }
        // Tables of another engine know no transactions.
        if !self.value("enforce_storage_engine").is_empty() {
            rules.push(("enforce_storage_engine", "InnoDB".into()));
        }
        rules.retain(|(name, _)| self.found.contains_key(*name));
        rules
    }
}

/// Whether a variable has a value, however the server spells it.
fn is(name: &str, found: &str, wanted: &str) -> bool {
    let plain = |text: &str| match text.to_ascii_uppercase().as_str() {
        "ON" | "TRUE" | "YES" => "1".to_owned(),
        "OFF" | "FALSE" | "NO" => "0".to_owned(),
        other => other.to_owned(),
    };
    let (found, wanted) = (plain(found), plain(wanted));
    if matches!(name, "sql_mode" | "old_mode") {
        let parts = |text: &str| {
            let parts = text.split(',').filter(|part| !part.is_empty());
            parts
                .map(str::to_owned)
                .collect::<std::collections::BTreeSet<_>>()
        };
        return parts(&found) == parts(&wanted);
    }
    // A bound in seconds comes back with as many digits as the server likes.
    let seconds = |text: &str| {
        text.contains('.')
            .then(|| text.parse::<f64>().ok())
            .flatten()
    };
    found == wanted || seconds(&wanted).is_some_and(|wanted| found.parse() == Ok(wanted))
}

fn assignment(name: &str, value: &str) -> String {
    if value.parse::<f64>().is_ok() {
        format!("SESSION {name}={value}")
    } else {
        format!("SESSION {name}='{value}'")
    }
}

fn set<'a>(rules: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let all: Vec<String> = rules.map(|(name, value)| assignment(name, value)).collect();
    format!("SET {}", all.join(", "))
}

/// Makes the session readable and asks the server who it is: one round trip.
pub(super) async fn introduce(c: &mut MySqlConnection) -> Result<Said, DbError> {
    let names = FIRST.iter().chain(RULES).map(|(name, _)| *name);
    let names: Vec<String> = names
        .chain(FACTS.iter().copied())
        .map(|name| format!("'{name}'"))
        .collect();
    let names = names.join(",");
    let first = set(FIRST.iter().copied());
    let packet = format!(
        "{first}{FIRST_OF_A_FAMILY}; SHOW SESSION VARIABLES WHERE Variable_name IN ({names}); \
         SHOW GLOBAL VARIABLES LIKE 'wsrep_on'"
    );
    let answers = match answers(c, packet).await {
        Err(sqlx::Error::Database(error)) => {
            let first = FIRST
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()));
            return Err(blame(c, "in use", first.collect(), error).await);
        }
        Err(sqlx::Error::Io(error)) => return Err(DbError::AfterLogin(error)),
        other => other?,
    };
    let mut found = BTreeMap::new();
    let mut wsrep_on = false;
    for (statement, row) in answers {
        let (name, value): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        match statement {
            1 => drop(found.insert(name.to_ascii_lowercase(), value)),
            _ => wsrep_on = is(&name, &value, "1"),
        }
    }
    if !found.contains_key("autocommit") {
        return Err(DbError::Value(
            "the server does not show its variables to our user".into(),
        ));
    }
    Ok(Said { found, wsrep_on })
}

/// The rows of a packet, each with the number of the statement that they answer.
async fn answers(
    c: &mut MySqlConnection,
    packet: String,
) -> Result<Vec<(usize, sqlx::mysql::MySqlRow)>, sqlx::Error> {
    let (mut rows, mut statement) = (Vec::new(), 0);
    let mut stream = sqlx::raw_sql(sqlx::AssertSqlSafe(packet)).fetch_many(c);
    while let Some(part) = stream.try_next().await? {
        match part {
            sqlx::Either::Left(_) => statement += 1,
            sqlx::Either::Right(row) => rows.push((statement, row)),
        }
    }
    Ok(rows)
}

/// Sets what differs and reads everything back: one round trip. Whatever the server began for us is undone.
pub(super) async fn settle(
    c: &mut MySqlConnection,
    said: &Said,
    domain: &Domain,
    database: Option<&str>,
    within: Duration,
) -> Result<(), DbError> {
    let rules = said.rules(domain, within);
    let missing: Vec<_> = rules
        .iter()
        .filter(|(name, value)| !is(name, said.value(name), value))
        .cloned()
        .collect();
    let back: Vec<String> = rules
        .iter()
        .map(|(name, _)| format!("CAST(@@session.{name} AS CHAR)"))
        .collect();
    let mut packet = String::from("ROLLBACK; ");
    if !missing.is_empty() {
        let missing = missing.iter().map(|(name, value)| (*name, value.as_str()));
        packet.push_str(&set(missing));
        packet.push_str("; ");
    }
    packet.push_str(&format!(
        "SELECT DATABASE(), CAST(@@session.timestamp AS CHAR), {}",
        back.join(", ")
    ));
    let read = match answers(c, packet).await {
        Err(sqlx::Error::Database(error)) => {
            return Err(blame(c, &said.server(), missing, error).await);
        }
        other => other?,
    };
    let (_, row) = read
        .first()
        .ok_or_else(|| DbError::Value("the server did not show its session".into()))?;
    let at = |index: usize| -> Result<String, sqlx::Error> {
        Ok(row.try_get::<Option<String>, _>(index)?.unwrap_or_default())
    };
    let refused = |variable: &str, wanted: &str, found: String| DbError::Session {
        server: said.server(),
        variable: variable.to_owned(),
        wanted: wanted.to_owned(),
        found,
        why: "it did not take our value".into(),
    };
    for (index, (name, wanted)) in rules.iter().enumerate() {
        let found = at(index + 2)?;
        if !is(name, &found, wanted) {
            return Err(refused(name, wanted, found));
        }
    }
    let here = at(0)?;
    if database.is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&here)) {
        return Err(DbError::OtherDatabase {
            server: said.server(),
            wanted: database.unwrap_or_default().to_owned(),
            found: here,
        });
    }
    if at(1)? == said.value("timestamp") {
        free_clock(c, said).await?;
    }
    Ok(())
}

/// The session's clock showed the same microsecond twice: init_connect may have stopped it.
async fn free_clock(c: &mut MySqlConnection, said: &Said) -> Result<(), DbError> {
    let freed = sqlx::raw_sql("SET SESSION timestamp=DEFAULT")
        .execute(&mut *c)
        .await;
    match freed {
        Err(sqlx::Error::Database(error)) => Err(DbError::Session {
            server: said.server(),
            variable: "timestamp".into(),
            wanted: "DEFAULT".into(),
            found: said.value("timestamp").to_owned(),
            why: error.message().to_owned(),
        }),
        other => Ok(other.map(|_| ())?),
    }
}

/// Which of several variables the server does not let us set: it does not always say.
async fn blame(
    c: &mut MySqlConnection,
    server: &str,
    rules: Vec<(&'static str, String)>,
    error: Box<dyn sqlx::error::DatabaseError>,
) -> DbError {
    for (name, value) in rules {
        let one = format!("SET {}", assignment(name, &value));
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(one))
            .execute(&mut *c)
            .await;
        match done {
            Ok(_) => {}
            Err(sqlx::Error::Database(why)) => {
                return DbError::Session {
                    server: server.to_owned(),
                    variable: name.to_owned(),
                    wanted: value,
                    found: "another value".into(),
                    why: why.message().to_owned(),
                };
            }
            // It ended the connection with that error.
            Err(_) => break,
        }
    }
    sqlx::Error::Database(error).into()
}

async fn connect(way: &Way) -> Result<MySqlConnection, DbError> {
    let connected = MySqlConnection::connect_with(way.options()).await;
    connected.map_err(|error| way.explain(error))
}

/// Whether a server lets us in, whatever else may be said of it.
///
/// # Errors
/// When it does not answer or refuses.
pub(super) async fn log_in(way: &Way) -> Result<(), sqlx::Error> {
    let connection = MySqlConnection::connect_with(way.options()).await?;
    // A farewell that fails says nothing against the server: it may have hung up at once.
    let _ = connection.close().await;
    Ok(())
}

/// Opens a connection to a server that may be used; statements take at most `within`.
///
/// # Errors
/// When it does not answer, must not be used, or does not let us set what our statements rely on.
pub(super) async fn open(
    way: &Way,
    within: Duration,
) -> Result<(MySqlConnection, Domain), DbError> {
    let mut connection = connect(way).await?;
    let database = way.options().get_database();
    let domain = super::domain::prepare(&mut connection, database, within).await?;
    Ok((connection, domain))
}

/// The same for an administrator's work, on whatever server it is.
///
/// # Errors
/// As [`open`], but that any server may be used.
pub(super) async fn open_any(
    way: &Way,
    within: Duration,
) -> Result<(MySqlConnection, Said), DbError> {
    let mut connection = connect(way).await?;
    let said = introduce(&mut connection).await?;
    settle(
        &mut connection,
        &said,
        &Domain::Alone,
        way.options().get_database(),
        within,
    )
    .await?;
    Ok((connection, said))
}

/// Why connections of a pool were refused last: the pool itself says only that none came in time.
pub(super) type Refusal = Arc<ArcSwapOption<String>>;

/// A pool whose connections are prepared when they are new, and have nothing open when they are lent.
pub(super) fn pool(
    way: &Way,
    connections: u32,
    acquire_within: Duration,
    holder: Option<Holder>,
    refusal: &Refusal,
) -> MySqlPool {
    let database: Option<Arc<str>> = way.options().get_database().map(Arc::from);
    let (holder, refusal) = (holder.map(Arc::new), Arc::clone(refusal));
    MySqlPoolOptions::new()
        .max_connections(connections)
        // Without limits of age the driver starts no task that looks after idle connections. That task counts them while the
        // pool is closed, and may then count for ever on a thread of ours.
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(acquire_within)
        // In the place of a ping: also ends what somebody may have left open.
        .test_before_acquire(false)
        .before_acquire(|c, _| {
            Box::pin(async move {
                sqlx::raw_sql("ROLLBACK").execute(c).await?;
                Ok(true)
            })
        })
        .after_connect(move |c, _| {
            let (holder, refusal) = (holder.clone(), Arc::clone(&refusal));
            let database = database.clone();
            Box::pin(async move {
                match super::domain::prepare(c, database.as_deref(), STATEMENT_WITHIN).await {
                    Ok(_) => refusal.store(None),
                    Err(DbError::Sqlx(error)) => return Err(error),
                    Err(error) => {
                        refusal.store(Some(Arc::new(error.to_string())));
                        return Err(sqlx::Error::Configuration(error.to_string().into()));
                    }
                }
                match holder {
                    Some(holder) => connection::record(c, &holder).await,
                    None => Ok(()),
                }
            })
        })
        .connect_lazy_with(way.options().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pairs: &[(&str, &str)]) -> Said {
        let pairs = pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Said {
            found: pairs.collect(),
            wsrep_on: false,
        }
    }

    /// Goal: a value is known in every spelling of a server, and nothing else passes for it.
    #[test]
    fn values_are_compared_as_servers_spell_them() {
        for (name, found, wanted) in [
            ("autocommit", "ON", "1"),
            ("sql_safe_updates", "OFF", "0"),
            ("sql_mode", "B,A", "A,B"),
            ("max_statement_time", "5.000000", "5.000"),
            ("transaction_isolation", "READ-COMMITTED", "READ-COMMITTED"),
            ("old_mode", "", ""),
        ] {
            assert!(is(name, found, wanted), "{name} {found} {wanted}");
        }
        for (name, found, wanted) in [
            ("autocommit", "OFF", "1"),
            ("sql_mode", "A,B,ANSI_QUOTES", "A,B"),
            (
                "sql_select_limit",
                "18446744073709551614",
                "18446744073709551615",
            ),
            ("max_statement_time", "0.000000", "5.000"),
            ("old_mode", "ZERO_DATE_TIME_CAST", ""),
            ("time_zone", "SYSTEM", "+00:00"),
        ] {
            assert!(!is(name, found, wanted), "{name} {found} {wanted}");
        }
    }

    /// Goal: only what a server knows is set, and what depends on its other settings only where they are so.
    #[test]
    fn rules_follow_the_server() {
        let names = |said: &Said, domain: Domain| -> Vec<&str> {
            let rules = said.rules(&domain, Duration::from_secs(5));
            rules.into_iter().map(|(name, _)| name).collect()
        };
        let plain = said(&[("autocommit", "0"), ("binlog_format", "STATEMENT")]);
        assert_eq!(names(&plain, Domain::Alone), ["autocommit"]);
        let logged = said(&[
            ("log_bin", "ON"),
            ("binlog_format", "STATEMENT"),
            ("enforce_storage_engine", "MyISAM"),
            ("wsrep_sync_wait", "0"),
        ]);
        assert_eq!(
            names(&logged, Domain::Alone),
            ["binlog_format", "enforce_storage_engine"]
        );
        assert_eq!(
            names(&logged, Domain::Galera),
            ["wsrep_sync_wait", "binlog_format", "enforce_storage_engine"]
        );
    }

    /// Goal: numbers stay numbers and words are quoted: a server refuses one for the other.
    #[test]
    fn assignments_are_of_the_right_type() {
        assert_eq!(assignment("autocommit", "1"), "SESSION autocommit=1");
        assert_eq!(
            assignment("max_statement_time", "0.250"),
            "SESSION max_statement_time=0.250"
        );
        assert_eq!(assignment("old_mode", ""), "SESSION old_mode=''");
        assert_eq!(
            assignment("time_zone", "+00:00"),
            "SESSION time_zone='+00:00'"
        );
    }
}
