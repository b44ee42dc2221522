//! Reads sends as strictly as the Cloud API's documentation has them. It shares nothing with what writes them: a field that
//! nobody documented, or a value of another type, is refused here before it is refused by the vendor.

mod action;
mod carousel;
mod contacts;
mod file;
mod interactive;
mod plain;
pub mod sent;
pub mod strict;
mod template;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::refusal::Refusal;
use sent::{Asked, Recipient, Sent};
use strict::Strict;

/// Longest opaque data, in characters.
const OPAQUE_MAX: usize = 512;

/// Reads the body of `POST /{phone_number_id}/messages`.
///
/// # Errors
/// [`Refusal`]: 100 for what is not JSON, not documented or of another type, 131008 for what is missing, 131009 for values.
pub fn read(bytes: &[u8]) -> Result<Asked, Refusal> {
    let value: Value =
        serde_json::from_slice(bytes).map_err(|_| Refusal::bad("the body is not JSON"))?;
    let Value::Object(map) = &value else {
        return Err(Refusal::bad("the body is no object"));
    };
    let mut body = Strict::new(String::new(), map);
    body.need_word("messaging_product", &["whatsapp"])?;
    let asked = match body.has("status") {
        true => read_mark(&mut body)?,
        false => Asked::Message(Box::new(message(&mut body)?)),
    };
    body.end()?;
    Ok(asked)
}

fn read_mark(body: &mut Strict) -> Result<Asked, Refusal> {
    body.need_word("status", &["read"])?;
    let message_id = body.need_id("message_id")?.to_owned();
    if let Some(mut indicator) = body.object("typing_indicator")? {
        indicator.need_word("type", &["text"])?;
        indicator.end()?;
    }
    Ok(Asked::Read { message_id })
}

fn message(body: &mut Strict) -> Result<Sent, Refusal> {
    let to = recipient(body)?;
    let opaque = body.text_within("biz_opaque_callback_data", OPAQUE_MAX)?;
    let opaque = opaque.unwrap_or_default().to_owned();
    let identity = body.text("recipient_identity_key_hash")?;
    let identity = identity.map(str::to_owned);
    if let Some(mut context) = body.object("context")? {
        context.need_id("message_id")?;
        context.end()?;
    }
    let kind = body.text("type")?.unwrap_or("text").to_owned();
    let group = matches!(to, Recipient::Group(_));
    let mut sent = Sent {
        to,
        opaque,
        kind,
        files: Vec::new(),
        reacts_to: None,
        template: None,
        identity,
    };
    match sent.kind.as_str() {
        "text" => plain::text(body)?,
        "image" | "video" | "audio" | "document" | "sticker" => {
            file::message(body, &sent.kind, &mut sent.files)?;
        }
        "location" => plain::location(body)?,
        "contacts" => contacts::contacts(body)?,
        "reaction" => sent.reacts_to = Some(plain::reaction(body)?),
        "template" => sent.template = Some(template::template(body, &mut sent.files)?),
        "interactive" => interactive::interactive(body, &mut sent.files)?,
        "pin" => plain::pin(body, group)?,
        other => return Err(Refusal::bad(&format!("type {other} is not known"))),
    }
    Ok(sent)
}

/// A number in `to`, a user id in `recipient`; `to` wins.
fn recipient(body: &mut Strict) -> Result<Recipient, Refusal> {
    let group = match body.has("recipient_type") {
        true => body.need_word("recipient_type", &["individual", "group"])? == "group",
        false => false,
    };
    match (body.text("to")?, body.text("recipient")?) {
        (Some(to), _) if group => Ok(Recipient::Group(to.to_owned())),
        (Some(to), _) => Ok(to_number(to)),
        (None, Some(_)) if group => Err(Refusal::bad("a group stands in to")),
        (None, Some(user)) if is_user(user) => Ok(Recipient::User(user.to_owned())),
        (None, Some(_)) => Err(Refusal::value("recipient is no user id")),
        (None, None) => Err(Refusal::missing("to")),
    }
}

/// The vendor takes any text and keeps its digits; what was no number reaches nobody.
fn to_number(to: &str) -> Recipient {
    let digits: String = to.chars().filter(char::is_ascii_digit).collect();
    let form = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '(' | ')' | ' ' | '.');
    let input = to.to_owned();
    match (5..=15).contains(&digits.len()) && to.chars().all(form) {
        true => Recipient::Number { input, digits },
        false => Recipient::Nobody { input, digits },
    }
}

/// `GB.1234`, or a parent's: `GB.ENT.1234`.
fn is_user(text: &str) -> bool {
    let Some((country, rest)) = text.split_once('.') else {
        return false;
    };
    let id = rest.strip_prefix("ENT.").unwrap_or(rest);
    country.len() == 2
        && country.bytes().all(|byte| byte.is_ascii_uppercase())
        && (1..=128).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
