//! Interactive messages.

use serde_json::Value;

use super::media::{Files, MissingFile, source};
use crate::api::v1::message::interactive::Interactive;

/// The object `interactive`, with the upstream's names of the files in it.
///
/// # Errors
/// [`MissingFile`] when `files` lacks one that it names.
pub fn object(interactive: &Interactive, files: &Files) -> Result<Value, MissingFile> {
    let mut object = Value::Object(interactive.object().clone());
    for placed in interactive.files() {
        let (field, name) = source(&placed.file.source, files)?;
        let place = object.pointer_mut(&placed.at);
        let place = place.and_then(Value::as_object_mut);
        let place = place.ok_or_else(|| MissingFile(placed.at.clone()))?;
        place.insert(field.into(), name.into());
    }
    Ok(object)
}
