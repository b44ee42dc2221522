//! Accepted messages: intake with group commit, claims, outcomes, ambiguity. One row a message, state and all.
//! Every write names (epoch, grant) and touches the guard row first: a stale owner changes nothing (S5).

use wa_core::id::Ownership;
use wa_core::message::MessageState;

use super::{Db, DbError, literal, number, on_pool, text, unsigned};

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
    pub attempts: i64,
}

/// The recorded outcome of one attempt.
#[derive(Debug, Clone)]
pub struct Finish {
    pub id: String,
    pub to: Finished,
}

/// Where an attempt leaves its message.
#[derive(Debug, Clone)]
pub enum Finished {
    Sent { wamid: String },
    Retry { delay_ms: u64 },
    Failed { code: u16 },
    Ambiguous,
}

fn guard(own: &Ownership) -> String {
    format!(
        "shard={} AND epoch={} AND grant_id={}",
        own.shard.0,
        number(own.epoch.0),
        number(own.grant.0)
    )
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
        let inserted = match self {
            Self::MySql(pool) => accept_mysql(pool, own, messages, claim).await?,
            Self::Sqlite(pool) => accept_sqlite(pool, own, messages, claim).await?,
        };
        if inserted == messages.len() as u64 {
            return Ok(vec![Accepted::New; messages.len()]);
        }
        self.tell_apart(own, messages, claim).await
    }

    /// Some were there before: the attempt number of what this commit made cannot tell, the stored hash can.
    async fn tell_apart(
        &self,
        own: &Ownership,
        messages: &[NewMessage],
        claim: bool,
    ) -> Result<Vec<Accepted>, AcceptError> {
        let mut results = Vec::with_capacity(messages.len());
        for message in messages {
            let sql = text(
                self,
                "SELECT body_hash, CAST(state AS CHAR) AS state, claim_epoch, attempts FROM message WHERE id=?",
            );
            let row: Option<(i64, String, i64, i64)> = on_pool!(self, pool => {
                sqlx::query_as(sql).bind(message.id.as_str()).fetch_optional(pool).await?
            });
            results.push(match row {
                Some((hash, ..)) if unsigned(hash) != message.body_hash => Accepted::Conflict,
                // A claimed row of this very epoch with no attempt made yet may be new: its sender must know it.
                Some((_, state, epoch, 0))
                    if claim && state == "1" && unsigned(epoch) == own.epoch.0 =>
                {
                    Accepted::New
                }
                Some(_) => Accepted::Duplicate,
                None => return Err(AcceptError::Stale),
            });
        }
        Ok(results)
    }

    /// Claims queued messages of the shard's slice that are due, oldest first.
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
             AND recipient_hash % ? = ? ORDER BY next_ms LIMIT ?"
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
        let ids: Vec<String> = rows.iter().map(|row| quote(&row.id)).collect();
        let update = format!(
            "UPDATE message SET state=1, attempts=attempts+1, claim_epoch={}, claim_grant={} WHERE id IN ({}) AND state=0",
            number(own.epoch.0),
            number(own.grant.0),
            ids.join(",")
        );
        let held = self.guarded(own, &[update]).await?;
        Ok(if held { rows } else { Vec::new() })
    }

    /// Records outcomes in one commit. False: stale, nothing was recorded.
    ///
    /// # Errors
    /// When the database does not answer; the rows stay claimed and become ambiguous.
    pub async fn finish(&self, own: &Ownership, outcomes: &[Finish]) -> Result<bool, DbError> {
        let now = if self.embedded() {
            "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
        } else {
            "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"
        };
        let mine = format!(
            "claim_epoch={} AND claim_grant={}",
            number(own.epoch.0),
            number(own.grant.0)
        );
        let statements: Vec<String> = outcomes
            .iter()
            .map(|finish| {
                let id = quote(&finish.id);
                match &finish.to {
                    Finished::Sent { wamid } => format!(
                        "UPDATE message SET state=CASE WHEN state<3 THEN 3 ELSE state END, wamid={}, finished_ms={now} WHERE id={id}",
                        quote(wamid)
                    ),
                    Finished::Retry { delay_ms } => {
                        format!("UPDATE message SET state=0, next_ms={now}+{delay_ms} WHERE id={id} AND state=1 AND {mine}")
                    }
                    Finished::Failed { code } => format!(
                        "UPDATE message SET state=6, error_code={code}, finished_ms={now} WHERE id={id} AND state<3 AND {mine}"
                    ),
                    Finished::Ambiguous => {
                        format!("UPDATE message SET state=2, next_ms={now} WHERE id={id} AND state=1 AND {mine}")
                    }
                }
            })
            .collect();
        self.guarded(own, &statements).await
    }

    /// At the start of a tenure: what an earlier owner was sending is ambiguous from now on. Returns how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn mark_ambiguous(&self, own: &Ownership, shard_count: u16) -> Result<u64, DbError> {
        let sql = text(
            self,
            "UPDATE message SET state=2, next_ms={now} WHERE state=1 AND claim_epoch<>? AND recipient_hash % ? = ?",
        );
        Ok(on_pool!(self, pool => {
            sqlx::query(sql)
                .bind(number(own.epoch.0))
                .bind(i64::from(shard_count.max(1)))
                .bind(i64::from(own.shard.0))
                .execute(pool)
                .await?
                .rows_affected()
        }))
    }

    /// Ambiguous messages whose window has passed without a receipt are queued again. The caller has drained the inbox.
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
        let now = if self.embedded() {
            "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
        } else {
            "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"
        };
        let update = format!(
            "UPDATE message SET state=0, next_ms={now} WHERE state=2 AND next_ms<={now}-{window_ms} AND recipient_hash % {} = {}",
            shard_count.max(1),
            own.shard.0
        );
        self.guarded(own, &[update]).await
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

    /// Runs statements in one commit behind a write of the guard row. False: stale, nothing was done.
    pub(super) async fn guarded(
        &self,
        own: &Ownership,
        statements: &[String],
    ) -> Result<bool, DbError> {
        let touch = format!("UPDATE shard_guard SET touch=touch+1 WHERE {}", guard(own));
        match self {
            Self::Sqlite(pool) => {
                let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
                if sqlx::query(sqlx::AssertSqlSafe(touch))
                    .execute(&mut *tx)
                    .await?
                    .rows_affected()
                    == 0
                {
                    tx.rollback().await?;
                    return Ok(false);
                }
                for statement in statements {
                    sqlx::query(sqlx::AssertSqlSafe(statement.clone()))
                        .execute(&mut *tx)
                        .await?;
                }
                tx.commit().await?;
                Ok(true)
            }
            Self::MySql(pool) => {
                // One packet: the statements see the guard by a condition, so that a stale owner's change nothing, and a
                // client that freezes in the middle holds no lock.
                let mut packet = format!("START TRANSACTION;{touch};");
                let alive = format!("EXISTS (SELECT 1 FROM shard_guard WHERE {})", guard(own));
                for statement in statements {
                    packet.push_str(&guard_statement(statement, &alive));
                    packet.push(';');
                }
                packet.push_str("COMMIT");
                let counts = run_packet(pool, packet).await?;
                Ok(counts.get(1).is_some_and(|touched| *touched > 0))
            }
        }
    }
}

/// Adds the guard's condition to an UPDATE (behind its WHERE) or leaves an INSERT ... SELECT, which carries its own.
fn guard_statement(statement: &str, alive: &str) -> String {
    if statement.starts_with("UPDATE") || statement.starts_with("DELETE") {
        format!("{statement} AND {alive}")
    } else {
        statement.replace("{alive}", alive)
    }
}

/// An identifier-like text as a literal of either dialect.
pub(super) fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', "").replace('\'', "''"))
}

/// Sends several statements in one packet and collects the rows that each changed.
async fn run_packet(pool: &sqlx::MySqlPool, packet: String) -> Result<Vec<u64>, sqlx::Error> {
    use futures_util::TryStreamExt as _;
    let mut counts = Vec::new();
    let mut connection = pool.acquire().await?;
    let mut stream = sqlx::raw_sql(sqlx::AssertSqlSafe(packet)).execute_many(&mut *connection);
    while let Some(done) = stream.try_next().await? {
        counts.push(done.rows_affected());
    }
    Ok(counts)
}

async fn accept_mysql(
    pool: &sqlx::MySqlPool,
    own: &Ownership,
    messages: &[NewMessage],
    claim: bool,
) -> Result<u64, AcceptError> {
    let now = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)";
    let (state, epoch, grant) = if claim {
        (1, own.epoch.0, own.grant.0)
    } else {
        (0, 0, 0)
    };
    let rows: Vec<String> = messages
        .iter()
        .map(|m| {
            let (id, hash) = (literal(&m.id), number(m.body_hash));
            let (to, to_hash, payload) =
                (literal(&m.recipient), m.recipient_hash, literal(&m.payload));
            format!("SELECT {id} AS a,{hash} AS b,{to} AS c,{to_hash} AS d,{payload} AS e")
        })
        .collect();
    let packet = format!(
        "START TRANSACTION;UPDATE shard_guard SET touch=touch+1 WHERE {guard};\
         INSERT IGNORE INTO message (id, body_hash, recipient, recipient_hash, payload, state, claim_epoch, claim_grant, next_ms, accepted_ms) \
         SELECT v.a, v.b, v.c, v.d, v.e, {state}, {epoch}, {grant}, {now}, {now} FROM ({rows}) v \
         JOIN shard_guard g ON g.shard={shard} AND g.epoch={e} AND g.grant_id={g};COMMIT",
        guard = guard(own),
        rows = rows.join(" UNION ALL "),
        shard = own.shard.0,
        e = number(own.epoch.0),
        g = number(own.grant.0),
    );
    let counts = run_packet(pool, packet).await?;
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
) -> Result<u64, AcceptError> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let touch = format!("UPDATE shard_guard SET touch=touch+1 WHERE {}", guard(own));
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
             next_ms, accepted_ms) VALUES (?,?,?,?,?,?,?,?, CAST(unixepoch('subsec') * 1000 AS INTEGER), \
             CAST(unixepoch('subsec') * 1000 AS INTEGER))",
        )
        .bind(m.id.as_str())
        .bind(number(m.body_hash))
        .bind(m.recipient.as_str())
        .bind(i64::from(m.recipient_hash))
        .bind(m.payload.as_str())
        .bind(state)
        .bind(number(epoch))
        .bind(number(grant))
        .execute(&mut *tx)
        .await?
        .rows_affected();
    }
    tx.commit().await?;
    Ok(inserted)
}
