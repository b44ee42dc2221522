//! `/v1/media`: which files may be uploaded. What a message may say of one is in `message/media.rs`.
//! Reads no file.

use serde::Serialize;
use utoipa::ToSchema;

use super::Meta;
use super::media_type::MediaType;
use crate::api::error::ApiError;

/// Longest file, in bytes (API reference: 100 MB).
pub const LEN_MAX: u64 = 100_000_000;

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
pub fn content_type(header: Option<&[u8]>) -> Result<MediaType, ApiError> {
    let header = header.ok_or_else(|| ApiError::missing("Content-Type"))?;
    let wrong =
        || ApiError::invalid("Content-Type must be the type of the file, such as image/jpeg");
    let text = std::str::from_utf8(header).map_err(|_| wrong())?;
    let read = MediaType::parse(text).ok_or_else(wrong)?;
    match read.plain().starts_with("multipart/") {
        true => Err(ApiError::invalid(
            "the body must be the file itself, not a form",
        )),
        false => Ok(read),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_checked() {
        let read = |text: &str| content_type(Some(text.as_bytes()));
        let cleaned = |text: &str| read(text).ok().map(|kind| kind.as_str().to_owned());
        assert_eq!(
            cleaned("Image/JPEG; charset=x").as_deref(),
            Some("image/jpeg")
        );
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
