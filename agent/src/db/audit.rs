//! The audit: who did what from where, and what came of it, for people who ask later.
//! Nothing is decided from it, and no secret is in it.

use serde::{Deserialize, Serialize};

use super::{Db, DbError, number, on_pool, text};

/// One line, as it is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLine {
    /// Which node wrote it.
    pub node: String,
    /// A user, an operator and his machine, or `-`: nobody who is known.
    pub who: String,
    /// An address, or `-`.
    pub source: String,
    pub what: String,
    pub outcome: String,
    /// How long ago it was, in milliseconds by the clock of the node.
    pub age_ms: u64,
}

/// One line, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow, Serialize, Deserialize)]
pub struct Line {
    pub id: i64,
    /// Milliseconds since 1970 by the database's clock.
    pub at_ms: i64,
    pub node: String,
    pub who: String,
    pub source: String,
    pub what: String,
    pub outcome: String,
}

/// Columns of the table.
const SHORT: usize = 96;
const LONG: usize = 190;

fn cut(text: &str, len: usize) -> String {
    text.chars().take(len).collect()
}

impl Db {
    /// Stores lines in one statement.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn store_audit(&self, lines: &[NewLine]) -> Result<(), DbError> {
        if lines.is_empty() {
            return Ok(());
        }
        let row = |line: &NewLine| {
            format!(
                "({{now}}-{}, {}, {}, {}, {}, {})",
                number(line.age_ms),
                self.quote(&cut(&line.node, SHORT)),
                self.quote(&cut(&line.who, SHORT)),
                self.quote(&cut(&line.source, SHORT)),
                self.quote(&cut(&line.what, LONG)),
                self.quote(&cut(&line.outcome, LONG)),
            )
        };
        let rows: Vec<String> = lines.iter().map(row).collect();
        let sql = format!(
            "INSERT INTO audit (at_ms, node, who, source, what, outcome) VALUES {}",
            rows.join(", ")
        );
        let sql = text(self, &sql);
        on_pool!(self, pool => sqlx::raw_sql(sql).execute(pool).await.map(|_| ())?);
        Ok(())
    }

    /// The newest lines, oldest first; of one user or operator only where one is named.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn audit(&self, who: Option<&str>, limit: u32) -> Result<Vec<Line>, DbError> {
        let of = who.map_or(String::new(), |who| {
            format!(" WHERE who={}", self.quote(who))
        });
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT id, at_ms, node, who, source, what, outcome FROM audit{of} ORDER BY id DESC LIMIT {limit}"
        ));
        let mut lines: Vec<Line> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        lines.reverse();
        Ok(lines)
    }

    /// Deletes lines that are older than `keep_ms`, and the oldest where there are more than about `lines_max`; at most `limit`.
    /// How many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_audit(
        &self,
        (keep_ms, lines_max): (u64, u64),
        limit: u32,
    ) -> Result<u64, DbError> {
        // Ids grow with the time: only the oldest few are looked at, and nothing is counted. A cluster leaves ids out.
        let step = if self.embedded() {
            "1"
        } else {
            "CAST(@@auto_increment_increment AS SIGNED)"
        };
        let sql = text(
            self,
            &format!(
                "SELECT a.id FROM (SELECT id, at_ms FROM audit ORDER BY id LIMIT ?) a \
                 WHERE a.at_ms<{{now}}-? OR a.id<=(SELECT MAX(id) FROM audit)-?*{step}"
            ),
        );
        let ids: Vec<(i64,)> = on_pool!(self, pool => {
            sqlx::query_as(sql)
                .bind(i64::from(limit))
                .bind(number(keep_ms))
                .bind(number(lines_max))
                .fetch_all(pool)
                .await?
        });
        if ids.is_empty() {
            return Ok(0);
        }
        let list: Vec<String> = ids.iter().map(|(id,)| id.to_string()).collect();
        let sql = sqlx::AssertSqlSafe(format!(
            "DELETE FROM audit WHERE id IN ({})",
            list.join(",")
        ));
        Ok(on_pool!(self, pool => sqlx::query(sql).execute(pool).await?.rows_affected()))
    }
}
