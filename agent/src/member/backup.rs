//! A backup: what is in it, how it is sealed under a password's key, and what a restore writes.
//! Derives no key from a password: a webapp does, off the masters' machines' time.

use argon2::Params;
use argon2::password_hash::phc::PasswordHash;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::{Zeroize as _, Zeroizing};

use super::certificate::{External, WebhookCa};
use super::sealed;
use crate::api::provider::Providers;
use crate::api::v1::backup::{BACKUP_LEN_MAX, Blob, Cost, NONCE_LEN};
use crate::api::v1::setting::ApplicationSettings;
use crate::api::v1::user::check_username;
use crate::db::restore::Restored;
use crate::db::setting::{APPLICATION, CERTIFICATE_EXTERNAL, MEDIA_PROVIDERS, WEBHOOK_CA};
use crate::db::user::User;
use crate::db::{Db, DbError};
use crate::net::keys::Keys;
use crate::net::seal::{Place, Seal, SealError};

/// What is in a backup, beside the users: these rows of `setting`, whole, with what is sealed in them. Whoever adds a row to
/// the settings of a cluster adds it here.
pub const ROWS: &[&str] = &[
    APPLICATION,
    MEDIA_PROVIDERS,
    CERTIFICATE_EXTERNAL,
    WEBHOOK_CA,
];

/// Longest document: base64 makes four bytes of three.
const DOCUMENT_LEN_MAX: usize = BACKUP_LEN_MAX / 4 * 3 - 1024;
/// Longest password hash, in bytes, as its column holds it.
const HASH_LEN_MAX: usize = 255;

/// A key that follows from a password.
pub type PasswordKey = Zeroizing<[u8; 32]>;

/// Why a backup is not made or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("The password is not that of the backup, or the data was changed")]
    Password,
    #[error("The backup holds {0}; it was not restored")]
    Content(String),
    #[error("The backup would be longer than {BACKUP_LEN_MAX} bytes; it was not made")]
    TooLong,
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Db(#[from] DbError),
}

/// What is sealed under the password, as JSON. Newer releases may say more; what is not known is ignored.
#[derive(Serialize, Deserialize)]
struct Document {
    /// Who made it, for people.
    release: String,
    rows: Vec<Row>,
    users: Vec<StoredUser>,
}

/// A row of `setting`.
#[derive(Serialize, Deserialize)]
struct Row {
    name: String,
    /// With `null` in the place of each secret.
    value: Value,
    secrets: Vec<StoredSecret>,
}

/// A secret of a row, in the clear. Wiped from memory at its end.
#[derive(Serialize, Deserialize)]
struct StoredSecret {
    /// Where it stands in the row (RFC 6901, without the first slash).
    at: String,
    /// It is for every role, not only for owners.
    webapps: bool,
    /// In base64.
    secret: String,
}

impl Drop for StoredSecret {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

#[derive(Serialize, Deserialize)]
struct StoredUser {
    username: String,
    password_hash: String,
    admin: bool,
    must_change: bool,
}

/// Makes a backup under this key. `blank` says how the key follows from the password; its nonce and ciphertext are not used.
///
/// # Errors
/// [`BackupError`].
pub async fn make(
    db: &Db,
    keys: &Keys,
    key: &PasswordKey,
    blank: Blob,
) -> Result<Blob, BackupError> {
    let mut rows = Vec::with_capacity(ROWS.len());
    for name in ROWS {
        let (_, text) = db.setting(name).await?;
        rows.push(row(keys, name, &text)?);
    }
    let user = |user: User| StoredUser {
        username: user.username,
        password_hash: user.password_hash,
        admin: user.admin != 0,
        must_change: user.must_change != 0,
    };
    let document = Document {
        release: env!("CARGO_PKG_VERSION").to_owned(),
        rows,
        users: db.users().await?.into_iter().map(user).collect(),
    };
    let text = Zeroizing::new(serde_json::to_vec(&document).expect("plain data is JSON"));
    if text.len() > DOCUMENT_LEN_MAX {
        return Err(BackupError::TooLong);
    }
    close(key, blank, &text)
}

fn row(keys: &Keys, name: &str, text: &str) -> Result<Row, BackupError> {
    let unread = |_| BackupError::Content(format!("the row {name:?}, which cannot be read"));
    let mut value: Value = serde_json::from_str(text).map_err(unread)?;
    let mut secrets = Vec::new();
    let mut null = Vec::new();
    sealed::each(&mut value, "", &mut |at, found, _| {
        // What does not open here stays as it is: it may open where the key is.
        match sealed::open(keys, &Place::setting(name, at), found) {
            Ok((of, secret)) => {
                secrets.push(StoredSecret {
                    at: at.to_owned(),
                    webapps: of == Seal::Webapp,
                    secret: BASE64_STANDARD.encode(secret.expose_secret()),
                });
                null.push(format!("/{at}"));
            }
            Err(error) => {
                tracing::warn!(%error, "a secret is not in the backup");
            }
        }
    });
    for at in null {
        if let Some(place) = value.pointer_mut(&at) {
            *place = Value::Null;
        }
    }
    Ok(Row {
        name: name.to_owned(),
        value,
        secrets,
    })
}

fn cipher(key: &PasswordKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(**key))
}

fn close(key: &PasswordKey, blank: Blob, text: &[u8]) -> Result<Blob, BackupError> {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(|_| SealError::NoRandom)?;
    let head = blank.head();
    let payload = Payload {
        msg: text,
        aad: head.as_bytes(),
    };
    let closed = cipher(key).encrypt(&XNonce::from(nonce), payload);
    Ok(Blob {
        nonce,
        ciphertext: closed.expect("a text in memory can be encrypted"),
        ..blank
    })
}

fn open(key: &PasswordKey, blob: &Blob) -> Result<Document, BackupError> {
    let head = blob.head();
    let payload = Payload {
        msg: &blob.ciphertext,
        aad: head.as_bytes(),
    };
    let opened = cipher(key).decrypt(&XNonce::from(blob.nonce), payload);
    let opened = Zeroizing::new(opened.map_err(|_| BackupError::Password)?);
    serde_json::from_slice(&opened)
        .map_err(|_| BackupError::Content("what this release cannot read".into()))
}

/// Puts a backup into force, in one transaction, but for the user `keep`, whose login stays. The number and the count of shards
/// are not in a backup.
///
/// # Errors
/// [`BackupError`]; nothing was changed.
pub async fn restore(
    db: &Db,
    keys: &Keys,
    (key, blob): (&PasswordKey, &Blob),
    keep: &str,
) -> Result<(), BackupError> {
    let document = open(key, blob)?;
    let mut restored = Restored {
        keep: keep.to_owned(),
        ..Restored::default()
    };
    for row in &document.rows {
        if !ROWS.contains(&row.name.as_str()) {
            tracing::warn!(row = %row.name, "the backup holds settings that this release does not know; ignoring them");
            continue;
        }
        let text = sealed_again(keys, row)?;
        if without_certificate(&row.name, &text) {
            continue;
        }
        restored.rows.push((row.name.clone(), text));
    }
    for user in document.users {
        restored.users.push(checked(user)?);
    }
    Ok(db.restore(&restored).await?)
}

/// A backup of a cluster to which no certificate was sent: the one that this cluster shows stays, because clients trust it.
fn without_certificate(row: &str, text: &str) -> bool {
    let sent = || serde_json::from_str::<External>(text);
    row == CERTIFICATE_EXTERNAL && sent().is_ok_and(|sent| sent.certificate.is_empty())
}

/// The text of a row, with its secrets sealed for this cluster.
fn sealed_again(keys: &Keys, row: &Row) -> Result<String, BackupError> {
    let wrong = |what: &str| BackupError::Content(format!("{what} in the row {:?}", row.name));
    let mut value = row.value.clone();
    for secret in &row.secrets {
        let plain = BASE64_STANDARD.decode(&secret.secret);
        let plain = Zeroizing::new(plain.map_err(|_| wrong("a broken secret"))?);
        let of = match secret.webapps {
            true => Seal::Webapp,
            false => Seal::Owner,
        };
        let sealed = keys.seal(of, &Place::setting(&row.name, &secret.at), &plain)?;
        let place = value.pointer_mut(&format!("/{}", secret.at));
        *place.ok_or_else(|| wrong("a secret without a place"))? = Value::String(sealed);
    }
    let text = value.to_string();
    let readable = match row.name.as_str() {
        APPLICATION => serde_json::from_str::<ApplicationSettings>(&text).is_ok(),
        MEDIA_PROVIDERS => serde_json::from_str::<Providers>(&text).is_ok(),
        CERTIFICATE_EXTERNAL => serde_json::from_str::<External>(&text).is_ok(),
        WEBHOOK_CA => serde_json::from_str::<WebhookCa>(&text).is_ok(),
        _ => true,
    };
    readable
        .then_some(text)
        .ok_or_else(|| wrong("what this release cannot read"))
}

/// A user who may be written: no name and no hash that this product would not have made.
fn checked(user: StoredUser) -> Result<User, BackupError> {
    let wrong = || BackupError::Content(format!("a user {:?} that cannot be", user.username));
    // The built-in name has five characters like any other.
    check_username(&user.username).map_err(|_| wrong())?;
    if user.password_hash.len() > HASH_LEN_MAX || !may_be_checked(&user.password_hash) {
        return Err(wrong());
    }
    Ok(User {
        username: user.username,
        password_hash: user.password_hash,
        admin: i64::from(user.admin),
        must_change: i64::from(user.must_change),
    })
}

/// A hash that a login may be checked against: of our kind, whole, and of no more work than we do for anybody.
fn may_be_checked(hash: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else {
        return false;
    };
    let of_ours = hash.algorithm == argon2::ARGON2ID_IDENT
        && hash.version == Some(argon2::Version::V0x13.into());
    let bounded = Params::try_from(&hash).is_ok_and(|params| {
        let cost = Cost {
            memory_kib: params.m_cost(),
            passes: params.t_cost(),
            lanes: params.p_cost(),
        };
        cost.bounded()
    });
    of_ours && bounded && hash.salt.is_some() && hash.hash.is_some()
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
