//! One message, or the newest to one customer, for people who look: what became of it, and never what it says.

use wa_core::message::MessageState;

use super::{Db, DbError, on_pool, text, unsigned};

/// Messages that are looked through for those to one customer: there is no index over customers, which every message would pay for.
pub const LOOKED_THROUGH: u32 = 20_000;
/// Messages that are shown of one customer.
const SHOWN_MAX: u32 = 20;

/// What the store knows of a message, without what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    pub id: String,
    pub recipient: String,
    /// `text`, `image` and so on.
    pub kind: String,
    pub state: Option<MessageState>,
    pub attempts: u64,
    /// Of the owner that sends or sent it last; 0: nobody has yet.
    pub epoch: u64,
    pub upstream_id: Option<String>,
    /// The code that the business was told; 0: none.
    pub error_code: i64,
    /// Milliseconds since 1970 by the database's clock; 0: not yet.
    pub accepted_ms: u64,
    pub finished_ms: u64,
    /// Callbacks about it that the business has not taken: still tried, and put aside.
    pub waiting: u64,
    pub parked: u64,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    recipient: String,
    kind: String,
    state: i64,
    attempts: i64,
    claim_epoch: i64,
    wamid: Option<String>,
    error_code: i64,
    accepted_ms: i64,
    finished_ms: i64,
}

impl Db {
    fn life(&self) -> String {
        let int = if self.embedded() { "INTEGER" } else { "SIGNED" };
        format!(
            "SELECT id, recipient, kind, CAST(state AS {int}) AS state, CAST(attempts AS {int}) AS attempts, claim_epoch, wamid, \
             CAST(error_code AS {int}) AS error_code, accepted_ms, finished_ms FROM message"
        )
    }

    /// The message with this id of ours or of the upstream.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn find_message(&self, id: &str) -> Result<Option<Life>, DbError> {
        let sql = sqlx::AssertSqlSafe(format!("{} WHERE id=?", self.life()));
        let map = "SELECT our_id FROM message_id WHERE upstream_id=?";
        let row: Option<Row> = on_pool!(self, pool => {
            let ours: Option<(String,)> = sqlx::query_as(map).bind(id).fetch_optional(&mut *pool).await?;
            let id = ours.map_or_else(|| id.to_owned(), |(ours,)| ours);
            sqlx::query_as(sql).bind(id).fetch_optional(pool).await?
        });
        match row {
            Some(row) => Ok(Some(self.with_callbacks(row).await?)),
            None => Ok(None),
        }
    }

    /// The newest messages to a customer among the last [`LOOKED_THROUGH`], the newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn find_recipient(&self, recipient: &str) -> Result<Vec<Life>, DbError> {
        let newest = "SELECT COALESCE(MAX(seq), 0) FROM message";
        let sql = sqlx::AssertSqlSafe(format!(
            "{} WHERE seq>? AND recipient=? ORDER BY seq DESC LIMIT {SHOWN_MAX}",
            self.life()
        ));
        let rows: Vec<Row> = on_pool!(self, pool => {
            let (newest,): (i64,) = sqlx::query_as(newest).fetch_one(&mut *pool).await?;
            let after = newest.saturating_sub(i64::from(LOOKED_THROUGH));
            sqlx::query_as(sql).bind(after).bind(recipient).fetch_all(pool).await?
        });
        let mut found = Vec::new();
        for row in rows {
            found.push(self.with_callbacks(row).await?);
        }
        Ok(found)
    }

    async fn with_callbacks(&self, row: Row) -> Result<Life, DbError> {
        let mut life = Life::from(row);
        let Some(upstream_id) = life.upstream_id.as_deref() else {
            return Ok(life);
        };
        // Keys of what is told of a message begin with the upstream's id and a colon; what comes behind a colon in ASCII is a semicolon.
        let (from, to) = (format!("{upstream_id}:"), format!("{upstream_id};"));
        let of = |table: &str| {
            text(
                self,
                &format!("SELECT COUNT(*) FROM {table} WHERE event_key>=? AND event_key<?"),
            )
        };
        let (waiting, parked) = (of("webhook"), of("webhook_parked"));
        let (waiting, parked): ((i64,), (i64,)) = on_pool!(self, pool => {
            let waiting = sqlx::query_as(waiting).bind(&from).bind(&to).fetch_one(&mut *pool).await?;
            (waiting, sqlx::query_as(parked).bind(&from).bind(&to).fetch_one(pool).await?)
        });
        (life.waiting, life.parked) = (unsigned(waiting.0), unsigned(parked.0));
        Ok(life)
    }
}

impl From<Row> for Life {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            recipient: row.recipient,
            kind: row.kind,
            state: u8::try_from(row.state).ok().and_then(MessageState::from_u8),
            attempts: unsigned(row.attempts),
            epoch: unsigned(row.claim_epoch),
            upstream_id: row.wamid.filter(|id| !id.is_empty()),
            error_code: row.error_code,
            accepted_ms: unsigned(row.accepted_ms),
            finished_ms: unsigned(row.finished_ms),
            waiting: 0,
            parked: 0,
        }
    }
}

/// A message as if it had been accepted, for tests of who looks for one.
#[cfg(test)]
pub(crate) async fn plant(db: &Db, id: &str, recipient: &str, says: &str) {
    let sql = "INSERT INTO message (id, body_hash, recipient, recipient_hash, payload, state, next_ms, accepted_ms) \
        VALUES (?, 1, ?, 2, ?, 0, 0, 1898609366000)";
    let planted = async {
        on_pool!(db, pool => sqlx::query(sql).bind(id).bind(recipient).bind(says).execute(pool).await.map(|_| ())?);
        Ok::<(), DbError>(())
    };
    planted.await.expect("planted");
}
