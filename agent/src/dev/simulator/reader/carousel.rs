//! Cards side by side: of pictures or videos with buttons, or of products.
//! All cards of one message have the same buttons.

use super::super::refusal::Refusal;
use super::sent::File;
use super::strict::Strict;
use super::{action, file};

/// Longest text of a card, in characters, and its line breaks.
const BODY_MAX: usize = 160;
const BREAKS_MAX: usize = 2;

/// What a card is to be pressed for.
#[derive(PartialEq, Eq)]
enum Shape {
    Url,
    Replies(usize),
    Product,
}

/// The action of a carousel.
pub fn cards(action: &mut Strict, files: &mut Vec<File>) -> Result<(), Refusal> {
    let mut shapes = Vec::new();
    for (place, mut card) in (0..).zip(action.need_objects("cards", 2..=10)?) {
        if card.need_integer("card_index", 0..=9)? != place {
            let why = format!("{} must be {place}", card.path("card_index"));
            return Err(Refusal::value(&why));
        }
        shapes.push(shape(&mut card, files)?);
        card.end()?;
    }
    match shapes.windows(2).all(|two| two[0] == two[1]) {
        true => Ok(()),
        false => Err(Refusal::value(&format!(
            "{}: all cards must have the same buttons",
            action.path("cards")
        ))),
    }
}

fn shape(card: &mut Strict, files: &mut Vec<File>) -> Result<Shape, Refusal> {
    // The facts show a type on cards with a link only.
    let kind = match card.has("type") {
        true => card.need_word("type", &["cta_url", "quick_reply", "product"])?,
        false if card.has("header") => "",
        false => "product",
    };
    if kind == "product" {
        let mut action = card.need_object("action")?;
        action::product(&mut action, files)?;
        action.end()?;
        return Ok(Shape::Product);
    }
    let mut header = card.need_object("header")?;
    let name = header.need_word("type", &["image", "video"])?;
    file::inside(&mut header, name, files)?;
    header.end()?;
    if let Some(mut body) = card.object("body")? {
        let text = body.need_within("text", BODY_MAX)?;
        if text.matches('\n').count() > BREAKS_MAX {
            let why = format!("{} may have {BREAKS_MAX} line breaks", body.path("text"));
            return Err(Refusal::value(&why));
        }
        body.end()?;
    }
    let mut action = card.need_object("action")?;
    let shape = match action.has("buttons") {
        true => Shape::Replies(replies(&mut action)?),
        false => {
            action::cta_url(&mut action, files)?;
            Shape::Url
        }
    };
    action.end()?;
    Ok(shape)
}

fn replies(action: &mut Strict) -> Result<usize, Refusal> {
    let buttons = action.need_objects("buttons", 1..=3)?;
    let count = buttons.len();
    for mut button in buttons {
        button.need_word("type", &["quick_reply"])?;
        let mut reply = button.need_object("quick_reply")?;
        reply.need_within("id", 256)?;
        reply.need_within("title", action::BUTTON_MAX)?;
        reply.end()?;
        button.end()?;
    }
    Ok(count)
}
