//! The identity keys that come with customers' messages, and what the business is told of them. Pure.
//! Judges no key: `wa_core::identity` does.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::event::Inbound;
use crate::api::v1::callback::{Callback, Message};
use crate::api::v1::identity::Identity;

/// Begins the ids of messages that no customer wrote.
const PREFIX: &str = "ABGG";

/// The key that came with a message.
pub fn hash(message: &Inbound) -> Option<&str> {
    let hash = message.contact.as_ref()?.get("identity_key_hash")?.as_str();
    hash.filter(|hash| !hash.is_empty())
}

/// The user id and the number of whoever wrote, as the upstream told them.
pub fn writer(message: &Inbound) -> (Option<&str>, Option<&str>) {
    let text = |name: &str| message.contact.as_ref()?.get(name)?.as_str();
    let user_id = message.more.get("from_user_id").and_then(Value::as_str);
    let number = message.from.as_deref().filter(|from| !from.is_empty());
    (
        user_id.or_else(|| text("user_id")),
        number.or_else(|| text("wa_id")),
    )
}

/// A message says how its writer's key stands.
pub fn mark(message: &mut Inbound, identity: &Identity) {
    let identity = serde_json::to_value(identity).expect("plain data is JSON");
    message.more.insert("identity".to_owned(), identity);
}

/// What the business is told when the key of whoever wrote this message, as it is told, is another one.
pub fn changed(message: &Inbound, identity: &Identity) -> Callback {
    let from = message.from.clone().unwrap_or_default();
    let digest = Sha256::new()
        .chain_update(&from)
        .chain_update([0])
        .chain_update(&identity.hash)
        .finalize();
    let id = BASE64_URL_SAFE_NO_PAD.encode(&digest[..16]);
    let mut told = Message {
        from: message.from.clone(),
        id: Some(format!("{PREFIX}{id}")),
        timestamp: message.timestamp.clone(),
        kind: Some("system".to_owned()),
        ..Message::default()
    };
    let body = format!("The identity of {from} changed");
    let system = json!({"type": "user_identity_changed", "body": body, "identity": identity.hash});
    told.more.insert("system".to_owned(), system);
    let identity = serde_json::to_value(identity).expect("plain data is JSON");
    told.more.insert("identity".to_owned(), identity);
    Callback {
        contacts: message.contact.clone().into_iter().collect(),
        messages: vec![told],
        ..Callback::default()
    }
}
