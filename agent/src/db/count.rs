//! Counts for `/v1/stats/db`. They read whole tables: slow where those are large.
//! Changes nothing.

use super::{Db, DbError, on_pool, unsigned};

/// What is counted for the documented names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages by type.
    pub messages: Vec<(String, u64)>,
    /// Messages for which a receipt came.
    pub receipts: u64,
    pub pending_messages: u64,
    pub pending_callbacks: u64,
    /// Events of the upstream that no owner has worked off.
    pub pending_events: u64,
}

/// Rows by which a slice is estimated.
const SAMPLE_LEN: u64 = 20_000;

type Kind = (String, i64);
type Rest = (i64, i64, i64, i64);

impl Db {
    /// Counts them.
    ///
    /// # Errors
    /// When the database does not answer, or not in time.
    pub async fn documented_counts(&self) -> Result<Counts, DbError> {
        let kinds = "SELECT kind, COUNT(*) FROM message GROUP BY kind ORDER BY kind";
        let rest = "SELECT (SELECT COUNT(*) FROM message WHERE receipt=2), (SELECT COUNT(*) FROM message WHERE state<3), \
             (SELECT COUNT(*) FROM webhook), (SELECT COUNT(*) FROM inbox WHERE processed=0)";
        let (kinds, rest) = on_pool!(self, pool => {
            let kinds: Vec<Kind> = sqlx::query_as(kinds).fetch_all(&mut *pool).await?;
            let rest: Rest = sqlx::query_as(rest).fetch_one(pool).await?;
            (kinds, rest)
        });
        let kinds = kinds.into_iter();
        Ok(Counts {
            messages: kinds.map(|(kind, n)| (kind, unsigned(n))).collect(),
            receipts: unsigned(rest.0),
            pending_messages: unsigned(rest.1),
            pending_callbacks: unsigned(rest.2),
            pending_events: unsigned(rest.3),
        })
    }

    /// What waits in the slice of one shard: messages that are not finished, and events of the inbox. Reads indexes; with several
    /// shards also the first [`SAMPLE_LEN`] rows, by which the slice is estimated where there are more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn waiting_of(&self, shard: u16, shard_count: u16) -> Result<(u64, u64), DbError> {
        let all = "SELECT (SELECT COUNT(*) FROM message WHERE state<3), (SELECT COUNT(*) FROM inbox WHERE processed=0)";
        let all: (i64, i64) = on_pool!(self, pool => sqlx::query_as(all).fetch_one(pool).await?);
        let all = (unsigned(all.0), unsigned(all.1));
        if shard_count <= 1 {
            return Ok(all);
        }
        let slice = |table: &str, waits: &str| {
            format!(
                "SELECT COUNT(*) FROM (SELECT recipient_hash FROM {table} WHERE {waits} LIMIT {SAMPLE_LEN}) sample \
                 WHERE recipient_hash % {shard_count} = {shard}"
            )
        };
        let (messages, events) = (slice("message", "state<3"), slice("inbox", "processed=0"));
        let sql = sqlx::AssertSqlSafe(format!("SELECT ({messages}), ({events})"));
        let of: (i64, i64) = on_pool!(self, pool => sqlx::query_as(sql).fetch_one(pool).await?);
        let part = |of: i64, all: u64| unsigned(of) * all.max(SAMPLE_LEN) / SAMPLE_LEN;
        Ok((part(of.0, all.0), part(of.1, all.1)))
    }
}
