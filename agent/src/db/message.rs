//! Accepted messages: intake with group commit, claims, outcomes, ambiguity. One row a message, state and all.
//! Every write names (epoch, grant) and touches the guard row first: a stale owner changes nothing (S5).

use wa_core::id::Ownership;
use wa_core::message::MessageState;

use super::guard::{Claiming, condition, run_packet};
use super::{Db, DbError, check_length, number, on_pool, text, unsigned};

/// Longest values of a message's columns, in bytes.
pub const ID_LEN_MAX: usize = 64;
pub const RECIPIENT_LEN_MAX: usize = 32;
pub const PAYLOAD_LEN_MAX: usize = 1 << 20;
const WAMID_LEN_MAX: usize = 190;
/// Sent messages in one UPDATE.
const SENT_IN_ONE: usize = 64;

/// A message on its way in.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// Minted before the first attempt: unique over the cluster, the idempotency key of S4.
    pub id: String,
    /// Hash of recipient and payload: the same id with another one is a conflict.
    pub body_hash: u64,
    pub recipient: String,
    pub recipient_hash: u32,
    /// The Cloud API request as JSON.
    pub payload: String,
}

/// What became of one message of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    New,
    /// Accepted before under the same id with the same body.
    Duplicate,
    /// The id was used for another body.
    Conflict,
}

/// Why a group was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    #[error("this node does not own the shard any more")]
    Stale,
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<sqlx::Error> for AcceptError {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(DbError::Sqlx(error))
    }
}

/// A claimed message.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Claimed {
    pub id: String,
    pub recipient: String,
    pub payload: String,
    /// Claims of the row before this one; −1 when it was claimed as it was accepted.
    pub attempts: i64,
}

impl Claimed {
    /// How many claims its row has had with this one.
    pub fn claims(&self) -> i64 {
        self.attempts.saturating_add(1)
    }
}

/// The recorded outcome of one attempt.
#[derive(Debug, Clone)]
pub struct Finish {
    pub id: String,
    pub to: Finished,
    /// How many claims the row has had at the attempt. A commit that comes late must not undo a newer claim of this owner.
    pub claims: i64,
}

/// Where an attempt leaves its message.
#[derive(Debug, Clone)]
pub enum Finished {
    Sent { wamid: String },
    Retry { delay_ms: u64 },
    Failed { code: u16 },
    Ambiguous,
}

/// A webhook of the owner's own making, stored in the commit that it speaks of.
#[derive(Debug, Clone)]
pub struct OwnWebhook {
    pub key: String,
    pub recipient_hash: u32,
    pub payload: String,
}

/// Rows hold 63 bits of a hash.
fn hash_bits(hash: u64) -> i64 {
    number(hash & (u64::MAX >> 1))
}

impl Db {
    /// Accepts a group in one commit, claimed for sending (`claim`) or queued.
    ///
    /// # Errors
    /// [`AcceptError::Stale`] when (epoch, grant) is not the shard's any more; nothing is stored then.
    pub async fn accept(
        &self,
        own: &Ownership,
        messages: &[NewMessage],
        claim: bool,
    ) -> Result<Vec<Accepted>, AcceptError> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        for m in messages {
            check_length("a message id", &m.id, ID_LEN_MAX)?;
            check_length("a recipient", &m.recipient, RECIPIENT_LEN_MAX)?;
            check_length("a message", &m.payload, PAYLOAD_LEN_MAX)?;
        }
        let claiming = Claiming::new(self, own);
        let inserted = match self {
            Self::MySql(hosts) => {
                accept_mysql(self, hosts, own, messages, claim, claiming.batch).await
            }
            Self::Sqlite(pool) => accept_sqlite(pool, own, messages, claim, claiming.batch).await,
        };
        let inserted = match inserted {
            Ok(inserted) => inserted,
            // Nothing was stored, for certain.
            Err(none @ (AcceptError::Stale | AcceptError::Db(DbError::Conflict))) => {
                claiming.settle();
                return Err(none);
            }
            Err(unknown) => return Err(unknown),
        };
        let results = if inserted == messages.len() as u64 {
            vec![Accepted::New; messages.len()]
        } else {
            self.tell_apart(messages, claiming.batch).await?
        };
        claiming.settle();
        Ok(results)
    }

    /// Some were there before: the batch number tells what this commit made, the hash what a repetition is.
    async fn tell_apart(
        &self,
        messages: &[NewMessage],
        batch: u64,
    ) -> Result<Vec<Accepted>, AcceptError> {
        let ids: Vec<String> = messages.iter().map(|m| self.quote(&m.id)).collect();
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT id, body_hash, claim_batch FROM message WHERE id IN ({})",
            ids.join(",")
        ));
        let rows: Vec<(String, i64, i64)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        let mut stored: std::collections::HashMap<String, (i64, i64)> = rows
            .into_iter()
            .map(|(id, hash, batch)| (id, (hash, batch)))
            .collect();
        let mut results = Vec::with_capacity(messages.len());
        for message in messages {
            let Some(row) = stored.get_mut(&message.id) else {
                return Err(DbError::Value(format!("message {:?} is gone", message.id)).into());
            };
            results.push(if row.0 != hash_bits(message.body_hash) {
                Accepted::Conflict
            } else if row.1 == number(batch) {
                // The first of this id in this group; a second one is a repetition.
                row.1 = -1;
                Accepted::New
            } else {
                Accepted::Duplicate
            });
        }
        Ok(results)
    }

    /// Claims queued messages of the shard's slice that are due, oldest first. Committed before it answers.
    ///
    /// # Errors
    /// When the database does not answer; claims whose outcome is unknown are found again as ambiguous.
    pub async fn claim(
        &self,
        own: &Ownership,
        shard_count: u16,
        limit: u32,
    ) -> Result<Vec<Claimed>, DbError> {
        let select = text(
            self,
            "SELECT id, recipient, payload, CAST(attempts AS {int}) AS attempts FROM message WHERE state=0 AND next_ms<={now} \
             AND recipient_hash % ? = ? ORDER BY next_ms, seq LIMIT ?"
                .replace("{int}", if self.embedded() { "INTEGER" } else { "SIGNED" })
                .as_str(),
        );
        let rows: Vec<Claimed> = on_pool!(self, pool => {
            sqlx::query_as(select)
                .bind(i64::from(shard_count.max(1)))
                .bind(i64::from(own.shard.0))
                .bind(i64::from(limit))
                .fetch_all(pool)
                .await?
        });
        if rows.is_empty() {
            return Ok(rows);
        }
        let claiming = Claiming::new(self, own);
        let ids: Vec<String> = rows.iter().map(|row| self.quote(&row.id)).collect();
        let update = format!(
            "UPDATE message SET state=1, attempts=attempts+1, claim_epoch={}, claim_grant={}, claim_batch={} \
             WHERE id IN ({}) AND state=0",
            number(own.epoch.0),
            number(own.grant.0),
            claiming.batch,
            ids.join(",")
        );
        let Some(counts) = self.guarded(own, &[update]).await? else {
            claiming.settle();
            return Ok(Vec::new());
        };
        let rows = if counts.first() == Some(&(rows.len() as u64)) {
            rows
        } else {
            self.only_of_batch(rows, claiming.batch).await?
        };
        claiming.settle();
        Ok(rows)
    }

    /// Another claim got some of them first: what bears this batch number is ours.
    async fn only_of_batch(&self, rows: Vec<Claimed>, batch: u64) -> Result<Vec<Claimed>, DbError> {
        let sql = "SELECT id FROM message WHERE state=1 AND claim_batch=?";
        let mine: Vec<(String,)> = on_pool!(self, pool => {
            sqlx::query_as(sql).bind(number(batch)).fetch_all(pool).await?
        });
        let mine: std::collections::HashSet<String> = mine.into_iter().map(|(id,)| id).collect();
        Ok(rows
            .into_iter()
            .filter(|row| mine.contains(&row.id))
            .collect())
    }

    /// Records outcomes in one commit. False: stale, nothing was recorded.
    ///
    /// # Errors
    /// When the database does not answer; the rows stay claimed and become ambiguous.
    pub async fn finish(&self, own: &Ownership, outcomes: &[Finish]) -> Result<bool, DbError> {
        self.finish_and_tell(own, outcomes, &[]).await
    }

    /// Records outcomes together with the webhooks that tell of them: never the one without the other.
    ///
    /// # Errors
    /// As [`Db::finish`].
    pub async fn finish_and_tell(
        &self,
        own: &Ownership,
        outcomes: &[Finish],
        webhooks: &[OwnWebhook],
    ) -> Result<bool, DbError> {
        let (sent, others): (Vec<_>, Vec<_>) = outcomes
            .iter()
            .partition(|finish| matches!(finish.to, Finished::Sent { .. }));
        let mut statements: Vec<String> = sent
            .chunks(SENT_IN_ONE)
            .map(|some| self.sent_statement(some))
            .collect();
        statements.extend(
            others
                .iter()
                .map(|finish| self.finish_statement(own, finish)),
        );
        statements.extend(
            webhooks
                .iter()
                .map(|w| self.webhook_insert(&w.key, w.recipient_hash, &w.payload)),
        );
        Ok(self.guarded(own, &statements).await?.is_some())
    }

    /// What upstream has, whoever sent it: the most frequent outcome, many in one statement.
    fn sent_statement(&self, sent: &[&Finish]) -> String {
        let mut ids = Vec::with_capacity(sent.len());
        let mut cases = String::new();
        for finish in sent {
            let id = self.quote(&finish.id);
            if let Finished::Sent { wamid } = &finish.to {
                let wamid = self.quote(wamid.get(..WAMID_LEN_MAX).unwrap_or(wamid));
                cases.push_str(&format!(" WHEN {id} THEN {wamid}"));
            }
            ids.push(id);
        }
        format!(
            "UPDATE message SET state=CASE WHEN state<3 THEN 3 ELSE state END, wamid=CASE id{cases} ELSE wamid END, \
             finished_ms={} WHERE id IN ({})",
            self.now_sql(),
            ids.join(",")
        )
    }

    fn finish_statement(&self, own: &Ownership, finish: &Finish) -> String {
        let now = self.now_sql();
        let mine = format!(
            "claim_epoch={} AND claim_grant={} AND attempts<={}",
            number(own.epoch.0),
            number(own.grant.0),
            finish.claims
        );
        let id = self.quote(&finish.id);
        match &finish.to {
            Finished::Sent { .. } => self.sent_statement(&[finish]),
            Finished::Retry { delay_ms } => {
                format!(
                    "UPDATE message SET state=0, next_ms={now}+{delay_ms} WHERE id={id} AND state=1 AND {mine}"
                )
            }
            Finished::Failed { code } => format!(
                "UPDATE message SET state=6, error_code={code}, finished_ms={now} WHERE id={id} AND state<3 AND {mine}"
            ),
            Finished::Ambiguous => {
                format!(
                    "UPDATE message SET state=2, next_ms={now} WHERE id={id} AND state=1 AND {mine}"
                )
            }
        }
    }

    /// At the start of a tenure: what an earlier owner was sending is ambiguous from now on. Returns how many; 0 when stale.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn mark_ambiguous(&self, own: &Ownership, shard_count: u16) -> Result<u64, DbError> {
        let update = format!(
            "UPDATE message SET state=2, next_ms={} WHERE state=1 AND (claim_epoch<>{} OR claim_grant<>{}) \
             AND recipient_hash % {} = {}",
            self.now_sql(),
            number(own.epoch.0),
            number(own.grant.0),
            shard_count.max(1),
            own.shard.0
        );
        let counts = self.guarded(own, &[update]).await?;
        Ok(counts.and_then(|c| c.first().copied()).unwrap_or(0))
    }

    /// What this ownership has claimed and not finished, at most `limit`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn claimed_by(&self, own: &Ownership, limit: u32) -> Result<Vec<String>, DbError> {
        let sql =
            "SELECT id FROM message WHERE state=1 AND claim_epoch=? AND claim_grant=? LIMIT ?";
        let rows: Vec<(String,)> = on_pool!(self, pool => {
            sqlx::query_as(sql)
                .bind(number(own.epoch.0))
                .bind(number(own.grant.0))
                .bind(i64::from(limit))
                .fetch_all(pool)
                .await?
        });
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// Ambiguous messages whose window has passed without a receipt are queued again; true when there were any.
    /// The caller has drained the inbox.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn requeue_ambiguous(
        &self,
        own: &Ownership,
        shard_count: u16,
        window_ms: u64,
    ) -> Result<bool, DbError> {
        let probe = text(
            self,
            "SELECT COUNT(*) FROM message WHERE state=2 AND next_ms<={now}-?",
        );
        let waiting: i64 = on_pool!(self, pool => {
            let row: (i64,) = sqlx::query_as(probe).bind(number(window_ms)).fetch_one(pool).await?;
            row.0
        });
        if waiting == 0 {
            return Ok(false);
        }
        let now = self.now_sql();
        let update = format!(
            "UPDATE message SET state=0, next_ms={now} WHERE state=2 AND next_ms<={now}-{window_ms} AND recipient_hash % {} = {}",
            shard_count.max(1),
            own.shard.0
        );
        let counts = self.guarded(own, &[update]).await?;
        Ok(counts.is_some_and(|c| c.first().is_some_and(|n| *n > 0)))
    }

    /// Ambiguous messages whose window has passed without a receipt: id and recipient, at most `limit`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn overdue_ambiguous(
        &self,
        own: &Ownership,
        shard_count: u16,
        window_ms: u64,
        limit: u32,
    ) -> Result<Vec<(String, String)>, DbError> {
        let sql = text(
            self,
            "SELECT id, recipient FROM message WHERE state=2 AND next_ms<={now}-? AND recipient_hash % ? = ? LIMIT ?",
        );
        Ok(on_pool!(self, pool => {
            sqlx::query_as(sql)
                .bind(number(window_ms))
                .bind(i64::from(shard_count.max(1)))
                .bind(i64::from(own.shard.0))
                .bind(i64::from(limit))
                .fetch_all(pool)
                .await?
        }))
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
        let now = self.now_sql();
        let mut statements = Vec::with_capacity(messages.len() * 2);
        for (id, webhook) in messages {
            let id = self.quote(id);
            statements.push(format!(
                "UPDATE message SET state=6, error_code={code}, finished_ms={now} WHERE id={id} AND state=2"
            ));
            statements.push(self.webhook_insert_if_failed(&id, webhook));
        }
        Ok(self.guarded(own, &statements).await?.is_some())
    }

    /// How many accepted messages are not finished.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn outbox_depth(&self) -> Result<u64, DbError> {
        let row: (i64,) = on_pool!(self, pool => sqlx::query_as("SELECT COUNT(*) FROM message WHERE state<3").fetch_one(pool).await?);
        Ok(unsigned(row.0))
    }

    /// State of each message, by id, for the three-way comparison of a drill.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn message_states(&self) -> Result<Vec<(String, MessageState)>, DbError> {
        let int = if self.embedded() { "INTEGER" } else { "SIGNED" };
        let sql = sqlx::AssertSqlSafe(format!("SELECT id, CAST(state AS {int}) FROM message"));
        let rows: Vec<(String, i64)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        let state = |n: i64| {
            u8::try_from(n)
                .ok()
                .and_then(MessageState::from_u8)
                .unwrap_or(MessageState::Failed)
        };
        Ok(rows.into_iter().map(|(id, n)| (id, state(n))).collect())
    }

    /// Deletes finished messages older than `keep_ms`, at most `limit` of them. Returns how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_messages(&self, keep_ms: u64, limit: u32) -> Result<u64, DbError> {
        let sql = if self.embedded() {
            "DELETE FROM message WHERE id IN (SELECT id FROM message WHERE state>=3 AND finished_ms<{now}-? LIMIT ?)"
        } else {
            "DELETE FROM message WHERE state>=3 AND finished_ms<{now}-? LIMIT ?"
        };
        let sql = text(self, sql);
        Ok(
            on_pool!(self, pool => sqlx::query(sql).bind(number(keep_ms)).bind(i64::from(limit)).execute(pool).await?.rows_affected()),
        )
    }
}

async fn accept_mysql(
    db: &Db,
    hosts: &std::sync::Arc<super::host::Hosts>,
    own: &Ownership,
    messages: &[NewMessage],
    claim: bool,
    batch: u64,
) -> Result<u64, AcceptError> {
    let now = db.now_sql();
    let (state, epoch, grant) = if claim {
        (1, own.epoch.0, own.grant.0)
    } else {
        (0, 0, 0)
    };
    let rows: Vec<String> = messages
        .iter()
        .map(|m| {
            let (id, hash) = (db.quote(&m.id), hash_bits(m.body_hash));
            let (to, to_hash, payload) = (
                db.quote(&m.recipient),
                m.recipient_hash,
                db.quote(&m.payload),
            );
            format!("SELECT {id} AS a,{hash} AS b,{to} AS c,{to_hash} AS d,{payload} AS e")
        })
        .collect();
    let packet = format!(
        "START TRANSACTION;UPDATE shard_guard SET touch=touch+1 WHERE {guard};\
         INSERT IGNORE INTO message (id, body_hash, recipient, recipient_hash, payload, state, claim_epoch, claim_grant, claim_batch, next_ms, accepted_ms) \
         SELECT v.a, v.b, v.c, v.d, v.e, {state}, {epoch}, {grant}, {batch}, {now}, {now} FROM ({rows}) v \
         JOIN shard_guard g ON g.shard={shard} AND g.epoch={e} AND g.grant_id={g};COMMIT",
        guard = condition(own),
        rows = rows.join(" UNION ALL "),
        shard = own.shard.0,
        e = number(own.epoch.0),
        g = number(own.grant.0),
    );
    let counts = run_packet(hosts, &packet).await?;
    if counts.get(1).is_none_or(|touched| *touched == 0) {
        return Err(AcceptError::Stale);
    }
    Ok(counts.get(2).copied().unwrap_or(0))
}

async fn accept_sqlite(
    pool: &sqlx::SqlitePool,
    own: &Ownership,
    messages: &[NewMessage],
    claim: bool,
    batch: u64,
) -> Result<u64, AcceptError> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let touch = format!(
        "UPDATE shard_guard SET touch=touch+1 WHERE {}",
        condition(own)
    );
    if sqlx::query(sqlx::AssertSqlSafe(touch))
        .execute(&mut *tx)
        .await?
        .rows_affected()
        == 0
    {
        tx.rollback().await?;
        return Err(AcceptError::Stale);
    }
    let (state, epoch, grant) = if claim {
        (1, own.epoch.0, own.grant.0)
    } else {
        (0, 0, 0)
    };
    let mut inserted = 0;
    for m in messages {
        inserted += sqlx::query(
            "INSERT OR IGNORE INTO message (id, body_hash, recipient, recipient_hash, payload, state, claim_epoch, claim_grant, \
             claim_batch, next_ms, accepted_ms) VALUES (?,?,?,?,?,?,?,?,?, CAST(unixepoch('subsec') * 1000 AS INTEGER), \
             CAST(unixepoch('subsec') * 1000 AS INTEGER))",
        )
        .bind(m.id.as_str())
        .bind(hash_bits(m.body_hash))
        .bind(m.recipient.as_str())
        .bind(i64::from(m.recipient_hash))
        .bind(m.payload.as_str())
        .bind(state)
        .bind(number(epoch))
        .bind(number(grant))
        .bind(number(batch))
        .execute(&mut *tx)
        .await?
        .rows_affected();
    }
    tx.commit().await?;
    Ok(inserted)
}
