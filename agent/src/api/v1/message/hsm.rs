//! Messages in the form that templates had first.

use serde::{Deserialize, Serialize};

use crate::api::error::ApiError;
use crate::api::v1::fields::Fields;

/// Messages in the form that templates had first.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hsm {}

impl Hsm {
    /// Reads it from the body of a message.
    ///
    /// # Errors
    /// The documented code of what is wrong.
    pub fn parse(body: &mut Fields) -> Result<Self, ApiError> {
        Err(body.invalid("type", "a type that this version sends"))
    }
}
