//! The account's templates as the upstream listed them, by name and language: state, and what a message must fill.
//! A copy that can be read anew at any time; nothing is decided here.

use super::{Db, DbError, number, on_pool, text};
use crate::api::cloud::template::verdict::Known;
use crate::api::cloud::template::{Entry, Shape};

/// Longest name, language and state, in characters: what the columns take. What is longer is left out.
const NAME_LEN_MAX: usize = 512;
const LANGUAGE_LEN_MAX: usize = 32;
const STATUS_LEN_MAX: usize = 64;
/// Rows a statement.
const ROWS_MAX: usize = 50;

#[derive(sqlx::FromRow)]
struct Row {
    name: String,
    language: String,
    status: String,
    shape: String,
    age_ms: i64,
}

impl Db {
    /// Templates of this name in all languages. One whose row a newer release wrote so that this one cannot read it is left out.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn templates(&self, name: &str) -> Result<Vec<Known>, DbError> {
        let sql = text(
            self,
            "SELECT name, language, status, shape, {now}-read_ms AS age_ms FROM template WHERE name=?",
        );
        let rows: Vec<Row> =
            on_pool!(self, pool => sqlx::query_as(sql).bind(name).fetch_all(pool).await?);
        let known = rows.into_iter().filter_map(|row| {
            let shape: Shape = serde_json::from_str(&row.shape).ok()?;
            Some(Known {
                entry: Entry {
                    name: row.name,
                    language: row.language,
                    status: row.status,
                    shape,
                },
                // The clock was set back since: of no age that says anything.
                age_ms: u64::try_from(row.age_ms).unwrap_or(u64::MAX),
            })
        });
        Ok(known.collect())
    }

    /// Writes what was read just now.
    ///
    /// # Errors
    /// When the database does not answer: what is written is unknown then, and reading the list again makes it right.
    pub async fn store_templates(&self, entries: &[Entry]) -> Result<(), DbError> {
        let fits = |entry: &&Entry| {
            entry.name.chars().count() <= NAME_LEN_MAX
                && entry.language.chars().count() <= LANGUAGE_LEN_MAX
                && entry.status.chars().count() <= STATUS_LEN_MAX
        };
        let entries: Vec<&Entry> = entries.iter().filter(fits).collect();
        for rows in entries.chunks(ROWS_MAX) {
            let places = vec!["(?,?,?,?,{now})"; rows.len()].join(",");
            let sql = text(
                self,
                &format!(
                    "REPLACE INTO template (name, language, status, shape, read_ms) VALUES {places}"
                ),
            );
            on_pool!(self, pool => {
                let mut query = sqlx::query(sql);
                for entry in rows {
                    let shape = serde_json::to_string(&entry.shape).expect("plain data is JSON");
                    query = query
                        .bind(entry.name.as_str())
                        .bind(entry.language.as_str())
                        .bind(entry.status.as_str())
                        .bind(shape);
                }
                query.execute(pool).await.map(|_| ())?
            });
        }
        Ok(())
    }

    /// Removes what was last read before this time, by the database's clock: of one name, or of all. Returns how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_templates(
        &self,
        name: Option<&str>,
        before_ms: u64,
    ) -> Result<u64, DbError> {
        let sql = match name {
            Some(_) => "DELETE FROM template WHERE read_ms<? AND name=?",
            None => "DELETE FROM template WHERE read_ms<?",
        };
        let rows = on_pool!(self, pool => {
            let query = sqlx::query(sql).bind(number(before_ms));
            let query = match name {
                Some(name) => query.bind(name),
                None => query,
            };
            query.execute(pool).await?.rows_affected()
        });
        Ok(rows)
    }
}
