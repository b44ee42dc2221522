//! Images, audio, videos, documents, stickers.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::api::v1::message::media::{Attachment, MediaKind, Source};

/// The upstream's ids of files. A link that is not among them is sent as it is.
pub type Files = BTreeMap<Source, String>;

/// A message names a file that the upstream was not given.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream was not given file {0}")]
pub struct MissingFile(pub String);

/// How the upstream is told where a file is: field and value, `id` or `link`.
///
/// # Errors
/// [`MissingFile`] when `files` lacks one that only we have.
pub fn source<'a>(
    source: &'a Source,
    files: &'a Files,
) -> Result<(&'static str, &'a str), MissingFile> {
    match (files.get(source), source) {
        (Some(id), _) => Ok(("id", id)),
        (None, Source::Link(link)) => Ok(("link", link)),
        (None, Source::Id(file)) => Err(MissingFile(file.0.clone())),
        // Its link may hold a secret, and this ends in the log.
        (None, Source::Provided { provider, .. }) => {
            Err(MissingFile(format!("of provider {provider}")))
        }
    }
}

/// The type under which the upstream has a file: it knows no `voice`, which is `audio` with a mark.
pub fn upstream_type(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Voice => MediaKind::Audio.as_str(),
        MediaKind::Image
        | MediaKind::Audio
        | MediaKind::Video
        | MediaKind::Document
        | MediaKind::Sticker => kind.as_str(),
    }
}

/// The object of a media message, under the name of [`upstream_type`].
///
/// # Errors
/// [`MissingFile`] when `files` lacks the file that it names.
pub fn object(attachment: &Attachment, files: &Files) -> Result<Value, MissingFile> {
    let mut object = Map::new();
    let (field, value) = source(&attachment.source, files)?;
    object.insert(field.into(), value.into());
    for (name, value) in [
        ("caption", &attachment.caption),
        ("filename", &attachment.filename),
    ] {
        if let Some(value) = value {
            object.insert(name.into(), value.as_str().into());
        }
    }
    if attachment.kind == MediaKind::Voice {
        object.insert("voice".into(), true.into());
    }
    Ok(object.into())
}
