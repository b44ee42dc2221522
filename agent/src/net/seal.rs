//! Sealed secrets: texts that stand in the database and that only holders of the right part of the cluster key can open.
//! Derives no key and reads no row: `keys.rs` derives, `member/sealed.rs` finds the rows.
//!
//! The form is `v1.keyid.nonce.ciphertext`: eight hexadecimal digits, then base64url without padding. The cipher is
//! XChaCha20-Poly1305, and the place where the text stands is its associated data: moved to another row it does not open.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use secrecy::SecretBox;
use sha2::Sha256;
use zeroize::Zeroizing;

/// How a sealed text of this form begins.
const FORM: &str = "v1";
const NONCE_LEN: usize = 24;
/// What the cipher adds to a secret, in bytes.
const TAG_LEN: usize = 16;
/// Longest secret, in bytes: a certificate's key is far shorter.
pub const SECRET_LEN_MAX: usize = 64 << 10;

/// A secret that was opened. It is wiped from memory at its end, and `Debug` does not show it.
pub type Secret = SecretBox<Vec<u8>>;

/// Who may open a sealed text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// Masters and coreapps: the secrets of providers, pins, what a backup holds.
    Owner,
    /// Every role: what webapps need themselves, such as the private key of the certificate.
    Webapp,
}

impl Seal {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Owner, Self::Webapp];

    /// What its key is derived by.
    pub(super) fn info(self) -> &'static str {
        match self {
            Self::Owner => "seal/owner",
            Self::Webapp => "seal/webapp",
        }
    }
}

/// Where a sealed text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Without a slash.
    pub table: &'a str,
    /// The row's key. Without a slash in the table `setting`.
    pub row: &'a str,
    /// A column, or in a JSON document the way to the text, with slashes (RFC 6901, without the first one).
    pub field: &'a str,
}

impl<'a> Place<'a> {
    /// A text of a JSON document that is a row of `setting`. A rotation of the cluster key seals anew what stands there
    /// (`member/sealed.rs`), and nothing else: keep sealed texts in such rows.
    pub fn setting(row: &'a str, field: &'a str) -> Self {
        Self {
            table: "setting",
            row,
            field,
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.table, self.row, self.field)
    }
}

/// Why a text cannot be sealed or opened. The place is in every error that is about one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("{place} is not sealed in a form that this release reads")]
    Form { place: String },
    #[error(
        "{place} was sealed with the key {id}, which is not on this machine; send that secret again"
    )]
    UnknownKey { place: String, id: String },
    #[error("{place} was changed, or was sealed for another row; send that secret again")]
    Changed { place: String },
    #[error("{place} is longer than {SECRET_LEN_MAX} bytes")]
    TooLong { place: String },
    /// A webapp is asked for what is not for webapps.
    #[error(
        "{place} is for masters and coreapps; a webapp's part of the cluster key does not open it"
    )]
    NotForWebapps { place: String },
    /// See [`older_part`].
    #[error(
        "the webapps' part of the cluster key on this machine is of an older release and opens no sealed secret; {}",
        older_part()
    )]
    OlderPart,
    #[error("the kernel gave no random bytes")]
    NoRandom,
}

/// What to type where the webapps' part of a key was written by a release before sealing.
pub fn older_part() -> &'static str {
    "on a machine with the cluster key type: wa-agent keygen --webapp-of /etc/wa-agent/credentials/cluster-key --out \
     /etc/wa-agent/credentials/webapp-key; copy that file to the machines that run webapps only, and type on each: systemctl \
     reload 'wa-webapp@*'"
}

/// A sealed text, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Tells the keys apart; says nothing about them.
    pub key: String,
    nonce: [u8; NONCE_LEN],
    ciphertext: Vec<u8>,
}

impl Sealed {
    /// Takes a text apart; `None` for every other text. Opens nothing.
    pub fn parse(text: &str) -> Option<Self> {
        // Four characters for three bytes, and the parts before.
        if text.len() > (SECRET_LEN_MAX + TAG_LEN) / 3 * 4 + 64 {
            return None;
        }
        let mut parts = text.split('.');
        let (form, key) = (parts.next()?, parts.next()?);
        let (nonce, ciphertext) = (parts.next()?, parts.next()?);
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if form != FORM || parts.next().is_some() || key.len() != 8 || !key.bytes().all(digit) {
            return None;
        }
        // The decoder refuses what it would not write itself: one secret has one text.
        let nonce = BASE64_URL_SAFE_NO_PAD.decode(nonce).ok()?;
        let ciphertext = BASE64_URL_SAFE_NO_PAD.decode(ciphertext).ok()?;
        (ciphertext.len() >= TAG_LEN).then_some(())?;
        Some(Self {
            key: key.to_owned(),
            nonce: nonce.try_into().ok()?,
            ciphertext,
        })
    }
}

/// The text again, as it was.
impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nonce, rest) = (
            BASE64_URL_SAFE_NO_PAD.encode(self.nonce),
            BASE64_URL_SAFE_NO_PAD.encode(&self.ciphertext),
        );
        write!(f, "{FORM}.{}.{nonce}.{rest}", self.key)
    }
}

/// A key that seals.
#[derive(Clone)]
pub(super) struct SealKey {
    id: String,
    key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({}, [REDACTED])", self.id)
    }
}

impl SealKey {
    /// The key, and its id, which follows from it.
    pub(super) fn new(key: [u8; 32]) -> Self {
        let mut id = [0; 4];
        Hkdf::<Sha256>::new(Some(b"wa-agent/1"), &key)
            .expand(b"seal/id", &mut id)
            .expect("4 bytes are within HKDF's limit");
        Self {
            id: hex::encode(id),
            key: Zeroizing::new(key),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// In hexadecimal, for the line of a key file.
    pub(super) fn words(&self) -> String {
        hex::encode(*self.key)
    }

    /// A key for another use, from which this one does not follow.
    pub(super) fn derive(&self, info: &str) -> [u8; 32] {
        let mut key = [0; 32];
        Hkdf::<Sha256>::new(Some(b"wa-agent/1"), &*self.key)
            .expand(info.as_bytes(), &mut key)
            .expect("32 bytes are within HKDF's limit");
        key
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.key))
    }

    pub(super) fn seal(&self, place: &Place<'_>, secret: &[u8]) -> Result<String, SealError> {
        let place = place.to_string();
        if secret.len() > SECRET_LEN_MAX {
            return Err(SealError::TooLong { place });
        }
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| SealError::NoRandom)?;
        let payload = Payload {
            msg: secret,
            aad: place.as_bytes(),
        };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload);
        let sealed = Sealed {
            key: self.id.clone(),
            nonce,
            ciphertext: sealed.expect("a short text in memory can be encrypted"),
        };
        Ok(sealed.to_string())
    }

    /// `None`: it was not sealed with this key for this place, or was changed since.
    pub(super) fn open(&self, place: &str, sealed: &Sealed) -> Option<Secret> {
        let payload = Payload {
            msg: &sealed.ciphertext,
            aad: place.as_bytes(),
        };
        let opened = self.cipher().decrypt(&XNonce::from(sealed.nonce), payload);
        Some(Secret::new(Box::new(opened.ok()?)))
    }
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
