//! The account's templates as the upstream listed them, by name and language: state, and what a message must fill.
//! A copy that can be read anew at any time; nothing is decided here.

use wa_core::id::Ownership;

use super::{Db, DbError, number, on_pool, text, unsigned};
use crate::api::cloud::template::verdict::Known;
use crate::api::cloud::template::{Entry, Shape};

/// Longest name, language and state, in characters: what the columns take. What is longer is left out.
const NAME_LEN_MAX: usize = 512;
const LANGUAGE_LEN_MAX: usize = 32;
const STATUS_LEN_MAX: usize = 64;
/// Rows a commit.
const ROWS_MAX: usize = 50;

#[derive(sqlx::FromRow)]
struct Row {
    name: String,
    language: String,
    status: String,
    shape: String,
    age_ms: i64,
}

/// A template, for people: its name and how it stands, and nothing of what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub language: String,
    pub status: String,
    /// Since it was read; `None`: something told of a change since.
    pub age_ms: Option<u64>,
}

impl Db {
    /// Templates for people: those that cannot be used first, then by name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn listed_templates(&self, limit: u32) -> Result<Vec<Listed>, DbError> {
        let sql = text(
            self,
            "SELECT name, language, status, read_ms, {now}-read_ms FROM template \
             ORDER BY CASE WHEN status='APPROVED' THEN 1 ELSE 0 END, name, language LIMIT ?",
        );
        let rows: Vec<(String, String, String, i64, i64)> = on_pool!(self, pool => sqlx::query_as(sql).bind(i64::from(limit)).fetch_all(pool).await?);
        let listed = rows
            .into_iter()
            .map(|(name, language, status, read_ms, age)| Listed {
                name,
                language,
                status,
                age_ms: (read_ms > 0).then_some(unsigned(age)),
            });
        Ok(listed.collect())
    }

    /// How many templates there are in each state.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn template_states(&self) -> Result<Vec<(String, u64)>, DbError> {
        let sql = "SELECT status, COUNT(*) FROM template GROUP BY status ORDER BY status";
        let rows: Vec<(String, i64)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        let counts = rows.into_iter();
        Ok(counts
            .map(|(status, count)| (status, unsigned(count)))
            .collect())
    }

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
                // The clock was set back since: of no age that says anything. What is in doubt has a negative time, and so is of
                // an age that no limit allows.
                age_ms: u64::try_from(row.age_ms).unwrap_or(u64::MAX),
            })
        });
        Ok(known.collect())
    }

    /// Writes what was read just now. False: stale, nothing of the part in hand was done.
    ///
    /// # Errors
    /// When the database does not answer: what is written is unknown then, and reading the list again makes it right.
    pub async fn store_templates(
        &self,
        own: &Ownership,
        entries: &[Entry],
    ) -> Result<bool, DbError> {
        for part in self.replacements(entries).chunks(ROWS_MAX) {
            if self.guarded(own, part).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A statement for each entry that fits into its columns.
    fn replacements(&self, entries: &[Entry]) -> Vec<String> {
        let fits = |entry: &&Entry| {
            entry.name.chars().count() <= NAME_LEN_MAX
                && entry.language.chars().count() <= LANGUAGE_LEN_MAX
                && entry.status.chars().count() <= STATUS_LEN_MAX
        };
        let alive = match self.embedded() {
            true => "",
            false => " FROM DUAL WHERE {alive}",
        };
        let statement = |entry: &Entry| {
            let shape = serde_json::to_string(&entry.shape).expect("plain data is JSON");
            let values = [&entry.name, &entry.language, &entry.status, &shape];
            let values = values.map(|value| self.quote(value)).join(",");
            format!(
                "REPLACE INTO template (name, language, status, shape, read_ms) SELECT {values},{}{alive}",
                self.now_sql()
            )
        };
        entries.iter().filter(fits).map(statement).collect()
    }

    /// Removes what was last read before this time, by the database's clock: of one name, or of all. Returns how many; `None`:
    /// stale, nothing was done.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_templates(
        &self,
        own: &Ownership,
        name: Option<&str>,
        before_ms: u64,
    ) -> Result<Option<u64>, DbError> {
        let of = name.map_or(String::new(), |name| {
            format!(" AND name={}", self.quote(name))
        });
        let before = number(before_ms);
        let delete = format!("DELETE FROM template WHERE ABS(read_ms)<{before}{of}");
        let counts = self.guarded(own, &[delete]).await?;
        Ok(counts.map(|counts| counts.iter().sum()))
    }

    /// Marks what is known of these names as not fresh, in all languages. Every webapp may: it makes knowledge older and never
    /// newer, whoever owns what, and so needs no guard. Returns how many rows were fresh by their mark before.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn doubt_templates(&self, names: &[&str]) -> Result<u64, DbError> {
        let mut marked = 0;
        for part in names.chunks(ROWS_MAX) {
            let places = vec!["?"; part.len()].join(",");
            // The sign is the mark: what goes because it was not read again is told by the time, which stays.
            let sql = format!(
                "UPDATE template SET read_ms=-read_ms WHERE read_ms>0 AND name IN ({places})"
            );
            let sql = text(self, &sql);
            marked += on_pool!(self, pool => {
                let mut query = sqlx::query(sql);
                for name in part {
                    query = query.bind(*name);
                }
                query.execute(pool).await?.rows_affected()
            });
        }
        Ok(marked)
    }

    /// Writes what was read just now, for tests that own no shard.
    #[cfg(test)]
    pub(crate) async fn seed_templates(&self, entries: &[Entry]) {
        for statement in self.replacements(entries) {
            let sql = statement.replace("{alive}", "1=1");
            let seeded = async {
                let sql = sqlx::AssertSqlSafe(sql);
                on_pool!(self, pool => sqlx::raw_sql(sql).execute(pool).await.map(|_| ())?);
                Ok::<_, DbError>(())
            };
            seeded.await.expect("seeded");
        }
    }
}
