//! Interactive messages.

use serde_json::{Value, json};

use super::media::{Files, MissingFile};
use crate::api::v1::message::interactive::Interactive;

/// The object of the request.
///
/// # Errors
/// [`MissingFile`] when `files` lacks one that it names.
pub fn object(_: &Interactive, _: &Files) -> Result<Value, MissingFile> {
    Ok(json!({}))
}
