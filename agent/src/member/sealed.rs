//! Every sealed text of the database: found in the rows of `setting`, looked at, and sealed anew when the cluster key changes.
//! Hands no secret out: who needs one opens its own (`net/keys.rs`).

use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::db::setting::Change;
use crate::db::{Db, DbError};
use crate::net::keys::Keys;
use crate::net::seal::{Place, Seal, SealError, Sealed, Secret};

/// How a sealed text stands with the keys that are here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is under the key that signs.
    Newest,
    /// It opens, with a key that goes.
    Older,
    /// It does not open. That secret has to be sent again.
    Lost(SealError),
}

/// A sealed text and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `table/row/field`.
    pub place: String,
    pub standing: Standing,
}

/// What is left after everything was sealed anew.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Texts that were sealed anew.
    pub count: usize,
    /// Places of those that are not under the key that signs.
    pub left: Vec<String>,
    /// Those that no key here opens; each error names its place.
    pub lost: Vec<SealError>,
}

/// Each sealed text in a JSON document, with its place in it (RFC 6901, without the first slash).
pub(super) fn each(value: &mut Value, at: &str, then: &mut impl FnMut(&str, &Sealed, &mut String)) {
    let below = |name: &str| match at {
        "" => name.to_owned(),
        at => format!("{at}/{name}"),
    };
    match value {
        Value::String(text) => {
            if let Some(sealed) = Sealed::parse(text) {
                then(at, &sealed, text);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                each(item, &below(&index.to_string()), then);
            }
        }
        Value::Object(map) => {
            for (name, item) in map {
                let name = name.replace('~', "~0").replace('/', "~1");
                each(item, &below(&name), then);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Opens a text, whoever may read it.
pub(super) fn open(
    keys: &Keys,
    place: &Place<'_>,
    sealed: &Sealed,
) -> Result<(Seal, Secret), SealError> {
    match keys.reader_of(sealed) {
        Some(of) => Ok((of, keys.open(of, place, &sealed.to_string())?)),
        None => Err(SealError::UnknownKey {
            place: place.to_string(),
            id: sealed.key.clone(),
        }),
    }
}

fn standing(keys: &Keys, place: &Place<'_>, sealed: &Sealed) -> Standing {
    match open(keys, place, sealed) {
        Err(error) => Standing::Lost(error),
        Ok(_) if keys.sealed_newest(sealed) => Standing::Newest,
        Ok(_) => Standing::Older,
    }
}

/// Every sealed text and how it stands with these keys. For a machine with the cluster key: a webapp's part of it opens little.
///
/// # Errors
/// When the database does not answer.
pub async fn look(db: &Db, keys: &Keys) -> Result<Vec<Found>, DbError> {
    let mut found = Vec::new();
    for row in db.settings_with("v1.").await? {
        // What is no JSON holds no sealed text of ours.
        let Ok(mut value) = serde_json::from_str::<Value>(&row.value) else {
            continue;
        };
        each(&mut value, "", &mut |field, sealed, _| {
            let place = Place::setting(&row.name, field);
            found.push(Found {
                place: place.to_string(),
                standing: standing(keys, &place, sealed),
            });
        });
    }
    Ok(found)
}

/// A row's text with everything in it under the key that signs, and how much was sealed anew.
fn sealed_anew(keys: &Keys, name: &str, text: &str) -> Result<Change<String, usize>, SealError> {
    let Ok(mut value) = serde_json::from_str::<Value>(text) else {
        return Ok(Change::Keep(0));
    };
    let (mut count, mut failed) = (0, None);
    each(&mut value, "", &mut |field, sealed, text| {
        let place = Place::setting(name, field);
        if keys.sealed_newest(sealed) {
            return;
        }
        // What does not open is told by whoever looks at the rows.
        let Ok((of, secret)) = open(keys, &place, sealed) else {
            return;
        };
        match keys.seal(of, &place, secret.expose_secret()) {
            Ok(anew) => {
                *text = anew;
                count += 1;
            }
            Err(error) => failed = Some(error),
        }
    });
    match failed {
        Some(error) => Err(error),
        None if count == 0 => Ok(Change::Keep(0)),
        None => Ok(Change::Write(value.to_string(), count)),
    }
}

/// A cluster key changes seldom: more changes than this while a row is written are a fault.
const KEY_CHANGES_MAX: u32 = 4;

/// For a row that was written just now, with texts that were sealed while these were the keys: seals them anew if the key that signs
/// is another one by now. A rotation may have looked at the row before it was written. Not for rows that owners write.
///
/// # Errors
/// When the database does not answer, or nothing can be sealed here.
pub async fn keep_up(
    db: &Db,
    keys: &Keys,
    row: &str,
    mut signed: (String, String),
) -> Result<(), DbError> {
    for _ in 0..KEY_CHANGES_MAX {
        let now = keys.ids();
        if now == signed {
            break;
        }
        signed = now;
        let anew = |_: u64, text: &str| sealed_anew(keys, row, text);
        let sealed = db.change_setting(row, anew).await?;
        sealed.map_err(|error| DbError::Value(error.to_string()))?;
    }
    Ok(())
}

/// Seals everything anew that is not under the key that signs: row by row, each by compare-and-set. Stopped at any moment, it
/// leaves rows that open with one of the two keys; called again it goes on.
///
/// # Errors
/// When the database does not answer, or a row changes all the time.
pub async fn reseal(db: &Db, keys: &Keys) -> Result<Resealed, DbError> {
    let mut done = Resealed::default();
    for row in db.settings_with("v1.").await? {
        let anew = |_: u64, text: &str| sealed_anew(keys, &row.name, text);
        let sealed = db.change_setting(&row.name, anew).await?;
        done.count += sealed.map_err(|error| DbError::Value(error.to_string()))?;
    }
    // As the rows stand now: somebody may have written one meanwhile.
    for found in look(db, keys).await? {
        match found.standing {
            Standing::Newest => {}
            Standing::Older => done.left.push(found.place),
            Standing::Lost(error) => done.lost.push(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
#[path = "sealed_tests.rs"]
mod tests;
