//! `/v1/media` and the media objects of messages: which types and sizes there are, and what an object must hold.
//! Reads no file.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Meta;
use crate::api::error::ApiError;

/// Longest file, in bytes (API reference: 100 MB).
pub const LEN_MAX: u64 = 100_000_000;
/// Longest caption, in characters.
const CAPTION_LEN_MAX: usize = 1024;
/// Longest name of a document, in characters.
const FILENAME_LEN_MAX: usize = 240;
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

/// Kinds of media messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Image,
    Audio,
    Video,
    Document,
    Sticker,
}

impl Kind {
    /// Reads a message type.
    pub fn parse(word: &str) -> Option<Self> {
        let all = [
            Self::Image,
            Self::Audio,
            Self::Video,
            Self::Document,
            Self::Sticker,
        ];
        all.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The message type, which is also the name of its object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Document => "document",
            Self::Sticker => "sticker",
        }
    }

    /// Whether a file of this type and length may be sent as this kind (limits of the API reference).
    ///
    /// # Errors
    /// 1009 with the rule.
    pub fn check(self, mime: &str, bytes: u64) -> Result<(), ApiError> {
        let (types, limit): (&[&str], u64) = match self {
            Self::Image => (&["image/jpeg", "image/png"], 5_000_000),
            Self::Audio => (
                &[
                    "audio/aac",
                    "audio/mp4",
                    "audio/amr",
                    "audio/mpeg",
                    "audio/ogg",
                ],
                16_000_000,
            ),
            Self::Video => (&["video/mp4", "video/3gpp"], 16_000_000),
            Self::Document => (&[], LEN_MAX),
            Self::Sticker => (&["image/webp"], 100_000),
        };
        let name = self.as_str();
        let plain = mime.split(';').next().unwrap_or_default().trim();
        if !types.is_empty() && !types.contains(&plain) {
            return Err(ApiError::invalid(format!(
                "{name}.id is a file of type {plain}; allowed are {}",
                types.join(", ")
            )));
        }
        if bytes > limit {
            return Err(ApiError::invalid(format!(
                "{name}.id has {bytes} bytes, {limit} are allowed"
            )));
        }
        Ok(())
    }
}

/// Where the bytes are.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// A file that was uploaded here.
    Id(String),
    /// The upstream fetches it.
    Link(String),
}

/// The object of a media message.
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    pub kind: Kind,
    pub source: Source,
    pub caption: Option<String>,
    pub filename: Option<String>,
}

impl Attachment {
    /// Reads the object of a message of this kind.
    ///
    /// # Errors
    /// The documented code of what is wrong.
    pub fn parse(kind: Kind, object: &Map<String, Value>) -> Result<Self, ApiError> {
        let name = kind.as_str();
        let text = |field: &str| match object.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
            Some(_) => Err(ApiError::invalid(format!(
                "{name}.{field} must be a string that is not empty"
            ))),
        };
        if object.get("provider").is_some_and(|value| !value.is_null()) {
            return Err(ApiError::invalid(format!(
                "{name}.provider is not supported; upload the file and send its id, or send a link that needs no credentials"
            )));
        }
        let source = match (text("id")?, text("link")?) {
            (Some(_), Some(_)) => {
                return Err(ApiError::with(
                    1010,
                    format!("{name}.link beside {name}.id"),
                ));
            }
            (None, None) => return Err(ApiError::missing(&format!("{name}.id or {name}.link"))),
            (Some(id), None) => match uuid::Uuid::try_parse(&id) {
                Ok(id) => Source::Id(id.hyphenated().to_string()),
                Err(_) => {
                    return Err(ApiError::invalid(format!(
                        "{name}.id must be an id that POST /v1/media answered"
                    )));
                }
            },
            (None, Some(link)) => {
                let url = url::Url::parse(&link).ok();
                if !url.is_some_and(|url| matches!(url.scheme(), "http" | "https")) {
                    return Err(ApiError::invalid(format!("{name}.link must be a URL")));
                }
                Source::Link(link)
            }
        };
        let limited = |field: &str, limit: usize, allowed: bool| {
            let value = text(field)?;
            match value.as_ref().map(|text| text.chars().count()) {
                Some(_) if !allowed => Err(ApiError::with(
                    1010,
                    format!("{name}.{field} does not belong to this type"),
                )),
                Some(length) if length > limit => Err(ApiError::invalid(format!(
                    "{name}.{field} has {length} characters, {limit} are allowed"
                ))),
                _ => Ok(value),
            }
        };
        let captioned = matches!(kind, Kind::Image | Kind::Video | Kind::Document);
        Ok(Self {
            kind,
            source,
            caption: limited("caption", CAPTION_LEN_MAX, captioned)?,
            filename: limited("filename", FILENAME_LEN_MAX, kind == Kind::Document)?,
        })
    }
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

    fn parse(kind: Kind, text: &str) -> Result<Attachment, ApiError> {
        let Ok(Value::Object(object)) = serde_json::from_str(text) else {
            panic!("{text}");
        };
        Attachment::parse(kind, &object)
    }

    const ID: &str = r#""id":"f043afd0-0000-4000-8000-000000000001""#;

    #[test]
    fn objects_are_read_or_answered_with_the_documented_code() {
        let good = parse(
            Kind::Document,
            &format!(r#"{{{ID},"caption":"c","filename":"f.pdf"}}"#),
        );
        let good = good.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(good.filename.as_deref(), Some("f.pdf"));
        let link = parse(Kind::Image, r#"{"link":"https://files.example/a.png"}"#);
        assert!(link.is_ok());
        let long = format!(r#"{{{ID},"caption":"{}"}}"#, "x".repeat(1025));
        let bad: &[(Kind, &str, u16)] = &[
            (Kind::Image, "{}", 1008),
            (Kind::Image, r#"{"id":"../etc"}"#, 1009),
            (Kind::Image, r#"{"id":7}"#, 1009),
            (Kind::Image, r#"{"link":"file:///etc/passwd"}"#, 1009),
            (Kind::Image, &long, 1009),
            (Kind::Audio, &format!(r#"{{{ID},"caption":"c"}}"#), 1010),
            (Kind::Image, &format!(r#"{{{ID},"filename":"f"}}"#), 1010),
            (
                Kind::Image,
                &format!(r#"{{{ID},"link":"https://x.example"}}"#),
                1010,
            ),
            (
                Kind::Image,
                &format!(r#"{{{ID},"provider":{{"name":"cdn"}}}}"#),
                1009,
            ),
        ];
        for (kind, text, code) in bad {
            let found = parse(*kind, text).map(|_| ()).expect_err(text);
            assert_eq!(found.code, *code, "{text}: {found}");
        }
    }

    #[test]
    fn types_and_sizes_are_the_documented_ones() {
        assert!(Kind::Image.check("image/png", 5_000_000).is_ok());
        assert!(Kind::Image.check("image/png", 5_000_001).is_err());
        assert!(Kind::Image.check("image/gif", 1).is_err());
        assert!(Kind::Audio.check("audio/ogg; codecs=opus", 1).is_ok());
        assert!(Kind::Document.check("text/x-anything", LEN_MAX).is_ok());
        assert!(Kind::Sticker.check("image/webp", 100_001).is_err());
    }

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
            assert_eq!(read(bad).map_err(|e| e.code), Err(1009), "{bad}");
        }
        assert_eq!(content_type(None).map_err(|e| e.code), Err(1008));
    }
}
