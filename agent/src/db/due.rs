//! Due times of rows and the database's wall clock, which may be set back: no row waits for longer than the longest pause of
//! its kind, and where the step was seen, none waits at all.

use wa_core::id::Ownership;

use super::{Db, DbError, on_pool};

/// The longest pause that a message is ever given before it is tried again.
pub const MESSAGE_PAUSE_MAX_MS: u64 = 900_000;

/// Rows of a table that are brought forward in one commit, and commits for one step of the clock. What is left then is due
/// by the bound above.
const ROWS_MAX: u32 = 1000;
const COMMITS_MAX: u32 = 64;

/// The condition for a row that is due: its time has come, or lies further ahead than any pause of its kind, which the
/// clock's being set back brings about. Two ranges of one index.
pub(super) fn due(longest_ms: u64) -> String {
    // So written, MariaDB reads two ranges; with NOT BETWEEN it would go through all that waits.
    format!("(next_ms<={{now}} OR next_ms>{{now}}+{longest_ms})")
}

impl Db {
    /// Makes due whatever waits in the shard's slice: messages and webhooks. Messages of unknown fate wait from now on. For an
    /// owner that saw the clock go back: how long they should wait yet cannot be told. Returns how many there were; 0 when stale.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn make_due(&self, own: &Ownership, shard_count: u16) -> Result<u64, DbError> {
        // Those of unknown fate count their waiting from now on: else it would not grow before the clock is where it was. Those
        // that are claimed as well: a claim that was lost is taken back, and its row waits for the moment that it names.
        self.bring_forward(own, shard_count, "state<3", true).await
    }

    /// The same for messages that were never tried, which no pause holds back, and those of unknown fate, whose waiting never
    /// begins in the future: at the start of a tenure, which may have missed the step, or begins in rows from before it.
    /// Webhooks that were never tried are read as due in any case.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn make_fresh_due(&self, own: &Ownership, shard_count: u16) -> Result<u64, DbError> {
        let message = "(state=2 OR (state=0 AND next_ms=accepted_ms))";
        self.bring_forward(own, shard_count, message, false).await
    }

    async fn bring_forward(
        &self,
        own: &Ownership,
        shard_count: u16,
        message: &str,
        webhooks: bool,
    ) -> Result<u64, DbError> {
        let slice = format!("recipient_hash % {} = {}", shard_count.max(1), own.shard.0);
        let mut tables = vec![("message", "seq", format!("{message} AND {slice}"))];
        if webhooks {
            tables.push(("webhook", "id", slice));
        }
        let now = self.now_sql();
        let mut all = 0;
        for _ in 0..COMMITS_MAX {
            let mut statements = Vec::new();
            for (table, key, condition) in &tables {
                let condition = format!("next_ms>{now} AND {condition}");
                let late = self.late(table, key, &condition).await?;
                if !late.is_empty() {
                    statements.push(format!(
                        "UPDATE {table} SET next_ms={now} WHERE {key} IN ({}) AND {condition}",
                        late.join(",")
                    ));
                }
            }
            if statements.is_empty() {
                break;
            }
            let counts = self.guarded(own, &statements).await?;
            let rows = counts.map_or(0, |counts| counts.iter().sum());
            all += rows;
            if rows == 0 {
                break;
            }
        }
        Ok(all)
    }

    /// Some rows that wait for a time ahead. Read by themselves: with this as its subquery, an UPDATE of MariaDB goes through the
    /// whole table, finished rows and all.
    async fn late(&self, table: &str, key: &str, condition: &str) -> Result<Vec<String>, DbError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {key} FROM {table} WHERE {condition} LIMIT {ROWS_MAX}"
        ));
        let rows: Vec<(i64,)> = on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        Ok(rows.iter().map(|(key,)| key.to_string()).collect())
    }
}
