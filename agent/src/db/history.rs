//! The record of decisions, for `status` and `history`.
//! Nothing is decided from it.

use super::{Db, DbError, on_pool, text};

/// One recorded decision.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Decision {
    pub at_ms: i64,
    pub node: String,
    /// -1: not about one shard.
    pub shard: i64,
    pub what: String,
    pub subject: String,
    pub reason: String,
}

impl Db {
    /// Records a decision at the database's time.
    ///
    /// # Errors
    /// When the database does not answer; the decision stands all the same.
    pub async fn record(
        &self,
        node: &str,
        shard: i64,
        what: &str,
        subject: &str,
        reason: &str,
    ) -> Result<(), DbError> {
        let sql = text(
            self,
            "INSERT INTO history (at_ms, node, shard, what, subject, reason) VALUES ({now},?,?,?,?,?)",
        );
        // Columns of the table: an operator's reason may be longer.
        let cut = |text: &str, len: usize| text.chars().take(len).collect::<String>();
        let (subject, reason) = (cut(subject, 96), cut(reason, 64));
        on_pool!(self, pool => {
            sqlx::query(sql).bind(node).bind(shard).bind(what).bind(subject).bind(reason).execute(pool).await.map(|_| ())?
        });
        Ok(())
    }

    /// The newest decisions, oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn decisions(&self, limit: u32) -> Result<Vec<Decision>, DbError> {
        let int = if self.embedded() { "INTEGER" } else { "SIGNED" };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT at_ms, node, CAST(shard AS {int}) AS shard, what, subject, reason FROM history ORDER BY id DESC LIMIT ?"
        ));
        let mut rows: Vec<Decision> = on_pool!(self, pool => sqlx::query_as(sql).bind(i64::from(limit)).fetch_all(pool).await?);
        rows.reverse();
        Ok(rows)
    }
}
