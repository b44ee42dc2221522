//! Texts.

use serde::{Deserialize, Serialize};

use crate::api::error::ApiError;
use crate::api::v1::fields::Fields;

/// Longest text body, in characters.
pub const TEXT_LEN_MAX: usize = 4096;

/// The object of a text message, also as it is stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    pub body: String,
}

impl Text {
    /// Reads the object `text` of a message.
    ///
    /// # Errors
    /// 1008, 1009 or 1001 (longer than [`TEXT_LEN_MAX`]).
    pub fn parse(object: &mut Fields) -> Result<Self, ApiError> {
        let body = object.text_within("body", TEXT_LEN_MAX)?;
        let body = body.ok_or_else(|| object.missing("body"))?;
        Ok(Self { body })
    }
}
