//! Webhooks that the business refused for too long: kept, and tried no more until an operator says so.
//! The owner parks them (`webhook.rs`), under its guard.

use super::{Db, DbError, guard, on_pool, text, unsigned};
use crate::api::parked::{Parked, What, tells};

/// Longest text of what the business said last.
const WHY_LEN_MAX: usize = 200;

type Row = (i64, String, String, String, i64, i64, i64, String);

/// Into the table of what is tried no more, with what the business said last.
pub(super) fn park(db: &Db, id: i64, why: &str) -> [String; 2] {
    let why: String = why.chars().take(WHY_LEN_MAX).collect();
    let alive = if db.embedded() { "" } else { " AND {alive}" };
    [
        format!(
            "INSERT INTO webhook_parked (event_key, recipient_hash, payload, attempts, since_ms, parked_ms, why) \
             SELECT event_key, recipient_hash, payload, attempts+1, CASE WHEN since_ms=0 THEN next_ms ELSE since_ms END, {}, {} \
             FROM webhook WHERE id={id}{alive}",
            db.now_sql(),
            db.quote(&why)
        ),
        format!("DELETE FROM webhook WHERE id={id}"),
    ]
}

impl Db {
    /// The oldest parked webhooks.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn parked_webhooks(&self, limit: u32) -> Result<Vec<Parked>, DbError> {
        let int = if self.embedded() { "INTEGER" } else { "SIGNED" };
        let sql = text(
            self,
            &format!(
                "SELECT id, event_key, COALESCE((SELECT our_id FROM message_id WHERE upstream_id=SUBSTR(event_key, 1, INSTR(event_key, ':')-1)), ''), \
                 SUBSTR(payload, 1, 5), CAST(attempts AS {int}), since_ms, parked_ms, why \
                 FROM webhook_parked ORDER BY id LIMIT ?"
            ),
        );
        let rows: Vec<Row> = on_pool!(self, pool => {
            sqlx::query_as(sql).bind(i64::from(limit)).fetch_all(pool).await?
        });
        let parked =
            |(id, event, ours, beginning, attempts, since_ms, parked_ms, why): Row| Parked {
                id,
                event: match event.split_once(':') {
                    // Of a message of ours: by the id that the business knows.
                    Some((_, word)) if !ours.is_empty() => format!("{ours}:{word}"),
                    Some(_) | None => event,
                },
                tells: tells(&beginning).into(),
                attempts: unsigned(attempts),
                since_ms: unsigned(since_ms),
                parked_ms: unsigned(parked_ms),
                why,
            };
        Ok(rows.into_iter().map(parked).collect())
    }

    /// How many are parked, in the slice of one shard where one is named. Reads an index, not the rows.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn parked_count(&self, slice: Option<(u16, u16)>) -> Result<u64, DbError> {
        let of = slice.map_or_else(String::new, |(shard, count)| {
            format!(" WHERE recipient_hash % {} = {shard}", count.max(1))
        });
        let sql = text(
            self,
            &format!("SELECT COUNT(recipient_hash) FROM webhook_parked{of}"),
        );
        let row: (i64,) = on_pool!(self, pool => sqlx::query_as(sql).fetch_one(pool).await?);
        Ok(unsigned(row.0))
    }

    /// The ids of those that are parked: of these, or all up to `upto`; the first `limit` of them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn parked_ids(
        &self,
        ids: &[i64],
        upto: Option<i64>,
        limit: u32,
    ) -> Result<Vec<i64>, DbError> {
        let mut condition = format!("id<={}", upto.unwrap_or(i64::MAX));
        if !ids.is_empty() {
            condition.push_str(&format!(" AND id IN ({})", list(ids)));
        }
        let sql = text(
            self,
            &format!("SELECT id FROM webhook_parked WHERE {condition} ORDER BY id LIMIT {limit}"),
        );
        let rows: Vec<(i64,)> = on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    /// The last one that is parked.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn parked_last(&self) -> Result<Option<i64>, DbError> {
        let sql = "SELECT MAX(id) FROM webhook_parked";
        let row: (Option<i64>,) =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_one(pool).await?);
        Ok(row.0)
    }

    /// Does it with these, in one commit; one that is not there any more is no error.
    ///
    /// # Errors
    /// When the database does not answer; then it may have been done, and doing it again does the same.
    pub async fn unpark(&self, what: What, ids: &[i64]) -> Result<(), DbError> {
        let (ids, ignore) = (
            list(ids),
            if self.embedded() {
                "OR IGNORE"
            } else {
                "IGNORE"
            },
        );
        let mut statements = Vec::new();
        match what {
            What::Retry => statements.push(format!(
                "INSERT {ignore} INTO webhook (event_key, recipient_hash, payload, next_ms) \
                 SELECT event_key, recipient_hash, payload, {} FROM webhook_parked WHERE id IN ({ids}) ORDER BY id",
                self.now_sql()
            )),
            What::Purge => {}
        }
        statements.push(format!("DELETE FROM webhook_parked WHERE id IN ({ids})"));
        match self {
            Self::Sqlite(pool) => {
                let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
                for statement in statements {
                    sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
                        .execute(&mut *tx)
                        .await?;
                }
                tx.commit().await?;
            }
            Self::MySql(hosts) => {
                // One packet: a client that freezes in the middle holds no lock.
                let packet = format!("START TRANSACTION;{};COMMIT", statements.join(";"));
                guard::run_packet(hosts, &packet).await?;
            }
        }
        Ok(())
    }
}

fn list(ids: &[i64]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    ids.join(",")
}
