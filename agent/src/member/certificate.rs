//! The rows of certificates: the one that was sent for the public port, the cluster's own, and whom webhook servers are vouched
//! for by. Private keys stand in them sealed, for webapps. Serves nothing and judges nothing.

use std::convert::Infallible;

use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::sealed;
use super::settings::{self, Row, Stored};
use crate::db::setting::{self, Change};
use crate::db::{Db, DbError};
use crate::net::keys::Keys;
use crate::net::own_certificate::Own;
use crate::net::seal::{Place, Seal, SealError};

/// The fields that hold sealed keys.
const KEY: &str = "key";
const AUTHORITY_KEY: &str = "authority_key";

/// The certificate of the public port that somebody sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct External {
    /// PEM, the server's own first. Empty: none.
    pub certificate: String,
    /// Sealed.
    pub key: String,
}

impl Row for External {
    const NAME: &'static str = setting::CERTIFICATE_EXTERNAL;
}

/// The cluster's own certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OwnRow {
    pub authority: String,
    /// Sealed.
    pub authority_key: String,
    pub certificate: String,
    /// Sealed.
    pub key: String,
}

impl Row for OwnRow {
    const NAME: &'static str = setting::CERTIFICATE_OWN;
}

/// Authorities that webhook servers are checked with, beside those of the system and the built-in ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WebhookCa {
    /// PEM. Empty: none.
    pub certificates: String,
}

impl Row for WebhookCa {
    const NAME: &'static str = setting::WEBHOOK_CA;
}

fn seal(keys: &Keys, row: &str, field: &str, secret: &str) -> Result<String, SealError> {
    let place = Place::setting(row, field);
    keys.seal(Seal::Webapp, &place, secret.as_bytes())
}

fn open(keys: &Keys, row: &str, field: &str, sealed: &str) -> Result<Zeroizing<String>, SealError> {
    let place = Place::setting(row, field);
    let opened = keys.open(Seal::Webapp, &place, sealed)?;
    let text = String::from_utf8(opened.expose_secret().clone());
    text.map(Zeroizing::new).map_err(|_| SealError::Changed {
        place: place.to_string(),
    })
}

impl External {
    /// As it is stored.
    ///
    /// # Errors
    /// [`SealError`] when the key cannot be sealed on this machine.
    pub fn sealed(keys: &Keys, certificate: String, key: &str) -> Result<Self, SealError> {
        Ok(Self {
            certificate,
            key: seal(keys, Self::NAME, KEY, key)?,
        })
    }

    /// The private key, as PEM.
    ///
    /// # Errors
    /// [`SealError`] when it cannot be opened on this machine.
    pub fn open(&self, keys: &Keys) -> Result<Zeroizing<String>, SealError> {
        open(keys, Self::NAME, KEY, &self.key)
    }
}

/// Why a certificate that somebody sent is not stored.
#[derive(Debug, thiserror::Error)]
pub enum Unsent {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("{}", .0.brief())]
    Database(#[from] DbError),
}

/// Stores the certificate that somebody sent, in the place of the last one.
///
/// # Errors
/// When its key cannot be sealed on this machine, or the database does not answer.
pub async fn send(db: &Db, keys: &Keys, certificate: &str, key: &str) -> Result<(), Unsent> {
    let signed = keys.ids();
    let row = External::sealed(keys, certificate.to_owned(), key)?;
    let write = |_: Stored<External>| Ok::<_, Infallible>(Change::Write(row.clone(), ()));
    let Ok(()) = settings::change(db, write).await?;
    Ok(sealed::keep_up(db, keys, External::NAME, signed).await?)
}

impl OwnRow {
    /// As it is stored.
    ///
    /// # Errors
    /// See [`External::sealed`].
    pub fn sealed(keys: &Keys, own: &Own) -> Result<Self, SealError> {
        Ok(Self {
            authority: own.authority.clone(),
            authority_key: seal(keys, Self::NAME, AUTHORITY_KEY, &own.authority_key)?,
            certificate: own.certificate.clone(),
            key: seal(keys, Self::NAME, KEY, &own.key)?,
        })
    }

    /// Whether this machine could seal one: to be asked before keys are made for nothing.
    ///
    /// # Errors
    /// See [`External::sealed`].
    pub fn can_seal(keys: &Keys) -> Result<(), SealError> {
        keys.can_seal(Seal::Webapp, &Place::setting(Self::NAME, KEY))
    }

    /// Nobody has written it yet, or somebody has emptied it so that another one is made, with another authority.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The private key of the certificate alone, as PEM.
    ///
    /// # Errors
    /// See [`External::open`].
    pub fn open_key(&self, keys: &Keys) -> Result<Zeroizing<String>, SealError> {
        open(keys, Self::NAME, KEY, &self.key)
    }

    /// With its keys opened.
    ///
    /// # Errors
    /// See [`External::open`].
    pub fn open(&self, keys: &Keys) -> Result<Own, SealError> {
        Ok(Own {
            authority: self.authority.clone(),
            authority_key: open(keys, Self::NAME, AUTHORITY_KEY, &self.authority_key)?,
            certificate: self.certificate.clone(),
            key: self.open_key(keys)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::keys::for_webapps;

    /// Goal: what stands in the database shows no private key, and every webapp opens it with its part of the cluster key.
    #[test]
    fn keys_stand_sealed_and_webapps_open_them() {
        let file = "5a".repeat(32);
        let webapp = Keys::new(for_webapps(file.as_bytes()).as_bytes());
        let other = Keys::new(file.as_bytes());
        let own =
            crate::net::own_certificate::make(None, "shop", &["a.example".into()], 1_781_000_000);
        let own = own.expect("made");
        let row = OwnRow::sealed(&webapp, &own).expect("sealed");
        let text = serde_json::to_string(&row).expect("plain data");
        assert!(!text.contains("PRIVATE") && text.contains("BEGIN CERTIFICATE"));
        assert_eq!(row.open(&other).expect("opened"), own);
        let sent = External::sealed(&webapp, own.certificate.clone(), &own.key).expect("sealed");
        assert_eq!(sent.open(&webapp).expect("opened"), own.key);
        // A sealed key that was moved to another row opens nothing.
        let moved = External {
            key: row.key,
            ..sent
        };
        assert!(moved.open(&webapp).is_err());
        assert!(moved.open(&Keys::new("6b".repeat(32).as_bytes())).is_err());
    }
}
