//! Users of the API and their tokens, both stored as hashes.
//! Checks no password: `webapp/auth.rs` does, off the async threads.

use std::time::Duration;

use super::{Db, DbError, number, on_pool, text};

/// How long a token is good.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

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

    /// Deletes a user and its tokens. False: no such user.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn delete_user(&self, username: &str) -> Result<bool, DbError> {
        let rows = on_pool!(self, pool => {
            sqlx::query("DELETE FROM token WHERE username=?").bind(username).execute(&mut *pool).await?;
            let done = sqlx::query("DELETE FROM user_account WHERE username=?").bind(username).execute(pool).await?;
            done.rows_affected()
        });
        Ok(rows > 0)
    }

    /// Stores a token's hash for `valid_ms` from now, by the database's clock.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn store_token(
        &self,
        token_hash: &str,
        username: &str,
        valid_ms: u64,
    ) -> Result<(), DbError> {
        let sql = text(
            self,
            "INSERT INTO token (token_hash, username, expires_ms) VALUES (?,?,{now}+?)",
        );
        on_pool!(self, pool => {
            sqlx::query(sql).bind(token_hash).bind(username).bind(number(valid_ms)).execute(pool).await.map(|_| ())?
        });
        Ok(())
    }

    /// The user of a token that has not expired, and whether it is the administrator.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn token_user(&self, token_hash: &str) -> Result<Option<(String, bool)>, DbError> {
        let int = if self.embedded() { "INTEGER" } else { "SIGNED" };
        let sql = text(
            self,
            &format!(
                "SELECT u.username, CAST(u.admin AS {int}) FROM token t JOIN user_account u ON u.username=t.username \
                 WHERE t.token_hash=? AND t.expires_ms>{{now}}"
            ),
        );
        let row: Option<(String, i64)> = on_pool!(self, pool => sqlx::query_as(sql).bind(token_hash).fetch_optional(pool).await?);
        Ok(row.map(|(username, admin)| (username, admin != 0)))
    }

    /// Deletes expired tokens, at most `limit` of them. One that is good for longer than any token is, because the database's clock was set back, has
    /// the time of a new one from now on.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_tokens(&self, limit: u32) -> Result<u64, DbError> {
        let delete = match self.embedded() {
            true => {
                "DELETE FROM token WHERE token_hash IN \
                 (SELECT token_hash FROM token WHERE expires_ms<={now} LIMIT ?)"
            }
            false => "DELETE FROM token WHERE expires_ms<={now} LIMIT ?",
        };
        let delete = text(self, delete);
        let bound = text(
            self,
            "UPDATE token SET expires_ms={now}+? WHERE expires_ms>{now}+?",
        );
        let longest = i64::try_from(TOKEN_LIFETIME.as_millis()).unwrap_or(i64::MAX);
        Ok(on_pool!(self, pool => {
            sqlx::query(bound).bind(longest).bind(longest).execute(&mut *pool).await?;
            sqlx::query(delete).bind(i64::from(limit)).execute(pool).await?.rows_affected()
        }))
    }

    /// Forgets a token.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn revoke_token(&self, token_hash: &str) -> Result<(), DbError> {
        on_pool!(self, pool => sqlx::query("DELETE FROM token WHERE token_hash=?").bind(token_hash).execute(pool).await.map(|_| ())?);
        Ok(())
    }
}
