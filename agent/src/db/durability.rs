//! Settings of the database that void the promise to keep what was answered 2xx (promise S3), named for people.
//! Changes none of them.

use std::collections::BTreeMap;

use sqlx::Row as _;

use super::domain::Domain;
use super::{Db, DbError};

const VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('hostname', 'port', 'innodb_flush_log_at_trx_commit', \
     'innodb_doublewrite', 'log_bin', 'sync_binlog', 'rpl_semi_sync_master_enabled', 'rpl_semi_sync_source_enabled', \
     'max_allowed_packet', 'wsrep_on', 'group_replication_group_name')";

const ENGINES: &str = "SELECT CAST(table_name AS CHAR), CAST(COALESCE(engine, '') AS CHAR) FROM information_schema.tables \
     WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'";
/// A group of accepted messages is one packet of up to so many bytes.
const PACKET_MIN: u64 = 16 << 20;

impl Db {
    /// One sentence for each setting of the server in use by which an accepted message may be lost; empty: none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn voided_promises(&self) -> Result<Vec<String>, DbError> {
        let several = match self {
            Self::Sqlite(_) => false,
            Self::MySql(hosts) => hosts.several(),
        };
        self.voided_promises_of(several).await
    }

    /// The same of one of several servers, or of one that is alone.
    ///
    /// # Errors
    /// As [`Self::voided_promises`].
    pub async fn voided_promises_of(&self, several: bool) -> Result<Vec<String>, DbError> {
        match self {
            Self::Sqlite(pool) => {
                let level: (i64,) = sqlx::query_as("PRAGMA synchronous").fetch_one(pool).await?;
                Ok(of_file(level.0))
            }
            Self::MySql(hosts) => {
                let pool = hosts.pool();
                let asked = sqlx::raw_sql(VARIABLES).fetch_all(&pool);
                let rows = hosts.in_time(&pool, asked).await??;
                let mut found = BTreeMap::new();
                for row in rows {
                    found.insert(row.try_get::<String, _>(0)?, row.try_get::<String, _>(1)?);
                }
                let mut said = of_server(&found, several);
                let asked = sqlx::query_as(ENGINES).fetch_all(&pool);
                let tables: Vec<(String, String)> = hosts.in_time(&pool, asked).await??;
                said.extend(of_tables(&tables));
                Ok(said)
            }
        }
    }
}

/// Only tables of InnoDB have transactions: a commit of ours in others is no commit.
fn of_tables(tables: &[(String, String)]) -> Vec<String> {
    let ours: Vec<&str> = super::server::tables().collect();
    let other = |(table, engine): &&(String, String)| {
        ours.contains(&table.as_str()) && !engine.eq_ignore_ascii_case("InnoDB")
    };
    let wrong = tables.iter().filter(other);
    wrong
        .map(|(table, engine)| {
            format!(
                "table {table} is of the engine {engine}, which has no transactions: messages are lost and doubled; type on the server: \
                 ALTER TABLE {table} ENGINE=InnoDB"
            )
        })
        .collect()
}

/// 2 is FULL, 3 EXTRA.
fn of_file(synchronous: i64) -> Vec<String> {
    if synchronous >= 2 {
        return Vec::new();
    }
    vec![format!(
        "the embedded database is opened with synchronous={synchronous}: a power cut loses messages that were answered 2xx"
    )]
}

fn of_server(variables: &BTreeMap<String, String>, several: bool) -> Vec<String> {
    let value = |name: &str| variables.get(name).map_or("", String::as_str);
    let off = |name: &str| matches!(value(name), "OFF" | "0");
    let server = format!("{}:{}", value("hostname"), value("port"));
    let domain = if value("wsrep_on") == "ON" {
        Domain::Galera
    } else if value("group_replication_group_name").is_empty() {
        Domain::Alone
    } else {
        Domain::Group(value("group_replication_group_name").to_owned())
    };
    // Where a commit is on several servers, only all of them at once can lose it.
    let who = if domain == Domain::Alone {
        "a power cut loses"
    } else {
        "a power cut of all servers at once loses"
    };
    let mut said = Vec::new();
    let flush = value("innodb_flush_log_at_trx_commit");
    if flush != "1" {
        said.push(format!(
            "{server}: innodb_flush_log_at_trx_commit={flush}: {who} messages that were answered 2xx; set it to 1"
        ));
    }
    if off("innodb_doublewrite") {
        said.push(format!(
            "{server}: innodb_doublewrite=OFF: a power cut may leave half-written pages; set it to ON, unless the storage writes \
             pages whole"
        ));
    }
    let packet = value("max_allowed_packet").parse().unwrap_or(PACKET_MIN);
    if packet < PACKET_MIN {
        said.push(format!(
            "{server}: max_allowed_packet={packet}: groups of large messages are refused; set it to {PACKET_MIN} or more"
        ));
    }
    let sync = value("sync_binlog");
    if value("log_bin") == "ON" && sync != "1" && domain == Domain::Alone {
        said.push(format!(
            "{server}: sync_binlog={sync} with a binary log: after a power cut its replicas may have lost or kept other messages \
             than it has; set it to 1"
        ));
    }
    let semi_sync = [
        "rpl_semi_sync_master_enabled",
        "rpl_semi_sync_source_enabled",
    ]
    .iter()
    .any(|name| matches!(value(name), "ON" | "1"));
    if several && domain == Domain::Alone && !semi_sync {
        said.push(format!(
            "{server} has others beside it in [database] urls and replicates to them asynchronously: when one of them takes over, \
             messages that were answered 2xx may be missing; switch semi-synchronous replication on, or use Galera or Group Replication"
        ));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each setting that voids the promise is named, with what to set, and a good server is left in peace.
    #[test]
    fn what_voids_the_promise_is_named() {
        let of = |pairs: &[(&str, &str)], several| {
            let mut variables: BTreeMap<String, String> = [
                ("hostname", "db1"),
                ("port", "3306"),
                ("innodb_flush_log_at_trx_commit", "1"),
                ("innodb_doublewrite", "ON"),
                ("log_bin", "ON"),
                ("sync_binlog", "1"),
                ("wsrep_on", "OFF"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
            let pairs = pairs
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
            variables.extend(pairs);
            of_server(&variables, several)
        };
        assert_eq!(of(&[], false), [""; 0]);
        for (setting, value) in [
            ("innodb_flush_log_at_trx_commit", "2"),
            ("innodb_flush_log_at_trx_commit", "0"),
            ("innodb_doublewrite", "OFF"),
            ("sync_binlog", "0"),
            ("max_allowed_packet", "1048576"),
        ] {
            let said = of(&[(setting, value)], false);
            let named = said
                .iter()
                .any(|s| s.contains(&format!("{setting}={value}")) && s.contains("db1:3306"));
            assert!(named && said.len() == 1, "{setting}: {said:?}");
        }
        assert!(of(&[], true)[0].contains("asynchronously"));
        assert_eq!(of(&[("rpl_semi_sync_source_enabled", "ON")], true), [""; 0]);
        assert_eq!(
            of(&[("wsrep_on", "ON"), ("sync_binlog", "0")], true),
            [""; 0]
        );
        assert_eq!(
            of(&[("log_bin", "OFF"), ("sync_binlog", "0")], false),
            [""; 0]
        );
        assert_eq!(of(&[("group_replication_group_name", "g")], true), [""; 0]);
        let table = |name: &str, engine: &str| (name.to_owned(), engine.to_owned());
        let tables = [
            table("message", "InnoDB"),
            table("inbox", "MyISAM"),
            table("a stranger's", "MyISAM"),
        ];
        let said = of_tables(&tables);
        assert!(said.len() == 1 && said[0].contains("ALTER TABLE inbox ENGINE=InnoDB"));
        assert!(of_file(2).is_empty() && of_file(3).is_empty() && of_file(1).len() == 1);
    }
}
