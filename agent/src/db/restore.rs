//! Settings and users of a backup, written in one transaction.
//! Checks nothing of what it writes: `member/backup.rs` did.

use super::user::User;
use super::{Db, DbError, guard};

/// The row that says when a backup was restored, for people.
const RESTORED: &str = "restored";

/// What a restore writes.
#[derive(Debug, Default)]
pub struct Restored {
    /// Rows of `setting` by name, whole.
    pub rows: Vec<(String, String)>,
    /// Every user there is to be.
    pub users: Vec<User>,
    /// The user who asked: the row and the tokens stay.
    pub keep: String,
}

impl Db {
    /// Writes these rows and exactly these users, all or nothing. Tokens of users who are new, changed or gone are dropped.
    ///
    /// # Errors
    /// When the database does not answer; then it may have been done, and doing it again does the same.
    pub async fn restore(&self, restored: &Restored) -> Result<(), DbError> {
        let statements = self.restoring(restored);
        match self {
            Self::Sqlite(pool) => {
                let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
                for statement in statements {
                    sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
                        .execute(&mut *tx)
                        .await?;
                }
                tx.commit().await?;
            }
            Self::MySql(hosts) => {
                // One packet: a client that freezes in the middle holds no lock.
                let packet = format!("START TRANSACTION;{};COMMIT", statements.join(";"));
                guard::run_packet(hosts, &packet).await?;
            }
        }
        Ok(())
    }

    /// The first of them always writes a row: by that a Galera cluster tells whether the transaction was committed.
    fn restoring(&self, restored: &Restored) -> Vec<String> {
        let ignore = match self.embedded() {
            true => "OR IGNORE",
            false => "IGNORE",
        };
        let quote = |text: &str| self.quote(text);
        let (keep, now) = (quote(&restored.keep), self.now_sql());
        let mut statements = vec![format!(
            "REPLACE INTO setting (name, version, value) VALUES ({}, {now}, '{{}}')",
            quote(RESTORED)
        )];
        for (name, value) in &restored.rows {
            let (name, value) = (quote(name), quote(value));
            statements.push(format!(
                "INSERT {ignore} INTO setting (name, version, value) VALUES ({name}, 0, '{{}}')"
            ));
            statements.push(format!(
                "UPDATE setting SET value={value}, version=version+1 WHERE name={name}"
            ));
        }
        let others = || {
            let users = restored.users.iter();
            users.filter(|user| user.username != restored.keep)
        };
        let names = others().map(|user| quote(&user.username));
        let names: Vec<String> = names.chain([keep]).collect();
        let names = names.join(",");
        for user in others() {
            let (name, hash) = (quote(&user.username), quote(&user.password_hash));
            statements.push(format!(
                "DELETE FROM token WHERE username={name} AND NOT EXISTS (SELECT 1 FROM user_account u WHERE u.username={name} \
                 AND u.password_hash={hash} AND u.admin={} AND u.must_change={})",
                user.admin, user.must_change
            ));
            // Whoever was there stays the same user, by its id: a token that was not ended above goes on.
            statements.push(format!(
                "INSERT {ignore} INTO user_account (username, password_hash, admin, must_change) VALUES ({name}, {hash}, {}, {})",
                user.admin, user.must_change
            ));
            statements.push(format!(
                "UPDATE user_account SET password_hash={hash}, admin={}, must_change={} WHERE username={name}",
                user.admin, user.must_change
            ));
        }
        statements.push(format!("DELETE FROM token WHERE username NOT IN ({names})"));
        statements.push(format!(
            "DELETE FROM user_account WHERE username NOT IN ({names})"
        ));
        statements
    }
}
