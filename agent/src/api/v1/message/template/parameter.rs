//! What is given for one place of a template: a text, an amount, a file, what a button does.
//! Knows neither the template nor the part of it that it stands in.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::error::ApiError;
use crate::api::v1::code::Code;
use crate::api::v1::fields::Fields;
use crate::api::v1::message::location::Location;
use crate::api::v1::message::media::{Attachment, MediaKind, Source};

/// Longest text in a header, in characters (API reference).
pub const HEADER_LEN_MAX: usize = 60;
/// Longest text in a body. The references say 1,024 or, for a message that has nothing but a body, 32,768: the wider one.
pub const BODY_LEN_MAX: usize = 32_768;
/// Longest end of a button's URL: what a whole URL may have.
pub const URL_LEN_MAX: usize = 2000;

/// A parameter, also as it is stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// The name of the place, where the template names its places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub given: Given,
    /// Fields that nobody here reads; they go along.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub more: Map<String, Value>,
}

/// What is given.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Given {
    Text(String),
    Currency(Currency),
    /// The text that is shown: nobody formats dates upstream any more.
    DateTime(String),
    File(HeaderFile),
    Location(Location),
    /// What a quick reply says when it comes back.
    Payload(String),
    CouponCode(String),
    /// When an offer ends, in milliseconds since 1970.
    Offer(u64),
    /// A type that is passed on as it came: all of it is in [`Parameter::more`].
    Other(String),
}

/// An amount of money.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Currency {
    pub fallback_value: String,
    /// Of ISO 4217.
    pub code: String,
    /// The amount times 1,000.
    pub amount_1000: i64,
}

/// A file in a header.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderFile {
    /// A video that is shown as an animated picture.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gif: bool,
    pub file: Attachment,
}

impl HeaderFile {
    /// Its type, which is also the name of its object.
    pub fn as_str(&self) -> &'static str {
        match self.gif {
            true => "gif",
            false => self.file.kind.as_str(),
        }
    }
}

impl Currency {
    /// Reads code and amount, which both forms of templates name in their own way.
    ///
    /// # Errors
    /// 1008 or 1009.
    pub fn parse(
        object: &mut Fields,
        code: &str,
        fallback_value: String,
    ) -> Result<Self, ApiError> {
        let word = object.need_text(code)?;
        if word.len() != 3 || !word.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(object.invalid(code, "a currency of three letters"));
        }
        let amount = object.need_text("amount_1000")?;
        let amount_1000 = amount.trim().parse();
        Ok(Self {
            fallback_value,
            code: word,
            amount_1000: amount_1000
                .map_err(|_| object.invalid("amount_1000", "the amount times 1000, whole"))?,
        })
    }
}

/// A text that must be there.
///
/// # Errors
/// 1008 when it is missing, 1009 when it is no text, 2004 when it is longer.
pub fn need_text(object: &mut Fields, name: &str, chars_max: usize) -> Result<String, ApiError> {
    let text = object.need_text(name)?;
    let length = text.chars().count();
    match length > chars_max {
        false => Ok(text),
        true => Err(ApiError::with(
            Code::ParameterTooLong,
            format!(
                "{} has {length} characters, {chars_max} are allowed",
                object.path(name)
            ),
        )),
    }
}

impl Parameter {
    /// Reads it; a text may have so many characters where it stands.
    ///
    /// # Errors
    /// The documented code of what is wrong.
    pub fn parse(mut object: Fields, text_len_max: usize) -> Result<Self, ApiError> {
        let word = object.need_text("type")?;
        let name = object.text("parameter_name")?;
        let given = given(&mut object, word, text_len_max)?;
        Ok(Self {
            name,
            given,
            more: object.rest()?,
        })
    }

    /// A text for a place, without a name.
    pub fn of(given: Given) -> Self {
        Self {
            name: None,
            given,
            more: Map::new(),
        }
    }

    /// It fills a place in a text.
    pub fn is_text(&self) -> bool {
        match &self.given {
            Given::Text(_) | Given::Currency(_) | Given::DateTime(_) => true,
            Given::File(_)
            | Given::Location(_)
            | Given::Payload(_)
            | Given::CouponCode(_)
            | Given::Offer(_)
            | Given::Other(_) => false,
        }
    }

    /// The file that it names.
    pub fn source(&self) -> Option<(MediaKind, &Source)> {
        match &self.given {
            Given::File(header) => Some((header.file.kind, &header.file.source)),
            Given::Text(_)
            | Given::Currency(_)
            | Given::DateTime(_)
            | Given::Location(_)
            | Given::Payload(_)
            | Given::CouponCode(_)
            | Given::Offer(_)
            | Given::Other(_) => None,
        }
    }
}

fn given(object: &mut Fields, word: String, text_len_max: usize) -> Result<Given, ApiError> {
    let lower = word.to_ascii_lowercase();
    Ok(match lower.as_str() {
        "text" => Given::Text(need_text(object, "text", text_len_max)?),
        "currency" => {
            let mut currency = object.need_object("currency")?;
            let shown = need_text(&mut currency, "fallback_value", text_len_max)?;
            Given::Currency(Currency::parse(&mut currency, "code", shown)?)
        }
        "date_time" => {
            let mut date_time = object.need_object("date_time")?;
            Given::DateTime(need_text(&mut date_time, "fallback_value", text_len_max)?)
        }
        "image" => file(object, MediaKind::Image)?,
        "video" => file(object, MediaKind::Video)?,
        "document" => file(object, MediaKind::Document)?,
        "gif" => {
            let mut gif = object.need_object("gif")?;
            Given::File(HeaderFile {
                gif: true,
                file: Attachment::parse(MediaKind::Video, &mut gif)?,
            })
        }
        "location" => Given::Location(Location::parse(&mut object.need_object("location")?)?),
        "payload" => Given::Payload(object.need_text("payload")?),
        "coupon_code" => Given::CouponCode(object.need_text("coupon_code")?),
        "limited_time_offer" => {
            let mut offer = object.need_object("limited_time_offer")?;
            let end = offer.whole("expiration_time_ms", 1..=i64::MAX as u64)?;
            Given::Offer(end.ok_or_else(|| offer.missing("expiration_time_ms"))?)
        }
        "action" | "product" => {
            object.check_object(&lower)?;
            Given::Other(lower)
        }
        _ => Given::Other(word),
    })
}

fn file(object: &mut Fields, kind: MediaKind) -> Result<Given, ApiError> {
    let mut named = object.need_object(kind.as_str())?;
    Ok(Given::File(HeaderFile {
        gif: false,
        file: Attachment::parse(kind, &mut named)?,
    }))
}
