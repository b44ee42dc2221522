//! The internal calls from webapps to coreapps: types only.
//! Nothing here is public; the credential is derived from the cluster key.

use serde::{Deserialize, Serialize};

/// Paths of the calls on a coreapp's API port.
pub mod path {
    /// POST [`super::AcceptRequest`] → [`super::AcceptAnswer`].
    pub const MESSAGES: &str = "/internal/messages";
    /// POST [`super::ReadRequest`] → [`super::ReadAnswer`]: mark an inbound message as read.
    pub const READ: &str = "/internal/read";
    /// POST, no body: new events wait in the inbox.
    pub const EVENTS: &str = "/internal/events";
    /// GET → [`super::HealthAnswer`].
    pub const HEALTH: &str = "/internal/health";
}

/// A message that the webapp has checked, with the id that it minted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    pub id: String,
    pub body_hash: u64,
    pub recipient: String,
    pub recipient_hash: u32,
    /// The Cloud API request as JSON text.
    pub payload: String,
}

/// Messages of one shard for its owner.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AcceptRequest {
    pub shard: u16,
    pub generation: u32,
    /// The epoch that the webapp's shard map shows; a coreapp that has not got there yet answers `NotOwner`.
    pub epoch: u64,
    pub messages: Vec<Message>,
}

/// What became of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Accepted,
    Duplicate,
    /// Same id, other body.
    Conflict,
}

/// The answer to the whole request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcceptAnswer {
    /// One verdict a message, in order. Durable as the store is.
    Accepted { verdicts: Vec<Verdict> },
    /// This node may not act for the shard (any more, or yet): read the shard map again. Nothing was stored.
    NotOwner,
    /// Held for a handover that is under way, or too much is waiting: try again. Nothing was stored.
    Busy,
    /// The store did not answer: the outcome is unknown, a retry under the same ids is safe.
    Unknown,
}

/// Mark an inbound message as read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReadRequest {
    pub wamid: String,
}

/// What became of a request to mark as read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadAnswer {
    Done,
    /// This node holds no tenure: read the shard map again.
    NotOwner,
    /// The upstream refused; the `/v1` code and its words.
    Refused {
        code: u16,
        details: String,
    },
    /// The upstream did not answer in time.
    Unreachable,
}

/// A coreapp's word on itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HealthAnswer {
    /// `connected`, `connecting` or `disconnected`.
    pub gateway_status: String,
    pub shard: Option<u16>,
    pub epoch: u64,
}
