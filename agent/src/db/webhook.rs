//! Events on their way to the business: kept until it has said 200.
//! Delivers nothing: `coreapp/webhook.rs` does.

use wa_core::id::Ownership;

use super::{Db, DbError, on_pool, text, unsigned};

/// A webhook that is due.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Due {
    pub id: i64,
    pub payload: String,
    pub attempts: i64,
}

impl Db {
    /// Due webhooks of the shard's slice, oldest first. `longest_ms` is the longest pause that one is given.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn due_webhooks(
        &self,
        own: &Ownership,
        shard_count: u16,
        limit: u32,
        longest_ms: u64,
    ) -> Result<Vec<Due>, DbError> {
        let int = if self.embedded() { "INTEGER" } else { "SIGNED" };
        let sql = text(
            self,
            &format!(
                "SELECT id, payload, CAST(attempts AS {int}) AS attempts FROM webhook WHERE {} \
                 AND recipient_hash % ? = ? ORDER BY next_ms, id LIMIT ?",
                super::due::due(longest_ms)
            ),
        );
        Ok(on_pool!(self, pool => {
            sqlx::query_as(sql)
                .bind(i64::from(shard_count.max(1)))
                .bind(i64::from(own.shard.0))
                .bind(i64::from(limit))
                .fetch_all(pool)
                .await?
        }))
    }

    /// Takes delivered webhooks away and puts failed ones off, in one commit.
    ///
    /// # Errors
    /// When the database does not answer: what was delivered is delivered again (at least once).
    pub async fn webhooks_done(
        &self,
        own: &Ownership,
        delivered: &[i64],
        put_off: &[(i64, u64)],
    ) -> Result<bool, DbError> {
        let now = self.now_sql();
        let mut statements: Vec<String> = put_off
            .iter()
            .map(|(id, delay_ms)| {
                format!(
                    "UPDATE webhook SET attempts=attempts+1, next_ms={now}+{delay_ms} WHERE id={id}"
                )
            })
            .collect();
        if !delivered.is_empty() {
            let ids: Vec<String> = delivered.iter().map(ToString::to_string).collect();
            statements.push(format!(
                "DELETE FROM webhook WHERE id IN ({})",
                ids.join(",")
            ));
        }
        Ok(self.guarded(own, &statements).await?.is_some())
    }

    /// How many webhooks wait.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn webhook_depth(&self) -> Result<u64, DbError> {
        let row: (i64,) = on_pool!(self, pool => sqlx::query_as("SELECT COUNT(*) FROM webhook").fetch_one(pool).await?);
        Ok(unsigned(row.0))
    }

    /// How many webhooks of the shard's slice wait, and the id of the oldest of them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn webhooks_waiting(
        &self,
        own: &Ownership,
        shard_count: u16,
    ) -> Result<(u64, Option<i64>), DbError> {
        let sql = "SELECT COUNT(*), MIN(id) FROM webhook WHERE recipient_hash % ? = ?";
        let row: (i64, Option<i64>) = on_pool!(self, pool => {
            sqlx::query_as(sql)
                .bind(i64::from(shard_count.max(1)))
                .bind(i64::from(own.shard.0))
                .fetch_one(pool)
                .await?
        });
        Ok((unsigned(row.0), row.1))
    }

    /// Queues a webhook of the owner's own making (a `failed` status), in one commit with nothing else.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn queue_webhook(
        &self,
        own: &Ownership,
        key: &str,
        recipient_hash: u32,
        payload: &str,
    ) -> Result<bool, DbError> {
        let insert = self.webhook_insert(key, recipient_hash, payload);
        Ok(self.guarded(own, &[insert]).await?.is_some())
    }

    /// Counts for `/v1/stats/db`: messages by state, waiting webhooks, waiting events.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn counts(&self) -> Result<Vec<(String, u64)>, DbError> {
        let sql = "SELECT 'messages', COUNT(*) FROM message UNION ALL SELECT 'pending_messages', COUNT(*) FROM message WHERE state<3 \
             UNION ALL SELECT 'pending_callbacks', COUNT(*) FROM webhook UNION ALL SELECT 'pending_events', COUNT(*) FROM inbox \
             WHERE processed=0";
        let rows: Vec<(String, i64)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        Ok(rows
            .into_iter()
            .map(|(name, n)| (name, unsigned(n)))
            .collect())
    }
}
