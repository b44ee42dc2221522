//! Sticker packs: what a pack says of itself, and its stickers, as JSON documents under one version.
//! Knows nothing of their fields: `api/v1/stickerpack.rs` does.

use super::{Db, DbError, number, on_pool, text, unsigned};

/// A pack as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub version: u64,
    pub about: String,
    pub stickers: String,
}

impl Db {
    /// Ids of all packs and what they say of themselves, the oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn stickerpacks(&self) -> Result<Vec<(String, String)>, DbError> {
        let sql = "SELECT id, about FROM stickerpack ORDER BY at_ms, id";
        Ok(on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?))
    }

    /// One pack.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn stickerpack(&self, id: &str) -> Result<Option<Stored>, DbError> {
        let sql = "SELECT version, about, stickers FROM stickerpack WHERE id=?";
        let row: Option<(i64, String, String)> =
            on_pool!(self, pool => sqlx::query_as(sql).bind(id).fetch_optional(pool).await?);
        Ok(row.map(|(version, about, stickers)| Stored {
            version: unsigned(version),
            about,
            stickers,
        }))
    }

    /// The stickers of every pack.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn stickers(&self) -> Result<Vec<String>, DbError> {
        let sql = "SELECT stickers FROM stickerpack";
        let rows: Vec<(String,)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        Ok(rows.into_iter().map(|(stickers,)| stickers).collect())
    }

    /// Adds a pack without stickers. False: there are `most` packs already.
    ///
    /// # Errors
    /// When the database does not answer: whether the pack is there is unknown then.
    pub async fn add_stickerpack(&self, id: &str, about: &str, most: u32) -> Result<bool, DbError> {
        let from = if self.embedded() { "" } else { " FROM DUAL" };
        let sql = text(
            self,
            &format!(
                "INSERT INTO stickerpack (id, at_ms, version, about, stickers) \
                 SELECT ?, {{now}}, 1, ?, '[]'{from} WHERE (SELECT COUNT(*) FROM stickerpack)<?"
            ),
        );
        let rows = on_pool!(self, pool => {
            sqlx::query(sql).bind(id).bind(about).bind(i64::from(most)).execute(pool).await?.rows_affected()
        });
        Ok(rows > 0)
    }

    /// Writes a pack if its version is still the one that was read. False: somebody else was first; read again.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn change_stickerpack(&self, id: &str, changed: &Stored) -> Result<bool, DbError> {
        let sql = "UPDATE stickerpack SET about=?, stickers=?, version=version+1 WHERE id=? AND version=?";
        let rows = on_pool!(self, pool => {
            sqlx::query(sql)
                .bind(changed.about.as_str())
                .bind(changed.stickers.as_str())
                .bind(id)
                .bind(number(changed.version))
                .execute(pool)
                .await?
                .rows_affected()
        });
        Ok(rows > 0)
    }

    /// Deletes a pack. False: there was none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn remove_stickerpack(&self, id: &str) -> Result<bool, DbError> {
        let sql = "DELETE FROM stickerpack WHERE id=?";
        let rows =
            on_pool!(self, pool => sqlx::query(sql).bind(id).execute(pool).await?.rows_affected());
        Ok(rows > 0)
    }
}
