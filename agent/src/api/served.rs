//! What webapps ask of the primary master for calls of the public API that it serves: types only.
//! Operators' verbs, and the rest of the control port, are in `control.rs`.

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use super::provider::Credentials;
use super::v1::code::Code;

/// Where these calls live on a master's control port. Each is answered with [`Served`], by the primary master only, and carries the
/// token of the administrator who asked (`net/deed.rs`): the master looks it up itself.
pub mod path {
    /// POST [`super::ProvidersRequest`].
    pub const PROVIDERS: &str = "/control/providers";
    /// POST [`super::BackupRequest`].
    pub const BACKUP: &str = "/control/backup";
    /// POST [`super::RestoreRequest`].
    pub const RESTORE: &str = "/control/restore";
}

/// Store media providers by name, and delete one. What is not named stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProvidersRequest {
    pub store: Vec<ProviderWish>,
    pub delete: Option<String>,
}

/// A provider as a client wants it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProviderWish {
    pub name: String,
    /// A masked secret stays what it is.
    pub credentials: Credentials,
    /// `None`: as they are.
    #[serde(default)]
    pub hosts: Option<Vec<String>>,
}

/// Make a backup.
#[derive(Clone, Serialize, Deserialize)]
pub struct BackupRequest {
    /// Derived from the password; 32 bytes in hexadecimal.
    pub key: String,
    /// A backup with nothing in it, whose head says how the key was derived.
    pub blank: String,
    /// The user who asked.
    pub by: String,
}

/// Restore a backup.
#[derive(Clone, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// As in [`BackupRequest`].
    pub key: String,
    pub data: String,
    /// The user who asked, and whose login stays.
    pub by: String,
}

impl Drop for BackupRequest {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl Drop for RestoreRequest {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// What came of a call.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Served {
    /// It is done, and every node is told.
    Done,
    /// It is done, and this is its answer.
    Text(String),
    /// It cannot be done; nothing was changed.
    Refused { code: Code, details: String },
}

impl Served {
    /// A refusal.
    pub fn refused(code: Code, details: impl Into<String>) -> Self {
        Self::Refused {
            code,
            details: details.into(),
        }
    }
}

impl std::fmt::Debug for Served {
    // The text may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done => f.write_str("Done"),
            Self::Text(_) => f.write_str("Text(****)"),
            Self::Refused { code, details } => write!(f, "Refused({code:?}, {details:?})"),
        }
    }
}
