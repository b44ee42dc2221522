//! Whether a server may be used at all, and how far its commits reach (rule 5.9): one writable server, a Galera node, or a
//! member of Group Replication. Asked when a connection is opened, and again in the round trip of each deciding read.
//! Chooses no host: `host.rs` does.

use std::time::Duration;

use super::{DbError, session};

/// What keeps the commits of a server when another one takes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Domain {
    /// One writable server. Whatever replicates from it does so later: after a change of server commits may be missing.
    Alone,
    /// A node of a Galera cluster: a commit is on every node of the primary component, and reads wait for it here.
    Galera,
    /// A member of the group of this name: a commit is on a majority, and reads wait for it here.
    Group(String),
}

/// In the order of their names: history, component, state, readiness.
const GALERA_STATE: &str = "(SELECT GROUP_CONCAT(VARIABLE_VALUE ORDER BY VARIABLE_NAME SEPARATOR ' ') \
     FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME IN ('WSREP_CLUSTER_STATE_UUID', 'WSREP_CLUSTER_STATUS', \
     'WSREP_LOCAL_STATE', 'WSREP_READY'))";

/// State and role of this member, and whether it sees a majority.
const GROUP_STATE: &str = "(SELECT CONCAT(g.MEMBER_STATE, ' ', g.MEMBER_ROLE, ' ', \
     (SELECT SUM(MEMBER_STATE='ONLINE') * 2 > COUNT(*) FROM performance_schema.replication_group_members)) \
     FROM performance_schema.replication_group_members g WHERE g.MEMBER_ID=@@server_uuid)";

/// wsrep_local_state: serving a state transfer, and in step with the others.
const DONOR: &str = "2";
const SYNCED: &str = "4";

impl Domain {
    /// An expression whose value [`Self::judge`] understands; it needs no table of ours.
    pub(super) fn state_sql(&self) -> &'static str {
        match self {
            Self::Alone => "''",
            Self::Galera => GALERA_STATE,
            Self::Group(_) => GROUP_STATE,
        }
    }

    /// Whether a server in this state may be used. `opening`: a node that serves a state transfer is not chosen anew, but
    /// not given up either: its reads wait for the others' commits, and certification is the same everywhere.
    pub(super) fn judge(&self, state: &str, server: &str, opening: bool) -> Result<(), DbError> {
        let mut words = state.split(' ');
        let good = match self {
            Self::Alone => true,
            Self::Galera => {
                let (_, status, local, ready) =
                    (words.next(), words.next(), words.next(), words.next());
                let local = local == Some(SYNCED) || local == Some(DONOR) && !opening;
                status == Some("Primary") && local && ready == Some("ON")
            }
            Self::Group(_) => {
                let (state, role, majority) = (words.next(), words.next(), words.next());
                (state, role, majority) == (Some("ONLINE"), Some("PRIMARY"), Some("1"))
            }
        };
        if good {
            return Ok(());
        }
        Err(DbError::OutOfService {
            server: server.to_owned(),
            state: match self {
                Self::Group(_) if state.is_empty() => "no member of its group".to_owned(),
                Self::Alone | Self::Galera | Self::Group(_) => state.to_owned(),
            },
        })
    }

    /// Names the history of commits that a server continues. `server` ends with the connection's number.
    pub(super) fn lineage(&self, server: &str, state: &str) -> String {
        match self {
            Self::Alone => server
                .rsplit_once(':')
                .map_or(server, |(server, _)| server)
                .to_owned(),
            Self::Galera => state.split(' ').next().unwrap_or_default().to_owned(),
            Self::Group(name) => name.clone(),
        }
    }
}

/// Makes a new connection fit for our statements. Refuses a server that must not be used, and one that does not let us set what
/// the statements rely on.
pub(super) async fn prepare(
    c: &mut sqlx::MySqlConnection,
    database: Option<&str>,
    within: Duration,
) -> Result<Domain, DbError> {
    let said = session::introduce(c).await?;
    if said.read_only() {
        return Err(DbError::ReadOnly {
            server: said.server(),
        });
    }
    let domain = said.domain();
    // Asked before reads are made to wait: a node outside the primary component answers this, and nothing else.
    if domain != Domain::Alone {
        let sql = format!("SELECT {}", domain.state_sql());
        let state: (Option<String>,) = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_one(&mut *c)
            .await?;
        let state = state.0.unwrap_or_default();
        domain.judge(&state, &said.server(), true)?;
    }
    session::settle(c, &said, &domain, database, within).await?;
    Ok(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only a server that can neither lose nor fork what it accepts is used. Method: every state there is.
    #[test]
    fn only_a_server_in_the_majority_is_used() {
        let galera = |state: &str, opening| Domain::Galera.judge(state, "s", opening).is_ok();
        assert!(galera("u Primary 4 ON", true));
        assert!(!galera("u Primary 2 ON", true), "a donor is not chosen");
        assert!(galera("u Primary 2 ON", false), "nor is it given up");
        for bad in [
            "u non-Primary 4 ON",
            "u Disconnected 0 OFF",
            "u Primary 1 ON",
            "u Primary 3 ON",
            "u Primary 4 OFF",
            "Primary 4 ON",
            "",
        ] {
            assert!(!galera(bad, true) && !galera(bad, false), "{bad:?}");
        }
        let group = |state: &str| Domain::Group("g".into()).judge(state, "s", true).is_ok();
        assert!(group("ONLINE PRIMARY 1"));
        for bad in [
            "ONLINE SECONDARY 1",
            "ONLINE PRIMARY 0",
            "RECOVERING PRIMARY 1",
            "ERROR  1",
            "",
        ] {
            assert!(!group(bad), "{bad:?}");
        }
    }

    /// Goal: a change of server is told from one that may have lost commits. Method: two servers of each kind.
    #[test]
    fn lineage_changes_where_commits_may_be_missing() {
        let alone = |server: &str| Domain::Alone.lineage(server, "");
        assert_eq!(alone("db1:3306:1:77"), alone("db1:3306:1:78"));
        assert_ne!(alone("db1:3306:1:77"), alone("db2:3306:2:77"));
        let galera = |server: &str, state: &str| Domain::Galera.lineage(server, state);
        assert_eq!(
            galera("db1:3306:1:77", "u Primary 4 ON"),
            galera("db2:3306:2:5", "u Primary 4 ON")
        );
        assert_ne!(
            galera("db1:3306:1:77", "u Primary 4 ON"),
            galera("db1:3306:1:77", "v Primary 4 ON")
        );
    }
}
