//! The map of ids: every id that the upstream gave to an attempt of ours leads to our message, for longer than its row is kept.
//! Decides nothing: what becomes of a message that names another one is decided by `wa_core::naming`.

use std::collections::HashMap;

use wa_core::message::MessageState;

use super::{Db, DbError, number, on_pool, text};
use crate::api::cloud::told;

/// Longest id of the upstream that is kept, in bytes: what its column takes.
pub const UPSTREAM_ID_LEN_MAX: usize = 190;

/// Our message behind an id of the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ours {
    pub id: String,
    pub recipient_hash: u32,
}

/// What the store knows of a message of ours that another one names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// The upstream has it, under this id.
    Sent(String),
    /// It was accepted before the one that names it, and is not at its end.
    Open,
    /// Failed, collected, accepted later, or unknown. That it is one to another customer, the webapp said.
    Gone,
}

/// A message of ours, as callbacks speak of it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Row {
    pub id: String,
    pub recipient: String,
    /// Number of the form that `payload` is in.
    pub form: i64,
    pub payload: String,
}

/// State, upstream id, and 1 where it was accepted before the other.
type NamedRow = (i64, Option<String>, i64);

impl Db {
    /// Our messages behind these ids of the upstream; what is not among them is not ours.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn ours(&self, upstream_ids: &[&str]) -> Result<HashMap<String, Ours>, DbError> {
        if upstream_ids.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<String> = upstream_ids.iter().map(|id| self.quote(id)).collect();
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT upstream_id, our_id, CAST(recipient_hash AS {int}) FROM message_id WHERE upstream_id IN ({})",
            ids.join(","),
            int = self.int()
        ));
        let rows: Vec<(String, String, i64)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        let ours = |id, hash| Ours {
            id,
            recipient_hash: u32::try_from(hash).unwrap_or(0),
        };
        let rows = rows.into_iter();
        Ok(rows
            .map(|(theirs, id, hash)| (theirs, ours(id, hash)))
            .collect())
    }

    /// What is known of our message `named`, which our message `id` names.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn named(&self, id: &str, named: &str) -> Result<Named, DbError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT CAST(n.state AS {int}), n.wamid, \
             CAST(CASE WHEN n.seq<m.seq THEN 1 ELSE 0 END AS {int}) \
             FROM message n JOIN message m ON m.id=? WHERE n.id=?",
            int = self.int()
        ));
        let row: Option<NamedRow> = on_pool!(self, pool => {
            sqlx::query_as(sql).bind(id).bind(named).fetch_optional(pool).await?
        });
        let Some((state, wamid, earlier)) = row else {
            return self.named_by_map(named).await;
        };
        let state = u8::try_from(state).ok().and_then(MessageState::from_u8);
        Ok(match (state, wamid) {
            _ if earlier == 0 => Named::Gone,
            (
                Some(MessageState::Sent | MessageState::Delivered | MessageState::Read),
                Some(wamid),
            ) => match wamid.is_empty() {
                true => Named::Gone,
                false => Named::Sent(wamid),
            },
            (Some(MessageState::Queued | MessageState::Sending | MessageState::Ambiguous), _) => {
                Named::Open
            }
            (
                Some(
                    MessageState::Failed
                    | MessageState::Sent
                    | MessageState::Delivered
                    | MessageState::Read,
                )
                | None,
                _,
            ) => Named::Gone,
        })
    }

    /// The newest id that the upstream gave to a message whose row is not kept any more.
    async fn named_by_map(&self, named: &str) -> Result<Named, DbError> {
        let id = self.upstream_id_of(named).await?;
        Ok(id.map_or(Named::Gone, Named::Sent))
    }

    /// What the rows of these messages of ours hold: who each was for, its form and its text.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn rows_of(&self, our_ids: &[&str]) -> Result<HashMap<String, Row>, DbError> {
        if our_ids.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<String> = our_ids.iter().map(|id| self.quote(id)).collect();
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT id, recipient, CAST(form AS {int}) AS form, payload FROM message WHERE id IN ({})",
            ids.join(","),
            int = self.int()
        ));
        let rows: Vec<Row> = on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        Ok(rows.into_iter().map(|row| (row.id.clone(), row)).collect())
    }

    /// What the rows of these messages of ours say of what was told, beside their states.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn told_of(&self, our_ids: &[&str]) -> Result<HashMap<String, told::Row>, DbError> {
        if our_ids.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<String> = our_ids.iter().map(|id| self.quote(id)).collect();
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT id, told, CAST(state AS {int}) FROM message WHERE id IN ({})",
            ids.join(","),
            int = self.int()
        ));
        let rows: Vec<(String, String, i64)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        let row = |(id, column, state): (String, String, i64)| {
            let state = u8::try_from(state).ok().and_then(MessageState::from_u8);
            let row = told::Row::beside(&column, state);
            (id, row)
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// The customer's hash of a message of ours, as long as anything is known of it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn recipient_hash_of(&self, our_id: &str) -> Result<Option<u32>, DbError> {
        let int = self.int();
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT CAST(recipient_hash AS {int}) FROM message WHERE id=? UNION ALL \
             SELECT CAST(recipient_hash AS {int}) FROM message_id WHERE our_id=? LIMIT 1"
        ));
        let row: Option<(i64,)> = on_pool!(self, pool => {
            sqlx::query_as(sql).bind(our_id).bind(our_id).fetch_optional(pool).await?
        });
        Ok(row.and_then(|(hash,)| u32::try_from(hash).ok()))
    }

    /// These ids of the upstream lead to these messages of ours, where there are any. (ours, theirs) No owner's write: it stays
    /// true whoever owns the shard, and no row of the map ever changes. So it holds up no commit under the guard.
    ///
    /// # Errors
    /// When the database does not answer; it may be done once more.
    pub async fn remember_ids(&self, pairs: &[(&str, &str)]) -> Result<(), DbError> {
        if pairs.is_empty() {
            return Ok(());
        }
        let sql = sqlx::AssertSqlSafe(self.remember(pairs));
        on_pool!(self, pool => sqlx::raw_sql(sql).execute(pool).await.map(|_| ())?);
        Ok(())
    }

    /// These ids of the upstream are those of customers' messages, which we call by these ids. (ours, theirs, the customer's hash)
    ///
    /// # Errors
    /// When the database does not answer; it may be done once more.
    pub async fn remember_inbound(&self, ids: &[(String, String, u32)]) -> Result<(), DbError> {
        if ids.is_empty() {
            return Ok(());
        }
        let row = |(ours, theirs, hash): &(String, String, u32)| {
            let (ours, theirs) = (self.quote(ours), self.quote(theirs));
            format!("({theirs},{ours},{hash},{})", self.now_sql())
        };
        let rows: Vec<String> = ids.iter().map(row).collect();
        let sql = text(
            self,
            &format!(
                "INSERT {{ignore}} INTO message_id (upstream_id, our_id, recipient_hash, at_ms) VALUES {}",
                rows.join(",")
            ),
        );
        on_pool!(self, pool => sqlx::raw_sql(sql).execute(pool).await.map(|_| ())?);
        Ok(())
    }

    /// The newest id of the upstream that leads to this id of ours.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn upstream_id_of(&self, our_id: &str) -> Result<Option<String>, DbError> {
        let sql = "SELECT upstream_id FROM message_id WHERE our_id=? ORDER BY at_ms DESC LIMIT 1";
        let row: Option<(String,)> = on_pool!(self, pool => {
            sqlx::query_as(sql).bind(our_id).fetch_optional(pool).await?
        });
        Ok(row.map(|(id,)| id))
    }

    /// What [`Db::remember_ids`] does, for messages whose receipts are known or awaited, the newest first, as many of each: what an owner that died had
    /// not written down yet.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn remember_newest(&self, limit: u32) -> Result<u64, DbError> {
        let some = |receipt: u8| {
            format!(
                "SELECT * FROM (SELECT wamid, id, recipient_hash, finished_ms FROM message WHERE receipt={receipt} \
                 ORDER BY claim_order DESC LIMIT {limit}) r{receipt} WHERE wamid<>''"
            )
        };
        let sql = text(
            self,
            &format!(
                "INSERT {{ignore}} INTO message_id (upstream_id, our_id, recipient_hash, at_ms) {} UNION ALL {}",
                some(1),
                some(2)
            ),
        );
        Ok(on_pool!(self, pool => sqlx::raw_sql(sql).execute(pool).await?.rows_affected()))
    }

    fn remember(&self, pairs: &[(&str, &str)]) -> String {
        let mut cases = String::new();
        let mut ids = Vec::with_capacity(pairs.len());
        for (ours, theirs) in pairs {
            let (id, theirs) = (self.quote(ours), self.quote(kept(theirs)));
            cases.push_str(&format!(" WHEN {id} THEN {theirs}"));
            ids.push(id);
        }
        let ignore = if self.embedded() {
            "OR IGNORE"
        } else {
            "IGNORE"
        };
        format!(
            "INSERT {ignore} INTO message_id (upstream_id, our_id, recipient_hash, at_ms) \
             SELECT CASE id{cases} END, id, recipient_hash, {} FROM message WHERE id IN ({})",
            self.now_sql(),
            ids.join(",")
        )
    }

    /// Deletes ids that are older than `keep_ms`, at most `limit` of them. How many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_ids(&self, keep_ms: u64, limit: u32) -> Result<u64, DbError> {
        let sql = if self.embedded() {
            "DELETE FROM message_id WHERE upstream_id IN (SELECT upstream_id FROM message_id WHERE at_ms<{now}-? LIMIT ?)"
        } else {
            "DELETE FROM message_id WHERE at_ms<{now}-? LIMIT ?"
        };
        let sql = text(self, sql);
        Ok(
            on_pool!(self, pool => sqlx::query(sql).bind(number(keep_ms)).bind(i64::from(limit)).execute(pool).await?.rows_affected()),
        )
    }
}

/// As much of an id as the column takes.
pub(super) fn kept(upstream_id: &str) -> &str {
    upstream_id
        .get(..UPSTREAM_ID_LEN_MAX)
        .unwrap_or(upstream_id)
}
