//! Events on their way to the business: kept until it has said 200.
//! Delivers nothing: `coreapp/webhook.rs` does. Decides no order: `wa_core::delivery` does.

use std::time::Duration;

use wa_core::delivery::{LINE_LEN_MAX, Page, Results, Row};
use wa_core::id::Ownership;

use super::{Db, DbError, on_pool, text, unsigned};

/// A row as it is read; of another slice without its payload.
#[derive(Debug, sqlx::FromRow)]
struct Read {
    id: i64,
    recipient_hash: i64,
    payload: String,
    attempts: i64,
    wait_ms: i64,
    age_ms: i64,
}

impl Read {
    fn row(self, longest_ms: u64) -> Row<String> {
        // Further ahead than any pause: the clock was set back.
        let wait_ms = u64::try_from(self.wait_ms).unwrap_or(0);
        let wait_ms = if wait_ms > longest_ms { 0 } else { wait_ms };
        Row {
            id: self.id,
            customer: u32::try_from(self.recipient_hash).unwrap_or(0),
            attempts: u32::try_from(self.attempts).unwrap_or(u32::MAX),
            wait: Duration::from_millis(wait_ms),
            age: Duration::from_millis(u64::try_from(self.age_ms).unwrap_or(0)),
            bytes: self.payload.len(),
            body: self.payload,
        }
    }
}

impl Db {
    /// What a row is read as. One that was never tried waits for nothing, whatever the clock says.
    fn webhook_columns(&self) -> String {
        let int = if self.embedded() { "INTEGER" } else { "SIGNED" };
        format!(
            "id, CAST(recipient_hash AS {int}) AS recipient_hash, CAST(attempts AS {int}) AS attempts, \
             CASE WHEN attempts=0 THEN 0 ELSE next_ms-{{now}} END AS wait_ms, \
             {{now}}-CASE WHEN since_ms=0 THEN next_ms ELSE since_ms END AS age_ms"
        )
    }

    /// Rows behind an id, in order. Each statement reads at most `limit` rows of the table, whosever they are. `longest_ms` is the
    /// longest pause that one is given.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn webhooks_behind(
        &self,
        own: &Ownership,
        shard_count: u16,
        after: i64,
        (limit, longest_ms): (u32, u64),
    ) -> Result<Page<String>, DbError> {
        let (count, shard) = (i64::from(shard_count.max(1)), i64::from(own.shard.0));
        let sql = text(
            self,
            &format!(
                "SELECT {}, CASE WHEN recipient_hash % ? = ? THEN payload ELSE '' END AS payload \
                 FROM webhook WHERE id>? ORDER BY id LIMIT ?",
                self.webhook_columns()
            ),
        );
        let read: Vec<Read> = on_pool!(self, pool => {
            sqlx::query_as(sql)
                .bind(count)
                .bind(shard)
                .bind(after)
                .bind(i64::from(limit))
                .fetch_all(pool)
                .await?
        });
        let (last, full) = (read.last().map(|row| row.id), read.len() >= limit as usize);
        let own = read.into_iter();
        let own = own.filter(|row| row.recipient_hash % count == shard);
        Ok(Page {
            rows: own.map(|row| row.row(longest_ms)).collect(),
            last,
            full,
        })
    }

    /// The first [`LINE_LEN_MAX`] rows of each of these customers behind an id, in order.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn webhooks_of(
        &self,
        asked: &[(u32, i64)],
        longest_ms: u64,
    ) -> Result<Vec<Row<String>>, DbError> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let columns = self.webhook_columns();
        let parts = asked.iter().enumerate().map(|(n, (customer, after))| {
            format!(
                "SELECT * FROM (SELECT {columns}, payload FROM webhook WHERE recipient_hash={customer} AND id>{after} \
                 ORDER BY id LIMIT {LINE_LEN_MAX}) c{n}"
            )
        });
        let parts: Vec<String> = parts.collect();
        let sql = text(self, &parts.join(" UNION ALL "));
        let mut read: Vec<Read> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        read.sort_unstable_by_key(|row| row.id);
        Ok(read.into_iter().map(|row| row.row(longest_ms)).collect())
    }

    /// Ids and customers of the slice behind an id, the last id that was looked at, and whether there may be more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn webhook_ids(
        &self,
        own: &Ownership,
        shard_count: u16,
        after: i64,
        limit: u32,
    ) -> Result<(Vec<(i64, u32)>, Option<i64>, bool), DbError> {
        let (count, shard) = (i64::from(shard_count.max(1)), i64::from(own.shard.0));
        let int = if self.embedded() { "INTEGER" } else { "SIGNED" };
        let sql = text(
            self,
            &format!(
                "SELECT id, CAST(recipient_hash AS {int}) FROM webhook WHERE id>? ORDER BY id LIMIT ?"
            ),
        );
        let read: Vec<(i64, i64)> = on_pool!(self, pool => {
            sqlx::query_as(sql).bind(after).bind(i64::from(limit)).fetch_all(pool).await?
        });
        let (last, full) = (read.last().map(|row| row.0), read.len() >= limit as usize);
        let own = read.into_iter().filter(|row| row.1 % count == shard);
        let own = own.map(|(id, customer)| (id, u32::try_from(customer).unwrap_or(0)));
        Ok((own.collect(), last, full))
    }

    /// Takes delivered webhooks away, puts failed ones off and parks others, in one commit.
    ///
    /// # Errors
    /// When the database does not answer: what was delivered is delivered again (at least once).
    pub async fn webhooks_done(&self, own: &Ownership, results: &Results) -> Result<bool, DbError> {
        let now = self.now_sql();
        let put_off = results.put_off.iter();
        // MySQL assigns one after the other. Until a row is put off first, what it waits for is the time when it was stored.
        let mut statements: Vec<String> = put_off
            .map(|(id, delay_ms)| {
                format!(
                    "UPDATE webhook SET since_ms=CASE WHEN since_ms=0 THEN next_ms ELSE since_ms END, attempts=attempts+1, \
                     next_ms={now}+{delay_ms} WHERE id={id}"
                )
            })
            .collect();
        let parked = results.parked.iter();
        statements.extend(parked.flat_map(|(id, why)| super::parked::park(self, *id, why)));
        if !results.delivered.is_empty() {
            let ids: Vec<String> = results.delivered.iter().map(ToString::to_string).collect();
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

    /// How many webhooks of the shard's slice wait behind an id, among the next `limit` rows of the table; the last id of those, and
    /// whether there may be more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn webhooks_counted(
        &self,
        own: &Ownership,
        shard_count: u16,
        after: i64,
        limit: u32,
    ) -> Result<(u64, i64, bool), DbError> {
        let int = if self.embedded() { "INTEGER" } else { "SIGNED" };
        let sql = text(
            self,
            &format!(
                "SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN recipient_hash % ? = ? THEN 1 ELSE 0 END), 0) AS {int}), \
                 COALESCE(MAX(id), 0) FROM (SELECT id, recipient_hash FROM webhook WHERE id>? ORDER BY id LIMIT ?) page"
            ),
        );
        let row: (i64, i64, i64) = on_pool!(self, pool => {
            sqlx::query_as(sql)
                .bind(i64::from(shard_count.max(1)))
                .bind(i64::from(own.shard.0))
                .bind(after)
                .bind(i64::from(limit))
                .fetch_one(pool)
                .await?
        });
        Ok((unsigned(row.1), row.2, unsigned(row.0) >= u64::from(limit)))
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
        let counts = self.documented_counts().await?;
        let named = [
            ("messages", counts.messages.iter().map(|(_, n)| n).sum()),
            ("pending_messages", counts.pending_messages),
            ("pending_callbacks", counts.pending_callbacks),
            ("pending_events", counts.pending_events),
        ];
        Ok(named.map(|(name, n)| (name.to_owned(), n)).into())
    }
}
