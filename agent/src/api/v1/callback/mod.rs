//! What the business is POSTed: callbacks in the shapes of the reference client. Types only: `api/cloud/callback.rs` makes
//! them of what the upstream says, and the sender of what it refused.

use serde::Serialize;
use serde_json::Value;

use crate::api::error::ErrorObject;

/// What became of a garbage collection.
pub mod collection;
/// Messages of customers.
pub mod message;
/// What became of messages of ours.
pub mod status;

pub use collection::Service;
pub use message::Message;
pub use status::{Status, StatusMessage};

/// One callback: the arrays of its root. An array that is empty is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Callback {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contacts: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<Status>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// What went wrong that is about no message.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ErrorObject>,
    /// Additive, where the configuration wants them: `[webhooks] account_events`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub account_events: Vec<AccountEvent>,
}

/// News of the account, as the upstream told them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AccountEvent {
    pub field: String,
    pub value: Value,
}

impl Callback {
    /// One status.
    pub fn of_status(status: Status) -> Self {
        Self {
            statuses: vec![status],
            ..Self::default()
        }
    }

    /// One garbage collection.
    pub fn of_service(service: Service) -> Self {
        Self {
            services: vec![service],
            ..Self::default()
        }
    }

    /// As it is POSTed.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("plain data is JSON")
    }
}
