//! Which keys each node signs with and takes, by their ids: what a rotation waits for.
//! Holds no key.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use wa_core::id::{NodeId, Role};
use wa_core::roll::{self, Roll};

use super::{Db, DbError, on_pool, unsigned};
use crate::sys::clock;

/// What a registered node says of its keys. Without a word of this very start of the node nothing is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeKeyRow {
    pub node: NodeId,
    pub role: Role,
    /// It may be at work: it beat lately, by the reader's own clock.
    pub live: bool,
    /// Id of the key that it signs with, two hexadecimal digits.
    pub sends: Option<String>,
    /// Ids of the keys that it takes.
    pub accepts: Vec<String>,
}

impl Db {
    /// Every node but those that have not beaten for a day, as the reader's own roll knows them. One that beat within `live`
    /// is live, and so is one that was not watched for long enough to say that it is not: a leap of the database's clock
    /// leaves nobody out of a rotation.
    ///
    /// # Errors
    /// When the database does not answer, or the schema is not there yet.
    pub async fn node_keys(
        &self,
        known: &Mutex<Roll>,
        live: Duration,
    ) -> Result<Vec<NodeKeyRow>, DbError> {
        let now = self.now_sql();
        let int = if self.embedded() { "INTEGER" } else { "SIGNED" };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT n.node, CAST(n.role AS {int}) AS role, n.beat_ms, {now} - n.beat_ms AS beat_age, COALESCE(k.sends, ''), \
             COALESCE(k.accepts, '') FROM node n LEFT JOIN node_key k ON k.node=n.node AND k.inc_counter=n.inc_counter AND \
             k.inc_random=n.inc_random ORDER BY n.node"
        ));
        type Found = (String, i64, i64, i64, String, String);
        let rows: Vec<Found> = on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        let names: Vec<NodeId> = rows.iter().map(|row| NodeId::new(&row.0)).collect();
        let seen = names.iter().zip(&rows).map(|(node, row)| roll::Row {
            node,
            beat: unsigned(row.2),
            age: Duration::from_millis(unsigned(row.3)),
        });
        let seen: Vec<_> = seen.collect();
        let now = clock::now();
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let members = known.call(now, &seen);
        let row = |(_, role, _, _, sends, accepts): Found, node: &NodeId| NodeKeyRow {
            node: node.clone(),
            role: u8::try_from(role)
                .ok()
                .and_then(Role::from_u8)
                .unwrap_or(Role::Webapp),
            live: known.lately(now, node, live),
            sends: Some(sends).filter(|id| !id.is_empty()),
            accepts: accepts.split_whitespace().map(Into::into).collect(),
        };
        let rows = rows.into_iter().zip(&names).zip(members);
        Ok(rows
            .filter(|(_, member)| *member)
            .map(|((found, node), _)| row(found, node))
            .collect())
    }
}
