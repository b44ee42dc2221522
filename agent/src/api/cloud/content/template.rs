//! Template messages.

use serde_json::{Value, json};

use super::location;
use super::media::{self, Files, MissingFile};
use crate::api::v1::message::template::{Card, Component, Given, Parameter, Part, Template};

/// The object `template`.
///
/// # Errors
/// [`MissingFile`] when `files` lacks one that it names.
pub fn object(template: &Template, files: &Files) -> Result<Value, MissingFile> {
    let mut object = template.more.clone();
    object.insert("name".into(), template.name.as_str().into());
    object.insert("language".into(), json!({"code": template.language}));
    let components = components(&template.components, files)?;
    if !components.is_empty() {
        object.insert("components".into(), components.into());
    }
    Ok(object.into())
}

fn components(all: &[Component], files: &Files) -> Result<Vec<Value>, MissingFile> {
    let telling = all.iter().filter(|component| !silent(component));
    telling
        .map(|component| self::component(component, files))
        .collect()
}

/// It fills no place. The upstream wants components only where there is something to fill: a static button has none.
fn silent(component: &Component) -> bool {
    let fixed = match &component.part {
        Part::Header | Part::Body => true,
        Part::Button => matches!(component.sub_type.as_deref(), Some("quick_reply" | "url")),
        Part::LimitedTimeOffer | Part::Carousel | Part::Other(_) => false,
    };
    fixed && component.parameters.is_empty() && component.more.is_empty()
}

fn component(component: &Component, files: &Files) -> Result<Value, MissingFile> {
    let mut object = component.more.clone();
    object.insert("type".into(), component.part.as_str().into());
    if let Some(sub_type) = &component.sub_type {
        object.insert("sub_type".into(), sub_type.as_str().into());
    }
    if let Some(index) = component.index {
        object.insert("index".into(), index.to_string().into());
    }
    if !component.parameters.is_empty() {
        let parameters = component.parameters.iter();
        let parameters = parameters.map(|parameter| self::parameter(parameter, files));
        let parameters: Vec<Value> = parameters.collect::<Result<_, _>>()?;
        object.insert("parameters".into(), parameters.into());
    }
    if !component.cards.is_empty() {
        let cards = component.cards.iter().map(|card| self::card(card, files));
        let cards: Vec<Value> = cards.collect::<Result<_, _>>()?;
        object.insert("cards".into(), cards.into());
    }
    Ok(object.into())
}

fn card(card: &Card, files: &Files) -> Result<Value, MissingFile> {
    let mut object = card.more.clone();
    object.insert("card_index".into(), card.card_index.into());
    let components = components(&card.components, files)?;
    object.insert("components".into(), components.into());
    Ok(object.into())
}

fn parameter(parameter: &Parameter, files: &Files) -> Result<Value, MissingFile> {
    let mut object = parameter.more.clone();
    let (word, value) = given(&parameter.given, files)?;
    object.insert("type".into(), word.into());
    if let Some(value) = value {
        object.insert(word.into(), value);
    }
    if let Some(name) = &parameter.name {
        object.insert("parameter_name".into(), name.as_str().into());
    }
    Ok(object.into())
}

/// The type of a parameter, and what stands under its name; `None`: that is among what goes along.
fn given<'a>(given: &'a Given, files: &Files) -> Result<(&'a str, Option<Value>), MissingFile> {
    let (word, value) = match given {
        Given::Text(text) => ("text", text.as_str().into()),
        Given::Currency(currency) => (
            "currency",
            json!({
                "fallback_value": currency.fallback_value,
                "code": currency.code,
                "amount_1000": currency.amount_1000,
            }),
        ),
        Given::DateTime(shown) => ("date_time", json!({"fallback_value": shown})),
        Given::File(header) => (header.as_str(), media::object(&header.file, files)?),
        Given::Location(place) => ("location", location::object(place)),
        Given::Payload(text) => ("payload", text.as_str().into()),
        Given::CouponCode(code) => ("coupon_code", code.as_str().into()),
        Given::Offer(end_ms) => ("limited_time_offer", json!({"expiration_time_ms": end_ms})),
        Given::Other(word) => return Ok((word, None)),
    };
    Ok((word, Some(value)))
}
