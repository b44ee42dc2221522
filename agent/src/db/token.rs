//! Tokens of users, stored as hashes: made, asked for, listed, ended. A token belongs to its user's id, so that a user who is
//! made anew under an old name has none of the old one's.
//! Knows no token itself: nobody can make one from what is stored.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::user::User;
use super::{Db, DbError, number, on_pool, text, unsigned};
use crate::sys::state::random_u64;

/// How long a token is good.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// So many tokens a user may have. The one that was not used for the longest time ends when there are more.
pub const TOKENS_MAX: u32 = 1000;
/// So many of them end with one login, so that none takes long: older releases made them without a limit.
const ENDED_AT_ONCE: u32 = 1000;
/// Characters of the stored hash that are shown: they tell tokens apart, and nobody can log in with them.
pub const FINGERPRINT_LEN: usize = 12;

/// The user of a token that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub username: String,
    pub admin: bool,
    /// For so long it is good.
    pub left_ms: u64,
    /// For so long nobody wrote down that it was used.
    pub unused_ms: u64,
}

/// A token, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The first characters of its hash.
    pub fingerprint: String,
    pub username: String,
    /// Milliseconds since 1970 by the database's clock.
    pub made_ms: u64,
    pub expires_ms: u64,
    /// To the minute; 0: not known.
    pub used_ms: u64,
}

/// Of the user that it was made for, and of no other one of the same name. Releases before wrote no id.
const OF_ITS_USER: &str =
    "JOIN user_account u ON u.username=t.username AND t.user_id IN (0, u.user_id)";

impl Db {
    /// Stores a token's hash for `valid_ms` from now, by the database's clock, and ends those that are too many for the user.
    /// False: the user is not there any more, or its password is another one by now; nothing is stored.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn store_token(
        &self,
        token_hash: &str,
        user: &User,
        valid_ms: u64,
    ) -> Result<bool, DbError> {
        // 0 is nobody's.
        let id = number((random_u64() >> 1) | 1);
        let named = "UPDATE user_account SET user_id=? WHERE username=? AND user_id=0";
        let store = text(
            self,
            "INSERT INTO token (token_hash, username, expires_ms, user_id, used_ms) \
             SELECT ?, username, {now}+?, user_id, {now} FROM user_account WHERE username=? AND password_hash=?",
        );
        let name = user.username.as_str();
        let stored = on_pool!(self, pool => {
            sqlx::query(named).bind(id).bind(name).execute(&mut *pool).await?;
            sqlx::query(store)
                .bind(token_hash)
                .bind(number(valid_ms))
                .bind(name)
                .bind(user.password_hash.as_str())
                .execute(pool)
                .await?
                .rows_affected()
        });
        self.end_tokens_beyond(name, TOKENS_MAX).await?;
        Ok(stored > 0)
    }

    /// Ends the tokens of a user that were not used for the longest time, until at most `most` are left. Those that were used in
    /// the same moment as the last one stay.
    async fn end_tokens_beyond(&self, username: &str, most: u32) -> Result<(), DbError> {
        let last =
            "SELECT used_ms FROM token WHERE username=? ORDER BY used_ms DESC LIMIT 1 OFFSET ?";
        let old = format!("username=? AND used_ms<? LIMIT {ENDED_AT_ONCE}");
        let end = sqlx::AssertSqlSafe(match self.embedded() {
            true => format!(
                "DELETE FROM token WHERE token_hash IN (SELECT token_hash FROM token WHERE {old})"
            ),
            false => format!("DELETE FROM token WHERE {old}"),
        });
        on_pool!(self, pool => {
            let last: Option<(i64,)> = sqlx::query_as(last)
                .bind(username)
                .bind(i64::from(most.saturating_sub(1)))
                .fetch_optional(&mut *pool)
                .await?;
            if let Some((used_ms,)) = last {
                sqlx::query(end).bind(username).bind(used_ms).execute(pool).await?;
            }
        });
        Ok(())
    }

    /// The user of a token that has not expired.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn token_user(&self, token_hash: &str) -> Result<Option<Holder>, DbError> {
        let int = self.int();
        let sql = text(
            self,
            &format!(
                "SELECT u.username, CAST(u.admin AS {int}), t.expires_ms-{{now}}, {{now}}-t.used_ms FROM token t {OF_ITS_USER} \
                 WHERE t.token_hash=? AND t.expires_ms>{{now}}"
            ),
        );
        let row: Option<(String, i64, i64, i64)> = on_pool!(self, pool => sqlx::query_as(sql).bind(token_hash).fetch_optional(pool).await?);
        Ok(row.map(|(username, admin, left, unused)| Holder {
            username,
            admin: admin != 0,
            left_ms: unsigned(left),
            unused_ms: unsigned(unused),
        }))
    }

    /// Writes down that a token was used now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn token_used(&self, token_hash: &str) -> Result<(), DbError> {
        let sql = text(self, "UPDATE token SET used_ms={now} WHERE token_hash=?");
        on_pool!(self, pool => sqlx::query(sql).bind(token_hash).execute(pool).await.map(|_| ())?);
        Ok(())
    }

    /// Tokens that are good, of one user or of all: by name, those used last first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tokens(&self, username: Option<&str>, limit: u32) -> Result<Vec<Shown>, DbError> {
        let of = username.map_or(String::new(), |name| {
            format!(" AND t.username={}", self.quote(name))
        });
        let sql = text(
            self,
            &format!(
                "SELECT SUBSTR(t.token_hash, 1, {FINGERPRINT_LEN}), t.username, t.expires_ms, t.used_ms FROM token t {OF_ITS_USER} \
                 WHERE t.expires_ms>{{now}}{of} ORDER BY t.username, t.used_ms DESC LIMIT {limit}"
            ),
        );
        let rows: Vec<(String, String, i64, i64)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        let lifetime = u64::try_from(TOKEN_LIFETIME.as_millis()).unwrap_or(u64::MAX);
        let shown = rows
            .into_iter()
            .map(|(fingerprint, username, expires, used)| Shown {
                fingerprint,
                username,
                made_ms: unsigned(expires).saturating_sub(lifetime),
                expires_ms: unsigned(expires),
                used_ms: unsigned(used),
            });
        Ok(shown.collect())
    }

    /// How many tokens each user has that are good, by name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn token_counts(&self) -> Result<Vec<(String, u64)>, DbError> {
        let sql = text(
            self,
            &format!(
                "SELECT t.username, COUNT(*) FROM token t {OF_ITS_USER} WHERE t.expires_ms>{{now}} GROUP BY t.username"
            ),
        );
        let rows: Vec<(String, i64)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        Ok(rows
            .into_iter()
            .map(|(name, count)| (name, unsigned(count)))
            .collect())
    }

    /// Ends the tokens of a user: all, or the one with this fingerprint. How many there were.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn revoke_tokens(
        &self,
        username: &str,
        fingerprint: Option<&str>,
    ) -> Result<u64, DbError> {
        let one = fingerprint.map_or(String::new(), |fingerprint| {
            let fingerprint = self.quote(fingerprint);
            format!(" AND SUBSTR(token_hash, 1, {FINGERPRINT_LEN})={fingerprint}")
        });
        let sql = sqlx::AssertSqlSafe(format!("DELETE FROM token WHERE username=?{one}"));
        Ok(
            on_pool!(self, pool => sqlx::query(sql).bind(username).execute(pool).await?.rows_affected()),
        )
    }

    /// Deletes expired tokens, at most `limit` of them. One that is good for longer than any token is, because the database's
    /// clock was set back, has the time of a new one from now on.
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
