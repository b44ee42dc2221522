//! Media objects: one of `id` and `link`, and the texts that a type may have.
//! Does not know which ids exist.

use super::super::refusal::Refusal;
use super::sent::{File, Kind};
use super::strict::Strict;

/// Longest caption, in characters.
const CAPTION_MAX: usize = 1024;
/// Longest file name, in characters.
const FILENAME_MAX: usize = 240;

/// One of `id` and `link`.
pub fn source(object: &mut Strict, kind: Kind, files: &mut Vec<File>) -> Result<(), Refusal> {
    match (object.has("id"), object.has("link")) {
        (true, false) => {
            let id = object.need_id("id")?.to_owned();
            files.push(File { id, kind });
            Ok(())
        }
        (false, true) => object.need_link("link").map(drop),
        (true, true) => Err(Refusal::bad(&format!(
            "{} and link exclude each other",
            object.path("id")
        ))),
        (false, false) => Err(Refusal::missing(&object.path("id or link"))),
    }
}

/// The object of a media message.
pub fn message(body: &mut Strict, name: &str, files: &mut Vec<File>) -> Result<(), Refusal> {
    let mut object = body.need_object(name)?;
    let mut kind = Kind::of(name).unwrap_or(Kind::Document);
    match kind {
        Kind::Image | Kind::Video => {
            object.text_within("caption", CAPTION_MAX)?;
        }
        Kind::Document => {
            object.text_within("caption", CAPTION_MAX)?;
            object.text_within("filename", FILENAME_MAX)?;
        }
        Kind::Audio | Kind::Voice => {
            if object.boolean("voice")? == Some(true) {
                kind = Kind::Voice;
            }
        }
        Kind::Sticker => {}
    }
    source(&mut object, kind, files)?;
    object.end()
}

/// The object `name` of a header, of a parameter, or of a card: no caption there.
pub fn inside(parent: &mut Strict, name: &str, files: &mut Vec<File>) -> Result<(), Refusal> {
    let mut object = parent.need_object(name)?;
    let kind = Kind::of(name).unwrap_or(Kind::Document);
    if kind == Kind::Document {
        object.text_within("filename", FILENAME_MAX)?;
    }
    source(&mut object, kind, files)?;
    object.end()
}
