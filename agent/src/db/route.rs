//! Routes: which customer an address belongs to, where the upstream spells a number otherwise than we do. The customer's hash
//! decides shard and order; an address without a row is its own customer. User ids have their rows in `customer.rs`.
//! Guesses no spelling: the upstream's answer to a send is the only source.

use std::collections::{HashMap, HashSet};

use super::{Db, DbError, on_pool};
use crate::api::v1::who::is_user_id;

/// Longest spelling that is kept, in bytes.
pub const SPELLING_LEN_MAX: usize = 32;

/// The upstream's word that two addresses are one customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The number of our message, as it was typed: digits.
    pub typed: String,
    /// The same number in the upstream's spelling: digits.
    pub spelling: String,
    /// The customer's hash, which both have from now on.
    pub recipient_hash: u32,
}

/// What is known of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub recipient_hash: u32,
    /// The upstream's spelling; `None`: the address is that spelling.
    pub spelling: Option<String>,
}

impl Db {
    /// Whether any address has a route of another one.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn any_route(&self) -> Result<bool, DbError> {
        let found: Option<(i64,)> = on_pool!(self, pool => {
            sqlx::query_as("SELECT 1 FROM route LIMIT 1").fetch_optional(pool).await?
        });
        Ok(found.is_some())
    }

    /// What is known of these addresses; those without a row are their own customers.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn routes(&self, addresses: &[&str]) -> Result<HashMap<String, Route>, DbError> {
        if addresses.is_empty() {
            return Ok(HashMap::new());
        }
        let (users, numbers): (Vec<&&str>, Vec<&&str>) =
            addresses.iter().partition(|address| is_user_id(address));
        let int = self.int();
        let of = |table: &str, address: &str, spelling: &str, some: &[&&str]| {
            let quoted: Vec<String> = some.iter().map(|a| self.quote(a)).collect();
            (!some.is_empty()).then(|| {
                format!(
                    "SELECT {address}, CAST(recipient_hash AS {int}), {spelling} FROM {table} WHERE {address} IN ({})",
                    quoted.join(",")
                )
            })
        };
        let none = self.quote("");
        let parts = [
            of("route", "address", "spelling", &numbers),
            of("customer", "user_id", &none, &users),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let sql = sqlx::AssertSqlSafe(parts.join(" UNION ALL "));
        let rows: Vec<(String, i64, String)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        let route = |hash: i64, spelling: String| Route {
            recipient_hash: u32::try_from(hash).unwrap_or(0),
            spelling: (!spelling.is_empty()).then_some(spelling),
        };
        let rows = rows.into_iter();
        Ok(rows
            .map(|(address, hash, spelling)| (address, route(hash, spelling)))
            .collect())
    }

    /// By the upstream's spelling: the other number whose message the upstream was first to answer with this spelling. A message that
    /// was sent to the spelling itself leaves no row, and none means that the spelling is told.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn written_first(
        &self,
        spellings: &[&str],
    ) -> Result<HashMap<String, String>, DbError> {
        if spellings.is_empty() {
            return Ok(HashMap::new());
        }
        let quoted: Vec<String> = spellings.iter().map(|s| self.quote(s)).collect();
        // The last of a spelling stays in the map: the oldest.
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT spelling, address FROM route WHERE spelling IN ({}) ORDER BY at_ms DESC, address DESC",
            quoted.join(",")
        ));
        let rows: Vec<(String, String)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        Ok(rows.into_iter().collect())
    }

    /// Those of these numbers that the upstream itself told: beside a user id, or as its spelling of a number.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn told_numbers(&self, numbers: &[&str]) -> Result<HashSet<String>, DbError> {
        if numbers.is_empty() {
            return Ok(HashSet::new());
        }
        let quoted: Vec<String> = numbers.iter().map(|number| self.quote(number)).collect();
        let (numbers, none) = (quoted.join(","), self.quote(""));
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT wa_id FROM customer WHERE wa_id IN ({numbers}) \
             UNION ALL SELECT address FROM route WHERE address IN ({numbers}) AND spelling={none}"
        ));
        let rows: Vec<(String,)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        Ok(rows.into_iter().map(|(number,)| number).collect())
    }

    /// A statement under the guard: both addresses lead to one customer. A route that an address has already never changes.
    pub(super) fn link_statement(&self, link: &Link) -> String {
        let (typed, spelling) = (self.quote(&link.typed), self.quote(&link.spelling));
        let (hash, now) = (link.recipient_hash, self.now_sql());
        let none = self.quote("");
        let (ignore, from, alive) = match self.embedded() {
            true => ("OR IGNORE", "", ""),
            false => ("IGNORE", " FROM DUAL", " WHERE {alive}"),
        };
        format!(
            "INSERT {ignore} INTO route (address, recipient_hash, spelling, at_ms) \
             SELECT {typed}, {hash}, {spelling}, {now}{from}{alive} \
             UNION ALL SELECT {spelling}, {hash}, {none}, {now}{from}{alive}"
        )
    }
}
