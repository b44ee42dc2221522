//! Files of interactive messages, and where they stand.
//! Looks for none: `shape.rs` and `verbatim.rs` do.

use serde::{Deserialize, Serialize};

use super::super::media::{Attachment, MediaKind, Source};

/// A file, and where it stands.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placed {
    /// JSON pointer to its object, which lacks `id` and `link`.
    pub at: String,
    /// Without caption and file name: they are left in the object.
    pub file: Attachment,
}

impl Placed {
    /// A file without caption and file name.
    pub fn new(at: String, kind: MediaKind, source: Source) -> Self {
        let file = Attachment {
            kind,
            source,
            caption: None,
            filename: None,
        };
        Self { at, file }
    }
}
