//! The content of finished messages and of told events: how long it stays in the database, and how it goes.
//! Deletes no row: `collection.rs` and `inbox.rs` do.
//!
//! A finished row's `next_ms` says when its content goes, and is 0 when it is gone: the index over (state, next_ms) finds what
//! is due, however many rows there are. Rows of releases before this one hold a time that has passed.

use std::collections::HashMap;
use std::time::Duration;

use wa_core::id::Ownership;

use super::event::State;
use super::{Db, DbError, number, on_pool, text};

/// Content stays for so long at most: the rows themselves go after days.
const KEEP_MAX_MS: u64 = 400 * 24 * 3600 * 1000;

/// A span as the rows of this file reckon with it.
pub fn kept_ms(keep: Duration) -> u64 {
    u64::try_from(keep.as_millis()).map_or(KEEP_MAX_MS, |ms| ms.min(KEEP_MAX_MS))
}

/// What becomes of the content of messages that an outcome finishes.
#[derive(Debug, Clone)]
pub enum Bodies {
    /// It stays for so many milliseconds; a sweep takes it then.
    Kept { ms: u64 },
    /// It goes in the same commit. By our id what is left of it, where that is not nothing.
    Gone { left: HashMap<String, String> },
}

impl Bodies {
    /// More columns of an update that finishes these messages.
    pub(super) fn columns(&self, db: &Db, ids: &[&str]) -> String {
        match self {
            Self::Kept { ms } => format!(", next_ms={}+{}", db.now_sql(), number(*ms)),
            Self::Gone { left } => {
                let left = ids.iter().filter_map(|id| Some((*id, left.get(*id)?)));
                let cases: String = left
                    .map(|(id, left)| format!(" WHEN {} THEN {}", db.quote(id), db.quote(left)))
                    .collect();
                format!(", next_ms=0, payload={}", one_of("id", &cases))
            }
        }
    }
}

/// The value for each row, or nothing.
fn one_of(column: &str, cases: &str) -> String {
    match cases {
        "" => "''".to_owned(),
        cases => format!("CASE {column}{cases} ELSE '' END"),
    }
}

/// A finished message whose content is due to go.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Body {
    pub seq: i64,
    /// Number of the form that `payload` is in.
    pub form: i64,
    pub payload: String,
    /// What is left of its time, in ms: one that a status finished has no time written down.
    pub left_ms: i64,
}

/// States of finished messages (`MessageState`).
const FINISHED: [u8; 4] = [3, 4, 5, 6];

impl Db {
    /// Finished messages whose content may be due, at most `limit` of each state. One whose time lies further ahead than it was to
    /// stay, because the clock was set back, is among them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn bodies_due(&self, keep_ms: u64, limit: u32) -> Result<Vec<Body>, DbError> {
        let int = self.int();
        let mut found = Vec::new();
        for state in FINISHED {
            let sql = text(
                self,
                &format!(
                    "SELECT seq, CAST(form AS {int}) AS form, payload, finished_ms+?-{{now}} AS left_ms FROM message \
                     WHERE state={state} AND ((next_ms>0 AND next_ms<={{now}}) OR next_ms>{{now}}+?) LIMIT ?"
                ),
            );
            let rows: Vec<Body> = on_pool!(self, pool => {
                sqlx::query_as(sql)
                    .bind(number(keep_ms))
                    .bind(number(keep_ms))
                    .bind(i64::from(limit))
                    .fetch_all(pool)
                    .await?
            });
            found.extend(rows);
        }
        Ok(found)
    }

    /// Takes the content of these finished messages away, but for what is left of it, and looks at the others again when their time
    /// is over. (seq, what is left), (seq, ms). False: stale, nothing was done.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn blank_bodies(
        &self,
        own: &Ownership,
        gone: &[(i64, String)],
        later: &[(i64, i64)],
    ) -> Result<bool, DbError> {
        let list = |seqs: Vec<String>| seqs.join(",");
        let mut statements = Vec::new();
        if !gone.is_empty() {
            let cases: String = gone
                .iter()
                .filter(|(_, left)| !left.is_empty())
                .map(|(seq, left)| format!(" WHEN {seq} THEN {}", self.quote(left)))
                .collect();
            statements.push(format!(
                "UPDATE message SET next_ms=0, payload={} WHERE seq IN ({}) AND state>=3",
                one_of("seq", &cases),
                list(gone.iter().map(|(seq, _)| seq.to_string()).collect())
            ));
        }
        if !later.is_empty() {
            let cases: String = later
                .iter()
                .map(|(seq, ms)| format!(" WHEN {seq} THEN {}+{ms}", self.now_sql()))
                .collect();
            statements.push(format!(
                "UPDATE message SET next_ms=CASE seq{cases} ELSE next_ms END WHERE seq IN ({}) AND state>=3",
                list(later.iter().map(|(seq, _)| seq.to_string()).collect())
            ));
        }
        if statements.is_empty() {
            return Ok(true);
        }
        Ok(self.guarded(own, &statements).await?.is_some())
    }

    /// Takes the content of told events away that came more than `keep_ms` ago, of at most `limit`. How many; `None`: stale.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn blank_events(
        &self,
        own: &Ownership,
        keep_ms: u64,
        limit: u32,
    ) -> Result<Option<u64>, DbError> {
        let sql = text(
            self,
            "SELECT event_key FROM inbox WHERE processed=1 AND received_ms<={now}-? ORDER BY received_ms LIMIT ?",
        );
        let keys: Vec<(String,)> = on_pool!(self, pool => {
            sqlx::query_as(sql)
                .bind(number(keep_ms))
                .bind(i64::from(limit))
                .fetch_all(pool)
                .await?
        });
        if keys.is_empty() {
            return Ok(Some(0));
        }
        let keys: Vec<String> = keys.iter().map(|(key,)| self.quote(key)).collect();
        let update = format!(
            "UPDATE inbox SET processed={}, payload='' WHERE event_key IN ({}) AND +processed=1",
            State::Blank as u8,
            keys.join(",")
        );
        let counts = self.guarded(own, &[update]).await?;
        Ok(counts.map(|_| keys.len() as u64))
    }
}
