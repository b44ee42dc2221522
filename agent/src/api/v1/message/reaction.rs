//! Reactions.

use serde::{Deserialize, Serialize};

use super::id::is_message_id;
use crate::api::error::ApiError;
use crate::api::v1::fields::Fields;

/// Longest emoji, in characters: a family of four with skins, or the flag of a region, has about ten. What is one decides the
/// upstream.
const EMOJI_LEN_MAX: usize = 32;

/// The object of a reaction, also as it is stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reaction {
    /// The message that it is about: ours, or a customer's.
    pub message_id: String,
    /// Empty: an earlier reaction is taken away.
    pub emoji: String,
}

impl Reaction {
    /// Reads the object `reaction` of a message. A missing emoji is an empty one, as it is in what customers send.
    ///
    /// # Errors
    /// 1008 or 1009.
    pub fn parse(body: &mut Fields) -> Result<Self, ApiError> {
        let mut object = body.need_object("reaction")?;
        let message_id = object.need_text("message_id")?;
        if !is_message_id(&message_id) {
            return Err(object.invalid("message_id", "the id of a message"));
        }
        let emoji = object.text_or_empty("emoji")?.unwrap_or_default();
        match emoji.chars().count() <= EMOJI_LEN_MAX {
            true => Ok(Self { message_id, emoji }),
            false => Err(object.invalid("emoji", "one emoji, or empty")),
        }
    }
}
