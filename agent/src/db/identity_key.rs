//! The identity keys of customers: the hash that came last with a message, since when it is that, and whether the business has
//! acknowledged it. Decides nothing: `wa_core::identity` does.

use std::collections::HashMap;

use wa_core::identity::Standing;

use super::{Db, DbError, number, on_pool, unsigned};
use crate::api::v1::who::{Recipient, is_user_id};

/// Longest hash that is kept, in bytes.
pub const HASH_LEN_MAX: usize = 256;
/// Longest address, in bytes.
pub const ADDRESS_LEN_MAX: usize = 160;

/// A customer's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityKey {
    /// The customer's number, or user id where no number is known.
    pub address: String,
    pub hash: String,
    /// When the event came that told it first, by the database's clock, in ms.
    pub changed_ms: u64,
    pub standing: Standing,
}

/// A customer's key, where it is kept by more than one address: the one that came last.
pub fn newest<'a>(keys: impl IntoIterator<Item = &'a IdentityKey>) -> Option<&'a IdentityKey> {
    let keys = keys.into_iter();
    keys.max_by_key(|key| (key.changed_ms, !is_user_id(&key.address)))
}

impl Db {
    /// The keys of these addresses, as far as any are known.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn identity_keys(
        &self,
        addresses: &[&str],
    ) -> Result<HashMap<String, IdentityKey>, DbError> {
        if addresses.is_empty() {
            return Ok(HashMap::new());
        }
        let quoted: Vec<String> = addresses.iter().map(|a| self.quote(a)).collect();
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT address, hash, changed_ms, CAST(acknowledged AS {int}) FROM identity_key WHERE address IN ({})",
            quoted.join(","),
            int = self.int()
        ));
        let rows: Vec<(String, String, i64, i64)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        let keys = rows
            .into_iter()
            .map(|(address, hash, changed_ms, standing)| IdentityKey {
                address,
                hash,
                changed_ms: unsigned(changed_ms),
                standing: Standing::of(standing),
            });
        Ok(keys.map(|key| (key.address.clone(), key)).collect())
    }

    /// The key of a customer, whichever of its addresses is named: a number also in the upstream's spelling and by its user id, a
    /// user id also by its number.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn key_of(&self, named: &Recipient) -> Result<Option<IdentityKey>, DbError> {
        let addresses = self.addresses_of(named).await?;
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let keys = self.identity_keys(&addresses).await?;
        Ok(newest(keys.values()).cloned())
    }

    /// The addresses by which a customer's key may be kept.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn addresses_of(&self, named: &Recipient) -> Result<Vec<String>, DbError> {
        if let Some(alias) = named.alias() {
            let Some(user_id) = self.user_of_alias(alias).await? else {
                return Ok(Vec::new());
            };
            let number = self.number_of(&user_id).await?.map(|(number, _)| number);
            return Ok([Some(user_id), number].into_iter().flatten().collect());
        }
        let others = match named {
            Recipient::Phone(number) | Recipient::International(number) => {
                let spelt = self.routes(&[number]).await?.remove(number);
                let spelling = spelt.and_then(|route| route.spelling);
                let own = spelling.as_deref().unwrap_or(number);
                let customer = self.customer_of_number(own).await?;
                [spelling, customer.map(|customer| customer.user_id)]
            }
            Recipient::User(user_id) => {
                let number = self.number_of(user_id).await?;
                [number.map(|(number, _)| number), None]
            }
        };
        let own = std::iter::once(named.as_str().to_owned());
        Ok(own.chain(others.into_iter().flatten()).collect())
    }

    /// Writes keys that came with messages, each address at most once. No owner's write: a row takes only what is not older than
    /// it, whoever writes it.
    ///
    /// # Errors
    /// When the database does not answer; it may be done once more.
    pub async fn write_identity_keys(&self, keys: &[IdentityKey]) -> Result<(), DbError> {
        if keys.is_empty() {
            return Ok(());
        }
        let row = |key: &IdentityKey| {
            format!(
                "({},{},{at},{},{at})",
                self.quote(&key.address),
                self.quote(&key.hash),
                key.standing as u8,
                at = number(key.changed_ms)
            )
        };
        let rows: Vec<String> = keys.iter().map(row).collect();
        // The moment comes last: MySQL assigns one after the other, and each looks at it.
        let columns = ["hash", "changed_ms", "acknowledged", "seen_ms"];
        let update = match self.embedded() {
            true => {
                let set = columns.map(|column| format!("{column}=excluded.{column}"));
                format!(
                    "ON CONFLICT(address) DO UPDATE SET {} WHERE excluded.seen_ms>identity_key.seen_ms",
                    set.join(", ")
                )
            }
            false => {
                let set = columns.map(|column| {
                    format!("{column}=IF(VALUES(seen_ms)>seen_ms, VALUES({column}), {column})")
                });
                format!("ON DUPLICATE KEY UPDATE {}", set.join(", "))
            }
        };
        let sql = sqlx::AssertSqlSafe(format!(
            "INSERT INTO identity_key (address, hash, changed_ms, acknowledged, seen_ms) VALUES {} {update}",
            rows.join(",")
        ));
        on_pool!(self, pool => sqlx::raw_sql(sql).execute(pool).await.map(|_| ())?);
        Ok(())
    }

    /// Deletes keys of customers that are kept by other addresses now, each up to a moment.
    ///
    /// # Errors
    /// When the database does not answer; it may be done once more.
    pub async fn forget_identity_keys(&self, until: &[(String, u64)]) -> Result<(), DbError> {
        if until.is_empty() {
            return Ok(());
        }
        let quoted: Vec<String> = until.iter().map(|(a, _)| self.quote(a)).collect();
        let each = quoted.iter().zip(until);
        let each = each.map(|(a, (_, ms))| format!("(address={a} AND seen_ms<={})", number(*ms)));
        let each: Vec<String> = each.collect();
        let sql = sqlx::AssertSqlSafe(format!(
            "DELETE FROM identity_key WHERE address IN ({}) AND ({})",
            quoted.join(","),
            each.join(" OR ")
        ));
        on_pool!(self, pool => sqlx::raw_sql(sql).execute(pool).await.map(|_| ())?);
        Ok(())
    }

    /// The business acknowledges this key of a customer, who has these addresses. False: it is not the customer's key.
    ///
    /// # Errors
    /// When the database does not answer; it may be done once more.
    pub async fn acknowledge_identity(
        &self,
        addresses: &[&str],
        hash: &str,
    ) -> Result<bool, DbError> {
        let quoted: Vec<String> = addresses.iter().map(|a| self.quote(a)).collect();
        let update = sqlx::AssertSqlSafe(format!(
            "UPDATE identity_key SET acknowledged={} WHERE hash={} AND address IN ({})",
            Standing::Acknowledged as u8,
            self.quote(hash),
            quoted.join(",")
        ));
        on_pool!(self, pool => sqlx::raw_sql(update).execute(pool).await.map(|_| ())?);
        // A row that was acknowledged before did not change.
        let keys = self.identity_keys(addresses).await?;
        let done = |key: &IdentityKey| key.hash == hash && key.standing == Standing::Acknowledged;
        Ok(newest(keys.values()).is_some_and(done))
    }
}
