//! Template messages.

use serde_json::{Value, json};

use super::media::{Files, MissingFile};
use crate::api::v1::message::template::Template;

/// The object of the request.
///
/// # Errors
/// [`MissingFile`] when `files` lacks one that it names.
pub fn object(_: &Template, _: &Files) -> Result<Value, MissingFile> {
    Ok(json!({}))
}
