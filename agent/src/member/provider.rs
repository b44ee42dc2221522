//! Media providers in the row `media-providers`: sealed when they are written, opened where a link is fetched.
//! Decides nothing about who may write them.

use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::settings::Row;
use crate::api::provider::{Provider, Providers, Stored, field};
use crate::db::setting::MEDIA_PROVIDERS;
use crate::net::keys::Keys;
use crate::net::seal::{Place, Seal, SealError};

impl Row for Providers {
    const NAME: &'static str = MEDIA_PROVIDERS;
}

/// A provider as it may stand in the row under this name.
///
/// # Errors
/// When this machine has no key that seals for owners.
pub fn seal(keys: &Keys, name: &str, provider: &Provider) -> Result<Stored, SealError> {
    let text = serde_json::to_vec(provider).expect("plain data is JSON");
    let text = Zeroizing::new(text);
    let field = field(name);
    let sealed = keys.seal(Seal::Owner, &Place::setting(MEDIA_PROVIDERS, &field), &text)?;
    Ok(Stored::Sealed {
        sealed,
        shown: provider.shown(),
    })
}

/// The provider that stands in the row under this name.
///
/// # Errors
/// When its key is not here, it was changed by hand, or a newer release wrote it.
pub fn open(keys: &Keys, name: &str, stored: &Stored) -> Result<Provider, SealError> {
    let field = field(name);
    let place = Place::setting(MEDIA_PROVIDERS, &field);
    let form = || SealError::Form {
        place: place.to_string(),
    };
    match stored {
        Stored::Sealed { sealed, .. } => {
            let opened = keys.open(Seal::Owner, &place, sealed)?;
            serde_json::from_slice(opened.expose_secret()).map_err(|_| form())
        }
        Stored::Plain(credentials) => Ok(Provider {
            credentials: credentials.clone(),
            hosts: Vec::new(),
        }),
        Stored::Unknown(_) => Err(form()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::provider::Credentials;

    /// Goal: a provider comes back from the row whole, under its own name only; one of a release before sealing too. Method:
    /// there and back, the same text under another name, and the plain form.
    #[test]
    fn a_provider_comes_back_under_its_own_name() {
        let keys = Keys::new(b"a key of the cluster");
        let provider = Provider {
            credentials: Credentials::Bearer("word-1234".into()),
            hosts: vec!["a.example".into()],
        };
        let stored = seal(&keys, "c/dn", &provider).expect("sealed");
        let text = serde_json::to_string(&stored).expect("plain data");
        assert!(!text.contains("word-1234"), "{text}");
        let stored: Stored = serde_json::from_str(&text).expect("its own form");
        assert_eq!(open(&keys, "c/dn", &stored).expect("opened"), provider);
        assert!(open(&keys, "other", &stored).is_err());
        assert!(open(&Keys::new(b"another key"), "c/dn", &stored).is_err());
        let plain: Stored = serde_json::from_str(r#"{"bearer":"w"}"#).expect("the plain form");
        let opened = open(&keys, "x", &plain).expect("opened");
        assert_eq!(opened.credentials, Credentials::Bearer("w".into()));
        let newer: Stored = serde_json::from_str(r#"{"signed":{}}"#).expect("kept");
        assert!(open(&keys, "x", &newer).is_err());
    }
}
