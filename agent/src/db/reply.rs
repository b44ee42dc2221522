//! Queued messages of customers who have written lately: claimed before what waits in front of them. And who has written.
//! Decides nothing: `wa_core::turn` does. All others are claimed by `message.rs`.

use std::collections::{HashMap, HashSet};

use wa_core::id::Ownership;

use super::claimed::Claimed;
use super::due::{MESSAGE_PAUSE_MAX_MS, due};
use super::{Db, DbError, on_pool, text, unsigned};
use crate::sys::clock;

/// What the store had for customers who were asked about.
#[derive(Debug, Default)]
pub struct Found {
    /// Of each customer the oldest ones, in order.
    pub claimed: Vec<Claimed>,
    /// Customers whose next message is not due yet.
    pub not_due: Vec<u32>,
    /// There may be more, of any of them.
    pub more: bool,
}

#[derive(sqlx::FromRow)]
struct Queued {
    #[sqlx(flatten)]
    message: Claimed,
    due: i64,
}

/// Messages of one customer that are claimed together: whoever has more leaves room for others.
const OF_ONE_MAX: u32 = 4;

/// No message of a customer overtakes one that is not due yet, is on its way, or of unknown fate.
fn first_of_each(rows: Vec<Queued>) -> (Vec<Claimed>, Vec<u32>) {
    let (mut first, mut not_due) = (Vec::new(), HashSet::new());
    let mut counted: HashMap<u32, u32> = HashMap::new();
    for row in rows {
        let route = row.message.route();
        let of_one = counted.entry(route).or_default();
        *of_one += 1;
        if row.due == 0 || *of_one > OF_ONE_MAX {
            not_due.insert(route);
        }
        if !not_due.contains(&route) {
            first.push(row.message);
        }
    }
    (first, not_due.into_iter().collect())
}

impl Db {
    /// Whether the store finds messages by their customer. It is for operators to make the index, because it costs each message,
    /// and on a large table a while to make. Without it a claim of answers would read all that waits.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn finds_by_customer(&self) -> Result<bool, DbError> {
        let sql = match self.embedded() {
            true => "SELECT COUNT(*) FROM pragma_index_info('message_recipient')",
            false => {
                "SELECT COUNT(*) FROM information_schema.statistics WHERE table_schema=DATABASE() AND table_name='message' \
                 AND index_name='message_recipient'"
            }
        };
        let found: (i64,) = on_pool!(self, pool => sqlx::query_as(sql).fetch_one(pool).await?);
        Ok(found.0 > 0)
    }

    /// Makes that index, as the documents tell operators to.
    ///
    /// # Errors
    /// When the database refuses, or does not answer.
    pub async fn find_by_customer(&self) -> Result<(), DbError> {
        let sql = "CREATE INDEX message_recipient ON message (recipient_hash, state)";
        on_pool!(self, pool => sqlx::raw_sql(sql).execute(pool).await?.rows_affected());
        Ok(())
    }

    fn queued_of(&self, routes: &[u32]) -> sqlx::AssertSqlSafe<String> {
        let routes: Vec<String> = routes.iter().map(u32::to_string).collect();
        // Two signs keep planners from other ways: "+state" SQLite from reading all that is not finished, "seq+0" MySQL and MariaDB from
        // reading all there is in the order of seq.
        text(
            self,
            &format!(
                "SELECT seq, id, recipient, CAST(recipient_hash AS {int}) AS recipient_hash, CAST(form AS {int}) AS form, payload, CAST(attempts AS {int}) AS attempts, \
                 {{now}}-accepted_ms AS age_ms, CAST(doubt AS {int}) AS doubt, CAST(CASE WHEN state=0 AND {} THEN 1 ELSE 0 END AS {int}) AS due FROM message \
                 WHERE recipient_hash IN ({}) AND +state<3 AND recipient_hash % ? = ? ORDER BY seq+0 LIMIT ?",
                due(MESSAGE_PAUSE_MAX_MS),
                routes.join(","),
                int = self.int()
            ),
        )
    }

    /// Claims queued messages of these customers, oldest first; of each customer some, in order, and none behind one that is not due,
    /// on its way, or of unknown fate.
    /// Committed before it answers.
    ///
    /// # Errors
    /// As [`Db::claim`].
    pub async fn claim_of(
        &self,
        own: &Ownership,
        shard_count: u16,
        routes: &[u32],
        limit: u32,
    ) -> Result<Found, DbError> {
        if routes.is_empty() {
            return Ok(Found::default());
        }
        let select = self.queued_of(routes);
        let rows: Vec<Queued> = on_pool!(self, pool => {
            sqlx::query_as(select)
                .bind(i64::from(shard_count.max(1)))
                .bind(i64::from(own.shard.0))
                .bind(i64::from(limit))
                .fetch_all(pool)
                .await?
        });
        let more = rows.len() >= limit as usize;
        let (mut rows, not_due) = first_of_each(rows);
        let now = clock::now();
        rows.iter_mut().for_each(|row| row.claimed = now);
        Ok(Found {
            claimed: self.claim_rows(own, rows).await?,
            not_due,
            more,
        })
    }

    /// How the database would read for both kinds of claims, in its own words: for tests.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn plans_of_claims(&self, routes: &[u32]) -> Result<[String; 2], DbError> {
        let ordinary = self.plan(self.due_messages().0).await?;
        Ok([ordinary, self.plan(self.queued_of(routes).0).await?])
    }

    async fn plan(&self, select: String) -> Result<String, DbError> {
        let select = select.replace("% ? = ?", "% 1 = 0");
        let select = select.replace("LIMIT ?", "LIMIT 64");
        match self {
            Self::Sqlite(pool) => {
                let sql = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {select}"));
                let rows: Vec<(i64, i64, i64, String)> =
                    sqlx::query_as(sql).fetch_all(pool).await?;
                Ok(rows.into_iter().map(|row| row.3 + "\n").collect())
            }
            Self::MySql(hosts) => {
                let sql = sqlx::AssertSqlSafe(format!("EXPLAIN FORMAT=JSON {select}"));
                let row: (String,) = sqlx::query_as(sql).fetch_one(&hosts.pool()).await?;
                Ok(row.0)
            }
        }
    }

    /// Who wrote within the last `span_ms`, and how many ms ago, the last first: from the newest events that were worked off, at
    /// most so many of them. A status has its word behind a colon in its key, which a message has not.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn writers(
        &self,
        own: &Ownership,
        shard_count: u16,
        span_ms: u64,
        events: u32,
    ) -> Result<Vec<(u32, u64)>, DbError> {
        let int = self.int();
        let one = |state: u8| {
            format!(
                "SELECT i.recipient_hash AS way, {{now}}-i.received_ms AS ago FROM (SELECT event_key FROM inbox \
                 WHERE processed={state} AND received_ms>{{now}}-{span_ms} ORDER BY received_ms DESC LIMIT {events}) e{state} \
                 JOIN inbox i ON i.event_key=e{state}.event_key WHERE e{state}.event_key NOT LIKE '%:%'"
            )
        };
        let sql = text(
            self,
            &format!(
                "SELECT CAST(way AS {int}) AS route, MIN(ago) AS since FROM ({} UNION ALL {}) w \
                 WHERE way % ? = ? GROUP BY way ORDER BY since",
                one(1),
                one(5)
            ),
        );
        let rows: Vec<(i64, i64)> = on_pool!(self, pool => {
            sqlx::query_as(sql)
                .bind(i64::from(shard_count.max(1)))
                .bind(i64::from(own.shard.0))
                .fetch_all(pool)
                .await?
        });
        let each = rows.into_iter().map(|(route, ago)| {
            let route = u32::try_from(route).unwrap_or(0);
            (route, unsigned(ago.max(0)))
        });
        Ok(each.collect())
    }
}
