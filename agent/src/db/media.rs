//! Media files by id: type, length, digest, and the id under which the upstream has a copy.
//! Holds no byte of them: those are in the shared media directory.

use super::{Db, DbError, number, on_pool, text, unsigned};

/// A file as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    /// A UUID; also the file's name.
    pub id: String,
    pub mime: String,
    pub bytes: u64,
    /// In hexadecimal.
    pub sha256: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    mime: String,
    bytes: i64,
    sha256: String,
}

impl Db {
    /// Makes a stored file known under its id.
    ///
    /// # Errors
    /// When the database does not answer: whether the row is there is unknown then.
    pub async fn add_medium(&self, medium: &Medium) -> Result<(), DbError> {
        let sql = text(
            self,
            "INSERT {ignore} INTO media (id, mime, bytes, sha256, created_ms, cloud_id, cloud_ms) VALUES (?,?,?,?,{now},'',0)",
        );
        on_pool!(self, pool => {
            sqlx::query(sql)
                .bind(medium.id.as_str())
                .bind(medium.mime.as_str())
                .bind(number(medium.bytes))
                .bind(medium.sha256.as_str())
                .execute(pool)
                .await
                .map(|_| ())?
        });
        Ok(())
    }

    /// A file that is used now. That is noted once a day in `created_ms`, which is when the file was stored or used last: a file
    /// that is used is not collected.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn use_medium(&self, id: &str) -> Result<Option<Medium>, DbError> {
        let noted = text(
            self,
            "SELECT 1 FROM media WHERE id=? AND created_ms>={now}-86400000",
        );
        let note = text(self, "UPDATE media SET created_ms={now} WHERE id=?");
        let Some(medium) = self.medium(id).await? else {
            return Ok(None);
        };
        let there = on_pool!(self, pool => {
            let row: Option<(i64,)> = sqlx::query_as(noted).bind(id).fetch_optional(&mut *pool).await?;
            match row {
                Some(_) => true,
                None => sqlx::query(note).bind(id).execute(pool).await?.rows_affected() > 0,
            }
        });
        // It was collected a moment ago.
        Ok(there.then_some(medium))
    }

    /// The row of a file that is here; the upstream's are not: `remote.rs`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn medium(&self, id: &str) -> Result<Option<Medium>, DbError> {
        let sql = "SELECT id, mime, bytes, sha256 FROM media WHERE id=? AND cloud_ms>=0";
        let row: Option<Row> =
            on_pool!(self, pool => sqlx::query_as(sql).bind(id).fetch_optional(pool).await?);
        Ok(row.map(|row| Medium {
            id: row.id,
            mime: row.mime,
            bytes: unsigned(row.bytes),
            sha256: row.sha256,
        }))
    }

    /// Forgets a file, wherever it is. False: it was not known.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn remove_medium(&self, id: &str) -> Result<bool, DbError> {
        let sql = "DELETE FROM media WHERE id=?";
        let rows =
            on_pool!(self, pool => sqlx::query(sql).bind(id).execute(pool).await?.rows_affected());
        Ok(rows > 0)
    }

    /// The upstream's id of a file, unless it is older than `keep_ms`. One from the future is as old as can be: the clock was
    /// set back since.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn cloud_medium(&self, id: &str, keep_ms: u64) -> Result<Option<String>, DbError> {
        let sql = text(
            self,
            "SELECT cloud_id FROM media WHERE id=? AND cloud_id<>'' AND cloud_ms>{now}-? AND cloud_ms<={now}+60000",
        );
        let row: Option<(String,)> = on_pool!(self, pool => {
            sqlx::query_as(sql).bind(id).bind(number(keep_ms)).fetch_optional(pool).await?
        });
        Ok(row.map(|row| row.0))
    }

    /// The upstream does not know a file any more, under this id or whichever is remembered. A newer id of it stays. False:
    /// there was nothing to forget.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_cloud_medium(
        &self,
        id: &str,
        cloud_id: Option<&str>,
    ) -> Result<bool, DbError> {
        let of_this =
            "UPDATE media SET cloud_id='', cloud_ms=0 WHERE id=? AND cloud_id=? AND cloud_ms>=0";
        let of_any =
            "UPDATE media SET cloud_id='', cloud_ms=0 WHERE id=? AND cloud_id<>? AND cloud_ms>=0";
        let (sql, than) = match cloud_id {
            Some(cloud_id) => (of_this, cloud_id),
            None => (of_any, ""),
        };
        let rows = on_pool!(self, pool => {
            sqlx::query(sql).bind(id).bind(than).execute(pool).await?.rows_affected()
        });
        Ok(rows > 0)
    }

    /// Remembers under which id the upstream has a file. Two owners may upload it both: either id is good.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn set_cloud_medium(&self, id: &str, cloud_id: &str) -> Result<(), DbError> {
        let sql = text(
            self,
            "UPDATE media SET cloud_id=?, cloud_ms={now} WHERE id=?",
        );
        on_pool!(self, pool => {
            sqlx::query(sql).bind(cloud_id).bind(id).execute(pool).await.map(|_| ())?
        });
        Ok(())
    }
}
