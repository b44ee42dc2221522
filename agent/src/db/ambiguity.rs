//! Messages of unknown fate: which have waited for long enough, what is known of the receipts around them, and their end.
//! Decides nothing: `wa_core::receipt` does.

use std::time::Duration;

use wa_core::id::Ownership;
use wa_core::receipt::{Evidence, LAGS_MAX, NEWER_MAX, Neighbour, OLDER_MAX};

use super::message::OwnWebhook;
use super::{Db, DbError, on_pool, text};
use crate::api::cloud::told;

/// A send whose answer is recorded waits for its receipt.
const AWAITED: i64 = 1;
/// Its first receipt has been processed.
const CAME: i64 = 2;

/// Clocks of several writing servers differ by less than this, in ms.
const AHEAD_MS: u32 = 60_000;

/// An ambiguous message whose window is over.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Overdue {
    pub id: String,
    pub recipient: String,
    /// The customer's hash.
    pub recipient_hash: i64,
    /// Number of the form that `payload` is in.
    pub form: i64,
    pub payload: String,
    /// The number of the commit that claimed it: higher is newer, over all shards. 0: claimed by a release without numbers.
    pub claim_order: i64,
    pub waited_ms: i64,
}

impl Overdue {
    /// How long it has been ambiguous.
    pub fn waited(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.waited_ms).unwrap_or(0))
    }
}

/// A row of the evidence: which part of the question it answers, claim order, since when it is finished, lag.
type Row = (i64, i64, i64, i64, i64);

impl Db {
    /// Ambiguous messages of the slice whose window has passed without a receipt, at most `limit`, those that have waited
    /// longest first. The caller has drained the inbox.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn overdue_ambiguous(
        &self,
        own: &Ownership,
        shard_count: u16,
        window: Duration,
        limit: u32,
    ) -> Result<Vec<Overdue>, DbError> {
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX >> 1);
        // A moment that lies far ahead: the clock was set back since, and the window is over whatever the clock says.
        let ahead = format!("{{now}}+{AHEAD_MS}");
        let sql = text(
            self,
            &format!(
                "SELECT id, recipient, CAST(recipient_hash AS {int}) AS recipient_hash, CAST(form AS {int}) AS form, payload, claim_order, CASE WHEN next_ms>{ahead} THEN {window_ms} ELSE {{now}}-next_ms END AS waited_ms \
                 FROM message WHERE state=2 AND (next_ms<={{now}}-{window_ms} OR next_ms>{ahead}) AND recipient_hash % ? = ? \
                 ORDER BY next_ms LIMIT ?",
                int = self.int()
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

    /// The receipts of the number around a claim: five short ranges of one index, however many rows there are.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn receipts_around(&self, claim_order: i64) -> Result<Evidence, DbError> {
        let int = if self.embedded() { "INTEGER" } else { "SIGNED" };
        let part = |number: u8, receipt: i64, range: String, limit: usize| {
            format!(
                "SELECT * FROM (SELECT {number} AS part, CAST(receipt AS {int}) AS receipt, claim_order, \
                 {{now}}-finished_ms AS ago, receipt_lag_ms FROM message WHERE receipt={receipt}{range} LIMIT {limit}) p{number}"
            )
        };
        let newer = || format!(" AND claim_order>{claim_order} ORDER BY claim_order");
        let older = || format!(" AND claim_order<={claim_order} ORDER BY claim_order DESC");
        let parts = [
            part(0, AWAITED, newer(), NEWER_MAX),
            part(1, CAME, newer(), NEWER_MAX),
            part(2, AWAITED, older(), OLDER_MAX),
            part(3, CAME, older(), OLDER_MAX),
            part(4, CAME, " ORDER BY claim_order DESC".to_owned(), LAGS_MAX),
        ];
        let sql = text(self, &parts.join(" UNION ALL "));
        let rows: Vec<Row> = on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        let of = |parts: [i64; 2]| -> Vec<Row> {
            let some = rows.iter().filter(|row| parts.contains(&row.0));
            some.copied().collect()
        };
        let (mut newer, mut older) = (of([0, 1]), of([2, 3]));
        newer.sort_by_key(|row| row.2);
        older.sort_by_key(|row| std::cmp::Reverse(row.2));
        let ms = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let neighbours = |rows: Vec<Row>, max: usize| -> Vec<Neighbour> {
            let seen = |row: Row| match row.1 {
                CAME => Neighbour::Receipted,
                _ => Neighbour::Lacking(ms(row.3)),
            };
            rows.into_iter().take(max).map(seen).collect()
        };
        let lags = rows.iter().filter(|row| row.0 == 4 && row.4 >= 0);
        Ok(Evidence {
            lags: lags.map(|row| ms(row.4)).collect(),
            newer: neighbours(newer, NEWER_MAX),
            older: neighbours(older, OLDER_MAX),
        })
    }

    /// Queues ambiguous messages again, unless their receipts came meanwhile. How many; 0 when stale.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn requeue_ambiguous(
        &self,
        own: &Ownership,
        messages: &[Overdue],
    ) -> Result<u64, DbError> {
        let ids: Vec<String> = messages.iter().map(|m| self.quote(&m.id)).collect();
        if ids.is_empty() {
            return Ok(0);
        }
        let update = format!(
            "UPDATE message SET state=0, doubt=1, next_ms={} WHERE id IN ({}) AND state=2",
            self.now_sql(),
            ids.join(",")
        );
        let counts = self.guarded(own, &[update]).await?;
        Ok(counts.and_then(|c| c.first().copied()).unwrap_or(0))
    }

    /// Gives ambiguous messages up in one commit, each with the webhook that says so, unless its receipt came meanwhile.
    /// False: stale, nothing was done.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn report_ambiguous(
        &self,
        own: &Ownership,
        code: u16,
        messages: &[(String, OwnWebhook)],
    ) -> Result<bool, DbError> {
        let (now, told) = (self.now_sql(), told::Row::failed().text());
        let told = self.quote(&told);
        let mut statements = Vec::with_capacity(messages.len() * 2);
        for (id, webhook) in messages {
            let id = self.quote(id);
            statements.push(format!(
                "UPDATE message SET state=6, error_code={code}, finished_ms={now}, told={told} WHERE id={id} AND state=2"
            ));
            statements.push(self.webhook_insert_if_failed(&id, webhook));
        }
        Ok(self.guarded(own, &statements).await?.is_some())
    }
}
