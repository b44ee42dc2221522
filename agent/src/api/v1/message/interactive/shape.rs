//! What kinds of interactive messages have in common: header, body, footer. Limits are those of the API reference.
//! Knows no action.

use super::super::kept::Draft;
use super::super::media::{self, MediaKind};
use super::placed::Placed;
use crate::api::error::ApiError;
use crate::api::v1::code::Code;

/// Longest text of a header and of a footer, in characters.
const LINE_LEN_MAX: usize = 60;
/// Longest body of most kinds, in characters.
pub const BODY_LEN_MAX: usize = 1024;
/// Longest body of a list, in characters.
pub const LIST_BODY_LEN_MAX: usize = 4096;

/// Headers that a kind may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// A text or a file.
    Any,
    /// A text.
    Text,
}

/// Reads a header, if there is one; answers whether there is.
///
/// # Errors
/// 2036 for a type of header that the kind cannot have; 1001, 1008, 1009, 1010.
pub fn header(
    draft: &mut Draft,
    allowed: Header,
    files: &mut Vec<Placed>,
) -> Result<bool, ApiError> {
    let there = draft.object("header", |header| {
        let word = header.need_text("type", usize::MAX)?;
        match (word.as_str(), allowed) {
            ("text", Header::Any | Header::Text) => {
                header.need_text("text", LINE_LEN_MAX)?;
                Ok(())
            }
            ("image", Header::Any) => file(header, MediaKind::Image, files),
            ("video", Header::Any) => file(header, MediaKind::Video, files),
            ("document", Header::Any) => file(header, MediaKind::Document, files),
            (_, Header::Any) => Err(structure(header, "must be text, image, video or document")),
            (_, Header::Text) => Err(structure(header, "must be text")),
        }
    })?;
    Ok(there.is_some())
}

fn structure(header: &Draft, why: &str) -> ApiError {
    header.refused(Code::HeaderStructureNotValid, "type", why)
}

fn file(header: &mut Draft, kind: MediaKind, files: &mut Vec<Placed>) -> Result<(), ApiError> {
    let source = header.need_rest(kind.as_str(), media::source)?;
    let at = format!("/header/{}", kind.as_str());
    files.push(Placed::new(at, kind, source));
    Ok(())
}

/// Reads a body that must be there.
///
/// # Errors
/// 1001, 1008, 1009.
pub fn need_body(draft: &mut Draft, chars_max: usize) -> Result<(), ApiError> {
    draft.need_object("body", |body| body.need_text("text", chars_max))?;
    Ok(())
}

/// Reads a body that may be there.
///
/// # Errors
/// 1001, 1008, 1009.
pub fn body(draft: &mut Draft) -> Result<(), ApiError> {
    draft.object("body", |body| body.need_text("text", BODY_LEN_MAX))?;
    Ok(())
}

/// Reads a footer, if there is one.
///
/// # Errors
/// 1001, 1008, 1009.
pub fn footer(draft: &mut Draft) -> Result<(), ApiError> {
    draft.object("footer", |footer| footer.need_text("text", LINE_LEN_MAX))?;
    Ok(())
}
