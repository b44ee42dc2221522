//! Named settings as JSON documents with versions.
//! Knows nothing of their fields: `api/v1` does.

use super::{Db, DbError, number, on_pool, text, unsigned};

/// The row of the application settings.
pub const APPLICATION: &str = "application";

/// The row with the server on which the rows are known to be complete (rule 5.9).
pub const DATABASE_SERVER: &str = "database_server";

/// The row of the rotation of keys that is under way.
pub const KEYS: &str = "keys";

/// The row of the switchovers that are to happen at a time.
pub const PLANNED: &str = "planned";

/// The row of the pauses that operators asked for.
pub const PAUSES: &str = "pauses";

impl Db {
    /// Milliseconds since 1970 by the database's clock: the one clock that all masters share for what people ask.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn now_ms(&self) -> Result<u64, DbError> {
        let sql = text(self, "SELECT {now}");
        let row: (i64,) = on_pool!(self, pool => sqlx::query_as(sql).fetch_one(pool).await?);
        Ok(unsigned(row.0))
    }

    /// Version and value; version 0 with an empty object when it was never written.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn setting(&self, name: &str) -> Result<(u64, String), DbError> {
        let sql = "SELECT version, value FROM setting WHERE name=?";
        let row: Option<(i64, String)> =
            on_pool!(self, pool => sqlx::query_as(sql).bind(name).fetch_optional(pool).await?);
        Ok(row.map_or((0, "{}".into()), |(version, value)| {
            (unsigned(version), value)
        }))
    }

    /// Writes a value if the version is still `expect`. False: somebody else was first; read again.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn store_setting(
        &self,
        name: &str,
        expect: u64,
        value: &str,
    ) -> Result<bool, DbError> {
        let insert = text(
            self,
            "INSERT {ignore} INTO setting (name, version, value) VALUES (?, 0, '{}')",
        );
        let update = "UPDATE setting SET value=?, version=version+1 WHERE name=? AND version=?";
        let rows = on_pool!(self, pool => {
            sqlx::query(insert).bind(name).execute(&mut *pool).await?;
            let done = sqlx::query(update).bind(value).bind(name).bind(number(expect)).execute(pool).await?;
            done.rows_affected()
        });
        Ok(rows > 0)
    }
}
