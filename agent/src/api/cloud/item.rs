//! Webhook calls of the upstream, taken apart into items, which rows of the inbox keep as they came: each with its key, its customer
//! and, for a message, its contact. What cannot be read is an item, too, and holds up no other (F04).
//! Understands no item: `event.rs` does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::error::Category;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::opaque::{OPAQUE, Opaque};

/// Longest text of what cannot be read that is kept, in bytes: twice as long as JSON, it still fits into a row.
const UNREAD_LEN_MAX: usize = 256 << 10;
/// The field that tells of messages.
const MESSAGES: &str = "messages";
/// Fields that tell of messages which others wrote, or which were written before: never told as messages of customers.
const ECHOES: [&str; 5] = [
    "smb_message_echoes",
    "message_echoes",
    "standby",
    "history",
    "smb_app_state_sync",
];
/// What a change of the field `messages` has beside its lists.
const AROUND: [&str; 3] = ["messaging_product", "metadata", "contacts"];

/// Its lists, in the order in which they are told.
const LISTS: [&str; 3] = ["statuses", "messages", "errors"];

/// An item of a webhook call, on its own, as it came: the envelope is gone, a key makes it unique.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The upstream's id, and for a status its word; a hash where there is no id.
    #[serde(skip)]
    pub key: String,
    /// The customer's number, or user id: decides the shard. Empty: it is about none.
    pub customer: String,
    /// The hash of a message of ours that it is about, where that is known: decides the shard instead.
    #[serde(skip)]
    pub recipient_hash: Option<u32>,
    /// Of a status: its message is known.
    #[serde(skip)]
    pub placed: bool,
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
    /// Something went wrong that is about no message.
    Error(Value),
    /// News of the account, or of anything that is neither a message nor a status.
    Account { field: String, value: Value },
    /// What cannot be read: a webhook call with nothing else in it, and why.
    Unread { call: String, why: String },
}

/// A webhook call, taken apart.
#[derive(Debug, Default)]
pub struct Taken {
    pub items: Vec<Item>,
    /// Messages and statuses of numbers that are not ours (F09), and news of accounts that are not.
    pub of_others: u64,
    /// Changes with messages that others wrote, or that were written before.
    pub echoes: u64,
}

/// What is ours. What is empty is not known, and then everything counts as ours.
#[derive(Debug, Clone, Copy, Default)]
pub struct Own<'a> {
    /// The upstream's id of our number.
    pub number: &'a str,
    /// Ids of our account and of the business portfolio that it belongs to: news come under either.
    pub account: &'a str,
    pub portfolio: &'a str,
}

impl<'a> From<&'a str> for Own<'a> {
    /// Nothing but the number is known.
    fn from(number: &'a str) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }
}

impl Own<'_> {
    /// News under this id are certainly of another account.
    fn excludes(self, entry: &str) -> bool {
        let known = !self.account.is_empty() && !self.portfolio.is_empty();
        let entry = entry.trim_matches('"');
        known
            && !matches!(entry, "" | "0" | "null")
            && ![self.account, self.portfolio].contains(&entry)
    }
}

type Object<'a> = BTreeMap<String, &'a RawValue>;

fn object(raw: &RawValue) -> Option<Object<'_>> {
    serde_json::from_str(raw.get()).ok()
}

fn list(raw: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(raw.get()).ok()
}

fn value(raw: &RawValue) -> Result<Value, String> {
    serde_json::from_str(raw.get()).map_err(|error| reason(&error))
}

/// Why something cannot be read, without a word of what stands there: people and journals are told.
fn reason(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Io | Category::Syntax => "it is no JSON",
        Category::Data => "its JSON has another form",
        Category::Eof => "it breaks off",
    };
    let (line, column) = (error.line(), error.column());
    format!("{what} (line {line}, column {column})")
}

/// Takes a webhook call apart.
pub fn take<'a>(call: &str, own: impl Into<Own<'a>>) -> Taken {
    let own = own.into();
    let mut taken = Taken::default();
    let read = serde_json::from_str::<Object<'_>>(call);
    let entries = match &read {
        Ok(read) => read.get("entry").and_then(|raw| list(raw)),
        Err(_) => None,
    };
    let Some(entries) = entries else {
        let why = match read {
            Ok(_) => "it has no list of entries".to_owned(),
            Err(error) => reason(&error),
        };
        taken.items.push(unread("", "", call.to_owned(), why));
        return taken;
    };
    for entry in entries {
        let whole = || format!(r#"{{"entry":[{}]}}"#, entry.get());
        let read = object(entry);
        let word = |name: &str| {
            let raw = read.as_ref().and_then(|read| read.get(name));
            raw.map_or("", |raw| raw.get())
        };
        let (id, time) = (word("id"), word("time"));
        let of = Entry { id, time };
        let changes = read.as_ref().and_then(|read| read.get("changes"));
        let Some(changes) = changes.and_then(|raw| list(raw)) else {
            let why = "an entry has no list of changes".to_owned();
            taken.items.push(unread("", id, whole(), why));
            continue;
        };
        for change in changes {
            Change::take(change, of, own, &mut taken);
        }
    }
    taken
}

/// The items of a call that was read already, whosever number it is about.
pub fn items(call: &Value) -> Vec<Item> {
    take(&call.to_string(), "").items
}

/// What an entry says beside its changes, as it is written; empty where it says nothing.
#[derive(Clone, Copy)]
struct Entry<'a> {
    id: &'a str,
    /// When what it tells of happened.
    time: &'a str,
}

/// One change of an entry.
struct Change<'a> {
    entry: Entry<'a>,
    field: &'a str,
    value: Object<'a>,
}

impl<'a> Change<'a> {
    fn take(change: &'a RawValue, entry: Entry<'a>, own: Own<'_>, taken: &mut Taken) {
        let read = object(change).unwrap_or_default();
        let field = read.get("field").and_then(|raw| value(raw).ok());
        let field = match &field {
            None => MESSAGES,
            Some(field) => field.as_str().unwrap_or(MESSAGES),
        };
        if ECHOES.contains(&field) {
            taken.echoes += 1;
            return;
        }
        let raw = read.get("value").copied();
        let Some((raw, value)) = raw.and_then(|raw| Some((raw, object(raw)?))) else {
            let whole = in_entry(entry, change.get());
            let why = "a change has no value".to_owned();
            taken.items.push(unread(field, entry.id, whole, why));
            return;
        };
        let change = Change {
            entry,
            field,
            value,
        };
        if change.of_another(own.number) {
            taken.of_others += change.len().max(1);
        } else if field != MESSAGES && own.excludes(entry.id) {
            taken.of_others += 1;
        } else if field == MESSAGES {
            change.lists(taken);
        } else {
            taken.items.push(change.account(field, raw));
        }
    }

    fn of_another(&self, own: &str) -> bool {
        let metadata = self.value.get("metadata").and_then(|raw| value(raw).ok());
        let number = metadata.map_or(String::new(), |m| word(&m, "phone_number_id"));
        !own.is_empty() && !number.is_empty() && number != own
    }

    fn len(&self) -> u64 {
        let lists = ["messages", "statuses"].into_iter();
        let lists = lists.filter_map(|name| list(self.value.get(name)?));
        lists.map(|list| list.len() as u64).sum()
    }

    /// The lists of messages, statuses, errors, and whatever is new.
    fn lists(&self, taken: &mut Taken) {
        let contacts = self.value.get("contacts").and_then(|raw| list(raw));
        let contacts = contacts.unwrap_or_default();
        let contacts = contacts.iter().filter_map(|raw| value(raw).ok());
        // Null is no contact: what is stored of it is read again as none.
        let contacts: Vec<Value> = contacts.filter(|contact| !contact.is_null()).collect();
        let named = LISTS.iter().filter_map(|name| {
            let (name, raw) = self.value.get_key_value(*name)?;
            Some((name, raw))
        });
        let new = self.value.iter().filter(|(name, _)| {
            !AROUND.contains(&name.as_str()) && !LISTS.contains(&name.as_str())
        });
        for (name, raw) in named.chain(new) {
            let items = match (name.as_str(), list(raw)) {
                (_, Some(items)) => items,
                ("messages" | "statuses" | "errors", None) => {
                    let why = format!("`{name}` is no list");
                    taken.items.push(self.unread(name, raw.get(), why));
                    continue;
                }
                (_, None) => vec![*raw],
            };
            let alone = items.len() == 1 && contacts.len() == 1;
            for raw in items {
                let item = match (name.as_str(), value(raw)) {
                    (_, Err(why)) => Err(why),
                    ("messages" | "statuses" | "errors", Ok(item)) if !item.is_object() => {
                        Err(format!("an item of `{name}` is no object"))
                    }
                    ("messages", Ok(item)) => Ok(self.message(item, raw, &contacts, alone)),
                    ("statuses", Ok(item)) => Ok(self.status(item, raw)),
                    ("errors", Ok(item)) => Ok(Item {
                        key: self.hash_at("error", raw),
                        customer: String::new(),
                        recipient_hash: None,
                        placed: false,
                        raw: Raw::Error(item),
                    }),
                    // What is new beside messages is news under a name of its own.
                    (name, Ok(_)) => Ok(self.account(&format!("{MESSAGES}.{name}"), raw)),
                };
                let list = format!("[{}]", raw.get());
                taken
                    .items
                    .push(item.unwrap_or_else(|why| self.unread(name, &list, why)));
            }
        }
    }

    fn status(&self, status: Value, raw: &RawValue) -> Item {
        let [id, kind, number, user_id] =
            ["id", "status", "recipient_id", "recipient_user_id"].map(|name| word(&status, name));
        let participant = first([
            word(&status, "recipient_participant_id"),
            word(&status, "participant_recipient_id"),
            word(&status, "recipient_participant_user_id"),
        ]);
        let key = match (id.is_empty(), participant.is_empty()) {
            (true, _) => self.hash("status", raw),
            (false, true) => format!("{id}:{kind}"),
            (false, false) => format!("{id}:{kind}:{participant}"),
        };
        Item {
            key,
            customer: first([number, user_id]),
            recipient_hash: hash_of(&status),
            placed: false,
            raw: Raw::Status(status),
        }
    }

    fn message(&self, message: Value, raw: &RawValue, contacts: &[Value], alone: bool) -> Item {
        let contact = contact_of(&message, contacts, alone);
        let key = message_key(&message);
        Item {
            key: key.unwrap_or_else(|| self.hash("message", raw)),
            customer: writer(&message, contact.as_ref()),
            recipient_hash: None,
            placed: false,
            raw: Raw::Message { message, contact },
        }
    }

    fn account(&self, field: &str, raw: &RawValue) -> Item {
        match value(raw) {
            Ok(value) => Item {
                key: self.hash_at(field, raw),
                customer: String::new(),
                recipient_hash: None,
                placed: false,
                raw: Raw::Account {
                    field: field.to_owned(),
                    value,
                },
            },
            Err(why) => self.unread(field, raw.get(), why),
        }
    }

    /// An item that cannot be read: the call as it would be with nothing else in it.
    fn unread(&self, name: &str, list: &str, why: String) -> Item {
        let around = AROUND.iter().filter_map(|name| {
            let raw = self.value.get(*name)?;
            Some(format!("{}:{},", Value::from(*name), raw.get()))
        });
        let field = Value::from(self.field);
        let change = match self.field == MESSAGES {
            true => {
                let (around, name) = (around.collect::<String>(), Value::from(name));
                format!(r#"{{"field":{field},"value":{{{around}{name}:{list}}}}}"#)
            }
            false => format!(r#"{{"field":{field},"value":{list}}}"#),
        };
        unread(name, self.entry.id, in_entry(self.entry, &change), why)
    }

    /// The key of what has no id: the same for the same item of the same entry, however often it comes.
    fn hash(&self, name: &str, raw: &RawValue) -> String {
        hashed(name, &[self.field, self.entry.id, raw.get()])
    }

    /// The key of what may happen again in the same words: the time of its entry tells one from the other.
    fn hash_at(&self, name: &str, raw: &RawValue) -> String {
        match self.entry.time {
            "" => self.hash(name, raw),
            time => hashed(name, &[self.field, self.entry.id, raw.get(), time]),
        }
    }
}

fn in_entry(entry: Entry<'_>, change: &str) -> String {
    let said = [("id", entry.id), ("time", entry.time)].into_iter();
    let said = said.filter(|(_, raw)| !raw.is_empty());
    let said: String = said
        .map(|(name, raw)| format!(r#""{name}":{raw},"#))
        .collect();
    format!(r#"{{"entry":[{{{said}"changes":[{change}]}}]}}"#)
}

fn hashed(name: &str, parts: &[&str]) -> String {
    let parts = parts.iter();
    let digest = parts.fold(Sha256::new(), |hash, part| {
        hash.chain_update(part.len().to_be_bytes())
            .chain_update(part)
    });
    let name: String = name.chars().take(32).collect();
    format!("{name}:{}", hex::encode(digest.finalize()))
}

fn unread(name: &str, entry: &str, mut call: String, why: String) -> Item {
    let key = hashed("unread", &[name, entry, &call]);
    if call.len() > UNREAD_LEN_MAX {
        call.truncate(call.floor_char_boundary(UNREAD_LEN_MAX));
    }
    Item {
        key,
        customer: String::new(),
        recipient_hash: None,
        placed: false,
        raw: Raw::Unread { call, why },
    }
}

impl Item {
    /// What is kept of an item that does not fit into a row.
    #[must_use]
    pub fn too_long(self, len_max: usize) -> Self {
        let text = serde_json::to_string(&self.raw).expect("plain data is JSON");
        let why = format!("it is longer than {len_max} bytes");
        let kept = unread("", "", text, why);
        Self {
            key: self.key,
            customer: self.customer,
            recipient_hash: self.recipient_hash,
            placed: self.placed,
            raw: kept.raw,
        }
    }
}

/// The customer's hash that came back with a status of ours.
fn hash_of(status: &Value) -> Option<u32> {
    Opaque::read(status.get(OPAQUE)?.as_str()?)?.recipient_hash
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
        let (own, theirs) = (word(message, "from_user_id"), word(contact, "user_id"));
        let other = !own.is_empty() && !theirs.is_empty() && own != theirs;
        (!other).then_some(contact)
    };
    let found = by("from", "wa_id").or_else(|| by("from_user_id", "user_id"));
    found.or_else(only).cloned()
}

/// The real message may follow what was told as unsupported, under the same id. `None`: it has no id.
fn message_key(message: &Value) -> Option<String> {
    let id = Some(word(message, "id")).filter(|id| !id.is_empty())?;
    match word(message, "type").as_str() {
        "unsupported" | "unknown" => Some(format!("{id}:unsupported")),
        _ => Some(id),
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

/// A text, or a number as text; empty where there is neither.
fn word(value: &Value, key: &str) -> String {
    match value.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => {
            String::new()
        }
    }
}
