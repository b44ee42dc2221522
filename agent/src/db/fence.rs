//! What each host agent says of the fence on its machine: which kind stands, and why no better one.
//! Judges nothing: heartbeats carry whether the gate is attested, and that decides.

use super::{Db, DbError, number, on_pool, text};

/// Longest sentence that the rows hold, in characters.
const SENTENCE_LEN_MAX: usize = 1024;

/// A host agent's word on its machine's fence.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct FenceWord {
    /// The host agent's own name.
    pub node: String,
    /// `bpf`, `nftables` or `process`.
    pub level: String,
    /// Why no better one; empty when there is none.
    pub sentence: String,
}

impl Db {
    /// Writes a host agent's word.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn report_fence(&self, word: &FenceWord) -> Result<(), DbError> {
        let upsert = if self.embedded() {
            "ON CONFLICT(node) DO UPDATE SET level=excluded.level, sentence=excluded.sentence, seen_ms=excluded.seen_ms"
        } else {
            "ON DUPLICATE KEY UPDATE level=VALUES(level), sentence=VALUES(sentence), seen_ms=VALUES(seen_ms)"
        };
        let sql = text(
            self,
            &format!(
                "INSERT INTO fence (node, level, sentence, seen_ms) VALUES (?,?,?,{{now}}) {upsert}"
            ),
        );
        let sentence: String = word.sentence.chars().take(SENTENCE_LEN_MAX).collect();
        on_pool!(self, pool => {
            sqlx::query(sql)
                .bind(word.node.as_str())
                .bind(word.level.as_str())
                .bind(sentence)
                .execute(pool)
                .await
                .map(|_| ())?
        });
        Ok(())
    }

    /// Words that are at most `age_ms` old, by node. None from the future: after the clock was set back they would be fresh
    /// for ever.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn fences(&self, age_ms: u64) -> Result<Vec<FenceWord>, DbError> {
        let sql = text(
            self,
            "SELECT node, level, sentence FROM fence WHERE seen_ms>={now}-? AND seen_ms<={now}+60000 ORDER BY node",
        );
        let rows: Vec<FenceWord> = on_pool!(self, pool => {
            sqlx::query_as(sql).bind(number(age_ms)).fetch_all(pool).await?
        });
        Ok(rows)
    }
}
