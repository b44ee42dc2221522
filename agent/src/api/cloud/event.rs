//! Items of the upstream's webhook calls (`item.rs`), as this release understands them. Everything but an id may be missing; what is
//! not known is kept.
//! Says nothing about `/v1`: `callback.rs` does.

use serde_json::{Map, Value};
use wa_core::message::MessageState;
use wa_core::shard_map::recipient_hash;

use super::file::digest;
pub use super::item::{Item, Own, Raw, Taken, items, take};
use super::opaque::{OPAQUE, Opaque};

/// What an item says.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// What became of a message of ours.
    Status(Status),
    /// A message of a customer.
    Message(Inbound),
    /// Something went wrong that is about no message.
    Error(VendorError),
    /// News of the account.
    Account { field: String, value: Value },
    /// What could not be read when it came: a webhook call with nothing else in it, and why.
    Unread { call: String, why: String },
}

/// What became of a message.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// The upstream's id of the message.
    pub id: Option<String>,
    /// Our id of it, which travelled as opaque data, or was found by the upstream's.
    pub ours: Option<String>,
    /// The customer's hash, where it travelled along.
    pub recipient_hash: Option<u32>,
    /// The client gave the message data of its own, which its callbacks repeat.
    pub client_data: bool,
    pub word: Word,
    pub recipient: Option<String>,
    pub timestamp: Option<String>,
    pub errors: Vec<VendorError>,
    /// Fields that nobody here reads.
    pub more: Map<String, Value>,
}

/// The word of a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    Sent,
    Delivered,
    Read,
    Failed,
    /// Another word, or none.
    Other(Option<String>),
}

impl Default for Word {
    fn default() -> Self {
        Self::Other(None)
    }
}

impl Word {
    fn of(word: Option<String>) -> Self {
        match word.as_deref() {
            Some("sent") => Self::Sent,
            Some("delivered") => Self::Delivered,
            Some("read") => Self::Read,
            Some("failed") => Self::Failed,
            Some(_) | None => Self::Other(word),
        }
    }

    /// As the upstream wrote it.
    pub fn text(self) -> Option<String> {
        match self {
            Self::Sent => Some("sent".to_owned()),
            Self::Delivered => Some("delivered".to_owned()),
            Self::Read => Some("read".to_owned()),
            Self::Failed => Some("failed".to_owned()),
            Self::Other(word) => word,
        }
    }
}

/// A message of a customer.
#[derive(Debug, Clone, PartialEq)]
pub struct Inbound {
    pub id: Option<String>,
    pub from: Option<String>,
    pub timestamp: Option<String>,
    pub kind: Kind,
    pub contact: Option<Value>,
    pub errors: Vec<VendorError>,
    /// Fields that nobody here reads, the object of the type among them unless it is a file's.
    pub more: Map<String, Value>,
}

/// What a customer's message is, as far as it matters here.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A file and its object.
    File(FileKind, Map<String, Value>),
    /// What the upstream cannot pass on.
    Unsupported,
    /// The customer takes back a message of his own, by the upstream's id.
    Revoked(String),
    /// The customer writes a message of his own anew: the reference client knew no such thing.
    Edited,
    /// The upstream says no type.
    Typeless,
    /// A type that is passed on as it is.
    Plain(Option<String>),
}

/// Kinds of files, by the type of the message that the business is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Image,
    Audio,
    Video,
    Document,
    Sticker,
    /// Audio that was recorded in the chat.
    Voice,
}

impl FileKind {
    /// The upstream's types; it calls a voice note audio.
    pub(super) fn of(word: &str) -> Option<Self> {
        match word {
            "image" => Some(Self::Image),
            "audio" => Some(Self::Audio),
            "video" => Some(Self::Video),
            "document" => Some(Self::Document),
            "sticker" => Some(Self::Sticker),
            _ => None,
        }
    }

    /// The type, and the name of its object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Document => "document",
            Self::Sticker => "sticker",
            Self::Voice => "voice",
        }
    }
}

/// A file of an inbound message that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub kind: FileKind,
    /// The upstream's id.
    pub cloud_id: String,
    /// The type, in the upstream's words; empty: it says none.
    pub mime: String,
    /// The digest of its bytes in hexadecimal, where the upstream says one that can be read.
    pub sha256: Option<String>,
    /// It is fetched only when somebody asks for it.
    pub on_demand: bool,
}

/// Why something failed, in the upstream's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VendorError {
    pub code: u32,
    pub title: Option<String>,
    pub details: Option<String>,
    pub href: Option<String>,
    /// The number of the call in the upstream's own logs; not known of what came by webhook.
    pub trace: Option<String>,
}

/// Where a customer's message names another one: what it answers, and what it reacts to.
const NAMING: [(&str, &str); 2] = [("context", "id"), ("reaction", "message_id")];

impl Event {
    /// What came, as this release understands it.
    pub fn of(raw: Raw) -> Self {
        let map = |value| match value {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        match raw {
            Raw::Status(status) => Self::Status(Status::of(map(status))),
            Raw::Message { message, contact } => Self::Message(Inbound::of(map(message), contact)),
            Raw::Error(error) => Self::Error(VendorError::of(&error)),
            Raw::Account { field, value } => Self::Account { field, value },
            Raw::Unread { call, why } => Self::Unread { call, why },
        }
    }

    /// What it means for a message of ours: our id, its new state, the upstream's id.
    pub fn status_change(&self) -> Option<(String, MessageState, Option<String>)> {
        let Self::Status(status) = self else {
            return None;
        };
        let state = match status.word {
            Word::Sent => MessageState::Sent,
            Word::Delivered => MessageState::Delivered,
            Word::Read => MessageState::Read,
            Word::Failed => MessageState::Failed,
            Word::Other(_) => return None,
        };
        let ours = status.ours.clone()?;
        Some((ours, state, status.id.clone()))
    }

    /// The upstream's ids in it that may be those of messages of ours.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Status(status) => {
                let unknown = status.ours.is_none();
                status
                    .id
                    .as_deref()
                    .filter(|_| unknown)
                    .into_iter()
                    .collect()
            }
            Self::Message(message) => {
                let ids = NAMING
                    .iter()
                    .filter_map(|(object, field)| message.more.get(*object)?.get(field)?.as_str());
                ids.collect()
            }
            Self::Error(_) | Self::Account { .. } | Self::Unread { .. } => Vec::new(),
        }
    }

    /// Puts our ids in the place of the upstream's, where `ours` knows them.
    pub fn rename(&mut self, ours: impl Fn(&str) -> Option<String>) {
        match self {
            Self::Status(status) => {
                if status.ours.is_none() {
                    status.ours = status.id.as_deref().and_then(ours);
                }
            }
            Self::Message(message) => {
                for (object, field) in NAMING {
                    let named = message.more.get_mut(object).and_then(|o| o.get_mut(field));
                    if let Some(named) = named
                        && let Some(id) = named.as_str().and_then(&ours)
                    {
                        *named = id.into();
                    }
                }
            }
            Self::Error(_) | Self::Account { .. } | Self::Unread { .. } => {}
        }
    }

    /// The message of ours whose row must be asked before a status is told: it has data of the client, or the upstream spells the
    /// recipient otherwise than we do, or not at all.
    pub fn asks_row(&self) -> Option<&str> {
        let Self::Status(status) = self else {
            return None;
        };
        let spelt = status.recipient.as_deref().map(recipient_hash);
        let same = spelt.is_some() && spelt == status.recipient_hash;
        let asks = status.client_data || !same;
        status.ours.as_deref().filter(|_| asks)
    }

    /// A status says whom our message was for as its own answer did, and repeats what the client gave it.
    pub fn complete(&mut self, recipient: &str, callback_data: Option<String>) {
        let Self::Status(status) = self else {
            return;
        };
        status.recipient = Some(recipient.to_owned());
        if let Some(data) = callback_data {
            status.more.insert(OPAQUE.to_owned(), data.into());
        }
    }

    /// Its file, if it has one that can be fetched.
    pub fn file(&self) -> Option<Wanted> {
        let Self::Message(message) = self else {
            return None;
        };
        let (kind, object, on_demand) = match &message.kind {
            Kind::File(kind, object) => (*kind, object, false),
            // A new text beside a file does not bring the file once more.
            Kind::Edited => {
                edited_file(&message.more).map(|(kind, object)| (kind, object, true))?
            }
            Kind::Unsupported | Kind::Revoked(_) | Kind::Typeless | Kind::Plain(_) => return None,
        };
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        Some(Wanted {
            kind,
            cloud_id: text("id")?.to_owned(),
            mime: text("mime_type").unwrap_or_default().to_owned(),
            sha256: text("sha256").and_then(digest),
            on_demand,
        })
    }
}

/// Where a status says who of a group it is about.
const PARTICIPANT: [&str; 3] = [
    "recipient_participant_id",
    "participant_recipient_id",
    "recipient_participant_user_id",
];

impl Status {
    /// What makes it one, whichever of the upstream's ids of our message it names: our id, the word, and who of a group it is about.
    pub fn key(&self) -> Option<String> {
        let (ours, word) = (self.ours.as_ref()?, self.word.clone().text()?);
        let mut who = PARTICIPANT
            .iter()
            .filter_map(|name| self.more.get(*name)?.as_str());
        Some(match who.next() {
            None => format!("{ours}:{word}"),
            Some(who) => format!("{ours}:{word}:{who}"),
        })
    }

    fn of(mut map: Map<String, Value>) -> Self {
        let mut text = |name| take_text(&mut map, name);
        let data = text(OPAQUE);
        let opaque = data.as_deref().and_then(Opaque::read);
        // Data of another system is told as it came, where its statuses are told.
        let others = data.filter(|_| opaque.is_none());
        Self {
            recipient_hash: opaque.as_ref().and_then(|opaque| opaque.recipient_hash),
            client_data: opaque.as_ref().is_some_and(|opaque| opaque.client_data),
            ours: opaque.map(|opaque| opaque.id),
            id: text("id").filter(|id| !id.is_empty()),
            word: Word::of(text("status")),
            recipient: text("recipient_id"),
            timestamp: text("timestamp"),
            errors: take_errors(&mut map),
            more: {
                map.remove(OPAQUE);
                map.extend(others.map(|data| (OPAQUE.to_owned(), data.into())));
                map
            },
        }
    }
}

impl Inbound {
    /// Calls a message of the same customer, which this one takes back or writes anew, as the business knows it.
    pub fn shorten_named(&mut self, short: impl Fn(&str) -> String) {
        if let Kind::Revoked(original) = &mut self.kind {
            *original = short(original);
        }
        let edit = self.more.get_mut("edit");
        let original = edit.and_then(|edit| edit.get_mut("original_message_id"));
        if let Some(original) = original
            && let Some(id) = original.as_str().map(short)
        {
            *original = id.into();
        }
    }

    fn of(mut map: Map<String, Value>, contact: Option<Value>) -> Self {
        let mut text = |name| take_text(&mut map, name);
        Self {
            id: text("id"),
            from: text("from"),
            timestamp: text("timestamp"),
            kind: take_kind(&mut map),
            contact,
            errors: take_errors(&mut map),
            more: map,
        }
    }
}

/// The file of a message that was written anew, and its object.
fn edited_file(more: &Map<String, Value>) -> Option<(FileKind, &Map<String, Value>)> {
    let message = more.get("edit")?.get("message")?.as_object()?;
    let file = |(name, object): (&String, &'_ Value)| {
        let kind = FileKind::of(name)?;
        object.is_object().then_some(kind)
    };
    let kind = message.iter().find_map(file)?;
    Some((kind, message.get(kind.as_str())?.as_object()?))
}

fn take_kind(map: &mut Map<String, Value>) -> Kind {
    let word = take_text(map, "type");
    match word.as_deref() {
        Some("unsupported" | "unknown") => return Kind::Unsupported,
        Some("revoke") => {
            let original = map
                .get("revoke")
                .and_then(|revoke| revoke.get("original_message_id"));
            if let Some(original) = original.and_then(Value::as_str).filter(|id| !id.is_empty()) {
                return Kind::Revoked(original.to_owned());
            }
            return Kind::Unsupported;
        }
        Some("edit") => return Kind::Edited,
        None if map.get("type").is_none_or(Value::is_null) => {
            map.remove("type");
            return Kind::Typeless;
        }
        Some(_) | None => {}
    }
    let file = word.as_deref().and_then(FileKind::of);
    match file.and_then(|kind| Some((kind, map.get(kind.as_str())?.as_object()?))) {
        Some((kind, object)) => {
            let voice = kind == FileKind::Audio && object.get("voice") == Some(&Value::Bool(true));
            let object = object.clone();
            map.remove(kind.as_str());
            Kind::File(if voice { FileKind::Voice } else { kind }, object)
        }
        None => Kind::Plain(word),
    }
}

/// A text, or a number as text. What is neither stays where it is.
fn take_text(map: &mut Map<String, Value>, name: &str) -> Option<String> {
    let text = match map.get(name)? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    map.remove(name);
    Some(text)
}

fn take_errors(map: &mut Map<String, Value>) -> Vec<VendorError> {
    match map.get_mut("errors").map(Value::take) {
        Some(Value::Array(errors)) => {
            map.remove("errors");
            errors.iter().map(VendorError::of).collect()
        }
        Some(other) => {
            map.insert("errors".to_owned(), other);
            Vec::new()
        }
        None => Vec::new(),
    }
}

impl VendorError {
    fn of(value: &Value) -> Self {
        let text = |value: Option<&Value>| Some(value?.as_str()?.to_owned());
        let details = value
            .pointer("/error_data/details")
            .or_else(|| value.get("details"));
        let code = value.get("code").and_then(Value::as_u64);
        Self {
            code: code.and_then(|code| u32::try_from(code).ok()).unwrap_or(0),
            title: text(value.get("title")),
            details: text(details),
            href: text(value.get("href")),
            trace: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(message: Value) -> Event {
        Event::of(Raw::Message {
            message,
            contact: None,
        })
    }

    /// An empty id is none: it would stand in the row in the place of the one that its send was answered.
    #[test]
    fn a_status_without_an_id_overwrites_none() {
        let status = json!({"id": "", "status": "sent", "biz_opaque_callback_data": "gBEGkYaYVSEEAgnZxQ3JmKK6Ww.00000007"});
        let change = Event::of(Raw::Status(status)).status_change();
        let ours = "gBEGkYaYVSEEAgnZxQ3JmKK6Ww".to_owned();
        assert_eq!(change, Some((ours, MessageState::Sent, None)));
    }

    #[test]
    fn files_are_found_by_their_kind() {
        let sha256 = hex::encode([7u8; 32]);
        let voice = message(json!({"type": "audio", "audio": {
            "id": "7", "voice": true, "mime_type": "audio/ogg", "sha256": sha256}}));
        let wanted = Wanted {
            kind: FileKind::Voice,
            cloud_id: "7".into(),
            mime: "audio/ogg".into(),
            sha256: Some(sha256),
            on_demand: false,
        };
        assert_eq!(voice.file(), Some(wanted));
        for none in [
            json!({"type": "text", "text": {"body": "x"}}),
            json!({"type": "image", "image": {}}),
            json!({"type": "image", "image": 7}),
            json!({"type": "image"}),
            json!({}),
        ] {
            assert_eq!(message(none.clone()).file(), None, "{none}");
        }
    }
}
