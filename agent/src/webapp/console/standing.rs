//! What the page of the number shows, as it was asked last. Plain values.
//! Asks nobody: `account.rs` does.

use crate::api::internal::AccountWord;
use crate::db::history::Decision;
use crate::db::template::Listed;

/// Everything of the page.
#[derive(Debug)]
pub struct Standing {
    pub shards: Vec<ShardWord>,
    pub account: Asked,
    /// Templates that are shown, and how many there are of each state.
    pub templates: Vec<Listed>,
    pub states: Vec<(String, u64)>,
    /// News of the account, newest first.
    pub news: Vec<Decision>,
}

/// What the owner of a shard says of the number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardWord {
    pub shard: u16,
    /// `None`: it has no owner that answers.
    pub owner: Option<String>,
    /// `gateway_status` of the owner; empty without one.
    pub word: String,
}

/// What came of asking an owner what the upstream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Heard {
        node: String,
        word: Box<AccountWord>,
    },
    /// The owners are of a release that cannot be asked; one of them.
    Older(String),
    /// No owner answered in time; one of them.
    Silent(String),
    /// No shard has an owner that answers.
    NoOwner,
}
