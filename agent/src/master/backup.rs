//! Backup and restore, as the primary master serves them: one at a time, recorded, told to every node by whoever calls this.
//! What is in a backup is `member/backup.rs`.

use super::record;
use crate::api::served::{BackupRequest, RestoreRequest, Served};
use crate::api::v1::backup::Blob;
use crate::api::v1::code::Code;
use crate::db::{Db, DbError};
use crate::member::backup::{self, BackupError, PasswordKey};
use crate::net::keys::Keys;

/// A cluster key changes seldom: more changes than this while a backup is restored are a fault.
const TRIES: u32 = 4;

/// The key that a webapp has derived.
fn key(text: &str) -> Option<PasswordKey> {
    let mut key = PasswordKey::default();
    hex::decode_to_slice(text, &mut *key).ok()?;
    Some(key)
}

/// What was sent by a webapp that this release does not understand.
fn misunderstood() -> Served {
    Served::refused(
        Code::Internal,
        "The primary master does not understand this webapp; upgrade both to one release",
    )
}

/// What a client is told; errors of the database are the caller's.
fn refused(error: BackupError) -> Result<Served, DbError> {
    let code = match error {
        BackupError::Db(error) => return Err(error),
        BackupError::Password | BackupError::Content(_) => Code::ParameterNotValid,
        BackupError::TooLong | BackupError::Seal(_) => Code::Internal,
    };
    Ok(Served::refused(code, error.to_string()))
}

/// Makes a backup for this user.
///
/// # Errors
/// When the database does not answer.
pub async fn make(
    db: &Db,
    keys: &Keys,
    (wish, by): (&BackupRequest, &str),
) -> Result<Served, DbError> {
    let (Some(key), Ok(blank)) = (key(&wish.key), Blob::parse(&wish.blank)) else {
        return Ok(misunderstood());
    };
    match backup::make(db, keys, &key, blank).await {
        Ok(blob) => {
            told(
                db,
                "backup",
                by,
                "a backup of settings, users and secrets was made",
            )
            .await;
            Ok(Served::Text(blob.to_string()))
        }
        Err(error) => refused(error),
    }
}

/// Restores a backup for this user, whose login stays.
///
/// # Errors
/// When the database does not answer.
pub async fn restore(
    db: &Db,
    keys: &Keys,
    (wish, by): (&RestoreRequest, &str),
) -> Result<Served, DbError> {
    let (Some(key), Ok(blob)) = (key(&wish.key), Blob::parse(&wish.data)) else {
        return Ok(misunderstood());
    };
    for _ in 0..TRIES {
        let signs = keys.ids();
        if let Err(error) = backup::restore(db, keys, (&key, &blob), by).await {
            return refused(error);
        }
        // As for providers: a rotation that went on meanwhile may not have seen what was written.
        if keys.ids() == signs {
            break;
        }
    }
    told(
        db,
        "restore",
        by,
        "settings, users and secrets of a backup were put into force",
    )
    .await;
    Ok(Served::Done)
}

async fn told(db: &Db, what: &str, by: &str, said: &str) {
    let by = format!("user {by} by the API");
    let words = (None, Some(by.as_str()));
    record::journal(words, said);
    if let Err(error) = record::record(db, what, (None, ""), words, said).await {
        tracing::warn!(error = %error.brief(), "the {what} is not in the history");
    }
}
