//! Messages in the form that templates had first.

use serde_json::{Value, json};

use super::media::{Files, MissingFile};
use crate::api::v1::message::hsm::Hsm;

/// The object of the request.
///
/// # Errors
/// [`MissingFile`] when `files` lacks one that it names.
pub fn object(_: &Hsm, _: &Files) -> Result<Value, MissingFile> {
    Ok(json!({}))
}
