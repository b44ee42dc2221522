//! Users of the API, with the hashes of their passwords. Their tokens are in `token.rs`.
//! Checks no password: `webapp/auth.rs` does, off the async threads.

use super::{Db, DbError, on_pool, text};

/// A user as stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct User {
    pub username: String,
    pub password_hash: String,
    pub admin: i64,
    /// The password is the one that the product came with.
    pub must_change: i64,
}

impl Db {
    /// One user.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn user(&self, username: &str) -> Result<Option<User>, DbError> {
        let int = if self.embedded() { "INTEGER" } else { "SIGNED" };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT username, password_hash, CAST(admin AS {int}) AS admin, CAST(must_change AS {int}) AS must_change \
             FROM user_account WHERE username=?"
        ));
        Ok(on_pool!(self, pool => sqlx::query_as(sql).bind(username).fetch_optional(pool).await?))
    }

    /// Every user, by name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn users(&self) -> Result<Vec<User>, DbError> {
        let int = if self.embedded() { "INTEGER" } else { "SIGNED" };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT username, password_hash, CAST(admin AS {int}) AS admin, CAST(must_change AS {int}) AS must_change \
             FROM user_account ORDER BY username"
        ));
        Ok(on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?))
    }

    /// Creates a user. False: the name is taken.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn create_user(&self, user: &User) -> Result<bool, DbError> {
        let sql = text(
            self,
            "INSERT {ignore} INTO user_account (username, password_hash, admin, must_change) VALUES (?,?,?,?)",
        );
        let rows = on_pool!(self, pool => {
            sqlx::query(sql)
                .bind(user.username.as_str())
                .bind(user.password_hash.as_str())
                .bind(user.admin)
                .bind(user.must_change)
                .execute(pool)
                .await?
                .rows_affected()
        });
        Ok(rows > 0)
    }

    /// Sets a password. False: no such user.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn set_password(&self, username: &str, password_hash: &str) -> Result<bool, DbError> {
        let sql = "UPDATE user_account SET password_hash=?, must_change=0 WHERE username=?";
        let rows = on_pool!(self, pool => {
            sqlx::query(sql).bind(password_hash).bind(username).execute(pool).await?.rows_affected()
        });
        Ok(rows > 0)
    }

    /// Puts this password in the place of the first one, if nobody has logged in with that.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn choose_first_password(
        &self,
        username: &str,
        password_hash: &str,
    ) -> Result<bool, DbError> {
        let sql = "UPDATE user_account SET password_hash=?, must_change=0 WHERE username=? AND must_change=1";
        let rows = on_pool!(self, pool => {
            sqlx::query(sql).bind(password_hash).bind(username).execute(pool).await?.rows_affected()
        });
        Ok(rows > 0)
    }

    /// Deletes a user and its tokens. False: no such user.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn delete_user(&self, username: &str) -> Result<bool, DbError> {
        // The user first: what is left behind by a break in between counts for nobody.
        let rows = on_pool!(self, pool => {
            let done = sqlx::query("DELETE FROM user_account WHERE username=?").bind(username).execute(&mut *pool).await?;
            sqlx::query("DELETE FROM token WHERE username=?").bind(username).execute(pool).await?;
            done.rows_affected()
        });
        Ok(rows > 0)
    }
}
