//! Images, audio, videos, documents, stickers.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::api::v1::message::media::{Attachment, FileId, Source};

/// The upstream's ids of files of ours.
pub type Files = BTreeMap<FileId, String>;

/// A message names a file that the upstream was not given.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream was not given file {0}")]
pub struct MissingFile(pub String);

/// The object of a media message, under the name of its type.
///
/// # Errors
/// [`MissingFile`] when `files` lacks the file that it names.
pub fn object(attachment: &Attachment, files: &Files) -> Result<Value, MissingFile> {
    let mut object = Map::new();
    match &attachment.source {
        Source::Link(link) => {
            object.insert("link".into(), link.as_str().into());
        }
        Source::Id(file) => {
            let id = files.get(file);
            let id = id.ok_or_else(|| MissingFile(file.0.clone()))?;
            object.insert("id".into(), id.as_str().into());
        }
    }
    for (name, value) in [
        ("caption", &attachment.caption),
        ("filename", &attachment.filename),
    ] {
        if let Some(value) = value {
            object.insert(name.into(), value.as_str().into());
        }
    }
    Ok(object.into())
}
