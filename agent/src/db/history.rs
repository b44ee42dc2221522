//! The record of decisions and of what operators asked, with the evidence at that moment, for `history` and `explain`.
//! Nothing is decided from it.

use serde::{Deserialize, Serialize};

use super::{Db, DbError, number, on_pool, text};

/// One recorded decision.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow, Serialize, Deserialize)]
pub struct Decision {
    pub id: i64,
    pub at_ms: i64,
    pub node: String,
    /// -1: not about one shard.
    pub shard: i64,
    pub what: String,
    pub subject: String,
    pub reason: String,
}

/// What is to be recorded.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Who decided: a master, or `operator`.
    pub node: String,
    /// -1: not about one shard.
    pub shard: i64,
    pub what: String,
    pub subject: String,
    pub reason: String,
    /// A JSON document; empty: none.
    pub evidence: String,
}

/// Longest evidence that is kept, in bytes.
const EVIDENCE_LEN_MAX: usize = 64 * 1024;

impl Db {
    /// Records a decision at the database's time; returns its id.
    ///
    /// # Errors
    /// When the database does not answer; the decision stands all the same.
    pub async fn record(&self, r: &Record) -> Result<i64, DbError> {
        let sql = text(
            self,
            "INSERT INTO history (at_ms, node, shard, what, subject, reason) VALUES ({now},?,?,?,?,?)",
        );
        let newest = if self.embedded() {
            "SELECT last_insert_rowid()"
        } else {
            "SELECT CAST(LAST_INSERT_ID() AS SIGNED)"
        };
        // Columns of the table: an operator's reason may be longer, and is whole in the evidence.
        let cut = |text: &str, len: usize| text.chars().take(len).collect::<String>();
        let (what, subject, reason) = (cut(&r.what, 32), cut(&r.subject, 96), cut(&r.reason, 64));
        let evidence = (1..=EVIDENCE_LEN_MAX).contains(&r.evidence.len());
        let id = on_pool!(self, pool => {
            sqlx::query(sql).bind(&r.node).bind(r.shard).bind(what).bind(subject).bind(reason).execute(&mut *pool).await?;
            let (id,): (i64,) = sqlx::query_as(newest).fetch_one(&mut *pool).await?;
            if evidence {
                let sql = "INSERT INTO history_evidence (id, evidence) VALUES (?,?)";
                sqlx::query(sql).bind(id).bind(&r.evidence).execute(pool).await?;
            }
            id
        });
        Ok(id)
    }

    /// The newest decisions, oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn decisions(&self, limit: u32) -> Result<Vec<Decision>, DbError> {
        let sql = sqlx::AssertSqlSafe(format!("{} ORDER BY id DESC LIMIT ?", self.columns()));
        let mut rows: Vec<Decision> = on_pool!(self, pool => sqlx::query_as(sql).bind(i64::from(limit)).fetch_all(pool).await?);
        rows.reverse();
        Ok(rows)
    }

    /// The newest records of one sort, newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn records_of(&self, what: &str, limit: u32) -> Result<Vec<Decision>, DbError> {
        let columns = self.columns();
        let sql = sqlx::AssertSqlSafe(format!("{columns} WHERE what=? ORDER BY id DESC LIMIT ?"));
        Ok(
            on_pool!(self, pool => sqlx::query_as(sql).bind(what).bind(i64::from(limit)).fetch_all(pool).await?),
        )
    }

    /// One decision with its evidence, and what was decided next on the same shard; `None`: there is none of this id.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn decision(
        &self,
        id: i64,
    ) -> Result<Option<(Decision, String, Vec<Decision>)>, DbError> {
        let one = sqlx::AssertSqlSafe(format!("{} WHERE id=?", self.columns()));
        let after = sqlx::AssertSqlSafe(format!(
            "{} WHERE id>? AND shard=(SELECT h.shard FROM history h WHERE h.id=?) ORDER BY id LIMIT 3",
            self.columns()
        ));
        let evidence = "SELECT evidence FROM history_evidence WHERE id=?";
        let found = on_pool!(self, pool => {
            let decision: Option<Decision> = sqlx::query_as(one).bind(id).fetch_optional(&mut *pool).await?;
            let evidence: Option<(String,)> = sqlx::query_as(evidence).bind(id).fetch_optional(&mut *pool).await?;
            let after: Vec<Decision> = sqlx::query_as(after).bind(id).bind(id).fetch_all(pool).await?;
            decision.map(|d| (d, evidence.map(|(text,)| text).unwrap_or_default(), after))
        });
        Ok(found)
    }

    /// Deletes decisions older than `keep_ms`, the oldest first, at most `limit`. How many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_decisions(&self, keep_ms: u64, limit: u32) -> Result<u64, DbError> {
        // Ids grow with the time: without an index over the time only the oldest few are looked at.
        let old = text(
            self,
            "SELECT h.id FROM (SELECT id, at_ms FROM history ORDER BY id LIMIT ?) h WHERE h.at_ms<{now}-?",
        );
        let ids: Vec<(i64,)> = on_pool!(self, pool => {
            sqlx::query_as(old).bind(i64::from(limit)).bind(number(keep_ms)).fetch_all(pool).await?
        });
        if ids.is_empty() {
            return Ok(0);
        }
        let list: Vec<String> = ids.iter().map(|(id,)| id.to_string()).collect();
        let list = list.join(",");
        // The evidence first: a decision without it is readable, but nobody would find evidence without a decision.
        for table in ["history_evidence", "history"] {
            let delete = sqlx::AssertSqlSafe(format!("DELETE FROM {table} WHERE id IN ({list})"));
            on_pool!(self, pool => sqlx::query(delete).execute(pool).await.map(|_| ())?);
        }
        Ok(ids.len() as u64)
    }

    fn columns(&self) -> String {
        let int = if self.embedded() { "INTEGER" } else { "SIGNED" };
        format!(
            "SELECT id, at_ms, node, CAST(shard AS {int}) AS shard, what, subject, reason FROM history"
        )
    }
}
