//! Customers by the user id that the upstream gave us for each: number, names, route, and when the upstream told them.
//! Decides nothing: what an event says of them is read by `api/cloud/customer.rs`. Rows are never deleted: a customer whose number
//! is left out for a year is known by it.

use std::collections::HashMap;

use super::{Db, DbError, number, on_pool, text, unsigned};
use crate::api::cloud::customer::Known;

/// What is known of a customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    pub user_id: String,
    pub known: Known,
    /// The customer's hash: decides shard and order.
    pub recipient_hash: u32,
}

/// A number that is only remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    pub number: String,
    pub user_id: String,
    /// How long ago one webhook carried both, in ms.
    pub together_ago_ms: u64,
}

type RememberedRow = (String, String, i64);
const REMEMBERED: &str = "SELECT remembered, user_id, {now}-both_ms FROM customer";

fn remembered((number, user_id, ago): RememberedRow) -> Remembered {
    Remembered {
        number,
        user_id,
        together_ago_ms: unsigned(ago.max(0)),
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    user_id: String,
    wa_id: Option<String>,
    remembered: Option<String>,
    username: String,
    profile_name: String,
    recipient_hash: i64,
    both_ms: i64,
    seen_ms: i64,
}

impl From<Row> for Customer {
    fn from(row: Row) -> Self {
        Self {
            user_id: row.user_id,
            known: Known {
                wa_id: row.wa_id,
                remembered: row.remembered.is_some(),
                username: row.username,
                name: row.profile_name,
                both_ms: unsigned(row.both_ms),
                seen_ms: unsigned(row.seen_ms),
            },
            recipient_hash: u32::try_from(row.recipient_hash).unwrap_or(0),
        }
    }
}

/// Each number with one user id: its holder in the store, who was seen with it later, else the last of these.
fn living(customers: &[Customer], holders: HashMap<String, String>) -> Vec<Customer> {
    let mut living = holders;
    let mut last: Vec<&Customer> = customers.iter().collect();
    last.sort_by_key(|customer| std::cmp::Reverse(customer.known.seen_ms));
    for customer in last {
        if let Some(number) = &customer.known.wa_id {
            let holder = living.entry(number.clone());
            holder.or_insert_with(|| customer.user_id.clone());
        }
    }
    let own = |customer: &Customer| {
        let holder = living.get(customer.known.wa_id.as_ref()?)?;
        (*holder == customer.user_id).then(|| customer.clone())
    };
    let lost = |customer: &Customer| Customer {
        known: customer.known.lost(),
        ..customer.clone()
    };
    let rows = customers.iter();
    rows.map(|customer| own(customer).unwrap_or_else(|| lost(customer)))
        .collect()
}

impl Db {
    fn texts(&self, texts: &[&str]) -> String {
        let quoted: Vec<String> = texts.iter().map(|text| self.quote(text)).collect();
        quoted.join(",")
    }

    async fn customers_where(&self, condition: &str) -> Result<Vec<Customer>, DbError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT user_id, wa_id, remembered, username, profile_name, CAST(recipient_hash AS {int}) AS recipient_hash, \
             both_ms, seen_ms FROM customer WHERE {condition}",
            int = self.int()
        ));
        let rows: Vec<Row> = on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        Ok(rows.into_iter().map(Customer::from).collect())
    }

    /// What is known of these user ids.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn customers(&self, user_ids: &[&str]) -> Result<HashMap<String, Customer>, DbError> {
        if user_ids.is_empty() {
            return Ok(HashMap::new());
        }
        let condition = format!("user_id IN ({})", self.texts(user_ids));
        let rows = self.customers_where(&condition).await?.into_iter();
        Ok(rows.map(|row| (row.user_id.clone(), row)).collect())
    }

    /// Whose number this is.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn customer_of_number(&self, wa_id: &str) -> Result<Option<Customer>, DbError> {
        let condition = format!("wa_id={}", self.quote(wa_id));
        let rows = self.customers_where(&condition).await?;
        Ok(rows.into_iter().next())
    }

    /// Numbers that the upstream does not tell any more, at most so many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn remembered_numbers(&self, limit: u32) -> Result<Vec<Remembered>, DbError> {
        let sql = text(
            self,
            &format!("{REMEMBERED} WHERE remembered>'' ORDER BY remembered LIMIT ?"),
        );
        let rows: Vec<RememberedRow> = on_pool!(self, pool => sqlx::query_as(sql).bind(i64::from(limit)).fetch_all(pool).await?);
        Ok(rows.into_iter().map(remembered).collect())
    }

    /// This number, if the upstream does not tell it any more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn remembered_number(&self, wa_id: &str) -> Result<Option<Remembered>, DbError> {
        let sql = text(self, &format!("{REMEMBERED} WHERE remembered=?"));
        let row: Option<RememberedRow> =
            on_pool!(self, pool => sqlx::query_as(sql).bind(wa_id).fetch_optional(pool).await?);
        Ok(row.map(remembered))
    }

    /// How long ago one webhook carried this user id and its number, in ms, and the number; `None`: no number is known.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn number_of(&self, user_id: &str) -> Result<Option<(String, u64)>, DbError> {
        let sql = text(
            self,
            "SELECT wa_id, {now}-both_ms FROM customer WHERE user_id=? AND wa_id IS NOT NULL",
        );
        let row: Option<(String, i64)> =
            on_pool!(self, pool => sqlx::query_as(sql).bind(user_id).fetch_optional(pool).await?);
        Ok(row.map(|(number, ago)| (number, unsigned(ago.max(0)))))
    }

    /// Writes what is known of customers, each user id at most once. No owner's write: a row takes only what is not older than it,
    /// whoever writes it, so that two owners end alike. A number that another user id was seen with later is left out. A customer's
    /// hash stays as it is.
    ///
    /// # Errors
    /// When the database does not answer, or a number was given to another user id meanwhile; it may be done once more.
    pub async fn write_customers(&self, customers: &[Customer]) -> Result<(), DbError> {
        if customers.is_empty() {
            return Ok(());
        }
        let numbers = customers.iter().filter_map(|c| c.known.wa_id.as_deref());
        let numbers: Vec<&str> = numbers.collect();
        let mut holders = HashMap::new();
        if !numbers.is_empty() {
            let sql = sqlx::AssertSqlSafe(self.free_numbers(customers, &numbers));
            on_pool!(self, pool => sqlx::raw_sql(sql).execute(pool).await.map(|_| ())?);
            let held = format!("wa_id IN ({})", self.texts(&numbers));
            let held = self.customers_where(&held).await?.into_iter();
            holders = held
                .filter_map(|c| Some((c.known.wa_id?, c.user_id)))
                .collect();
        }
        let sql = sqlx::AssertSqlSafe(self.upsert(&living(customers, holders)));
        on_pool!(self, pool => sqlx::raw_sql(sql).execute(pool).await.map(|_| ())?);
        Ok(())
    }

    /// A number has one living user id: the one that was seen with it last.
    fn free_numbers(&self, customers: &[Customer], numbers: &[&str]) -> String {
        let taken = |customer: &Customer| {
            let wa_id = self.quote(customer.known.wa_id.as_ref()?);
            Some(format!(
                "(wa_id={wa_id} AND user_id<>{} AND seen_ms<={})",
                self.quote(&customer.user_id),
                number(customer.known.seen_ms)
            ))
        };
        let taken: Vec<String> = customers.iter().filter_map(taken).collect();
        // The list is what the index is asked for.
        format!(
            "UPDATE customer SET wa_id=NULL, remembered=NULL, both_ms=0 WHERE wa_id IN ({}) AND ({})",
            self.texts(numbers),
            taken.join(" OR ")
        )
    }

    fn upsert(&self, customers: &[Customer]) -> String {
        let row = |customer: &Customer| {
            let known = &customer.known;
            let wa_id = known.wa_id.as_ref().map(|number| self.quote(number));
            let wa_id = wa_id.unwrap_or_else(|| "NULL".to_owned());
            let remembered = if known.remembered { &wa_id } else { "NULL" };
            format!(
                "({},{wa_id},{remembered},{},{},{},{},{})",
                self.quote(&customer.user_id),
                self.quote(&known.username),
                self.quote(&known.name),
                customer.recipient_hash,
                number(known.both_ms),
                number(known.seen_ms)
            )
        };
        let rows: Vec<String> = customers.iter().map(row).collect();
        // The moment comes last: MySQL assigns one after the other, and each looks at it.
        let columns = [
            "wa_id",
            "remembered",
            "username",
            "profile_name",
            "both_ms",
            "seen_ms",
        ];
        let update = match self.embedded() {
            true => {
                let set = columns.map(|column| format!("{column}=excluded.{column}"));
                format!(
                    "ON CONFLICT(user_id) DO UPDATE SET {} WHERE excluded.seen_ms>=customer.seen_ms",
                    set.join(", ")
                )
            }
            false => {
                let set = columns.map(|column| {
                    format!(
                        "{column}=IF(user_id=VALUES(user_id) AND VALUES(seen_ms)>=seen_ms, VALUES({column}), {column})"
                    )
                });
                format!("ON DUPLICATE KEY UPDATE {}", set.join(", "))
            }
        };
        format!(
            "INSERT INTO customer (user_id, wa_id, remembered, username, profile_name, recipient_hash, both_ms, seen_ms) \
             VALUES {} {update}",
            rows.join(",")
        )
    }

    /// A customer who was first seen without a number goes the way of the number from now on, if nothing that went the old way is
    /// unsettled. False: not yet.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn merge_route(&self, user_id: &str, from: u32, to: u32) -> Result<bool, DbError> {
        let sql = "UPDATE customer SET recipient_hash=? WHERE user_id=? AND recipient_hash=? \
                   AND NOT EXISTS (SELECT 1 FROM message WHERE state<3 AND recipient_hash=?)";
        let from = i64::from(from);
        let changed = on_pool!(self, pool => {
            sqlx::query(sql)
                .bind(i64::from(to))
                .bind(user_id)
                .bind(from)
                .bind(from)
                .execute(pool)
                .await?
                .rows_affected()
        });
        Ok(changed > 0)
    }
}
