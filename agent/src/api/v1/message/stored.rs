//! The form in which messages are stored, and travel from webapps to their owner: our own words, never the upstream's.
//!
//! A form has a number, which stands beside the text in its row. From one release to the next:
//! - a row keeps the form in which it was accepted, and is compared with a repeated request by that form's hash (S4);
//! - a node reads every form up to its newest, and a coreapp that cannot read what is in the store is not eligible;
//! - a newer form is written only when every coreapp reads it (`node.form_max`).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::form::ALL;
pub use super::form::{BLANKED, Form, SAID};
use super::media::{FileId, Source};
use super::{Content, Message};
use crate::api::v1::who::{Recipient, is_user_id};

/// Why a stored text is no message.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// A newer release wrote it.
    #[error("form {0} of a message is newer than this release reads")]
    Form(u16),
    /// The parser's words quote no value.
    #[error("a message in form {form} cannot be read (column {column})")]
    Text { form: u16, column: usize },
    /// What must not be there, or is missing.
    #[error("a message in form {form} cannot be read: {what}")]
    Shape { form: u16, what: &'static str },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Cow<'a, str>>,
    to: Cow<'a, Recipient>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<Cow<'a, str>>,
    /// Conversion left null where the request had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    preview_url: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback_data: Option<Cow<'a, str>>,
    content: Cow<'a, Content>,
}

/// A message as the text of a form, which is not older than its type.
pub fn write(form: Form, message: &Message) -> String {
    let input = message.input.as_deref();
    match form {
        Form::One => text(message, None, &message.to.unmarked()),
        Form::Two => text(message, input, &message.to.unmarked()),
        Form::Three => text(message, input, &message.to),
    }
}

fn text(message: &Message, input: Option<&str>, to: &Recipient) -> String {
    let stored = Stored {
        input: input.map(Into::into),
        to: Cow::Borrowed(to),
        reply_to: message.reply_to.as_deref().map(Into::into),
        preview_url: message.preview_url.then_some(true),
        ttl_s: message.ttl_s,
        callback_data: message.callback_data.as_deref().map(Into::into),
        content: Cow::Borrowed(&message.content),
    };
    serde_json::to_string(&stored).expect("plain data is JSON")
}

/// Reads a text of a form.
///
/// # Errors
/// [`Unreadable`]: nothing is guessed.
pub fn read(number: u16, text: &str) -> Result<Message, Unreadable> {
    let form = Form::of(number).ok_or(Unreadable::Form(number))?;
    let shape = |what| Unreadable::Shape { form: number, what };
    let stored: Stored<'_> = serde_json::from_str(text).map_err(|error| Unreadable::Text {
        form: number,
        column: error.column(),
    })?;
    match form {
        Form::One if stored.input.is_some() => return Err(shape("it has an input")),
        Form::One | Form::Two if *stored.to != stored.to.unmarked() => {
            return Err(shape("its recipient is marked"));
        }
        Form::One | Form::Two | Form::Three => {}
    }
    let message = Message {
        input: stored.input.map(Into::into),
        to: stored.to.into_owned(),
        reply_to: stored.reply_to.map(Into::into),
        preview_url: stored.preview_url.unwrap_or(false),
        ttl_s: stored.ttl_s,
        callback_data: stored.callback_data.map(Into::into),
        content: stored.content.into_owned(),
    };
    match message.since() > form {
        true => Err(shape("what it has came later")),
        false => Ok(message),
    }
}

/// The recipient as the answer to the request said it: an alias where one was named, whoever it stands for.
pub fn answered(form: i64, text: &str, recipient: &str) -> String {
    let alias = || told_again(form, text)?.alias.map(Into::into);
    let alias = is_user_id(recipient).then(alias).flatten();
    alias.unwrap_or_else(|| recipient.to_owned())
}

/// What the client gave a stored message to be told again; `None` also for what cannot be read.
pub fn callback_data(form: i64, text: &str) -> Option<String> {
    told_again(form, text)?.callback_data.map(Into::into)
}

/// Where the files of a stored message are, or were; none for what cannot be read.
pub fn sources(form: i64, text: &str) -> Vec<Source> {
    let files = told_again(form, text).map(|left| left.files);
    let files = files.unwrap_or_default().into_iter();
    files.map(Cow::into_owned).collect()
}

/// What is left of a message whose content is not needed any more: what its later callbacks repeat, and where its files are, which
/// the upstream may refuse later. Empty for most. A text that cannot be read leaves nothing.
pub fn remains(form: i64, text: &str) -> String {
    let left = told_again(form, text).filter(|left| !left.is_empty());
    left.map_or_else(String::new, |left| {
        serde_json::to_string(&left).expect("plain data is JSON")
    })
}

/// What stays in the row of a finished message, in every form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remains<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alias: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    callback_data: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    files: Vec<Cow<'a, Source>>,
}

impl Remains<'_> {
    fn is_empty(&self) -> bool {
        self.alias.is_none() && self.callback_data.is_none() && self.files.is_empty()
    }
}

/// Of a whole message, or of what is left of one.
fn told_again(form: i64, text: &str) -> Option<Remains<'_>> {
    if let Ok(left) = serde_json::from_str::<Remains<'_>>(text) {
        return Some(left);
    }
    let message = read(u16::try_from(form).ok()?, text).ok()?;
    let files = message.content.sources().into_iter();
    Some(Remains {
        alias: message.alias().map(Into::into),
        files: files
            .map(|(_, source)| Cow::Owned(source.clone()))
            .collect(),
        callback_data: message.callback_data.map(Into::into),
    })
}

/// What must be equal for two requests to be the same message, as rows of this form have it: 63 bits, for rows hold signed
/// numbers. Frozen: a row is compared by it for as long as it is kept. Ignores how the recipient was spelt. `None`: no message
/// of this type was ever stored in the form.
pub fn hash(form: Form, message: &Message) -> Option<u64> {
    let digest = match form {
        Form::One => hash_one(message)?,
        Form::Two | Form::Three => Sha256::digest(text(message, None, &message.to.unmarked())),
    };
    let mut bytes = [0u8; 8];
    bytes.copy_from_slice(&digest[..8]);
    let known = message.since() <= form;
    known.then(|| u64::from_le_bytes(bytes) >> 1)
}

/// The hash in every form that this build reads, and that has the type.
pub fn hashes(message: &Message) -> Vec<(u16, u64)> {
    let readable = ALL.into_iter().filter(|form| *form <= Form::NEWEST);
    readable
        .filter_map(|form| Some((form.number(), hash(form, message)?)))
        .collect()
}

/// As it was before there were forms: media by a text that looked like the upstream's request.
fn hash_one(message: &Message) -> Option<sha2::digest::Output<Sha256>> {
    let reply_to = message.reply_to.as_deref();
    let to = message.to.as_str();
    let digest = Sha256::new()
        .chain_update(to)
        .chain_update([
            0,
            u8::from(message.preview_url),
            u8::from(reply_to.is_some()),
        ])
        .chain_update(reply_to.unwrap_or_default())
        .chain_update([0]);
    let digest = match &message.content {
        Content::Text(text) => digest.chain_update(&text.body),
        Content::Media(attachment) => {
            let mut object = serde_json::Map::new();
            let mut own = None;
            match &attachment.source {
                Source::Id(FileId(id)) => {
                    object.insert("id".into(), id.as_str().into());
                    own = Some(id.as_str());
                }
                Source::Link(link) => {
                    object.insert("link".into(), link.as_str().into());
                }
                Source::Provided { .. } => return None,
            }
            for (name, value) in [
                ("caption", &attachment.caption),
                ("filename", &attachment.filename),
            ] {
                if let Some(value) = value {
                    object.insert(name.into(), value.as_str().into());
                }
            }
            let kind = attachment.kind.as_str();
            let mut whole = serde_json::json!({
                "messaging_product": "whatsapp", "recipient_type": "individual", "to": to, "type": kind,
                "biz_opaque_callback_data": "", kind: object,
            });
            if let Some(own) = own {
                whole["x_wa_media"] = own.into();
            }
            digest.chain_update([0]).chain_update(whole.to_string())
        }
        Content::Location(_)
        | Content::Contacts(_)
        | Content::Template(_)
        | Content::Hsm(_)
        | Content::Interactive(_)
        | Content::Reaction(_) => return None,
    };
    Some(digest.finalize())
}

#[cfg(test)]
#[path = "stored_tests.rs"]
mod tests;
