//! Media objects of messages: which types and sizes there are, and what an object must hold.
//! Reads no file.

use serde::{Deserialize, Serialize};

use crate::api::error::ApiError;
use crate::api::v1::code::Code;
use crate::api::v1::fields::Fields;
use crate::api::v1::media::LEN_MAX;

/// Longest caption, in characters.
const CAPTION_LEN_MAX: usize = 1024;
/// Longest name of a document, in characters.
const FILENAME_LEN_MAX: usize = 240;
/// Longest name of a provider, in characters.
pub const PROVIDER_LEN_MAX: usize = 256;

/// Kinds of media messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    Image,
    Audio,
    Video,
    Document,
    Sticker,
    Voice,
}

impl MediaKind {
    /// Reads a message type.
    pub fn parse(word: &str) -> Option<Self> {
        let all = [
            Self::Image,
            Self::Audio,
            Self::Video,
            Self::Document,
            Self::Sticker,
            Self::Voice,
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
            Self::Voice => "voice",
        }
    }

    /// Types that a file of this kind may have (API references); empty: all.
    fn types(self) -> &'static [&'static str] {
        match self {
            Self::Image => &["image/jpeg", "image/png"],
            Self::Audio => &[
                "audio/aac",
                "audio/mp4",
                "audio/amr",
                "audio/mpeg",
                "audio/ogg",
            ],
            Self::Video => &["video/mp4", "video/3gpp"],
            Self::Document => &[],
            Self::Sticker => &["image/webp"],
            Self::Voice => &["audio/ogg"],
        }
    }

    /// Longest file of this kind, in bytes (API references). A sticker may be as long as an animated one.
    pub fn limit(self) -> u64 {
        match self {
            Self::Image => 5_000_000,
            Self::Audio | Self::Video | Self::Voice => 16_000_000,
            Self::Document => LEN_MAX,
            Self::Sticker => 500_000,
        }
    }

    /// Why a file of this type and length cannot be sent as this kind, if it cannot.
    pub fn refusal(self, mime: &str, bytes: u64) -> Option<String> {
        let (types, limit) = (self.types(), self.limit());
        let plain = mime.split(';').next().unwrap_or_default().trim();
        if !types.is_empty() && !types.contains(&plain) {
            let types = types.join(", ");
            return Some(format!("is a file of type {plain}; allowed are {types}"));
        }
        (bytes > limit).then(|| format!("has {bytes} bytes, {limit} are allowed"))
    }

    /// Whether a file of ours of this type and length may be sent as this kind.
    ///
    /// # Errors
    /// 1009 with the rule.
    pub fn check(self, mime: &str, bytes: u64) -> Result<(), ApiError> {
        match self.refusal(mime, bytes) {
            None => Ok(()),
            Some(why) => Err(ApiError::invalid(format!("{}.id {why}", self.as_str()))),
        }
    }
}

/// Id of a file that was uploaded here: a UUID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileId(pub String);

/// Where the bytes are, wherever in a message a file stands.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// A file that was uploaded here.
    Id(FileId),
    /// The upstream fetches it, or we do (`[client] links`).
    Link(String),
    /// We fetch it with the credentials of this provider.
    Provided { link: String, provider: String },
}

/// The object of a media message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Attachment {
    pub kind: MediaKind,
    pub source: Source,
    pub caption: Option<String>,
    pub filename: Option<String>,
}

/// Its stored form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    kind: MediaKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<FileId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caption: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<String>,
}

impl From<Attachment> for Stored {
    fn from(attachment: Attachment) -> Self {
        let (id, link, provider) = match attachment.source {
            Source::Id(id) => (Some(id), None, None),
            Source::Link(link) => (None, Some(link), None),
            Source::Provided { link, provider } => (None, Some(link), Some(provider)),
        };
        Self {
            kind: attachment.kind,
            id,
            link,
            provider,
            caption: attachment.caption,
            filename: attachment.filename,
        }
    }
}

impl TryFrom<Stored> for Attachment {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        let source = match (stored.id, stored.link, stored.provider) {
            (Some(id), None, None) => Source::Id(id),
            (None, Some(link), None) => Source::Link(link),
            (None, Some(link), Some(provider)) => Source::Provided { link, provider },
            (None, None, _) | (Some(_), Some(_), _) | (Some(_), None, Some(_)) => {
                return Err("it has not one of id and link");
            }
        };
        Ok(Self {
            kind: stored.kind,
            source,
            caption: stored.caption,
            filename: stored.filename,
        })
    }
}

impl Attachment {
    /// Reads the object of a message of this kind.
    ///
    /// # Errors
    /// The documented code of what is wrong.
    pub fn parse(kind: MediaKind, object: &mut Fields) -> Result<Self, ApiError> {
        let captioned = matches!(
            kind,
            MediaKind::Image | MediaKind::Video | MediaKind::Document
        );
        let named = kind == MediaKind::Document;
        Ok(Self {
            kind,
            source: source(object)?,
            // Beside other types old clients have them, too: ignored, as the documentation of this API says.
            caption: match captioned {
                true => object.text_within("caption", CAPTION_LEN_MAX)?,
                false => None,
            },
            filename: match named {
                true => object.text_within("filename", FILENAME_LEN_MAX)?,
                false => None,
            },
        })
    }
}

/// Where the bytes of a file object are: `id`, or `link` with or without `provider`.
///
/// # Errors
/// The documented code of what is wrong.
pub fn source(object: &mut Fields) -> Result<Source, ApiError> {
    match (object.text("id")?, object.text("link")?) {
        (Some(_), Some(_)) => {
            let beside = format!("beside {}", object.path("id"));
            Err(extra(object, "link", &beside))
        }
        (None, None) => {
            let either = format!("{} or {}", object.path("id"), object.path("link"));
            Err(ApiError::missing(&either))
        }
        (Some(id), None) => {
            // Beside an id a provider says nothing, and is ignored: there is nothing to be fetched.
            drop(object.value("provider"));
            match uuid::Uuid::try_parse(&id) {
                Ok(id) => Ok(Source::Id(FileId(id.hyphenated().to_string()))),
                Err(_) => Err(object.invalid("id", "an id that POST /v1/media answered")),
            }
        }
        (None, Some(link)) => {
            let url = url::Url::parse(&link).ok();
            if !url.is_some_and(|url| matches!(url.scheme(), "http" | "https")) {
                return Err(object.invalid("link", "a URL"));
            }
            Ok(match provider(object)? {
                Some(provider) => Source::Provided { link, provider },
                None => Source::Link(link),
            })
        }
    }
}

/// The name of the provider with whose credentials a link is fetched; also as a plain string.
fn provider(object: &mut Fields) -> Result<Option<String>, ApiError> {
    if object.is_object("provider") {
        let mut provider = object.need_object("provider")?;
        let name = provider.text_within("name", PROVIDER_LEN_MAX)?;
        return match name {
            Some(name) => Ok(Some(name)),
            None => Err(provider.missing("name")),
        };
    }
    match object.text_within("provider", PROVIDER_LEN_MAX) {
        Err(error) if error.code == Code::ParameterNotValid => {
            Err(object.invalid("provider", "an object with a name"))
        }
        read => read,
    }
}

/// 1010: this field must not be there.
fn extra(object: &Fields, field: &str, why: &str) -> ApiError {
    let path = object.path(field);
    ApiError::with(Code::ParameterNotRequired, format!("{path} {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: MediaKind, text: &str) -> Result<Attachment, ApiError> {
        let mut object = Fields::parse(text.as_bytes()).expect("an object");
        Attachment::parse(kind, &mut object)
    }

    const ID: &str = r#""id":"f043afd0-0000-4000-8000-000000000001""#;

    #[test]
    fn objects_are_read_or_answered_with_the_documented_code() {
        let good = parse(
            MediaKind::Document,
            &format!(r#"{{{ID},"caption":"c","filename":"f.pdf"}}"#),
        );
        let good = good.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(good.filename.as_deref(), Some("f.pdf"));
        let link = parse(
            MediaKind::Image,
            r#"{"link":"https://files.example/a.png"}"#,
        );
        assert!(link.is_ok());
        let habits = format!(r#"{{{ID},"caption":["c"],"filename":"f"}}"#);
        for kind in [MediaKind::Audio, MediaKind::Voice, MediaKind::Sticker] {
            let read = parse(kind, &habits).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((read.caption, read.filename), (None, None));
        }
        let long = format!(r#"{{{ID},"caption":"{}"}}"#, "x".repeat(1025));
        let bad: &[(MediaKind, &str, u16)] = &[
            (MediaKind::Image, "{}", 1008),
            (MediaKind::Image, r#"{"id":"../etc"}"#, 1009),
            (MediaKind::Image, r#"{"id":7}"#, 1009),
            (MediaKind::Image, r#"{"link":"file:///etc/passwd"}"#, 1009),
            (MediaKind::Image, &long, 1001),
            (
                MediaKind::Image,
                &format!(r#"{{{ID},"link":"https://x.example"}}"#),
                1010,
            ),
        ];
        for (kind, text, code) in bad {
            let found = parse(*kind, text).map(|_| ()).expect_err(text);
            assert_eq!(found.code.number(), *code, "{text}: {found}");
        }
    }

    /// Goal: a provider is read in both spellings, and ignored beside an id. Method: each spelling, and what is none.
    #[test]
    fn providers_are_read_in_both_spellings() {
        let link = r#""link":"https://files.example/a.png""#;
        let read = |provider: &str| {
            let text = format!(r#"{{{link},"provider":{provider}}}"#);
            parse(MediaKind::Image, &text).map(|read| read.source)
        };
        let wanted = Source::Provided {
            link: "https://files.example/a.png".into(),
            provider: "cdn".into(),
        };
        for good in [
            r#"{"name":"cdn"}"#,
            r#""cdn""#,
            r#"{"name":"cdn","type":"www"}"#,
        ] {
            assert!(read(good).is_ok_and(|found| found == wanted), "{good}");
        }
        let absent = |found: Source| matches!(found, Source::Link(_));
        for none in ["null", r#""""#] {
            assert!(read(none).is_ok_and(absent), "{none}");
        }
        for beside in [r#"{"name":"cdn"}"#, "[]"] {
            let read = parse(
                MediaKind::Image,
                &format!(r#"{{{ID},"provider":{beside}}}"#),
            );
            assert!(read.is_ok_and(|read| matches!(read.source, Source::Id(_))));
        }
        let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(257));
        for (bad, code) in [
            ("{}", 1008),
            ("[1]", 1009),
            ("true", 1009),
            (long.as_str(), 1001),
        ] {
            let found = read(bad).map(|_| ()).expect_err(bad);
            assert_eq!(found.code.number(), code, "{bad}: {found}");
        }
    }

    #[test]
    fn types_and_sizes_are_the_documented_ones() {
        assert!(MediaKind::Image.check("image/png", 5_000_000).is_ok());
        assert!(MediaKind::Image.check("image/png", 5_000_001).is_err());
        assert!(MediaKind::Image.check("image/gif", 1).is_err());
        assert!(MediaKind::Audio.check("audio/ogg; codecs=opus", 1).is_ok());
        assert!(
            MediaKind::Document
                .check("text/x-anything", LEN_MAX)
                .is_ok()
        );
        assert!(MediaKind::Sticker.check("image/webp", 500_001).is_err());
    }
}
