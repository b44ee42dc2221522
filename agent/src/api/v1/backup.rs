//! `/v1/settings/backup` and `/v1/settings/restore`: what clients send, and the form of a backup.
//! Seals and opens nothing: `member/backup.rs` does.
//!
//! A backup is `wa-agent-backup.v1.memory.passes.lanes.salt.nonce.ciphertext`: the cost of Argon2id as numbers, the rest in
//! base64url without padding. Everything before the nonce is the associated data of XChaCha20-Poly1305.

use std::fmt;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::Meta;
use super::fields::Fields;
use crate::api::error::ApiError;

/// How every backup of ours begins, whatever its form.
pub const PREFIX: &str = "wa-agent-backup.";
const FORM: &str = "v1";
/// Longest backup, in bytes.
pub const BACKUP_LEN_MAX: usize = 1 << 20;
/// Shortest and longest password, in characters.
const PASSWORD_LEN: RangeInclusive<usize> = 8..=256;
pub const SALT_LEN: usize = 16;
pub const NONCE_LEN: usize = 24;
/// Most memory in KiB, most passes and most lanes that are worked off for anybody.
const MEMORY_KIB_MAX: u32 = 64 << 10;
const PASSES_MAX: u32 = 8;
const LANES_MAX: u32 = 4;
/// What the cipher adds, in bytes.
const TAG_LEN: usize = 16;

/// The body of both calls.
#[derive(ToSchema)]
pub struct BackupBody {
    /// At least 8 characters. Nobody can read a backup without it.
    #[schema(example = "a-long-password")]
    pub password: String,
    /// What a backup answered; for a restore only.
    pub data: Option<String>,
}

/// The answer of `POST /v1/settings/backup`.
#[derive(Serialize, ToSchema)]
pub struct BackupAnswer {
    pub settings: BackupSettings,
    pub meta: Meta,
}

/// See [`BackupAnswer`].
#[derive(Serialize, ToSchema)]
pub struct BackupSettings {
    /// Opaque; `POST /v1/settings/restore` takes it.
    pub data: String,
}

impl BackupAnswer {
    pub fn of(data: String) -> Self {
        Self {
            settings: BackupSettings { data },
            meta: Meta::default(),
        }
    }
}

/// The password of a backup.
///
/// # Errors
/// 1008 without one, 1009 for one that is too short, 1001 for one that is too long.
pub fn password(body: &mut Fields) -> Result<Zeroizing<String>, ApiError> {
    let password = body.text_within("password", *PASSWORD_LEN.end())?;
    let password = Zeroizing::new(password.ok_or_else(|| body.missing("password"))?);
    if password.chars().count() < *PASSWORD_LEN.start() {
        return Err(body.invalid("password", "at least 8 characters long"));
    }
    Ok(password)
}

/// The backup that is to be restored.
///
/// # Errors
/// 1008 without one, 1009 for what is none of ours, with what can be told of it.
pub fn data(body: &mut Fields) -> Result<Blob, ApiError> {
    let text = body.need_text("data")?;
    Blob::parse(text.trim()).map_err(|why| ApiError::invalid(format!("data {why}")))
}

/// A text is a backup of ours, of whatever form: nobody else can use it.
pub fn is_ours(text: &str) -> bool {
    text.trim_start().starts_with(PREFIX)
}

/// How much work the key of a password takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

impl Cost {
    /// Of new backups: a quarter of a second of one core, and memory that the smallest machine has.
    pub const NEW: Self = Self {
        memory_kib: 32 << 10,
        passes: 4,
        lanes: 1,
    };

    /// More than this is not done for anybody who sends a text, be it a backup or a password's hash.
    pub fn bounded(self) -> bool {
        // The lanes first: the least memory follows from them.
        (1..=LANES_MAX).contains(&self.lanes)
            && (1..=PASSES_MAX).contains(&self.passes)
            && (8 * self.lanes..=MEMORY_KIB_MAX).contains(&self.memory_kib)
    }
}

/// A backup, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    pub cost: Cost,
    pub salt: [u8; SALT_LEN],
    pub nonce: [u8; NONCE_LEN],
    pub ciphertext: Vec<u8>,
}

/// What is wrong with a text that was sent as a backup; each follows the name of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    #[error("is not a backup of wa-agent")]
    Foreign,
    #[error("is a backup of a newer release; upgrade first")]
    Newer,
    #[error("is damaged, or was cut off")]
    Damaged,
    #[error("asks for more work than a backup needs; it was not made by wa-agent")]
    Costly,
    #[error("is longer than a backup can be")]
    TooLong,
}

impl Blob {
    /// Takes a text apart, and opens nothing.
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn parse(text: &str) -> Result<Self, BlobError> {
        if text.len() > BACKUP_LEN_MAX {
            return Err(BlobError::TooLong);
        }
        let rest = text.strip_prefix(PREFIX).ok_or(BlobError::Foreign)?;
        let parts: Vec<&str> = rest.split('.').collect();
        if parts.first().is_some_and(|form| *form != FORM) {
            return Err(BlobError::Newer);
        }
        let [_, memory, passes, lanes, salt, nonce, ciphertext] = parts[..] else {
            return Err(BlobError::Damaged);
        };
        let cost = Cost {
            memory_kib: number(memory)?,
            passes: number(passes)?,
            lanes: number(lanes)?,
        };
        if !cost.bounded() {
            return Err(BlobError::Costly);
        }
        let ciphertext = bytes(ciphertext)?;
        if ciphertext.len() < TAG_LEN {
            return Err(BlobError::Damaged);
        }
        Ok(Self {
            cost,
            salt: bytes(salt)?.try_into().map_err(|_| BlobError::Damaged)?,
            nonce: bytes(nonce)?.try_into().map_err(|_| BlobError::Damaged)?,
            ciphertext,
        })
    }

    /// What stands before the nonce: nobody may change it.
    pub fn head(&self) -> String {
        let salt = BASE64_URL_SAFE_NO_PAD.encode(self.salt);
        let Cost {
            memory_kib,
            passes,
            lanes,
        } = self.cost;
        format!("{PREFIX}{FORM}.{memory_kib}.{passes}.{lanes}.{salt}")
    }
}

/// The text again, as it was.
impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nonce, rest) = (
            BASE64_URL_SAFE_NO_PAD.encode(self.nonce),
            BASE64_URL_SAFE_NO_PAD.encode(&self.ciphertext),
        );
        write!(f, "{}.{nonce}.{rest}", self.head())
    }
}

/// Digits as this release writes them: one number has one text.
fn number(text: &str) -> Result<u32, BlobError> {
    let number: u32 = text.parse().map_err(|_| BlobError::Damaged)?;
    match number.to_string() == text {
        true => Ok(number),
        false => Err(BlobError::Damaged),
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, BlobError> {
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| BlobError::Damaged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::v1::code::Code;

    fn blob() -> Blob {
        Blob {
            cost: Cost::NEW,
            salt: [1; SALT_LEN],
            nonce: [2; NONCE_LEN],
            ciphertext: vec![3; 40],
        }
    }

    fn refused(body: &str) -> (Code, String) {
        let mut body = Fields::parse(body.as_bytes()).expect("an object");
        let read = password(&mut body).and_then(|_| data(&mut body));
        let error = read.expect_err("refused");
        (error.code, error.details.unwrap_or_default())
    }

    /// Goal: each fault has its documented code and says as much as can be told. Method: one fault a body.
    #[test]
    fn faults_are_told_apart() {
        let long = "x".repeat(257);
        let newer = blob().to_string().replace(".v1.", ".v2.");
        let costly = blob().to_string().replace(".32768.", ".4194304.");
        let slow = blob().to_string().replace(".4.1.", ".400.1.");
        let wide = blob().to_string().replace(".4.1.", ".4.4294967295.");
        let cut = &blob().to_string()[..90];
        for (body, code, says) in [
            (r"{}".to_owned(), Code::ParameterMissing, "password"),
            (
                r#"{"password":"short"}"#.into(),
                Code::ParameterNotValid,
                "at least 8",
            ),
            (
                format!(r#"{{"password":"{long}"}}"#),
                Code::TooLong,
                "password",
            ),
            (
                r#"{"password":"long enough"}"#.into(),
                Code::ParameterMissing,
                "data",
            ),
            (
                with("AAAA"),
                Code::ParameterNotValid,
                "not a backup of wa-agent",
            ),
            (with(&newer), Code::ParameterNotValid, "newer release"),
            (with(&costly), Code::ParameterNotValid, "more work"),
            (with(&slow), Code::ParameterNotValid, "more work"),
            (with(&wide), Code::ParameterNotValid, "more work"),
            (with(cut), Code::ParameterNotValid, "damaged"),
        ] {
            let (found, details) = refused(&body);
            assert_eq!(found, code, "{body}: {details}");
            assert!(details.contains(says), "{body}: {details}");
        }
        assert!(is_ours(&blob().to_string()) && is_ours(&newer) && !is_ours("AAAA"));
    }

    fn with(data: &str) -> String {
        format!(r#"{{"password":"long enough","data":"{data}"}}"#)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        /// Goal: no text panics the reader or makes it promise much work; what it understands it writes as it was. Method: our
        /// own form with anything changed in it, and noise.
        #[test]
        fn no_text_panics_the_reader(at: prop::sample::Index, with in "[A-Za-z0-9._-]{0,6}|[0-9]{1,10}", noise in ".*") {
            let own = blob().to_string();
            let cut = at.index(own.len());
            let end = (cut + with.len()).min(own.len());
            let changed = format!("{}{with}{}", &own[..cut], &own[end..]);
            for text in [own, changed, noise] {
                if let Ok(read) = Blob::parse(&text) {
                    prop_assert_eq!(read.to_string(), text);
                    prop_assert!(read.cost.memory_kib <= 65_536 && read.cost.passes <= 8 && read.cost.lanes <= 4);
                }
            }
        }
    }
}
