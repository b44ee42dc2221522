//! What became of a message of ours, as the business is told of it.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::api::error::ErrorObject;
use crate::api::v1::code::Code;

/// The client's own data of a message, which is told again.
const OPAQUE: &str = "biz_opaque_callback_data";

/// One entry of `statuses`. `conversation`, `pricing` and what is new stand in `more`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<StatusMessage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Seconds since 1970, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ErrorObject>,
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// Whom a failed message was for, a second time: the reference client said it in both places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusMessage {
    pub recipient_id: String,
}

impl Status {
    /// A message of ours that will not be delivered.
    pub fn failed(id: &str, recipient: &str, error: ErrorObject, at_s: u64) -> Self {
        Self {
            id: Some(id.to_owned()),
            recipient_id: Some(recipient.to_owned()),
            message: Some(StatusMessage {
                recipient_id: recipient.to_owned(),
            }),
            status: Some("failed".to_owned()),
            timestamp: Some(at_s.to_string()),
            errors: vec![error],
            more: Map::new(),
        }
    }

    /// A message of ours of which nobody knows whether it was sent.
    pub fn unknown_outcome(id: &str, recipient: &str, at_s: u64) -> Self {
        Self::failed(id, recipient, Self::doubt(), at_s)
    }

    /// The error of a message of which nobody knows whether it was sent.
    pub fn doubt() -> ErrorObject {
        let why = "Whether it was sent is not known".to_owned();
        ErrorObject::new(Code::Generic, Some(why))
    }

    /// The same, with what the client gave its message to be told again.
    #[must_use]
    pub fn with_data(mut self, callback_data: Option<String>) -> Self {
        if let Some(data) = callback_data {
            self.more.insert(OPAQUE.to_owned(), data.into());
        }
        self
    }
}
