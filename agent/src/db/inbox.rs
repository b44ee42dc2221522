//! Verified upstream events: stored once by whichever webapp got them, worked off by the shard's owner.
//! Interprets nothing: payloads are the JSON that `api/cloud` made of them.

use wa_core::id::Ownership;
use wa_core::message::MessageState;

use super::message::quote;
use super::{Db, DbError, literal, on_pool, text};

/// An event to store.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Unique for the event: the upstream's id and, for a status, its word.
    pub key: String,
    pub recipient_hash: u32,
    pub payload: String,
}

/// A stored event.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Stored {
    pub event_key: String,
    pub recipient_hash: i64,
    pub payload: String,
}

/// What the owner made of one event.
#[derive(Debug, Clone)]
pub struct Processed {
    pub key: String,
    pub recipient_hash: u32,
    /// Our message id and its state after the event, for a status.
    pub status: Option<(String, MessageState, Option<String>)>,
    /// What the business shall be told, if anything.
    pub webhook: Option<String>,
}

impl Db {
    /// Stores events that are not there yet. Returns how many were new.
    ///
    /// # Errors
    /// When the database does not answer: the caller must not tell the upstream 200 then.
    pub async fn store_events(&self, events: &[NewEvent]) -> Result<u64, DbError> {
        let mut new = 0;
        let sql = "INSERT {ignore} INTO inbox (event_key, recipient_hash, payload, received_ms) VALUES (?,?,?,{now})";
        on_pool!(self, pool => {
            let mut tx = pool.begin().await?;
            for event in events {
                new += sqlx::query(text(self, sql))
                    .bind(event.key.as_str())
                    .bind(i64::from(event.recipient_hash))
                    .bind(event.payload.as_str())
                    .execute(&mut *tx)
                    .await?
                    .rows_affected();
            }
            tx.commit().await?;
        });
        Ok(new)
    }

    /// The oldest events of the shard's slice that are not processed.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn pending_events(
        &self,
        own: &Ownership,
        shard_count: u16,
        limit: u32,
    ) -> Result<Vec<Stored>, DbError> {
        let int = if self.embedded() { "INTEGER" } else { "SIGNED" };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT event_key, CAST(recipient_hash AS {int}) AS recipient_hash, payload FROM inbox \
             WHERE processed=0 AND recipient_hash % ? = ? ORDER BY received_ms LIMIT ?"
        ));
        Ok(on_pool!(self, pool => {
            sqlx::query_as(sql)
                .bind(i64::from(shard_count.max(1)))
                .bind(i64::from(own.shard.0))
                .bind(i64::from(limit))
                .fetch_all(pool)
                .await?
        }))
    }

    /// Message states, webhooks and processed marks in one commit. False: stale, nothing was done.
    ///
    /// # Errors
    /// When the database does not answer; the events stay pending.
    pub async fn process_events(
        &self,
        own: &Ownership,
        processed: &[Processed],
    ) -> Result<bool, DbError> {
        let now = if self.embedded() {
            "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
        } else {
            "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"
        };
        let mut statements = Vec::with_capacity(processed.len() * 3);
        for event in processed {
            if let Some((id, state, wamid)) = &event.status {
                let wamid = wamid
                    .as_ref()
                    .map_or(String::new(), |w| format!(", wamid={}", quote(w)));
                statements.push(format!(
                    "UPDATE message SET state={n}{wamid}, finished_ms={now} WHERE id={id} AND state<{n}",
                    n = *state as u8,
                    id = quote(id),
                ));
            }
            if let Some(payload) = &event.webhook {
                statements.push(self.webhook_insert(&event.key, event.recipient_hash, payload));
            }
            statements.push(format!(
                "UPDATE inbox SET processed=1 WHERE event_key={}",
                quote(&event.key)
            ));
        }
        self.guarded(own, &statements).await
    }

    /// An INSERT of a webhook, under the guard's condition.
    pub(super) fn webhook_insert(&self, key: &str, recipient_hash: u32, payload: &str) -> String {
        if self.embedded() {
            let payload = payload.replace('\'', "''");
            format!(
                "INSERT OR IGNORE INTO webhook (event_key, recipient_hash, payload, next_ms) \
                 VALUES ({}, {recipient_hash}, '{payload}', CAST(unixepoch('subsec') * 1000 AS INTEGER))",
                quote(key)
            )
        } else {
            format!(
                "INSERT IGNORE INTO webhook (event_key, recipient_hash, payload, next_ms) SELECT {}, {recipient_hash}, {}, \
                 CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) FROM DUAL WHERE {{alive}}",
                quote(key),
                literal(payload)
            )
        }
    }

    /// Deletes processed events older than `keep_ms`: until then their keys drop duplicates.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_events(&self, keep_ms: u64) -> Result<u64, DbError> {
        let sql = text(
            self,
            "DELETE FROM inbox WHERE processed=1 AND received_ms<{now}-?",
        );
        Ok(
            on_pool!(self, pool => sqlx::query(sql).bind(super::number(keep_ms)).execute(pool).await?.rows_affected()),
        )
    }
}
