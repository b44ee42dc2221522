//! Reads sends as strictly as the Cloud API's documentation has them. It shares nothing with what writes them: a field that
//! nobody documented, or a value of another type, is refused here before it is refused by the vendor.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Why a send is refused: the vendor's number and words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: u32,
    pub why: String,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Message(Sent),
    /// An inbound message was read.
    Read,
}

/// A message, as far as the simulator needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The recipient: a number, or a BSUID.
    pub to: String,
    /// Opaque data of the sender.
    pub opaque: String,
    /// Ids of files that were uploaded before.
    pub files: Vec<String>,
}

/// Reads the body of `POST /{phone_number_id}/messages`.
///
/// # Errors
/// [`Refusal`]: 100 for what is not JSON, not documented or of another type, 131008 for what is missing, 131009 for values.
pub fn read(bytes: &[u8]) -> Result<Asked, Refusal> {
    let value = serde_json::from_slice(bytes).map_err(|_| bad("the body is not JSON"))?;
    let Value::Object(map) = value else {
        return Err(bad("the body is no object"));
    };
    let mut body = Strict::new("", map);
    if body.need_text("messaging_product")? != "whatsapp" {
        return Err(bad("messaging_product must be whatsapp"));
    }
    let asked = match body.text("status")? {
        Some(status) => read_mark(&mut body, &status)?,
        None => Asked::Message(message(&mut body)?),
    };
    body.end()?;
    Ok(asked)
}

fn read_mark(body: &mut Strict, status: &str) -> Result<Asked, Refusal> {
    if status != "read" {
        return Err(bad("status must be read"));
    }
    body.need_id("message_id")?;
    if let Some(mut indicator) = body.object("typing_indicator")? {
        if indicator.need_text("type")? != "text" {
            return Err(bad("typing_indicator.type must be text"));
        }
        indicator.end()?;
    }
    Ok(Asked::Read)
}

fn message(body: &mut Strict) -> Result<Sent, Refusal> {
    let individual = body.text("recipient_type")?;
    if individual.is_some_and(|kind| kind != "individual") {
        return Err(bad("recipient_type must be individual"));
    }
    let to = recipient(body)?;
    let opaque = body.text_within("biz_opaque_callback_data", 512)?;
    body.text("recipient_identity_key_hash")?;
    if let Some(mut context) = body.object("context")? {
        context.need_id("message_id")?;
        context.end()?;
    }
    let kind = body.text("type")?.unwrap_or_else(|| "text".to_owned());
    let mut files = Vec::new();
    match kind.as_str() {
        "text" => {
            let mut text = body.need_object("text")?;
            text.need_text("body")?;
            text.limit("body", 4096)?;
            text.boolean("preview_url")?;
            text.end()?;
        }
        "image" | "video" => files.extend(file(body, &kind, &["caption"])?),
        "document" => files.extend(file(body, &kind, &["caption", "filename"])?),
        "sticker" => files.extend(file(body, &kind, &[])?),
        "audio" => {
            let mut audio = body.need_object("audio")?;
            audio.boolean("voice")?;
            files.extend(source(&mut audio)?);
            audio.end()?;
        }
        "location" => location(body)?,
        _ => return Err(bad(&format!("type {kind} is not played here"))),
    }
    Ok(Sent {
        to,
        opaque: opaque.unwrap_or_default(),
        files,
    })
}

/// A number in `to`, a BSUID in `recipient`; `to` wins.
fn recipient(body: &mut Strict) -> Result<String, Refusal> {
    let (to, user) = (body.text("to")?, body.text("recipient")?);
    let number = |text: &str| {
        let digits = text.strip_prefix('+').unwrap_or(text);
        (5..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    };
    match (to, user) {
        (Some(to), _) if number(&to) => Ok(to),
        // The vendor takes it and never delivers it: here it is told.
        (Some(_), _) => Err(value("to is no phone number")),
        (None, Some(user)) if user.contains('.') => Ok(user),
        (None, Some(_)) => Err(value("recipient is no user id")),
        (None, None) => Err(missing("to")),
    }
}

/// Degrees are strings; inbound they are numbers.
fn location(body: &mut Strict) -> Result<(), Refusal> {
    let mut location = body.need_object("location")?;
    for (name, most) in [("latitude", 90.0), ("longitude", 180.0)] {
        let degrees = location.need_text(name)?.parse::<f64>();
        if !degrees.is_ok_and(|degrees| degrees.abs() <= most) {
            return Err(value(&format!("location.{name}")));
        }
    }
    location.text("name")?;
    location.text("address")?;
    location.end()
}

/// The object of a file, with the texts that its type may have.
fn file(body: &mut Strict, kind: &str, texts: &[&str]) -> Result<Option<String>, Refusal> {
    let mut object = body.need_object(kind)?;
    for name in texts {
        let most = if *name == "caption" { 1024 } else { 240 };
        object.text_within(name, most)?;
    }
    let id = source(&mut object)?;
    object.end()?;
    Ok(id)
}

/// One of `id` and `link`; the id.
fn source(object: &mut Strict) -> Result<Option<String>, Refusal> {
    match (object.text("id")?, object.text("link")?) {
        (Some(id), None) => Ok(Some(id)),
        (None, Some(link)) if link.starts_with("https://") || link.starts_with("http://") => {
            Ok(None)
        }
        (None, Some(_)) => Err(value(&format!("{}.link is no address", object.at))),
        (Some(_), Some(_)) => Err(bad(&format!("{}: id and link", object.at))),
        (None, None) => Err(missing(&format!("{}.id or link", object.at))),
    }
}

fn bad(why: &str) -> Refusal {
    Refusal {
        code: 100,
        why: format!("Invalid parameter: {why}"),
    }
}

fn missing(what: &str) -> Refusal {
    Refusal {
        code: 131_008,
        why: format!("Required parameter is missing: {what}"),
    }
}

fn value(why: &str) -> Refusal {
    Refusal {
        code: 131_009,
        why: format!("Parameter value is not valid: {why}"),
    }
}

/// An object of which every field must be asked for.
struct Strict {
    at: String,
    map: Map<String, Value>,
    asked: BTreeSet<String>,
}

impl Strict {
    fn new(at: &str, map: Map<String, Value>) -> Self {
        Self {
            at: at.to_owned(),
            map,
            asked: BTreeSet::new(),
        }
    }

    fn path(&self, name: &str) -> String {
        let dot = if self.at.is_empty() { "" } else { "." };
        format!("{}{dot}{name}", self.at)
    }

    fn get(&mut self, name: &str) -> Option<&Value> {
        self.asked.insert(name.to_owned());
        self.map.get(name)
    }

    /// A string that is not empty. Numbers, `null` and empty strings are none.
    fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
            Some(_) => Err(bad(&format!(
                "{} must be a string that is not empty",
                self.path(name)
            ))),
        }
    }

    fn need_text(&mut self, name: &str) -> Result<String, Refusal> {
        self.text(name)?.ok_or_else(|| missing(&self.path(name)))
    }

    fn need_id(&mut self, name: &str) -> Result<(), Refusal> {
        let id = self.need_text(name)?;
        match id.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(()),
            false => Err(value(&format!("{} is no id", self.path(name)))),
        }
    }

    fn text_within(&mut self, name: &str, chars_max: usize) -> Result<Option<String>, Refusal> {
        let text = self.text(name)?;
        self.limit(name, chars_max)?;
        Ok(text)
    }

    fn limit(&self, name: &str, chars_max: usize) -> Result<(), Refusal> {
        let text = self.map.get(name).and_then(Value::as_str);
        match text.is_some_and(|text| text.chars().count() > chars_max) {
            true => Err(value(&format!("{} is too long", self.path(name)))),
            false => Ok(()),
        }
    }

    fn boolean(&mut self, name: &str) -> Result<(), Refusal> {
        match self.get(name) {
            None | Some(Value::Bool(_)) => Ok(()),
            Some(_) => Err(bad(&format!("{} must be a boolean", self.path(name)))),
        }
    }

    fn object(&mut self, name: &str) -> Result<Option<Self>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => {
                let map = map.clone();
                Ok(Some(Self::new(&self.path(name), map)))
            }
            Some(_) => Err(bad(&format!("{} must be an object", self.path(name)))),
        }
    }

    fn need_object(&mut self, name: &str) -> Result<Self, Refusal> {
        self.object(name)?.ok_or_else(|| missing(&self.path(name)))
    }

    /// Nothing is left that nobody asked for.
    fn end(&self) -> Result<(), Refusal> {
        let unknown = self.map.keys().find(|name| !self.asked.contains(*name));
        match unknown {
            Some(name) => Err(bad(&format!("unexpected field {}", self.path(name)))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text() -> Value {
        json!({"messaging_product": "whatsapp", "recipient_type": "individual", "to": "447700900456", "type": "text",
            "text": {"preview_url": false, "body": "x"}, "biz_opaque_callback_data": "m1", "context": {"message_id": "wamid.A"}})
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut body = text();
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        body.pointer_mut(parent).expect("there")[name] = value;
        body
    }

    fn code(body: &Value) -> u32 {
        read(body.to_string().as_bytes()).map_or_else(|refusal| refusal.code, |_| 0)
    }

    #[test]
    fn what_is_documented_is_taken() {
        let sent = Sent {
            to: "447700900456".into(),
            opaque: "m1".into(),
            files: Vec::new(),
        };
        assert_eq!(
            read(text().to_string().as_bytes()),
            Ok(Asked::Message(sent))
        );
        let read_mark =
            json!({"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.A"});
        assert_eq!(read(read_mark.to_string().as_bytes()), Ok(Asked::Read));
        for (kind, object) in [
            ("image", json!({"id": "7", "caption": "c"})),
            ("video", json!({"link": "https://files.example/a.mp4"})),
            ("audio", json!({"id": "7", "voice": true})),
            (
                "document",
                json!({"id": "7", "caption": "c", "filename": "f.pdf"}),
            ),
            ("sticker", json!({"id": "7"})),
        ] {
            let body = json!({"messaging_product": "whatsapp", "to": "447700900456", "type": kind, kind: object});
            assert_eq!(code(&body), 0, "{body}");
        }
    }

    /// Goal: nothing that the vendor would refuse, or take and not deliver, passes here. Method: a good body with one thing
    /// wrong at a time.
    #[test]
    fn what_is_not_documented_is_refused() {
        let long = "x".repeat(4097);
        let table = [
            (with("/unknown", json!(1)), 100),
            (with("/x_wa_media", json!("f")), 100),
            (with("/text/unknown", json!(1)), 100),
            (with("/context/id", json!("x")), 100),
            (with("/image", json!({"id": "7"})), 100),
            (with("/messaging_product", json!("telegram")), 100),
            (with("/recipient_type", json!("everybody")), 100),
            (with("/to", json!(447700900456u64)), 100),
            (with("/to", json!("")), 100),
            (with("/to", json!(null)), 100),
            (with("/to", json!("GB.1234567890")), 131_009),
            (with("/text", json!("x")), 100),
            (with("/text/body", json!(7)), 100),
            (with("/text/body", json!(long)), 131_009),
            (with("/text/preview_url", json!("true")), 100),
            (with("/context", json!("wamid.A")), 100),
            (with("/context", json!({})), 131_008),
            (
                with("/biz_opaque_callback_data", json!("x".repeat(513))),
                131_009,
            ),
            (with("/type", json!("fax")), 100),
            (
                json!({"messaging_product": "whatsapp", "to": "447700900456", "type": "image"}),
                131_008,
            ),
            (
                json!({"messaging_product": "whatsapp", "to": "447700900456", "type": "image", "image": {}}),
                131_008,
            ),
            (
                json!({"messaging_product": "whatsapp", "to": "447700900456", "type": "sticker", "sticker": {"id": "7", "caption": "c"}}),
                100,
            ),
            (
                json!({"messaging_product": "whatsapp", "to": "447700900456", "type": "image", "image": {"id": "7", "link": "https://x"}}),
                100,
            ),
            (
                json!({"messaging_product": "whatsapp", "status": "seen", "message_id": "w"}),
                100,
            ),
            (
                json!({"messaging_product": "whatsapp", "status": "read"}),
                131_008,
            ),
            (json!({"to": "447700900456"}), 131_008),
            (json!([]), 100),
        ];
        for (body, wanted) in table {
            assert_eq!(code(&body), wanted, "{body}");
        }
        assert_eq!(read(b"{").map_err(|refusal| refusal.code), Err(100));
    }
}
