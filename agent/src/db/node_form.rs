//! Which form of messages each coreapp reads (`node_form`), so that none is written that an owner could not read.
//! Judges nothing: `webapp/shard_map.rs` takes the lowest of those that may own a shard.

use std::collections::HashMap;

use wa_core::id::{Incarnation, NodeId};

use super::{Db, DbError, number, on_pool, unsigned};

/// A start, and the newest form that it said it reads. Another start of the same node may be of another release.
pub type Forms = HashMap<(NodeId, Incarnation), u16>;

impl Db {
    /// Says which form this start reads.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tell_form(
        &self,
        node: &NodeId,
        start: Incarnation,
        newest: u16,
    ) -> Result<(), DbError> {
        let sql = if self.embedded() {
            "INSERT OR REPLACE INTO node_form (node, inc_counter, inc_random, form_max) VALUES (?,?,?,?)"
        } else {
            "REPLACE INTO node_form (node, inc_counter, inc_random, form_max) VALUES (?,?,?,?)"
        };
        on_pool!(self, pool => {
            sqlx::query(sql)
                .bind(node.as_str())
                .bind(number(start.counter))
                .bind(number(start.random))
                .bind(i64::from(newest))
                .execute(pool)
                .await
                .map(|_| ())?
        });
        Ok(())
    }

    /// What all starts said.
    ///
    /// # Errors
    /// When the database does not answer, or the schema is not there yet.
    pub async fn forms(&self) -> Result<Forms, DbError> {
        let int = if self.embedded() { "INTEGER" } else { "SIGNED" };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT node, inc_counter, inc_random, CAST(form_max AS {int}) FROM node_form"
        ));
        let rows: Vec<(String, i64, i64, i64)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        let form = |(node, counter, random, form): (String, i64, i64, i64)| {
            let start = Incarnation {
                counter: unsigned(counter),
                random: unsigned(random),
            };
            let form = u16::try_from(form).unwrap_or(0);
            ((NodeId::new(&node), start), form)
        };
        Ok(rows.into_iter().map(form).collect())
    }
}
