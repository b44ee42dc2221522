//! What each node says of the media directory that it sees, and which export is the cluster's.
//! Judges nothing: what is wrong and what to type are the node's own words.

use serde::{Deserialize, Serialize};

use super::{Db, DbError, number, on_pool, text, unsigned};

/// The row of the settings that names the cluster's export.
const EXPORT: &str = "media_export";
/// Longest sentence that the rows hold, in characters.
const SENTENCE_LEN_MAX: usize = 1024;

/// A node's word on its media directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub node: String,
    /// `ok`, or what is wrong.
    pub word: String,
    /// What is wrong and what to type; empty when nothing is.
    pub sentence: String,
    pub fs_type: String,
    pub free_bytes: u64,
}

impl Mount {
    /// Nothing is wrong.
    pub fn ok(&self) -> bool {
        self.word == "ok"
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    node: String,
    word: String,
    sentence: String,
    fs_type: String,
    free_bytes: i64,
}

impl Db {
    /// Writes a node's word.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn report_mount(&self, mount: &Mount) -> Result<(), DbError> {
        let upsert = if self.embedded() {
            "ON CONFLICT(node) DO UPDATE SET word=excluded.word, sentence=excluded.sentence, fs_type=excluded.fs_type, \
             free_bytes=excluded.free_bytes, seen_ms=excluded.seen_ms"
        } else {
            "ON DUPLICATE KEY UPDATE word=VALUES(word), sentence=VALUES(sentence), fs_type=VALUES(fs_type), \
             free_bytes=VALUES(free_bytes), seen_ms=VALUES(seen_ms)"
        };
        let sql = text(
            self,
            &format!(
                "INSERT INTO mount (node, word, sentence, fs_type, free_bytes, seen_ms) VALUES (?,?,?,?,?,{{now}}) {upsert}"
            ),
        );
        let sentence: String = mount.sentence.chars().take(SENTENCE_LEN_MAX).collect();
        let fs_type: String = mount.fs_type.chars().take(32).collect();
        on_pool!(self, pool => {
            sqlx::query(sql)
                .bind(mount.node.as_str())
                .bind(mount.word.as_str())
                .bind(sentence)
                .bind(fs_type)
                .bind(number(mount.free_bytes))
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
    pub async fn mounts(&self, age_ms: u64) -> Result<Vec<Mount>, DbError> {
        let sql = text(
            self,
            "SELECT node, word, sentence, fs_type, free_bytes FROM mount WHERE seen_ms>={now}-? AND seen_ms<={now}+60000 ORDER BY node",
        );
        let rows: Vec<Row> = on_pool!(self, pool => {
            sqlx::query_as(sql).bind(number(age_ms)).fetch_all(pool).await?
        });
        let mount = |row: Row| Mount {
            node: row.node,
            word: row.word,
            sentence: row.sentence,
            fs_type: row.fs_type,
            free_bytes: unsigned(row.free_bytes),
        };
        Ok(rows.into_iter().map(mount).collect())
    }

    /// The identity of the cluster's export, once some node has found one.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn media_export(&self) -> Result<Option<String>, DbError> {
        let (version, value) = self.setting(EXPORT).await?;
        if version == 0 {
            return Ok(None);
        }
        serde_json::from_str(&value)
            .map(Some)
            .map_err(|error| DbError::Value(format!("{EXPORT}: {error}")))
    }

    /// Makes an export the cluster's unless it has one already; returns the one that it has.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn claim_media_export(&self, identity: &str) -> Result<Option<String>, DbError> {
        let value = serde_json::Value::from(identity).to_string();
        self.store_setting(EXPORT, 0, &value).await?;
        self.media_export().await
    }
}
