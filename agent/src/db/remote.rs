//! Files of customers that only the upstream has: their ids at the upstream, and for how long.
//! Fetches nothing: `coreapp/on_demand.rs` does. Files that are here: `media.rs`.
//!
//! Such a file has a row of `media` whose `cloud_ms` is below zero: the time since when its id at the upstream is known. Releases
//! before this one take the row for a file that was deleted, and give its `cloud_id` to nobody.

use super::media::Medium;
use super::{Db, DbError, number, on_pool, text, unsigned};

/// Longest id at the upstream, in bytes.
pub const CLOUD_ID_LEN_MAX: usize = 190;
/// Longest type, in characters.
const MIME_LEN_MAX: usize = 128;
/// Rows of one statement.
const ROWS_MAX: usize = 64;

/// A file that the upstream has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Our id of it: a UUID.
    pub id: String,
    /// The upstream's.
    pub cloud_id: String,
    /// Empty: the upstream did not say it.
    pub mime: String,
    /// In hexadecimal; empty: the upstream did not say it.
    pub sha256: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    cloud_id: String,
    mime: String,
    sha256: String,
    age_ms: i64,
}

impl Db {
    /// Remembers these files, under the guard's condition: statements for a commit.
    pub(super) fn remote_statements(&self, files: &[&Remote]) -> Vec<String> {
        files
            .chunks(ROWS_MAX)
            .map(|some| self.remote_statement(some))
            .collect()
    }

    fn remote_statement(&self, files: &[&Remote]) -> String {
        let now = self.now_sql();
        let columns = "(id, mime, bytes, sha256, created_ms, cloud_id, cloud_ms)";
        let values = |file: &&Remote| {
            let mime: String = file.mime.chars().take(MIME_LEN_MAX).collect();
            [&file.id, &mime, &file.sha256, &file.cloud_id].map(|value| self.quote(value))
        };
        if self.embedded() {
            let row = |file: &&Remote| {
                let [id, mime, sha256, cloud_id] = values(file);
                format!("({id},{mime},0,{sha256},{now},{cloud_id},0-{now})")
            };
            let rows: Vec<String> = files.iter().map(row).collect();
            return format!(
                "INSERT OR IGNORE INTO media {columns} VALUES {}",
                rows.join(",")
            );
        }
        let row = |file: &&Remote| {
            let [id, mime, sha256, cloud_id] = values(file);
            format!("SELECT {id} AS a, {mime} AS b, {sha256} AS c, {cloud_id} AS d")
        };
        let rows: Vec<String> = files.iter().map(row).collect();
        format!(
            "INSERT IGNORE INTO media {columns} \
             SELECT v.a, v.b, 0, v.c, {now}, v.d, 0-{now} FROM ({}) v WHERE {{alive}}",
            rows.join(" UNION ALL ")
        )
    }

    /// A file that only the upstream has, and for how long it has been known, in ms. A clock that was set back makes none older.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn remote_medium(&self, id: &str) -> Result<Option<(Remote, u64)>, DbError> {
        let sql = text(
            self,
            "SELECT cloud_id, mime, sha256, {now}+cloud_ms AS age_ms FROM media WHERE id=? AND cloud_ms<0 AND cloud_id<>''",
        );
        let row: Option<Row> =
            on_pool!(self, pool => sqlx::query_as(sql).bind(id).fetch_optional(pool).await?);
        Ok(row.map(|row| {
            let remote = Remote {
                id: id.to_owned(),
                cloud_id: row.cloud_id,
                mime: row.mime,
                sha256: row.sha256,
            };
            (remote, unsigned(row.age_ms.max(0)))
        }))
    }

    /// A file that only the upstream had is here. False: nobody waits for it any more, it was deleted or is here already.
    ///
    /// # Errors
    /// When the database does not answer: whether it is known to be here is unknown then.
    pub async fn fetched_medium(&self, medium: &Medium) -> Result<bool, DbError> {
        let sql = text(
            self,
            "UPDATE media SET mime=?, bytes=?, sha256=?, created_ms={now}, cloud_id='', cloud_ms=0 WHERE id=? AND cloud_ms<0",
        );
        let rows = on_pool!(self, pool => {
            sqlx::query(sql)
                .bind(medium.mime.as_str())
                .bind(number(medium.bytes))
                .bind(medium.sha256.as_str())
                .bind(medium.id.as_str())
                .execute(pool)
                .await?
                .rows_affected()
        });
        Ok(rows > 0)
    }

    /// Forgets files that only the upstream had, and that have been known for longer than this: it has them no more. Looks at `limit`
    /// rows behind an id, in the order of ids. How many went, and the id to go on from: empty at the end.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_remote(
        &self,
        behind: &str,
        keep_ms: u64,
        limit: u32,
    ) -> Result<(u64, String), DbError> {
        let sql = text(
            self,
            &format!(
                "SELECT id, CAST(CASE WHEN cloud_ms<0 AND {{now}}+cloud_ms>? THEN 1 ELSE 0 END AS {}) \
                 FROM media WHERE id>? ORDER BY id LIMIT ?",
                self.int()
            ),
        );
        let rows: Vec<(String, i64)> = on_pool!(self, pool => {
            sqlx::query_as(sql)
                .bind(number(keep_ms))
                .bind(behind)
                .bind(i64::from(limit))
                .fetch_all(pool)
                .await?
        });
        let more = rows.len() >= limit as usize;
        let last = rows.last().filter(|_| more).map(|(id, _)| id.clone());
        let old: Vec<String> = rows
            .iter()
            .filter(|(_, old)| *old != 0)
            .map(|(id, _)| self.quote(id))
            .collect();
        let mut gone = 0;
        for some in old.chunks(ROWS_MAX) {
            // One that came meanwhile is a file of ours.
            let sql = format!(
                "DELETE FROM media WHERE id IN ({}) AND cloud_ms<0",
                some.join(",")
            );
            let sql = text(self, &sql);
            gone += on_pool!(self, pool => sqlx::query(sql).execute(pool).await?.rows_affected());
        }
        Ok((gone, last.unwrap_or_default()))
    }
}
