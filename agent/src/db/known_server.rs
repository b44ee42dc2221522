//! Which server answers, and whether one that takes over from it may lack commits (rule 5.9).
//! Draws no conclusion: `wa_core::master` does.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wa_core::id::{Grant, Term};
use wa_core::master::Server;

use super::setting::DATABASE_SERVER;
use super::write::Write;
use super::{Db, DbError};
use crate::config::Replication;

/// The one name of servers that lose nothing when one of them goes.
const TOGETHER: u64 = 1;

/// The server on which the rows were last known to be complete.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KnownServer {
    /// [`Server::id`]; 0 when it was never written.
    pub server: u64,
    /// Host, port, server id and schema, for people.
    pub name: String,
}

impl KnownServer {
    /// What the setting row holds; one that cannot be read counts as another server.
    pub fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|_| Self {
            server: u64::MAX >> 1,
            name: "unreadable".into(),
        })
    }
}

/// What the core is told of the server of this name.
pub(super) fn of(replication: Replication, name: &str, grouped: bool, known: u64) -> Server {
    let lossy = match replication {
        Replication::Auto => !grouped,
        Replication::Asynchronous => true,
        Replication::Single | Replication::Synchronous => false,
    };
    let digest = Sha256::digest(name.as_bytes());
    let first = digest.iter().take(8);
    let hash = first.fold(0u64, |hash, byte| hash << 8 | u64::from(*byte));
    // Rows hold 63 bits; 0 and 1 have a meaning of their own.
    let own = (hash >> 1).max(TOGETHER + 1);
    Server {
        id: if lossy { own } else { TOGETHER },
        known,
        lossy,
    }
}

/// Which file it is: another one at the same path is another database.
pub(super) fn file_identity(urls: &[String]) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let path = urls.first().and_then(|url| {
        let path = url.strip_prefix("sqlite:")?;
        let path = path.strip_prefix("//").unwrap_or(path);
        Some(path.split('?').next().unwrap_or(path))
    });
    let metadata = path.and_then(|path| std::fs::metadata(path).ok());
    metadata.map_or_else(
        || "file".into(),
        |m| format!("file:{}:{}", m.dev(), m.ino()),
    )
}

/// A number that changes when the server or the connection does.
pub(super) fn identity(server: &str, opened: u64) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    (server, opened).hash(&mut hasher);
    hasher.finish()
}

/// The statements that write the server down, beside the first one, which checks the term.
pub(super) fn known_writes(known: &KnownServer, term: Term, term_grant: Grant) -> [Write; 2] {
    let text = serde_json::to_string(known).expect("a number and a name are JSON");
    [
        Write::new(
            "INSERT {ignore} INTO setting (name, version, value) VALUES ('database_server', 0, '{}')",
        )
        .optional(),
        Write::new(
            "UPDATE setting SET version=version+1, value=? WHERE name='database_server' AND EXISTS (SELECT 1 FROM lease m \
             WHERE m.name='master' AND m.token=? AND m.grant_id=?)",
        )
        .text(&text)
        .numbers(&[term.0, term_grant.0]),
    ]
}

impl Db {
    /// The server on which the rows were last known to be complete.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn known_server(&self) -> Result<KnownServer, DbError> {
        let (version, text) = self.setting(DATABASE_SERVER).await?;
        Ok(if version == 0 {
            KnownServer::default()
        } else {
            KnownServer::parse(&text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: servers are told apart by name where one may lack commits, and are one server where none can.
    #[test]
    fn servers_are_told_apart_where_that_matters() {
        let of = |replication, name, grouped| of(replication, name, grouped, 7);
        let (a, b) = ("db1:3306:1/wa", "db2:3306:2/wa");
        for replication in [Replication::Auto, Replication::Asynchronous] {
            let (one, two) = (of(replication, a, false), of(replication, b, false));
            assert!(one.lossy && one.id != two.id && one.id > TOGETHER);
            assert_eq!(one.known, 7);
        }
        for (replication, grouped) in [
            (Replication::Auto, true),
            (Replication::Single, false),
            (Replication::Synchronous, false),
        ] {
            assert_eq!(of(replication, a, grouped).id, TOGETHER);
            assert!(!of(replication, b, grouped).lossy);
        }
        assert!(of(Replication::Asynchronous, a, true).lossy);
    }

    /// Goal: rubbish in the row is no server that anybody knows.
    #[test]
    fn an_unreadable_row_is_another_server() {
        let known = KnownServer {
            server: 9,
            name: "db1".into(),
        };
        let text = serde_json::to_string(&known).expect("JSON");
        assert_eq!(KnownServer::parse(&text), known);
        assert_eq!(KnownServer::parse("{}").server, 0);
        assert!(KnownServer::parse("rubbish").server > TOGETHER);
    }
}
