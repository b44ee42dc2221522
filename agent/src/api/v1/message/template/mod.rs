//! Template messages: which template, in which language, and what goes into its places.
//! Knows no template: what one wants of a message, `api/cloud/template` says.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::media::{MediaKind, Source};
use crate::api::error::ApiError;
use crate::api::v1::code::Code;
use crate::api::v1::fields::{Fields, List};

/// What is given for the places of a template.
pub mod parameter;

use parameter::{BODY_LEN_MAX, HEADER_LEN_MAX, URL_LEN_MAX};
pub use parameter::{Currency, Given, HeaderFile, Parameter};

/// Buttons of a template, counted from 0 (API reference).
const INDEX_MAX: u64 = 9;
/// Cards of a carousel (API reference).
const CARDS: std::ops::RangeInclusive<usize> = 2..=10;

/// The object of a template message, also as it is stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    pub name: String,
    /// The code of the language, as the client wrote it: `en` is not `en_US`.
    pub language: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Component>,
    /// Fields that nobody here reads; they go along.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub more: Map<String, Value>,
}

/// What a component fills.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Header,
    Body,
    Button,
    LimitedTimeOffer,
    Carousel,
    /// A word of tomorrow; all that stands in the component is in [`Component::more`].
    Other(String),
}

impl Part {
    /// Old examples have these words in capital letters, too.
    fn parse(word: String) -> Self {
        let known = [
            Self::Header,
            Self::Body,
            Self::Button,
            Self::LimitedTimeOffer,
            Self::Carousel,
        ];
        let found = known
            .into_iter()
            .find(|part| part.as_str().eq_ignore_ascii_case(&word));
        found.unwrap_or(Self::Other(word))
    }

    /// The word of both APIs.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Header => "header",
            Self::Body => "body",
            Self::Button => "button",
            Self::LimitedTimeOffer => "limited_time_offer",
            Self::Carousel => "carousel",
            Self::Other(word) => word,
        }
    }
}

/// A part of a template, and what goes into its places.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    pub part: Part,
    /// The kind of a button.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_type: Option<String>,
    /// Which button, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// Of a carousel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cards: Vec<Card>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub more: Map<String, Value>,
}

/// A card of a carousel.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    pub card_index: u64,
    pub components: Vec<Component>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub more: Map<String, Value>,
}

impl Template {
    /// Reads it from the body of a message. `namespace` and `language.policy` are read and not kept: the upstream has neither.
    ///
    /// # Errors
    /// The documented code of what is wrong.
    pub fn parse(body: &mut Fields) -> Result<Self, ApiError> {
        let mut object = body.need_object("template")?;
        check_namespace(&mut object)?;
        let name = object.need_text("name")?;
        let language = object.need_object("language")?.need_text("code")?;
        let components = match object.list("components")? {
            Some(list) => components(list, false)?,
            None => Vec::new(),
        };
        check_names(&object.path("components"), &components)?;
        Ok(Self {
            name,
            language,
            components,
            more: object.rest()?,
        })
    }

    /// Files in headers, also in those of cards.
    pub fn sources(&self) -> Vec<(MediaKind, &Source)> {
        let mut found = Vec::new();
        sources_of(&self.components, &mut found);
        found
    }
}

fn sources_of<'a>(components: &'a [Component], found: &mut Vec<(MediaKind, &'a Source)>) {
    for component in components {
        found.extend(component.parameters.iter().filter_map(Parameter::source));
        for card in &component.cards {
            sources_of(&card.components, found);
        }
    }
}

/// The reference client required a namespace and had a code of its own for an empty one. The upstream has no use for it, and
/// new clients leave it out: that is no fault.
///
/// # Errors
/// 2014 for an empty text, 1009 for what is none.
pub fn check_namespace(object: &mut Fields) -> Result<(), ApiError> {
    match object.text_or_empty("namespace")? {
        Some(text) if text.trim().is_empty() => Err(ApiError::with(
            Code::NamespaceEmpty,
            format!(
                "{} is empty: name it, or leave it out",
                object.path("namespace")
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

fn components(list: List, of_card: bool) -> Result<Vec<Component>, ApiError> {
    let objects = list.objects()?.into_iter();
    objects.map(|object| component(object, of_card)).collect()
}

fn component(mut object: Fields, of_card: bool) -> Result<Component, ApiError> {
    let part = Part::parse(object.need_text("type")?);
    let mut component = Component {
        part,
        sub_type: None,
        index: None,
        parameters: Vec::new(),
        cards: Vec::new(),
        more: Map::new(),
    };
    let text_len_max = match &component.part {
        Part::Header => HEADER_LEN_MAX,
        Part::Button => {
            component.sub_type = Some(button_kind(&mut object)?);
            let index = object.whole("index", 0..=INDEX_MAX)?;
            component.index = Some(index.ok_or_else(|| object.missing("index"))?);
            URL_LEN_MAX
        }
        Part::Carousel if of_card => {
            return Err(object.invalid("type", "a component of a card, which has no carousel"));
        }
        Part::Carousel => {
            component.cards = cards(&mut object)?;
            BODY_LEN_MAX
        }
        Part::Body | Part::LimitedTimeOffer => BODY_LEN_MAX,
        Part::Other(_) => {
            component.more = object.rest()?;
            return Ok(component);
        }
    };
    // Some published examples have an object where the list stands.
    if let Some(list) = object.list("parameters")? {
        let given = list.objects()?.into_iter();
        let given = given.map(|object| Parameter::parse(object, text_len_max));
        component.parameters = given.collect::<Result<_, _>>()?;
    }
    if component.part == Part::LimitedTimeOffer && component.parameters.is_empty() {
        return Err(object.missing("parameters"));
    }
    component.more = object.rest()?;
    Ok(component)
}

/// Known kinds in the case of the reference, kinds of tomorrow as they came.
fn button_kind(object: &mut Fields) -> Result<String, ApiError> {
    let known = [
        "quick_reply",
        "url",
        "copy_code",
        "flow",
        "catalog",
        "mpm",
        "voice_call",
    ];
    let word = object.need_text("sub_type")?;
    let found = known
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(&word));
    Ok(found.map_or(word, str::to_owned))
}

fn cards(object: &mut Fields) -> Result<Vec<Card>, ApiError> {
    let list = object.need_list("cards")?;
    if !CARDS.contains(&list.len()) {
        let must_be = format!("a list of {} to {} cards", CARDS.start(), CARDS.end());
        return Err(object.invalid("cards", &must_be));
    }
    list.objects()?.into_iter().map(card).collect()
}

fn card(mut object: Fields) -> Result<Card, ApiError> {
    let card_index = object.whole("card_index", 0..=INDEX_MAX)?;
    let card_index = card_index.ok_or_else(|| object.missing("card_index"))?;
    let components = components(object.need_list("components")?, true)?;
    // A card is a picture, a video or a product with something below it.
    let header = components.iter().find(|c| c.part == Part::Header);
    if header.is_none_or(|header| header.parameters.is_empty()) {
        return Err(ApiError::with(
            Code::ComponentMissing,
            format!("{} has no header", object.path("components")),
        ));
    }
    Ok(Card {
        card_index,
        components,
        more: object.rest()?,
    })
}

/// A template names its places or numbers them: its header and body are filled in one way.
fn check_names(path: &str, components: &[Component]) -> Result<(), ApiError> {
    let mut first = None;
    for (at, component) in components.iter().enumerate() {
        if !matches!(component.part, Part::Header | Part::Body) {
            continue;
        }
        for (number, parameter) in component.parameters.iter().enumerate() {
            let named = parameter.name.is_some();
            if parameter.is_text() && *first.get_or_insert(named) != named {
                return Err(ApiError::with(
                    Code::ParameterFormatMismatch,
                    format!(
                        "{path}[{at}].parameters[{number}].parameter_name: all parameters have a name, or none has"
                    ),
                ));
            }
        }
    }
    Ok(())
}
