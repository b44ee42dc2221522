//! Texts, locations, reactions, pins.
//! Files and contacts have rooms of their own.

use super::super::refusal::Refusal;
use super::strict::Strict;

/// Longest text, in characters.
const BODY_MAX: usize = 4096;
/// Longest emoji, in bytes: a family with skin tones has about 40.
const EMOJI_LEN_MAX: usize = 64;

pub fn text(body: &mut Strict) -> Result<(), Refusal> {
    let mut text = body.need_object("text")?;
    text.need_within("body", BODY_MAX)?;
    text.boolean("preview_url")?;
    text.end()
}

/// Degrees are strings; inbound they are numbers.
pub fn location(body: &mut Strict) -> Result<(), Refusal> {
    let mut location = body.need_object("location")?;
    for (name, most) in [("latitude", 90.0), ("longitude", 180.0)] {
        let degrees = location.need_text(name)?.parse::<f64>();
        if !degrees.is_ok_and(|degrees| degrees.abs() <= most) {
            let why = format!("{} must be at most {most}", location.path(name));
            return Err(Refusal::value(&why));
        }
    }
    location.text("name")?;
    location.text("address")?;
    location.end()
}

/// The message that it is about. An empty emoji takes a reaction back.
pub fn reaction(body: &mut Strict) -> Result<String, Refusal> {
    let mut reaction = body.need_object("reaction")?;
    let about = reaction.need_id("message_id")?.to_owned();
    let emoji = reaction
        .any_text("emoji")?
        .ok_or_else(|| Refusal::missing("reaction.emoji"))?;
    let word = |c: char| c.is_ascii_alphabetic() || c.is_whitespace();
    if emoji.len() > EMOJI_LEN_MAX || emoji.chars().any(word) {
        return Err(Refusal::value("reaction.emoji is no emoji"));
    }
    reaction.end()?;
    Ok(about)
}

/// Pins are for groups only.
pub fn pin(body: &mut Strict, group: bool) -> Result<(), Refusal> {
    if !group {
        return Err(Refusal::bad("pin is for groups only"));
    }
    let mut pin = body.need_object("pin")?;
    let unpin = pin.need_word("type", &["pin", "unpin"])? == "unpin";
    pin.need_id("message_id")?;
    if pin.integer("expiration_days", 1..=30)?.is_none() && !unpin {
        return Err(Refusal::missing("pin.expiration_days"));
    }
    pin.end()
}
