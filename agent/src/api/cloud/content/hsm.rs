//! Messages in the form that templates had first: the upstream knows templates only.

use serde_json::Value;

use super::media::{Files, MissingFile};
use super::template;
use crate::api::v1::message::hsm::Hsm;

/// The object `template`.
///
/// # Errors
/// [`MissingFile`]: never, for no file stands in such a message.
pub fn object(hsm: &Hsm, files: &Files) -> Result<Value, MissingFile> {
    template::object(&hsm.template(), files)
}
