//! Whose database this is: the cluster's name and its number, kept together in one settings row.
//! Decides nothing about leases: it keeps a second cluster from sharing a database, and tells a new machine where it is.

use serde::{Deserialize, Serialize};

use super::setting::Change;
use super::{Db, DbError};
use crate::config::Settings;

/// The settings row.
const ROW: &str = "cluster";
/// A node whose database beat is older is not at work: more than two beats.
const BEAT_AGE_MAX_MS: u64 = 150_000;

/// One cluster as its database knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// `[cluster] name`.
    pub name: String,
    /// The number that it sends from, as the app dashboard shows it; empty until it is configured.
    pub phone_number_id: String,
    /// The number itself in digits, where it is known.
    pub phone_number: String,
    /// Tells cluster keys apart and says nothing about them (`net::keys::prints`); empty in rows of older builds.
    pub key_print: String,
    /// `[timers] profile` of its masters: what a further machine gets. Empty in rows of older builds.
    pub profile: String,
    /// Where the own configuration is; not stored. Empty in development, where machines are made up.
    #[serde(skip)]
    pub machine: String,
}

impl Identity {
    /// The cluster that a configuration describes.
    pub fn of(settings: &Settings) -> Self {
        Self {
            name: settings.cluster_name.clone(),
            phone_number_id: settings.upstream.phone_number_id.clone(),
            phone_number: settings.upstream.phone_number.clone().unwrap_or_default(),
            key_print: String::new(),
            profile: settings.timers.profile.clone(),
            machine: if settings.development {
                String::new()
            } else {
                settings.machine.clone()
            },
        }
    }

    /// Why the two cannot share a database, if so. What one of them does not know is no contradiction.
    pub fn contradicts(&self, other: &Self) -> Option<String> {
        let differ = |a: &str, b: &str| !a.is_empty() && !b.is_empty() && a != b;
        if differ(&self.name, &other.name) {
            let number = match other.phone_number_id.as_str() {
                "" => String::new(),
                id => format!(", number {id}"),
            };
            return Some(format!(
                "this database belongs to cluster {:?}{number}; here [cluster] name is {:?}. Two clusters on one number get it \
                 banned: use that name and its key to join it (wa-agent setup --join), or give this cluster another database",
                other.name, self.name
            ));
        }
        differ(&self.phone_number_id, &other.phone_number_id).then(|| {
            format!(
                "this database belongs to phone_number_id {}; here [upstream] phone_number_id is {}. Correct it here, or give \
                 the other number a cluster and a database of its own",
                other.phone_number_id, self.phone_number_id
            )
        })
    }

    /// What is known of the cluster by both: the own word, else what is stored.
    fn completes(&self, stored: &Self) -> Self {
        let pick = |own: &str, stored: &str| {
            if own.is_empty() {
                stored.to_owned()
            } else {
                own.to_owned()
            }
        };
        Self {
            name: pick(&self.name, &stored.name),
            phone_number_id: pick(&self.phone_number_id, &stored.phone_number_id),
            phone_number: pick(&self.phone_number, &stored.phone_number),
            key_print: pick(&self.key_print, &stored.key_print),
            profile: pick(&self.profile, &stored.profile),
            machine: String::new(),
        }
    }
}

impl Db {
    /// Whose database this is; `None` while nobody has said so, a fresh database included.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn identity(&self) -> Result<Option<Identity>, DbError> {
        match self.setting(ROW).await {
            Ok((0, _)) => Ok(None),
            Ok((_, json)) => serde_json::from_str(&json).map(Some).map_err(|error| {
                DbError::Value(format!("the row {ROW:?} of table setting: {error}"))
            }),
            Err(error) if is_missing_table(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Refuses a database of another cluster. A fresh one is nobody's.
    ///
    /// # Errors
    /// [`DbError::OtherCluster`], or when the database does not answer.
    pub async fn same_cluster(&self, own: &Identity) -> Result<(), DbError> {
        self.one_machine(own).await?;
        let stored = self.identity().await?.unwrap_or_default();
        own.contradicts(&stored)
            .map_or(Ok(()), |why| Err(DbError::OtherCluster(why)))
    }

    /// An embedded database is for one machine: while another one is at work in it, this one is not.
    async fn one_machine(&self, own: &Identity) -> Result<(), DbError> {
        if !self.embedded() || own.machine.is_empty() {
            return Ok(());
        }
        let nodes = match self.nodes().await {
            Err(error) if is_missing_table(&error) => return Ok(()),
            other => other?,
        };
        let other = nodes.iter().find(|node| {
            node.registration.machine != own.machine && node.beat_age_ms < BEAT_AGE_MAX_MS
        });
        other.map_or(Ok(()), |node| {
            Err(DbError::OtherCluster(format!(
                "this embedded database is at work on machine {:?}, and is for one machine. For more machines install MariaDB or \
                 MySQL there, type: wa-agent setup --single --database-socket --replace, and here: wa-agent setup --join URL",
                node.registration.machine
            )))
        })
    }

    /// Writes whose database this is, or completes the row. The primary master does so, after it made the schema.
    ///
    /// # Errors
    /// [`DbError::OtherCluster`] when somebody else was first; when the database does not answer.
    pub async fn claim_for(&self, own: &Identity) -> Result<(), DbError> {
        let changed = self.change_setting(ROW, |version, json| {
            let stored: Identity = serde_json::from_str(json).unwrap_or_default();
            if let Some(why) = own.contradicts(&stored) {
                return Err(DbError::OtherCluster(why));
            }
            let wanted = own.completes(&stored);
            if wanted == stored && version > 0 {
                return Ok(Change::Keep(()));
            }
            let json = serde_json::to_string(&wanted)
                .map_err(|error| DbError::Value(error.to_string()))?;
            Ok(Change::Write(json, ()))
        });
        changed.await?
    }
}

/// MySQL 1146, or SQLite's words for it.
pub(super) fn is_missing_table(error: &DbError) -> bool {
    let DbError::Sqlx(sqlx::Error::Database(error)) = error else {
        return false;
    };
    let mysql = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>();
    mysql.is_some_and(|mysql| mysql.number() == 1146)
        || error.message().starts_with("no such table")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: &str, id: &str) -> Identity {
        Identity {
            name: name.into(),
            phone_number_id: id.into(),
            ..Identity::default()
        }
    }

    /// Goal: another name, or another number, is refused with both; what one side does not know is none.
    #[test]
    fn only_contradictions_are_refused() {
        let stored = identity("wa", "100");
        for (own, refused) in [
            (identity("wa", "100"), None),
            (identity("wa", ""), None),
            (identity("wb", "100"), Some("\"wa\", number 100")),
            (identity("wb", "200"), Some("\"wb\"")),
            (identity("wa", "200"), Some("phone_number_id 100")),
        ] {
            let why = own.contradicts(&stored);
            match refused {
                None => assert_eq!(why, None),
                Some(part) => assert!(why.as_deref().unwrap_or_default().contains(part), "{why:?}"),
            }
        }
        assert_eq!(identity("wb", "1").contradicts(&Identity::default()), None);
    }
}
