//! `/v1/media`: which files may be uploaded. What a message may say of one is in `message/media.rs`.
//! Reads no file.

use serde::Serialize;
use utoipa::ToSchema;

use super::Meta;
use crate::api::error::ApiError;

/// Longest file, in bytes (API reference: 100 MB).
pub const LEN_MAX: u64 = 100_000_000;
/// Longest media type, in bytes.
const MIME_LEN_MAX: usize = 128;

/// The answer of `POST /v1/media`.
#[derive(Debug, Serialize, ToSchema)]
pub struct UploadAnswer {
    pub media: Vec<MediaId>,
    pub meta: Meta,
}

/// `{"id":…}`: a UUID.
#[derive(Debug, Serialize, ToSchema)]
pub struct MediaId {
    pub id: String,
}

/// The type of an uploaded file, from `Content-Type`.
///
/// # Errors
/// 1008 when it is missing, 1009 when it is no media type.
pub fn content_type(header: Option<&[u8]>) -> Result<String, ApiError> {
    let header = header.ok_or_else(|| ApiError::missing("Content-Type"))?;
    let wrong =
        || ApiError::invalid("Content-Type must be the type of the file, such as image/jpeg");
    let text = std::str::from_utf8(header).map_err(|_| wrong())?.trim();
    let plain = text.split(';').next().unwrap_or_default().trim();
    let good = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
    };
    match plain.split_once('/') {
        Some(("multipart", _)) => Err(ApiError::invalid(
            "the body must be the file itself, not a form",
        )),
        Some((kind, rest)) if text.len() <= MIME_LEN_MAX && good(kind) && good(rest) => {
            Ok(text.to_ascii_lowercase())
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_checked() {
        let read = |text: &str| content_type(Some(text.as_bytes()));
        assert_eq!(read("Image/JPEG").ok().as_deref(), Some("image/jpeg"));
        assert!(read("audio/ogg; codecs=opus").is_ok());
        for bad in [
            "",
            "image",
            "image/",
            "a b/c",
            "multipart/form-data; boundary=x",
        ] {
            assert_eq!(read(bad).map_err(|e| e.code.number()), Err(1009), "{bad}");
        }
        assert_eq!(content_type(None).map_err(|e| e.code.number()), Err(1008));
    }
}
