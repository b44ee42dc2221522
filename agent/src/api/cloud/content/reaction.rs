//! Reactions.

use serde_json::{Value, json};

use crate::api::v1::message::reaction::Reaction;

/// The object `reaction`; `named` is the upstream's id of the message that it is about.
pub fn object(reaction: &Reaction, named: &str) -> Value {
    json!({"message_id": named, "emoji": reaction.emoji})
}
