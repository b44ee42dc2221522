//! Webhook calls of the upstream, taken apart into items, which rows of the inbox keep as they came: each with its key, its customer
//! and, for a message, its contact. Understands no item: `event.rs` does.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::opaque::{OPAQUE, Opaque};

/// Longest key of an item, in bytes: what its column takes.
const KEY_LEN_MAX: usize = 190;

/// An item of a webhook call, on its own, as it came: the envelope is gone, a key makes it unique.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The upstream's id, and for a status its word.
    #[serde(skip)]
    pub key: String,
    /// The customer's number, or user id: decides the shard.
    pub customer: String,
    /// The hash of a message of ours that it is about, where that is known: decides the shard instead.
    #[serde(skip)]
    pub recipient_hash: Option<u32>,
    #[serde(rename = "content")]
    pub raw: Raw,
}

/// What came. Rows hold it: its form does not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Raw {
    /// A status object.
    Status(Value),
    /// An inbound message and the contact that it came with.
    Message {
        message: Value,
        contact: Option<Value>,
    },
}

/// The customer's hash that came back with a status of ours.
fn hash_of(status: &Value) -> Option<u32> {
    Opaque::read(status.get(OPAQUE)?.as_str()?)?.recipient_hash
}

/// Takes a webhook call apart. Entries that are neither messages nor statuses are left out.
pub fn items(body: &Value) -> Vec<Item> {
    let mut out = Vec::new();
    let list = |v: &Value, key: &str| {
        v.get(key)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    for value in list(body, "entry")
        .iter()
        .flat_map(|e| list(e, "changes"))
        .filter_map(|c| c.get("value").cloned())
    {
        let contacts = list(&value, "contacts");
        for status in list(&value, "statuses") {
            let [id, kind, number, user_id] = ["id", "status", "recipient_id", "recipient_user_id"]
                .map(|name| word(&status, name));
            out.push(Item {
                key: format!("{id}:{kind}"),
                customer: first([number, user_id]),
                recipient_hash: hash_of(&status),
                raw: Raw::Status(status),
            });
        }
        let messages = list(&value, "messages");
        let alone = messages.len() == 1 && contacts.len() == 1;
        for message in messages {
            let contact = contact_of(&message, &contacts, alone);
            out.push(Item {
                key: message_key(&message),
                customer: writer(&message, contact.as_ref()),
                recipient_hash: None,
                raw: Raw::Message { message, contact },
            });
        }
    }
    out.retain(|item| !item.key.is_empty() && item.key.len() <= KEY_LEN_MAX);
    out
}

/// The contact that a message came with: by its number, else by its user id, else the only one there is for the only message.
/// Never somebody else's.
fn contact_of(message: &Value, contacts: &[Value], alone: bool) -> Option<Value> {
    let by = |own: &str, theirs: &str| {
        let own = word(message, own);
        let mut same = contacts.iter().filter(|c| word(c, theirs) == own);
        same.next().filter(|_| !own.is_empty())
    };
    let only = || {
        let contact = contacts.first().filter(|_| alone)?;
        let other = [("from", "wa_id"), ("from_user_id", "user_id")]
            .into_iter()
            .any(|(own, theirs)| {
                let (own, theirs) = (word(message, own), word(contact, theirs));
                !own.is_empty() && !theirs.is_empty() && own != theirs
            });
        (!other).then_some(contact)
    };
    let found = by("from", "wa_id").or_else(|| by("from_user_id", "user_id"));
    found.or_else(only).cloned()
}

/// The real message may follow what was told as unsupported, under the same id.
fn message_key(message: &Value) -> String {
    let id = word(message, "id");
    match word(message, "type").as_str() {
        "unsupported" if !id.is_empty() => format!("{id}:unsupported"),
        _ => id,
    }
}

/// The number of whoever wrote, or the user id where the number is not told. A change may come without a sender: it goes the way
/// that the customer went until then.
fn writer(message: &Value, contact: Option<&Value>) -> String {
    let system = |name: &str| message.get("system").map(|system| word(system, name));
    let contact = |name: &str| contact.map(|contact| word(contact, name));
    first([
        word(message, "from"),
        word(message, "from_user_id"),
        system("previous_user_id").unwrap_or_default(),
        system("user_id").unwrap_or_default(),
        contact("wa_id").unwrap_or_default(),
        contact("user_id").unwrap_or_default(),
    ])
}

fn first<const N: usize>(names: [String; N]) -> String {
    let told = names.into_iter().find(|text| !text.is_empty());
    told.unwrap_or_default()
}

fn word(value: &Value, key: &str) -> String {
    value
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}
