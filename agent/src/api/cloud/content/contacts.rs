//! Cards of contacts.

use serde_json::Value;

use crate::api::v1::message::contacts::Contacts;

/// The list `contacts`.
pub fn object(contacts: &Contacts) -> Value {
    contacts.cards.iter().cloned().map(Value::Object).collect()
}
