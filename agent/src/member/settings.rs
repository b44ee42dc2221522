//! The rows of settings that are shared, as values of their types: read, and changed without losing anybody's change.
//! What a field may hold, and who may change it, is decided elsewhere.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wa_core::detector::Intervals;
use wa_core::id::Ownership;

use crate::api::control::{Rotation, StoredPause, StoredSwitchover};
use crate::api::registration::StoredIntent;
use crate::api::v1::setting::{ApplicationSettings, Rules};
use crate::config::Timers;
use crate::db::setting::{self, Change};
use crate::db::{Db, DbError};

/// Writers that come between reading and writing are rare: more than this is a fault.
const OWNED_ATTEMPTS: u32 = 8;

/// A value that one row holds.
pub trait Row: Default + Serialize + DeserializeOwned {
    /// The row's name.
    const NAME: &'static str;
}

impl Row for ApplicationSettings {
    const NAME: &'static str = setting::APPLICATION;
}

/// The switchovers that wait for their time.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Switchovers(pub Vec<StoredSwitchover>);

impl Row for Switchovers {
    const NAME: &'static str = setting::PLANNED;
}

/// The pauses that operators asked for.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoredPauses {
    #[serde(default)]
    pub pauses: Vec<StoredPause>,
}

impl Row for StoredPauses {
    const NAME: &'static str = setting::PAUSES;
}

/// The rotation of keys that is under way, if one is.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyRotation(pub Option<Rotation>);

impl Row for KeyRotation {
    const NAME: &'static str = setting::KEYS;
}

/// The upstream's switch for identity keys, as it was set last.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentitySwitch {
    #[serde(default)]
    pub on: bool,
}

impl Row for IdentitySwitch {
    const NAME: &'static str = setting::IDENTITY_SWITCH;
}

impl Row for StoredIntent {
    const NAME: &'static str = setting::REGISTRATION;
}

/// A row as it was read.
#[derive(Debug)]
pub struct Stored<S> {
    /// 0: it was never written.
    pub version: u64,
    /// An error where it holds what nobody can read; what an older or newer version wrote beside it is ignored.
    pub value: Result<S, serde_json::Error>,
}

impl<S: Row> Stored<S> {
    /// From a row's version and text.
    pub fn of(version: u64, text: &str) -> Self {
        let value = match version {
            0 => Ok(S::default()),
            _ => serde_json::from_str(text),
        };
        Self { version, value }
    }

    /// The value; what nobody can read is as if it had never been written.
    pub fn or_default(self) -> S {
        self.value.unwrap_or_default()
    }
}

/// Reads a row.
///
/// # Errors
/// When the database does not answer.
pub async fn read<S: Row>(db: &Db) -> Result<Stored<S>, DbError> {
    let (version, text) = db.setting(S::NAME).await?;
    Ok(Stored::of(version, &text))
}

/// Reads a row, and writes what `change` makes of it; again if somebody else was quicker. The inner error is a refusal by
/// `change`: nothing was written.
///
/// # Errors
/// See [`Db::change_setting`].
pub async fn change<S: Row, T, R>(
    db: &Db,
    mut change: impl FnMut(Stored<S>) -> Result<Change<S, T>, R>,
) -> Result<Result<T, R>, DbError> {
    db.change_setting(S::NAME, |version, text| {
        Ok(match change(Stored::of(version, text))? {
            Change::Keep(told) => Change::Keep(told),
            Change::Write(value, told) => Change::Write(text_of(&value), told),
        })
    })
    .await
}

/// Reads a row, and writes what `change` makes of it as its owner; again if somebody else was quicker. `None`: this node does not
/// own the shard any more, nothing was written.
///
/// # Errors
/// When the database does not answer; [`DbError::Crowded`] when somebody else is quicker every time.
pub async fn change_owned<S: Row, T>(
    db: &Db,
    own: &Ownership,
    mut change: impl FnMut(Stored<S>) -> Change<S, T>,
) -> Result<Option<T>, DbError> {
    let mut before = None;
    for _ in 0..OWNED_ATTEMPTS {
        let row = read::<S>(db).await?;
        let version = row.version;
        // The same version as before: it was not somebody else who was quicker.
        if before == Some(version) {
            return Ok(None);
        }
        let (value, told) = match change(row) {
            Change::Keep(told) => return Ok(Some(told)),
            Change::Write(value, told) => (value, told),
        };
        let text = text_of(&value);
        if db
            .store_setting_owned(own, S::NAME, (version, &text), None)
            .await?
        {
            return Ok(Some(told));
        }
        before = Some(version);
    }
    Err(DbError::Crowded(S::NAME.to_owned()))
}

/// As it stands in the row.
pub fn text_of<S: Row>(value: &S) -> String {
    serde_json::to_string(value).expect("plain data is JSON")
}

/// The intervals in force: what the application settings say within what this machine's configuration allows.
pub fn intervals(stored: &ApplicationSettings, timers: &Timers) -> Intervals {
    let rules = Rules::of(timers.heartbeat_interval, timers.unhealthy_interval, false);
    let pair = stored.intervals(rules).in_force;
    Intervals {
        heartbeat: Duration::from_millis(pair.heartbeat_ms),
        unhealthy: Duration::from_millis(pair.unhealthy_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a row that was never written holds nothing, whatever its type looks like; one that nobody can read is told as
    /// such, and holds nothing for whoever goes on.
    #[test]
    fn a_row_is_a_value_of_its_type() {
        let never = Stored::<Switchovers>::of(0, "{}");
        assert_eq!(
            never.value.expect("nothing is a value"),
            Switchovers::default()
        );
        let rubbish = Stored::<Switchovers>::of(3, "{}");
        assert!(rubbish.value.is_err());
        assert_eq!(rubbish.or_default(), Switchovers::default());
        let none = Stored::<KeyRotation>::of(2, "null");
        assert_eq!(none.value.expect("it is over"), KeyRotation(None));
        let text = r#"{"pauses":[{"shard":null,"until_ms":7}],"of_a_newer_version":1}"#;
        let pauses = Stored::<StoredPauses>::of(1, text).or_default();
        assert_eq!((pauses.pauses.len(), pauses.pauses[0].until_ms), (1, 7));
        let again = Stored::<StoredPauses>::of(2, &text_of(&pauses));
        assert_eq!(again.or_default(), pauses);
    }
}
