//! Accepted messages: intake with group commit, claims, outcomes, ambiguity. One row a message, state and all.
//! Every write names (epoch, grant) and touches the guard row first: a stale owner changes nothing (S5).

use wa_core::id::Ownership;
use wa_core::message::MessageState;

use super::body::Bodies;
pub use super::claimed::Claimed;
use super::due::{MESSAGE_PAUSE_MAX_MS, due};
use super::guard::{Claiming, run_packet};
use super::route::Link;
use super::{Db, DbError, check_length, message_id, number, on_pool, text, unsigned};
use crate::api::cloud::told;
use crate::sys::clock;

/// Longest values of a message's columns, in bytes.
pub const ID_LEN_MAX: usize = 64;
pub const RECIPIENT_LEN_MAX: usize = 160;
pub const PAYLOAD_LEN_MAX: usize = 1 << 20;
/// Sent messages in one UPDATE.
const SENT_IN_ONE: usize = 64;

/// A message on its way in.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// Minted before the first attempt: unique over the cluster, the idempotency key of S4.
    pub id: String,
    pub recipient: String,
    pub recipient_hash: u32,
    /// The type's name.
    pub kind: &'static str,
    /// Number of the form that `payload` is in, and that `hashes` compares it by.
    pub form: u16,
    /// The message in our words.
    pub payload: String,
    /// What must be equal for a repeated id: a hash for each form that a row may have (S4).
    pub hashes: Vec<(u16, u64)>,
}

impl NewMessage {
    /// The hash that a row of this form holds for the same message; `None`: that form is newer than this node reads, or older than
    /// the message's type. Rows that were finished before there were forms (0) have the hash of form 1.
    fn hash_in(&self, form: u16) -> Option<i64> {
        let form = form.max(1);
        let found = self.hashes.iter().find(|(of, _)| *of == form);
        found.map(|(_, hash)| hash_bits(*hash))
    }

    fn own_hash(&self) -> Result<i64, DbError> {
        let hash = self.hash_in(self.form);
        hash.ok_or_else(|| DbError::Value(format!("message {:?} has no hash of its form", self.id)))
    }
}

/// What became of one message of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    New,
    /// Accepted before under the same id with the same body.
    Duplicate,
    /// The id was used for another body.
    Conflict,
    /// Not stored by this call, and not known to be the same: what is there under the id cannot be compared by this release.
    Unsettled,
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
    /// The message of ours that it says failed.
    pub message_id: String,
    pub key: String,
    pub recipient_hash: u32,
    pub payload: String,
}

/// Rows hold 63 bits of a hash.
fn hash_bits(hash: u64) -> i64 {
    number(hash & (u64::MAX >> 1))
}

impl Db {
    /// What whole numbers of 32 bits are read as.
    pub(super) fn int(&self) -> &'static str {
        if self.embedded() { "INTEGER" } else { "SIGNED" }
    }

    /// Whether a message that is not finished is in a newer form than `newest`, which a node cannot read.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn newer_form(&self, newest: u16) -> Result<bool, DbError> {
        let sql = "SELECT 1 FROM message WHERE state<3 AND form>? LIMIT 1";
        let found: Option<(i64,)> = on_pool!(self, pool => {
            sqlx::query_as(sql).bind(i64::from(newest)).fetch_optional(pool).await?
        });
        Ok(found.is_some())
    }

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
            m.own_hash()?;
        }
        let claiming = Claiming::new(self, own);
        let inserted = match self {
            Self::MySql(hosts) => {
                accept_mysql(self, hosts, own, messages, claim, claiming.batch).await
            }
            Self::Sqlite(pool) => {
                accept_sqlite(self, pool, own, messages, claim, claiming.batch).await
            }
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
            "SELECT id, body_hash, claim_batch, CAST(form AS {int}) FROM message WHERE id IN ({})",
            ids.join(","),
            int = self.int()
        ));
        let rows: Vec<(String, i64, i64, i64)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        let mut stored: std::collections::HashMap<String, (i64, i64, i64)> = rows
            .into_iter()
            .map(|(id, hash, batch, form)| (id, (hash, batch, form)))
            .collect();
        Ok(messages
            .iter()
            .map(|message| {
                // Gone between the insert, which met it, and the read. Never guessed: the webapp asks again, for this one alone.
                let Some(row) = stored.get_mut(&message.id) else {
                    return Accepted::Unsettled;
                };
                let form = u16::try_from(row.2).unwrap_or(u16::MAX);
                let Some(hash) = message.hash_in(form) else {
                    // Nothing of this type was ever stored in an older form; in a newer one another owner may compare it.
                    return if form < message.form {
                        Accepted::Conflict
                    } else {
                        Accepted::Unsettled
                    };
                };
                if row.0 != hash {
                    Accepted::Conflict
                } else if row.1 == number(batch) {
                    // The first of this id in this group; a second one is a repetition.
                    row.1 = -1;
                    Accepted::New
                } else {
                    Accepted::Duplicate
                }
            })
            .collect())
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
        let select = self.due_messages();
        let mut rows: Vec<Claimed> = on_pool!(self, pool => {
            sqlx::query_as(select)
                .bind(i64::from(shard_count.max(1)))
                .bind(i64::from(own.shard.0))
                .bind(i64::from(limit))
                .fetch_all(pool)
                .await?
        });
        let now = clock::now();
        rows.iter_mut().for_each(|row| row.claimed = now);
        self.claim_rows(own, rows).await
    }

    /// Queued messages of a slice that are due, oldest first.
    pub(super) fn due_messages(&self) -> sqlx::AssertSqlSafe<String> {
        text(
            self,
            &format!(
                "SELECT * FROM (SELECT seq, id, recipient, CAST(recipient_hash AS {int}) AS recipient_hash, CAST(form AS {int}) AS form, payload, CAST(attempts AS {int}) AS attempts, \
                 {{now}}-accepted_ms AS age_ms, CAST(doubt AS {int}) AS doubt FROM message \
                 WHERE state=0 AND {} AND recipient_hash % ? = ? ORDER BY next_ms, seq LIMIT ?) due ORDER BY seq",
                due(MESSAGE_PAUSE_MAX_MS),
                int = self.int()
            ),
        )
    }

    /// Claims rows that were read just now. Committed before it answers; those that are ours.
    pub(super) async fn claim_rows(
        &self,
        own: &Ownership,
        rows: Vec<Claimed>,
    ) -> Result<Vec<Claimed>, DbError> {
        if rows.is_empty() {
            return Ok(rows);
        }
        let claiming = Claiming::new(self, own);
        let ids: Vec<String> = rows.iter().map(|row| self.quote(&row.id)).collect();
        // With "+" SQLite looks the ids up, and does not go through all that is queued.
        let update = format!(
            "UPDATE message SET state=1, attempts=attempts+1, claim_epoch={}, claim_grant={}, claim_batch={}, \
             claim_order=(SELECT touch FROM shard_guard WHERE shard={}) WHERE id IN ({}) AND +state=0",
            number(own.epoch.0),
            number(own.grant.0),
            claiming.batch,
            own.shard.0,
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
        let kept = Bodies::Kept { ms: 0 };
        self.finish_and_tell(own, outcomes, (&[], &[]), &kept).await
    }

    /// Records outcomes together with the webhooks that tell of them, never the one without the other, and spellings that the
    /// upstream told with them. What is finished by it loses its content, as `bodies` says.
    ///
    /// # Errors
    /// As [`Db::finish`].
    pub async fn finish_and_tell(
        &self,
        own: &Ownership,
        outcomes: &[Finish],
        (webhooks, links): (&[OwnWebhook], &[Link]),
        bodies: &Bodies,
    ) -> Result<bool, DbError> {
        let (sent, others): (Vec<_>, Vec<_>) = outcomes
            .iter()
            .partition(|finish| matches!(finish.to, Finished::Sent { .. }));
        // First: each looks whether its message failed before.
        let told = webhooks.iter();
        let mut statements: Vec<String> = told
            .map(|webhook| self.webhook_insert_unless_failed(webhook))
            .collect();
        for some in sent.chunks(SENT_IN_ONE) {
            statements.push(self.sent_statement(some, bodies));
        }
        statements.extend(
            others
                .iter()
                .map(|finish| self.finish_statement(own, finish, bodies)),
        );
        statements.extend(links.iter().map(|link| self.link_statement(link)));
        Ok(self.guarded(own, &statements).await?.is_some())
    }

    /// What upstream has, whoever sent it: the most frequent outcome, many in one statement.
    fn sent_statement(&self, sent: &[&Finish], bodies: &Bodies) -> String {
        let mut ids = Vec::with_capacity(sent.len());
        let mut cases = String::new();
        for finish in sent {
            let id = self.quote(&finish.id);
            if let Finished::Sent { wamid } = &finish.to {
                let wamid = self.quote(message_id::kept(wamid));
                cases.push_str(&format!(" WHEN {id} THEN {wamid}"));
            }
            ids.push(id);
        }
        let names: Vec<&str> = sent.iter().map(|finish| finish.id.as_str()).collect();
        // MySQL assigns one after the other: what a CASE looks at is assigned after it.
        format!(
            "UPDATE message SET receipt=CASE WHEN receipt=0 AND state<6 THEN 1 ELSE receipt END, \
             state=CASE WHEN state<3 THEN 3 ELSE state END, wamid=CASE id{cases} ELSE wamid END, finished_ms={}{} \
             WHERE id IN ({})",
            self.now_sql(),
            bodies.columns(self, &names),
            ids.join(",")
        )
    }

    fn finish_statement(&self, own: &Ownership, finish: &Finish, bodies: &Bodies) -> String {
        let now = self.now_sql();
        let mine = format!(
            "claim_epoch={} AND claim_grant={} AND attempts<={}",
            number(own.epoch.0),
            number(own.grant.0),
            finish.claims
        );
        let id = self.quote(&finish.id);
        match &finish.to {
            Finished::Sent { .. } => self.sent_statement(&[finish], bodies),
            // It was not tried: it keeps its place before what was accepted after it.
            Finished::Retry { delay_ms: 0 } => format!(
                "UPDATE message SET state=0, next_ms=CASE WHEN accepted_ms<{now} THEN accepted_ms ELSE {now} END \
                 WHERE id={id} AND state=1 AND {mine}"
            ),
            Finished::Retry { delay_ms } => {
                format!(
                    "UPDATE message SET state=0, next_ms={now}+{delay_ms} WHERE id={id} AND state=1 AND {mine}"
                )
            }
            Finished::Failed { code } => format!(
                "UPDATE message SET state=6, error_code={code}, finished_ms={now}, told={}{} WHERE id={id} AND state<3 AND {mine}",
                self.quote(&told::Row::failed().text()),
                bodies.columns(self, &[&finish.id])
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
        let int = self.int();
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
            let (id, hash, kind, form) = (db.quote(&m.id), m.own_hash()?, db.quote(m.kind), m.form);
            let (to, to_hash, payload) = (
                db.quote(&m.recipient),
                m.recipient_hash,
                db.quote(&m.payload),
            );
            Ok(format!(
                "SELECT {id} AS a,{hash} AS b,{to} AS c,{to_hash} AS d,{payload} AS e,{kind} AS f,{form} AS h"
            ))
        })
        .collect::<Result<_, DbError>>()?;
    let packet = format!(
        "START TRANSACTION;{touch};\
         INSERT IGNORE INTO message (id, body_hash, recipient, recipient_hash, payload, kind, form, state, claim_epoch, claim_grant, claim_batch, claim_order, next_ms, accepted_ms) \
         SELECT v.a, v.b, v.c, v.d, v.e, v.f, v.h, {state}, {epoch}, {grant}, {batch}, {order}, {now}, {now} FROM ({rows}) v \
         JOIN shard_guard g ON g.shard={shard} AND g.epoch={e} AND g.grant_id={g};COMMIT",
        touch = db.touch(own),
        order = if claim { "g.touch" } else { "0" },
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
    db: &Db,
    pool: &sqlx::SqlitePool,
    own: &Ownership,
    messages: &[NewMessage],
    claim: bool,
    batch: u64,
) -> Result<u64, AcceptError> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    if sqlx::query(sqlx::AssertSqlSafe(db.touch(own)))
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
            "INSERT OR IGNORE INTO message (id, body_hash, recipient, recipient_hash, payload, kind, form, state, claim_epoch, \
             claim_grant, claim_batch, next_ms, accepted_ms, claim_order) VALUES (?,?,?,?,?,?,?,?,?,?,?, CAST(unixepoch('subsec') * 1000 AS INTEGER), \
             CAST(unixepoch('subsec') * 1000 AS INTEGER), CASE WHEN ? THEN (SELECT touch FROM shard_guard WHERE shard=?) ELSE 0 END)",
        )
        .bind(m.id.as_str())
        .bind(m.own_hash()?)
        .bind(m.recipient.as_str())
        .bind(i64::from(m.recipient_hash))
        .bind(m.payload.as_str())
        .bind(m.kind)
        .bind(i64::from(m.form))
        .bind(state)
        .bind(number(epoch))
        .bind(number(grant))
        .bind(number(batch))
        .bind(claim)
        .bind(i64::from(own.shard.0))
        .execute(&mut *tx)
        .await?
        .rows_affected();
    }
    tx.commit().await?;
    Ok(inserted)
}
