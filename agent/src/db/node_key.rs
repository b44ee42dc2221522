//! Which keys each node signs with and takes, by their ids: what a rotation waits for.
//! Holds no key.

use wa_core::id::{NodeId, Role};

use super::{Db, DbError, on_pool, unsigned};

/// What a registered node says of its keys. Without a word of this very start of the node nothing is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeKeyRow {
    pub node: NodeId,
    pub role: Role,
    pub beat_age_ms: u64,
    /// Id of the key that it signs with, two hexadecimal digits.
    pub sends: Option<String>,
    /// Ids of the keys that it takes.
    pub accepts: Vec<String>,
}

impl Db {
    /// Every node that beat within the last day.
    ///
    /// # Errors
    /// When the database does not answer, or the schema is not there yet.
    pub async fn node_keys(&self) -> Result<Vec<NodeKeyRow>, DbError> {
        let (now, int) = if self.embedded() {
            (self.now_sql(), "INTEGER")
        } else {
            (self.now_sql(), "SIGNED")
        };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT n.node, CAST(n.role AS {int}) AS role, {now} - n.beat_ms AS beat_age, COALESCE(k.sends, ''), COALESCE(k.accepts, '') \
             FROM node n LEFT JOIN node_key k ON k.node=n.node AND k.inc_counter=n.inc_counter AND k.inc_random=n.inc_random \
             WHERE n.beat_ms > {now} - 86400000 ORDER BY n.node"
        ));
        let rows: Vec<(String, i64, i64, String, String)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        let row =
            |(node, role, age, sends, accepts): (String, i64, i64, String, String)| NodeKeyRow {
                node: NodeId::new(&node),
                role: u8::try_from(role)
                    .ok()
                    .and_then(Role::from_u8)
                    .unwrap_or(Role::Webapp),
                beat_age_ms: unsigned(age),
                sends: Some(sends).filter(|id| !id.is_empty()),
                accepts: accepts.split_whitespace().map(Into::into).collect(),
            };
        Ok(rows.into_iter().map(row).collect())
    }
}
