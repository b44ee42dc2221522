//! Aliases of customers, in the table of `customer.rs`: given once, and good for ever.

use std::collections::HashMap;

use wa_core::id::Ownership;

use super::{Db, DbError, on_pool, text};

/// An alias is another customer's by chance, or the row has one: both are seen when it is read again.
fn taken(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.is_unique_violation())
}

impl Db {
    /// The aliases of these user ids, as far as they have any.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn aliases(&self, user_ids: &[&str]) -> Result<HashMap<String, String>, DbError> {
        if user_ids.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<String> = user_ids.iter().map(|id| self.quote(id)).collect();
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT user_id, alias FROM customer WHERE alias IS NOT NULL AND user_id IN ({})",
            ids.join(",")
        ));
        let rows: Vec<(String, String)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        Ok(rows.into_iter().collect())
    }

    /// The user id that an alias stands for.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn user_of_alias(&self, alias: &str) -> Result<Option<String>, DbError> {
        let sql = "SELECT user_id FROM customer WHERE alias=?";
        let row: Option<(String,)> =
            on_pool!(self, pool => sqlx::query_as(sql).bind(alias).fetch_optional(pool).await?);
        Ok(row.map(|(user_id,)| user_id))
    }

    /// Customers who have an alias and no number, at most so many: user id and alias.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn nameless(&self, limit: u32) -> Result<Vec<(String, String)>, DbError> {
        let sql = "SELECT user_id, alias FROM customer WHERE alias>'' AND wa_id IS NULL ORDER BY alias LIMIT ?";
        Ok(
            on_pool!(self, pool => sqlx::query_as(sql).bind(i64::from(limit)).fetch_all(pool).await?),
        )
    }

    /// Hands a customer's alias on: the user id is another one from now on, which has none yet. A user id that is not known yet gets a
    /// row, by this hash. One commit: an alias that was told is never nobody's. False: stale, nothing was done.
    ///
    /// # Errors
    /// When the database does not answer; it may be done once more.
    pub async fn hand_on_alias(
        &self,
        own: &Ownership,
        alias: &str,
        (former, next): (&str, &str),
        recipient_hash: u32,
    ) -> Result<bool, DbError> {
        let [alias, former, next] = [alias, former, next].map(|text| self.quote(text));
        let columns =
            "customer (user_id, username, profile_name, recipient_hash, both_ms, seen_ms)";
        let values = format!("{next}, '', '', {recipient_hash}, 0, 0");
        let (insert, take) = match self.embedded() {
            true => (
                format!("INSERT OR IGNORE INTO {columns} VALUES ({values})"),
                format!(
                    "UPDATE customer SET alias=NULL WHERE user_id={former} AND alias={alias} \
                     AND EXISTS (SELECT 1 FROM customer n WHERE n.user_id={next} AND n.alias IS NULL)"
                ),
            ),
            false => (
                format!("INSERT IGNORE INTO {columns} SELECT {values} FROM DUAL WHERE {{alive}}"),
                format!(
                    "UPDATE customer f JOIN customer n ON n.user_id={next} AND n.alias IS NULL \
                     SET f.alias=NULL WHERE f.user_id={former} AND f.alias={alias}"
                ),
            ),
        };
        let give =
            format!("UPDATE customer SET alias={alias} WHERE user_id={next} AND alias IS NULL");
        let done = self.guarded(own, &[insert, take, give]).await?;
        Ok(done.is_some())
    }

    /// Gives a user id this alias, unless it has one or the alias is taken. A customer who is not known yet gets a row, by this hash.
    ///
    /// # Errors
    /// When the database does not answer; it may be done once more.
    pub async fn give_alias(
        &self,
        user_id: &str,
        alias: &str,
        recipient_hash: u32,
    ) -> Result<(), DbError> {
        let insert = text(
            self,
            "INSERT {ignore} INTO customer (user_id, username, profile_name, recipient_hash, both_ms, seen_ms) \
             VALUES (?, '', '', ?, 0, 0)",
        );
        let update = "UPDATE customer SET alias=? WHERE user_id=? AND alias IS NULL";
        let given = on_pool!(self, pool => {
            sqlx::query(insert)
                .bind(user_id)
                .bind(i64::from(recipient_hash))
                .execute(&mut *pool)
                .await?;
            sqlx::query(update).bind(alias).bind(user_id).execute(pool).await.map(|_| ())
        });
        match given {
            Err(error) if !taken(&error) => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
