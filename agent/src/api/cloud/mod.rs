//! The Cloud API's calls, answers and webhooks, and how they map to the `/v1` shapes. Types and pure functions only.
//! Facts: the API reference's sections on the successor and on the mapping.

use serde::Deserialize;
use wa_core::outcome::Refusal;

/// News of the account.
pub mod account;
/// Blocked customers.
pub mod block;
/// The calls to the upstream.
pub mod call;
#[cfg(test)]
mod call_business_tests;
/// Events and refusals as callbacks.
pub mod callback;
/// What an examination asks, and how long a version lasts.
pub mod checkup;
/// Numbers of errors.
pub mod code;
/// The objects of requests.
pub mod content;
/// Who is who.
pub mod customer;
/// Webhook calls, taken apart.
pub mod event;
/// Files of customers.
pub mod file;
/// Identity keys of customers.
pub mod identity;
/// Webhook calls as they came.
pub mod item;
#[cfg(test)]
mod item_tests;
/// Texts that are no Unicode.
pub mod lenient;
/// What travels with a message and comes back with its statuses.
pub mod opaque;
/// The business profile, its compliance information and its photo.
pub mod profile;
/// What a refusal means for who asked an owner.
pub mod refusal;
/// What the upstream says of the number and of its registration.
pub mod registration;
/// Our messages as the upstream's requests.
pub mod request;
/// Ids of customers' messages, short.
pub mod short;
/// The one number by which the business knows a customer.
pub mod stable;
/// The account's templates.
pub mod template;
/// What the business was told of a message.
pub mod told;

/// The answer to an accepted send.
#[derive(Debug, Deserialize)]
pub struct SendAnswer {
    pub messages: Vec<SendAnswerMessage>,
    /// Of whatever shape: it must not hide the id of the message.
    #[serde(default)]
    contacts: serde_json::Value,
}

impl SendAnswer {
    /// The upstream's id of the message, where the answer is of the documented shape (F06).
    pub fn id(&self) -> Option<&str> {
        let id = self.messages.first()?.id.trim();
        let documented = !id.is_empty() && !id.contains(char::is_whitespace);
        documented.then_some(id)
    }

    /// The number in the upstream's spelling; user ids have none.
    pub fn wa_id(&self) -> Option<&str> {
        self.contacts.pointer("/0/wa_id")?.as_str()
    }
}

/// The upstream's id of the message.
#[derive(Debug, Deserialize)]
pub struct SendAnswerMessage {
    pub id: String,
}

/// The answer to a refused call.
#[derive(Debug, Deserialize)]
pub struct ErrorAnswer {
    pub error: ErrorBody,
}

/// What was refused.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ErrorBody {
    pub code: u32,
    pub message: String,
    /// The number of the call in the upstream's own logs.
    pub fbtrace_id: Option<String>,
    error_data: serde_json::Value,
    error_subcode: serde_json::Value,
}

impl ErrorBody {
    /// What decides, with the status that it came with.
    pub fn refusal(&self, status: u16) -> Refusal {
        let subcode = self.error_subcode.as_u64();
        Refusal {
            status,
            code: self.code,
            subcode: subcode.and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        }
    }

    /// What exactly is wrong. Of any other shape it says nothing, and hides neither number nor words.
    pub fn details(&self) -> Option<&str> {
        self.error_data.get("details")?.as_str()
    }
}
