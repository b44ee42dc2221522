//! Conditional writes as values: one statement, or several that take effect together.
//! Knows no table: `lease.rs` words the statements.

use sqlx::Connection as _;
use wa_core::id::Incarnation;

use super::DbError;

/// A statement with its values.
#[derive(Debug, Clone)]
pub(super) struct Write {
    sql: &'static str,
    values: Vec<Value>,
    /// Zero rows are fine: the row was there before.
    optional: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Number(i64),
    Text(String),
}

impl Write {
    pub(super) fn new(sql: &'static str) -> Self {
        #[cfg(feature = "mutants")]
        let sql = super::mutant::wording(sql);
        Self {
            sql,
            values: Vec::new(),
            optional: false,
        }
    }
    pub(super) fn text(mut self, value: &str) -> Self {
        self.values.push(Value::Text(value.into()));
        self
    }
    /// As the column holds them: what was read as a negative number is compared as one.
    pub(super) fn numbers(mut self, values: &[u64]) -> Self {
        self.values
            .extend(values.iter().map(|v| Value::Number(v.cast_signed())));
        self
    }
    pub(super) fn incarnation(self, incarnation: Incarnation) -> Self {
        self.numbers(&[incarnation.counter, incarnation.random])
    }
    pub(super) fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// The statement with its values in it, for a packet of several (MySQL).
    fn rendered(&self) -> String {
        let mut values = self.values.iter();
        let mut text = String::with_capacity(self.sql.len() * 2);
        for part in self.sql.split_inclusive('?') {
            let Some(before) = part.strip_suffix('?') else {
                text.push_str(part);
                continue;
            };
            text.push_str(before);
            match values.next().expect("one value for each mark") {
                Value::Number(n) => text.push_str(&n.to_string()),
                Value::Text(t) => text.push_str(&format!("_utf8mb4 x'{}'", hex::encode(t))),
            }
        }
        text.replace("{ignore}", "IGNORE")
    }
}

/// Tries of a statement that another commit came before.
const CONFLICTS_MAX: u32 = 8;

/// One statement, which is one transaction. Where another server's commit came first nothing was changed, and it is tried
/// again at once: an owner's renewal that collides with somebody's look at its row is not lost. The caller has a deadline.
pub(super) async fn run_mysql(
    c: &mut sqlx::MySqlConnection,
    write: &Write,
) -> Result<bool, DbError> {
    for _ in 0..CONFLICTS_MAX {
        match run_mysql_once(c, write).await {
            Err(DbError::Sqlx(error)) if super::is_deadlock(&error) => {}
            done => return done,
        }
    }
    Err(DbError::Conflict)
}

async fn run_mysql_once(c: &mut sqlx::MySqlConnection, write: &Write) -> Result<bool, DbError> {
    let mut query = sqlx::query(write.sql);
    for value in &write.values {
        query = match value {
            Value::Number(n) => query.bind(*n),
            Value::Text(t) => query.bind(t.as_str()),
        };
    }
    Ok(query.execute(c).await?.rows_affected() > 0)
}

/// One packet ending in COMMIT. Every statement carries the condition of the first, whose rows tell the outcome.
pub(super) async fn run_mysql_packet(
    c: &mut sqlx::MySqlConnection,
    writes: &[Write],
) -> Result<bool, DbError> {
    let mut packet = String::from("START TRANSACTION;");
    for write in writes {
        packet.push_str(&write.rendered());
        packet.push(';');
    }
    packet.push_str("COMMIT");
    let done = super::guard::run_on(c, packet).await;
    match done {
        Ok(counts) => Ok(counts.get(1).is_some_and(|touched| *touched > 0)),
        // The transaction may be open still: this connection is not used again, whatever the error.
        Err(error) => Err(DbError::Value(format!("lease packet: {error}"))),
    }
}

/// Whether a `SELECT COUNT(*)` finds anything.
pub(super) async fn count_rows<'c, D, C>(c: &'c mut C, query: &Write) -> Result<bool, DbError>
where
    D: sqlx::Database,
    &'c mut C: sqlx::Executor<'c, Database = D>,
    for<'q> D::Arguments: sqlx::IntoArguments<D>,
    i64: sqlx::Type<D> + for<'r> sqlx::Decode<'r, D> + for<'q> sqlx::Encode<'q, D>,
    String: sqlx::Type<D> + for<'q> sqlx::Encode<'q, D>,
    (i64,): for<'r> sqlx::FromRow<'r, D::Row>,
{
    let mut found = sqlx::query_as::<D, (i64,)>(query.sql);
    for value in &query.values {
        found = match value {
            Value::Number(n) => found.bind(*n),
            Value::Text(t) => found.bind(t.clone()),
        };
    }
    Ok(found.fetch_one(c).await?.0 > 0)
}

/// Pause between two tries to get the embedded database's one write lock.
const ASK_AGAIN_AFTER: std::time::Duration = std::time::Duration::from_millis(1);

/// All or nothing, in one transaction; waits for the file's lock as long as the caller does.
pub(super) async fn run_sqlite(
    c: &mut sqlx::SqliteConnection,
    writes: &[Write],
) -> Result<bool, DbError> {
    let mut tx = loop {
        match c.begin_with("BEGIN IMMEDIATE").await {
            Ok(tx) => break tx,
            // The file's lock has no queue. Who asks every millisecond gets it before those who sleep longer and longer
            // between their tries: a lease does not lapse because messages are being written. The caller has a deadline.
            Err(error) if super::is_busy(&error) => tokio::time::sleep(ASK_AGAIN_AFTER).await,
            Err(error) => return Err(error.into()),
        }
    };
    for write in writes {
        let sql = write.sql.replace("{ignore}", "OR IGNORE");
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for value in &write.values {
            query = match value {
                Value::Number(n) => query.bind(*n),
                Value::Text(t) => query.bind(t.clone()),
            };
        }
        if query.execute(&mut *tx).await?.rows_affected() == 0 && !write.optional {
            tx.rollback().await?;
            return Ok(false);
        }
    }
    tx.commit().await?;
    Ok(true)
}
