//! Events in the inbox that wait for more than their owner: statuses that nobody could place yet, statuses of messages that are
//! not ours, and what nobody could read. `inbox.rs` stores and works off all others.
//! Interprets nothing.

use serde::{Deserialize, Serialize};
use wa_core::id::Ownership;

use super::together::stored_key;
use super::{Db, DbError, number, on_pool, text, unsigned};

/// Where an event of the inbox stands: its column `processed`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The owner of its shard works it off.
    #[default]
    Pending = 0,
    Done = 1,
    /// Nobody can read it: kept until somebody retries it.
    Unread = 2,
    /// A status: nobody knows yet whose message it is about.
    Unplaced = 3,
    /// A status of a message that is not ours, which was not told.
    Foreign = 4,
    /// Done, and its content is gone.
    Blank = 5,
}

impl State {
    fn of(n: i64) -> Option<Self> {
        let all = [
            Self::Pending,
            Self::Done,
            Self::Unread,
            Self::Unplaced,
            Self::Foreign,
            Self::Blank,
        ];
        all.into_iter().find(|state| *state as i64 == n)
    }
}

/// A status that nobody could place yet.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Unplaced {
    pub event_key: String,
    pub payload: String,
    /// When it came, by the database's clock.
    pub received_ms: i64,
}

/// An event that is kept, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub key: String,
    pub state: State,
    /// When it came, in ms since 1970 by the database's clock.
    pub received_ms: u64,
    pub payload: String,
}

/// How many events of each kind are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptCounts {
    pub unread: u64,
    pub unplaced: u64,
    pub foreign: u64,
}

impl Db {
    /// The oldest statuses that nobody could place yet, behind the one that came at a time and has a key.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn unplaced_events(
        &self,
        after: Option<(i64, &str)>,
        limit: u32,
    ) -> Result<Vec<Unplaced>, DbError> {
        let behind = after.map_or(String::new(), |(at, key)| {
            let key = self.quote(key);
            format!(" AND received_ms>={at} AND (received_ms>{at} OR event_key>{key})")
        });
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT event_key, payload, received_ms FROM inbox \
             WHERE processed=3{behind} ORDER BY received_ms, event_key LIMIT {limit}"
        ));
        Ok(on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?))
    }

    /// Gives statuses to the owners of their shards: with the hash of our message, or with the one that they were stored with
    /// where nobody knows their message. False: stale, nothing was done.
    ///
    /// # Errors
    /// When the database does not answer; they stay unplaced.
    pub async fn place_events(
        &self,
        own: &Ownership,
        placed: &[(&str, Option<u32>)],
    ) -> Result<bool, DbError> {
        let statements = placed.iter().map(|(key, hash)| {
            let hash = hash.map_or(String::new(), |hash| format!(", recipient_hash={hash}"));
            let key = self.quote(&stored_key(key));
            format!("UPDATE inbox SET processed=0{hash} WHERE event_key={key} AND processed=3")
        });
        let statements: Vec<String> = statements.collect();
        Ok(self.guarded(own, &statements).await?.is_some())
    }

    /// Events that are kept for people, the newest first: what nobody can read, and statuses of messages that are not ours.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn kept_events(&self, limit: u32) -> Result<Vec<Kept>, DbError> {
        let int = self.int();
        let one = |state: u8| {
            format!(
                "SELECT event_key, CAST(processed AS {int}), received_ms, payload FROM \
                 (SELECT * FROM inbox WHERE processed={state} ORDER BY received_ms DESC LIMIT {limit}) AS k{state}"
            )
        };
        let sql = sqlx::AssertSqlSafe([2, 3, 4].map(one).join(" UNION ALL "));
        let rows: Vec<(String, i64, i64, String)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        let kept = rows.into_iter().filter_map(|(key, state, at, payload)| {
            Some(Kept {
                key,
                state: State::of(state)?,
                received_ms: unsigned(at),
                payload,
            })
        });
        let mut kept: Vec<Kept> = kept.collect();
        kept.sort_by(|a, b| b.received_ms.cmp(&a.received_ms).then(a.key.cmp(&b.key)));
        kept.truncate(limit as usize);
        Ok(kept)
    }

    /// How many are kept.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn kept_counts(&self) -> Result<KeptCounts, DbError> {
        let sql = "SELECT (SELECT COUNT(*) FROM inbox WHERE processed=2), \
             (SELECT COUNT(*) FROM inbox WHERE processed=3), (SELECT COUNT(*) FROM inbox WHERE processed=4)";
        let (unread, unplaced, foreign): (i64, i64, i64) =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_one(pool).await?);
        Ok(KeptCounts {
            unread: unsigned(unread),
            unplaced: unsigned(unplaced),
            foreign: unsigned(foreign),
        })
    }

    /// How many events nobody could read.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn unread_events(&self) -> Result<u64, DbError> {
        let sql = "SELECT COUNT(*) FROM inbox WHERE processed=2";
        let (unread,): (i64,) = on_pool!(self, pool => sqlx::query_as(sql).fetch_one(pool).await?);
        Ok(unsigned(unread))
    }

    /// Lets the owners try again: the event of this key, or all that nobody could read. How many there are.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn retry_events(&self, key: Option<&str>) -> Result<u64, DbError> {
        let sql = match key {
            None => "UPDATE inbox SET processed=0 WHERE processed=2".to_owned(),
            Some(key) => format!(
                "UPDATE inbox SET processed=0 WHERE processed IN (2, 4) AND event_key={}",
                self.quote(&stored_key(key))
            ),
        };
        let sql = sqlx::AssertSqlSafe(sql);
        Ok(on_pool!(self, pool => sqlx::raw_sql(sql).execute(pool).await?.rows_affected()))
    }

    /// Deletes events that are done with and older than `keep_ms`, until then their keys drop duplicates; and what nobody could
    /// read for `unread_ms`. At most `limit` of each kind. How many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_events(
        &self,
        (keep_ms, unread_ms): (u64, u64),
        limit: u32,
    ) -> Result<u64, DbError> {
        let mut gone = 0;
        for (state, keep_ms) in [
            (State::Done, keep_ms),
            (State::Blank, keep_ms),
            (State::Foreign, keep_ms),
            (State::Unread, unread_ms),
        ] {
            let old = format!(
                "processed={} AND received_ms<{{now}}-? LIMIT ?",
                state as u8
            );
            let sql = match self.embedded() {
                true => format!(
                    "DELETE FROM inbox WHERE event_key IN (SELECT event_key FROM inbox WHERE {old})"
                ),
                false => format!("DELETE FROM inbox WHERE {old}"),
            };
            let sql = text(self, &sql);
            gone += on_pool!(self, pool => {
                sqlx::query(sql)
                    .bind(number(keep_ms))
                    .bind(i64::from(limit))
                    .execute(pool)
                    .await?
                    .rows_affected()
            });
        }
        Ok(gone)
    }
}
