//! What people without a key look at, through the host agent of their machine: the questions, by types only.
//! The answers are those of masters and of the database.

use serde::{Deserialize, Serialize};

/// What the host agent tells members of the group `wa` of its machine, who can read no key: looking, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// [`super::control::ClusterStatus`].
    Status,
    /// A list of [`super::control::Explanation`].
    Explain,
    /// The newest decisions, oldest first.
    History { limit: u32 },
    /// One decision, its evidence, and what followed; null when there is none.
    Decision { id: i64 },
    /// The application settings, without passwords.
    Settings,
    /// The oldest parked webhooks: [`super::parked::List`].
    Webhooks { limit: u32 },
    /// What each node says of its media directory: a list of `db::mount::Mount`.
    Mounts,
    /// A list of [`KnownMaster`], also while the database does not answer.
    Masters,
}

/// Where a master was when the database last said so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownMaster {
    pub node: String,
    pub control_url: String,
    /// Since its last beat in the database, in milliseconds.
    pub beat_age_ms: u64,
}
