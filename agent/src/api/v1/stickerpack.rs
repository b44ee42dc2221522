//! `/v1/stickerpacks`: what a pack and a sticker are, how a body changes them, and the shapes of the answers.
//! Stores nothing: `db/stickerpack.rs` keeps [`About`] and the list of [`Sticker`] as JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Meta;
use super::fields::Fields;
use crate::api::error::ApiError;

/// Longest name of a pack or a publisher, in characters.
pub const NAME_LEN_MAX: usize = 128;
/// Longest link of a store, in characters.
const LINK_LEN_MAX: usize = 2048;
/// Longest id of a file, in characters.
const ID_LEN_MAX: usize = 64;
/// Emojis of one sticker, and the longest, in characters: some are made of many.
const EMOJIS_MAX: usize = 16;
const EMOJI_LEN_MAX: usize = 32;
/// Stickers of one pack. A pack that is published has 3 to 30; one that is being made may have fewer, and some to choose from.
pub const STICKERS_MAX: usize = 120;
/// Packs of one cluster.
pub const PACKS_MAX: u32 = 500;

/// What a pack says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct About {
    pub publisher: String,
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ios_app_store_link: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub android_app_store_link: String,
}

impl About {
    /// A new pack.
    ///
    /// # Errors
    /// 1008 without a publisher or a name, 1009 for what is no text, 1001 for what is too long.
    pub fn read(body: &mut Fields) -> Result<Self, ApiError> {
        let mut about = Self::default();
        about.change(body)?;
        for (name, value) in [("publisher", &about.publisher), ("name", &about.name)] {
            if value.is_empty() {
                return Err(body.missing(name));
            }
        }
        Ok(about)
    }

    /// Takes over what a body says; the rest stays. An empty link takes the link away.
    ///
    /// # Errors
    /// 1009 for what is no text, 1001 for what is too long.
    pub fn change(&mut self, body: &mut Fields) -> Result<(), ApiError> {
        for (name, field) in [("publisher", &mut self.publisher), ("name", &mut self.name)] {
            if let Some(text) = body.text_within(name, NAME_LEN_MAX)? {
                *field = text;
            }
        }
        for (name, field) in [
            ("ios_app_store_link", &mut self.ios_app_store_link),
            ("android_app_store_link", &mut self.android_app_store_link),
        ] {
            let emptied = body.text_or_empty(name)?;
            match emptied {
                Some(text) if text.chars().count() > LINK_LEN_MAX => {
                    return Err(too_long(&body.path(name), LINK_LEN_MAX));
                }
                Some(text) => *field = text,
                None => {}
            }
        }
        Ok(())
    }
}

/// One sticker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Sticker {
    /// A file of ours.
    pub image_data_id: String,
    pub emojis: Vec<String>,
}

impl Sticker {
    /// A new sticker.
    ///
    /// # Errors
    /// 1008 without `image_data_id`, 1009 for what is something else, 1001 for what is too long.
    pub fn read(body: &mut Fields) -> Result<Self, ApiError> {
        let mut sticker = Self::default();
        sticker.change(body)?;
        match sticker.image_data_id.is_empty() {
            true => Err(body.missing("image_data_id")),
            false => Ok(sticker),
        }
    }

    /// Takes over what a body says; the rest stays.
    ///
    /// # Errors
    /// 1009 for what is something else or too many, 1001 for what is too long.
    pub fn change(&mut self, body: &mut Fields) -> Result<(), ApiError> {
        if let Some(id) = body.text_within("image_data_id", ID_LEN_MAX)? {
            self.image_data_id = id;
        }
        let Some(emojis) = body.list("emojis")? else {
            return Ok(());
        };
        let path = body.path("emojis");
        if emojis.len() > EMOJIS_MAX {
            let why = format!("{path} must have at most {EMOJIS_MAX} entries");
            return Err(ApiError::invalid(why));
        }
        self.emojis = emojis.texts()?;
        let long = |text: &String| text.chars().count() > EMOJI_LEN_MAX;
        match self.emojis.iter().position(long) {
            Some(at) => Err(too_long(&format!("{path}[{at}]"), EMOJI_LEN_MAX)),
            None => Ok(()),
        }
    }
}

fn too_long(path: &str, most: usize) -> ApiError {
    let why = format!("{path} is too long; {most} characters are allowed");
    ApiError::with(super::code::Code::TooLong, why)
}

/// `{"stickerpacks":[…]}`.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct PacksAnswer {
    pub stickerpacks: Vec<Pack>,
    pub meta: Meta,
}

/// A pack in an answer. A pack that was just made is told by its id alone.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pack {
    pub id: String,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    #[schema(inline, value_type = About)]
    pub about: Option<About>,
}

/// `{"stickers":[…]}`.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct StickersAnswer {
    pub stickers: Vec<Listed>,
    pub meta: Meta,
}

/// A sticker in an answer. One that was just added is told by its index alone.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Listed {
    /// Its place in the pack, from 0; what stands behind a deleted one moves up.
    pub index: usize,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    #[schema(inline, value_type = Sticker)]
    pub sticker: Option<Sticker>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn about(body: serde_json::Value) -> Result<About, ApiError> {
        About::read(&mut Fields::parse(body.to_string().as_bytes())?)
    }

    fn sticker(body: serde_json::Value) -> Result<Sticker, ApiError> {
        Sticker::read(&mut Fields::parse(body.to_string().as_bytes())?)
    }

    fn code<T: std::fmt::Debug>(read: Result<T, ApiError>) -> (u16, String) {
        let error = read.expect_err("refused");
        (error.code.number(), error.details.unwrap_or_default())
    }

    #[test]
    fn a_pack_has_a_publisher_and_a_name() {
        let long = "x".repeat(NAME_LEN_MAX + 1);
        for (body, wanted) in [
            (json!({"name": "n"}), (1008, "publisher")),
            (json!({"publisher": "p", "name": ""}), (1008, "name")),
            (
                json!({"publisher": ["p"], "name": "n"}),
                (1009, "publisher"),
            ),
            (json!({"publisher": "p", "name": long}), (1001, "name")),
            (
                json!({"publisher": "p", "name": "n", "ios_app_store_link": "l".repeat(2049)}),
                (1001, "ios_app_store_link"),
            ),
        ] {
            let (number, details) = code(about(body.clone()));
            assert_eq!(number, wanted.0, "{body}");
            assert!(details.contains(wanted.1), "{body}: {details}");
        }
        let exact = "é".repeat(NAME_LEN_MAX);
        let made = about(json!({"publisher": "p", "name": exact, "more": 1})).expect("good");
        assert_eq!(made.name, exact);
    }

    /// Goal: a PATCH changes what it names; an empty link takes a link away, an empty name says nothing.
    #[test]
    fn a_change_leaves_the_rest() {
        let link = "https://a.example/1";
        let mut pack = about(
            json!({"publisher": "p", "name": "n", "ios_app_store_link": link,
            "android_app_store_link": link}),
        )
        .expect("good");
        let body = json!({"name": "m", "publisher": "", "ios_app_store_link": ""}).to_string();
        let mut body = Fields::parse(body.as_bytes()).expect("JSON");
        pack.change(&mut body).expect("good");
        assert_eq!((pack.publisher.as_str(), pack.name.as_str()), ("p", "m"));
        assert_eq!(
            (
                pack.ios_app_store_link.as_str(),
                pack.android_app_store_link.as_str()
            ),
            ("", link)
        );
    }

    #[test]
    fn a_sticker_has_a_file() {
        for (body, wanted) in [
            (json!({"emojis": ["x"]}), 1008),
            (json!({"image_data_id": "i", "emojis": "x"}), 1009),
            (json!({"image_data_id": "i", "emojis": [{}]}), 1009),
            (json!({"image_data_id": "i", "emojis": vec!["x"; 17]}), 1009),
            (
                json!({"image_data_id": "i", "emojis": ["x".repeat(33)]}),
                1001,
            ),
        ] {
            assert_eq!(code(sticker(body.clone())).0, wanted, "{body}");
        }
        let read = sticker(json!({"image_data_id": "i", "emojis": ["\u{1f600}"]}));
        assert_eq!(read.map(|s| s.emojis), Ok(vec!["\u{1f600}".to_owned()]));
    }

    /// Goal: the shapes of the answers are those of the fixture.
    #[test]
    fn answers_have_the_documented_shapes() {
        let wanted: serde_json::Value = serde_json::from_str(include_str!(
            "../../../../tests/fixtures/v1/stickerpacks/answers.json"
        ))
        .expect("JSON");
        let pack = |about| Pack {
            id: "p1".into(),
            about,
        };
        let full = about(
            json!({"publisher": "Example Ltd", "name": "Birds", "ios_app_store_link": "https://a.example/1"}),
        );
        let one = sticker(
            json!({"image_data_id": "f043afd0-0000-4000-8000-000000000001", "emojis": ["\u{1f426}"]}),
        );
        let shown = |pack| serde_json::to_value(vec![pack]).expect("plain data");
        assert_eq!(shown(pack(None)), wanted["made"]["stickerpacks"]);
        assert_eq!(shown(pack(full.ok())), wanted["read"]["stickerpacks"]);
        let listed =
            |sticker| serde_json::to_value(vec![Listed { index: 0, sticker }]).expect("plain data");
        assert_eq!(listed(None), wanted["added"]["stickers"]);
        assert_eq!(listed(one.ok()), wanted["sticker"]["stickers"]);
    }
}
