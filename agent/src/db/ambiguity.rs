//! Messages of unknown fate: which have waited for long enough, what is known of the receipts around them, and their end.
//! Decides nothing: `wa_core::receipt` does.

use std::collections::BTreeMap;
use std::time::Duration;

use wa_core::id::Ownership;
use wa_core::receipt::{Evidence, LAGS_MAX, NEWER_MAX, Neighbour, OLDER_MAX};

use super::message::OwnWebhook;
use super::{Db, DbError, on_pool, text, unsigned};
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
    /// How often it was sent before with an outcome that nobody learned.
    pub doubt: i64,
    /// Since it was accepted; negative where the clock was set back.
    pub age_ms: i64,
    /// How long it waits until it is sent again, if it is.
    #[sqlx(skip)]
    pub pause: Duration,
}

/// Messages that wait for a person: they are left out while they are younger than this.
#[derive(Debug, Clone, Copy)]
pub struct ForPerson {
    /// Sends of unknown outcome after which a message waits for a person.
    pub sends_max: u32,
    pub younger_than: Duration,
}

impl Overdue {
    /// How often it was sent with unknown outcome.
    pub fn sends(&self) -> u32 {
        u32::try_from(self.doubt.saturating_add(1)).unwrap_or(u32::MAX)
    }

    /// How old it is.
    pub fn age(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.age_ms).unwrap_or(0))
    }

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
        self.overdue_but(own, shard_count, window, limit, None)
            .await
    }

    /// The same without those that wait for a person.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn overdue_but(
        &self,
        own: &Ownership,
        shard_count: u16,
        window: Duration,
        limit: u32,
        but: Option<ForPerson>,
    ) -> Result<Vec<Overdue>, DbError> {
        let but = but.map_or_else(String::new, |but| {
            let young = i64::try_from(but.younger_than.as_millis()).unwrap_or(i64::MAX >> 1);
            let decided = but.sends_max.saturating_sub(1);
            format!(" AND (doubt<{decided} OR accepted_ms<{{now}}-{young})")
        });
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX >> 1);
        // A moment that lies far ahead: the clock was set back since, and the window is over whatever the clock says.
        let ahead = format!("{{now}}+{AHEAD_MS}");
        let sql = text(
            self,
            &format!(
                "SELECT id, recipient, CAST(recipient_hash AS {int}) AS recipient_hash, CAST(form AS {int}) AS form, payload, claim_order, CASE WHEN next_ms>{ahead} THEN {window_ms} ELSE {{now}}-next_ms END AS waited_ms, \
                 CAST(doubt AS {int}) AS doubt, {{now}}-accepted_ms AS age_ms \
                 FROM message WHERE state=2 AND (next_ms<={{now}}-{window_ms} OR next_ms>{ahead}) AND recipient_hash % ? = ?{but} \
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
        // A commit that comes late must not settle a later send of the same message.
        let mut alike: BTreeMap<(i64, u128), Vec<String>> = BTreeMap::new();
        for message in messages {
            let ids = alike
                .entry((message.doubt, message.pause.as_millis()))
                .or_default();
            ids.push(self.quote(&message.id));
        }
        if alike.is_empty() {
            return Ok(0);
        }
        let now = self.now_sql();
        let statements: Vec<String> = alike
            .into_iter()
            .map(|((doubt, pause_ms), ids)| {
                format!(
                    "UPDATE message SET state=0, doubt=doubt+1, next_ms={now}+{pause_ms} WHERE id IN ({}) AND +state=2 AND doubt={doubt}",
                    ids.join(",")
                )
            })
            .collect();
        let counts = self.guarded(own, &statements).await?;
        Ok(counts.map_or(0, |counts| counts.iter().sum()))
    }

    /// Messages of the slice of which nobody knows whether they were sent, and those among them that were sent so often.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn unknown_of(
        &self,
        own: &Ownership,
        shard_count: u16,
        sends_max: u32,
    ) -> Result<(u64, u64), DbError> {
        let sql = "SELECT COUNT(*), COUNT(CASE WHEN doubt>=? THEN 1 END) FROM message WHERE state=2 AND recipient_hash % ? = ?";
        let row: (i64, i64) = on_pool!(self, pool => {
            sqlx::query_as(sql)
                .bind(i64::from(sends_max.saturating_sub(1)))
                .bind(i64::from(shard_count.max(1)))
                .bind(i64::from(own.shard.0))
                .fetch_one(pool)
                .await?
        });
        Ok((unsigned(row.0), unsigned(row.1)))
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
