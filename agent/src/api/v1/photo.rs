//! `/v1/settings/profile/photo`: which files may be a photo, and how it travels between a webapp and an owner.
//! Reads no request and asks nobody.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::Meta;
use crate::api::error::ApiError;
use crate::api::v1::code::Code;

/// Longest photo, in bytes: that of an image.
pub const PHOTO_LEN_MAX: usize = 5 << 20;

/// What a photo may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhotoType {
    Jpeg,
    Png,
}

impl PhotoType {
    /// Told by the first bytes, whatever whoever sends it calls it.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            _ => None,
        }
    }

    /// Its media type.
    pub fn mime(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
        }
    }

    /// A name for the file.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Jpeg => "photo.jpg",
            Self::Png => "photo.png",
        }
    }
}

/// A photo: of one of the types, neither empty nor too long.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Photo {
    pub kind: PhotoType,
    #[serde(serialize_with = "written", deserialize_with = "read")]
    pub bytes: bytes::Bytes,
}

impl fmt::Debug for Photo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Photo {{ {:?}, {} bytes }}", self.kind, self.bytes.len())
    }
}

fn written<S: Serializer>(bytes: &bytes::Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bytes::Bytes, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = BASE64_STANDARD.decode(text);
    bytes.map(Into::into).map_err(serde::de::Error::custom)
}

impl Photo {
    /// Judges a file that a client sent.
    ///
    /// # Errors
    /// 1008 for none, 1009 for what is no JPEG and no PNG, 1025 with 413 for one that is too long.
    pub fn of_client(bytes: bytes::Bytes) -> Result<Self, ApiError> {
        if bytes.is_empty() {
            return Err(ApiError::missing("The body, which must be the photo"));
        }
        if bytes.len() > PHOTO_LEN_MAX {
            return Err(too_long());
        }
        match PhotoType::of_bytes(&bytes) {
            Some(kind) => Ok(Self { kind, bytes }),
            None => Err(ApiError::invalid("The photo must be a JPEG or a PNG file")),
        }
    }
}

/// What is answered to a photo of more than [`PHOTO_LEN_MAX`] bytes.
pub fn too_long() -> ApiError {
    let why = format!("A photo may have {PHOTO_LEN_MAX} bytes at most");
    ApiError::with(Code::InvalidRequest, why).status(413)
}

/// The answer of `GET /v1/settings/profile/photo?format=link`.
#[derive(Debug, Serialize, ToSchema)]
pub struct PhotoLinkAnswer {
    pub settings: PhotoSettings,
    pub meta: Meta,
}

/// `{"profile":{"photo":…}}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct PhotoSettings {
    pub profile: PhotoOf,
}

/// `{"photo":…}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct PhotoOf {
    pub photo: PhotoLink,
}

/// Where the photo can be fetched.
#[derive(Debug, Serialize, ToSchema)]
pub struct PhotoLink {
    pub link: String,
}

impl PhotoLinkAnswer {
    /// With the documented shape.
    pub fn of(link: String) -> Self {
        let photo = PhotoLink { link };
        Self {
            settings: PhotoSettings {
                profile: PhotoOf { photo },
            },
            meta: Meta::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_photo_is_what_its_bytes_are() {
        let judged = |bytes: Vec<u8>| {
            Photo::of_client(bytes.into()).map_err(|e| (e.http_status(), e.code.number()))
        };
        let jpeg = |len: usize| [&[0xff, 0xd8, 0xff, 0xe0][..], &vec![0; len - 4]].concat();
        assert_eq!(judged(jpeg(9)).map(|photo| photo.kind), Ok(PhotoType::Jpeg));
        assert_eq!(
            judged(b"\x89PNG\r\n\x1a\n.".to_vec()).map(|p| p.kind),
            Ok(PhotoType::Png)
        );
        assert!(judged(jpeg(PHOTO_LEN_MAX)).is_ok());
        assert_eq!(judged(jpeg(PHOTO_LEN_MAX + 1)), Err((413, 1025)));
        assert_eq!(judged(vec![]), Err((400, 1008)));
        for wrong in [&b"GIF89a"[..], b"\xff\xd8", b"{}", b"\x89PNG"] {
            assert_eq!(judged(wrong.to_vec()), Err((400, 1009)), "{wrong:?}");
        }
    }

    #[test]
    fn it_travels_whole_and_is_not_printed() {
        let photo = Photo::of_client(b"\xff\xd8\xff\0secret".as_slice().into()).expect("a photo");
        let text = serde_json::to_string(&photo).expect("plain data");
        assert_eq!(
            serde_json::from_str::<Photo>(&text).expect("readable"),
            photo
        );
        assert_eq!(format!("{photo:?}"), "Photo { Jpeg, 10 bytes }");
    }
}
