//! Template messages: components, parameters, buttons, cards.
//! Knows no template: `template/check.rs` compares with what was approved.

use super::super::refusal::Refusal;
use super::file;
use super::sent::{Button, File, Parameter, Parts, Template};
use super::strict::Strict;

/// Longest name of a template, in characters.
const NAME_MAX: usize = 512;
/// Most components of a template, and most parameters of a component.
const PARTS_MAX: usize = 100;
/// Highest index of a button.
const INDEX_MAX: i64 = 9;
/// Largest amount: nine digits before the point.
const AMOUNT_MAX: i64 = 999_999_999_999;

pub fn template(body: &mut Strict, files: &mut Vec<File>) -> Result<Template, Refusal> {
    let mut template = body.need_object("template")?;
    let name = template.need_within("name", NAME_MAX)?.to_owned();
    let mut language = template.need_object("language")?;
    let code = language.need_text("code")?.to_owned();
    if language.has("policy") {
        language.need_word("policy", &["deterministic"])?;
    }
    language.end()?;
    let parts = parts(&mut template, files, true)?;
    template.end()?;
    Ok(Template {
        name,
        language: code,
        parts,
    })
}

/// The list `components`; cards have no cards.
fn parts(owner: &mut Strict, files: &mut Vec<File>, whole: bool) -> Result<Parts, Refusal> {
    let mut parts = Parts::default();
    let mut seen = Vec::new();
    for mut component in owner
        .objects("components", 0..=PARTS_MAX)?
        .unwrap_or_default()
    {
        let words = match whole {
            true => &["header", "body", "button", "limited_time_offer", "carousel"][..],
            false => &["header", "body", "button"],
        };
        let kind = component.need_word("type", words)?;
        if kind != "button" && seen.contains(&kind) {
            return Err(Refusal::bad(&format!(
                "{} stands there twice",
                component.path(kind)
            )));
        }
        seen.push(kind);
        match kind {
            "header" => {
                let mut list = component.need_objects("parameters", 1..=1)?;
                parts.header = list
                    .pop()
                    .map(|parameter| header(parameter, files))
                    .transpose()?;
            }
            "body" => {
                let list = component.objects("parameters", 0..=PARTS_MAX)?;
                let list = list.unwrap_or_default().into_iter().map(filled);
                parts.body = list.collect::<Result<_, _>>()?;
            }
            "button" => parts.buttons.push(button(&mut component)?),
            "limited_time_offer" => {
                offer(&mut component)?;
                parts.offer = true;
            }
            // The last of the words.
            _ => parts.cards = cards(&mut component, files)?,
        }
        component.end()?;
    }
    let mut indexes: Vec<usize> = parts.buttons.iter().map(|button| button.index).collect();
    indexes.sort_unstable();
    indexes.dedup();
    match indexes.len() == parts.buttons.len() {
        true => Ok(parts),
        false => Err(Refusal::value(&format!(
            "{}: two buttons have one index",
            owner.path("components")
        ))),
    }
}

fn cards(component: &mut Strict, files: &mut Vec<File>) -> Result<Vec<Parts>, Refusal> {
    let cards = component.need_objects("cards", 2..=10)?;
    let mut found = Vec::new();
    for (place, mut card) in (0..).zip(cards) {
        let index = card.need_integer("card_index", 0..=9)?;
        if index != place {
            let why = format!("{} must be {place}", card.path("card_index"));
            return Err(Refusal::value(&why));
        }
        if !card.has("components") {
            return Err(Refusal::missing(&card.path("components")));
        }
        found.push(parts(&mut card, files, false)?);
        card.end()?;
    }
    Ok(found)
}

/// The one parameter of a header.
fn header(mut parameter: Strict, files: &mut Vec<File>) -> Result<Parameter, Refusal> {
    let words = [
        "text", "image", "video", "document", "gif", "location", "product",
    ];
    let kind = parameter.need_word("type", &words)?;
    match kind {
        "text" => return text(parameter),
        "location" => super::plain::location(&mut parameter)?,
        "product" => {
            let mut product = parameter.need_object("product")?;
            product.need_text("product_retailer_id")?;
            product.text("catalog_id")?;
            product.end()?;
        }
        _ => file::inside(&mut parameter, kind, files)?,
    }
    parameter.end()?;
    Ok(Parameter {
        kind: kind.to_owned(),
        name: None,
        chars: 0,
        ragged: false,
    })
}

/// One parameter of a body.
fn filled(mut parameter: Strict) -> Result<Parameter, Refusal> {
    let kind = parameter.need_word("type", &["text", "currency", "date_time"])?;
    if kind == "text" {
        return text(parameter);
    }
    let name = parameter.text("parameter_name")?.map(ToOwned::to_owned);
    let mut object = parameter.need_object(kind)?;
    let shown = object.need_text("fallback_value")?;
    if kind == "currency" {
        let code = object.need_text("code")?;
        if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_uppercase()) {
            let why = format!("{} is no currency", object.path("code"));
            return Err(Refusal::value(&why));
        }
        object.need_integer("amount_1000", -AMOUNT_MAX..=AMOUNT_MAX)?;
    }
    object.end()?;
    parameter.end()?;
    Ok(shown_as(kind, name, shown))
}

fn text(mut parameter: Strict) -> Result<Parameter, Refusal> {
    let name = parameter.text("parameter_name")?.map(ToOwned::to_owned);
    let shown = parameter.need_text("text")?;
    parameter.end()?;
    Ok(shown_as("text", name, shown))
}

fn shown_as(kind: &str, name: Option<String>, shown: &str) -> Parameter {
    Parameter {
        kind: kind.to_owned(),
        name,
        chars: shown.chars().count(),
        ragged: shown.contains(['\n', '\t']) || shown.contains("     "),
    }
}

/// `index` is written as a string and as a number.
fn index(component: &mut Strict) -> Result<usize, Refusal> {
    let found = match component.raw("index") {
        None => return Err(Refusal::missing(&component.path("index"))),
        Some(serde_json::Value::String(text)) => text.parse().ok(),
        Some(other) => other.as_i64(),
    };
    found
        .filter(|index| (0..=INDEX_MAX).contains(index))
        .and_then(|index| usize::try_from(index).ok())
        .ok_or_else(|| {
            Refusal::value(&format!(
                "{} must be from 0 to {INDEX_MAX}",
                component.path("index")
            ))
        })
}

/// Kinds of buttons, and the type of the parameters of each.
const BUTTONS: &[(&str, &str)] = &[
    ("quick_reply", "payload"),
    ("url", "text"),
    ("copy_code", "coupon_code"),
    ("flow", "action"),
    ("catalog", "action"),
    ("mpm", "action"),
    ("spm", "action"),
    ("order_details", "action"),
    ("voice_call", "payload"),
];

fn button(component: &mut Strict) -> Result<Button, Refusal> {
    let words: Vec<&str> = BUTTONS.iter().map(|(name, _)| *name).collect();
    let sub_type = component.need_word("sub_type", &words)?;
    let index = index(component)?;
    let most = if sub_type == "voice_call" { 2 } else { 1 };
    let parameters = match component.has("parameters") {
        // A flow may begin without anything being said.
        false if matches!(sub_type, "flow" | "catalog" | "voice_call") => Vec::new(),
        true | false => component.need_objects("parameters", 1..=most)?,
    };
    for mut parameter in parameters {
        let expected = BUTTONS.iter().find(|(name, _)| *name == sub_type);
        let expected = expected.map_or("", |(_, parameter)| *parameter);
        let words = match sub_type {
            "voice_call" => &[expected, "ttl_minutes"][..],
            _ => &[expected],
        };
        let kind = parameter.need_word("type", words)?;
        match kind {
            "action" => action(&mut parameter, sub_type)?,
            "ttl_minutes" => {
                parameter.need_integer("ttl_minutes", 1..=43_200)?;
            }
            _ => {
                parameter.need_text(kind)?;
            }
        }
        parameter.end()?;
    }
    Ok(Button {
        sub_type: sub_type.to_owned(),
        index,
    })
}

fn action(parameter: &mut Strict, sub_type: &str) -> Result<(), Refusal> {
    let mut action = parameter.need_object("action")?;
    match sub_type {
        "flow" => {
            action.text("flow_token")?;
            // The screens' own data.
            action.raw("flow_action_data");
        }
        "order_details" => {
            action.raw("order_details");
        }
        _ => {
            action.text("thumbnail_product_retailer_id")?;
            for mut section in action.objects("sections", 1..=10)?.unwrap_or_default() {
                section.text_within("title", 24)?;
                for mut item in section.need_objects("product_items", 1..=30)? {
                    item.need_text("product_retailer_id")?;
                    item.end()?;
                }
                section.end()?;
            }
        }
    }
    action.end()
}

/// Until when the offer is good, in milliseconds since 1970: seconds would lie in 1970.
fn offer(component: &mut Strict) -> Result<(), Refusal> {
    const MS_LEAST: i64 = 1_000_000_000_000;
    for mut parameter in component.need_objects("parameters", 1..=1)? {
        parameter.need_word("type", &["limited_time_offer"])?;
        let mut offer = parameter.need_object("limited_time_offer")?;
        offer.need_integer("expiration_time_ms", MS_LEAST..=i64::MAX)?;
        offer.end()?;
        parameter.end()?;
    }
    Ok(())
}
