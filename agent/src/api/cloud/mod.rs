//! The Cloud API's messages and webhooks, and how they map to the `/v1` shapes. Types and pure functions only.
//! Facts: the API reference's sections on the successor and on the mapping.

use crate::api::v1::media::{Attachment, Source};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use wa_core::message::{MessageState, to_onprem};

/// The body of a text message for `POST /{phone_number_id}/messages`; `id` travels as opaque data.
pub fn text_message(
    to: &str,
    body: &str,
    preview_url: bool,
    id: &str,
    reply_to: Option<&str>,
) -> Value {
    let mut message = json!({
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": to,
        "type": "text",
        "text": {"preview_url": preview_url, "body": body},
        "biz_opaque_callback_data": id,
    });
    if let Some(reply_to) = reply_to {
        message["context"] = json!({"message_id": reply_to});
    }
    message
}

/// Our own key in a stored payload: the id of a file that the upstream must be given first. Never sent.
pub const MEDIA_KEY: &str = "x_wa_media";

/// The body of a media message. A file of ours stands in it under our id, beside [`MEDIA_KEY`].
pub fn media_message(to: &str, attachment: &Attachment, id: &str, reply_to: Option<&str>) -> Value {
    let kind = attachment.kind.as_str();
    let mut message = json!({
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": to,
        "type": kind,
        "biz_opaque_callback_data": id,
    });
    let mut object = Map::new();
    match &attachment.source {
        Source::Link(link) => {
            object.insert("link".into(), link.as_str().into());
        }
        Source::Id(file) => {
            object.insert("id".into(), file.as_str().into());
            message[MEDIA_KEY] = file.as_str().into();
        }
    }
    for (name, value) in [
        ("caption", &attachment.caption),
        ("filename", &attachment.filename),
    ] {
        if let Some(value) = value {
            object.insert(name.into(), value.as_str().into());
        }
    }
    message[kind] = object.into();
    if let Some(reply_to) = reply_to {
        message["context"] = json!({"message_id": reply_to});
    }
    message
}

/// The body that marks an inbound message as read.
pub fn read_status(wamid: &str) -> Value {
    json!({"messaging_product": "whatsapp", "status": "read", "message_id": wamid})
}

/// The answer to an accepted send.
#[derive(Debug, Deserialize)]
pub struct SendAnswer {
    pub messages: Vec<SendAnswerMessage>,
}

/// The upstream's id of the message.
#[derive(Debug, Deserialize)]
pub struct SendAnswerMessage {
    pub id: String,
}

/// The answer to a refused call.
#[derive(Debug, Deserialize)]
pub struct ErrorAnswer {
    pub error: ErrorBody,
}

/// What was refused.
#[derive(Debug, Deserialize)]
pub struct ErrorBody {
    #[serde(default)]
    pub code: u32,
    #[serde(default)]
    pub message: String,
}

/// An event of a webhook call, on its own: the envelope is gone, a key makes it unique.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The upstream's id, and for a status its word.
    #[serde(skip)]
    pub key: String,
    /// The customer's number: decides the shard.
    pub customer: String,
    pub content: Content,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A status object as the upstream sent it.
    Status(Value),
    /// An inbound message and the contact that it came with.
    Message {
        message: Value,
        contact: Option<Value>,
    },
}

/// Takes a webhook call apart. Entries that are neither messages nor statuses are left out.
pub fn events(body: &Value) -> Vec<Event> {
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
            let (id, word) = (word(&status, "id"), word(&status, "status"));
            out.push(Event {
                key: format!("{id}:{word}"),
                customer: self::word(&status, "recipient_id"),
                content: Content::Status(status),
            });
        }
        for message in list(&value, "messages") {
            let from = word(&message, "from");
            let contact = contacts.iter().find(|c| word(c, "wa_id") == from).cloned();
            out.push(Event {
                key: word(&message, "id"),
                customer: from,
                content: Content::Message { message, contact },
            });
        }
    }
    out.retain(|event| !event.key.is_empty() && event.key.len() <= 190);
    out
}

fn word(value: &Value, key: &str) -> String {
    value
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// What an event means for a message of ours: our id, its new state, the upstream's id.
pub fn status_change(event: &Event) -> Option<(String, MessageState, String)> {
    let Content::Status(status) = &event.content else {
        return None;
    };
    let state = match word(status, "status").as_str() {
        "sent" => MessageState::Sent,
        "delivered" => MessageState::Delivered,
        "read" => MessageState::Read,
        "failed" => MessageState::Failed,
        _ => return None,
    };
    let id = word(status, "biz_opaque_callback_data");
    (!id.is_empty()).then(|| (id, state, word(status, "id")))
}

/// The `/v1` callback for an event. Statuses carry our message id, as the answer to the request did.
pub fn to_callback(event: &Event) -> Value {
    match &event.content {
        Content::Status(status) => json!({"statuses": [callback_status(status)]}),
        Content::Message { message, contact } => {
            let mut root = Map::new();
            if let Some(contact) = contact {
                root.insert("contacts".into(), json!([contact]));
            }
            root.insert("messages".into(), json!([callback_message(message)]));
            Value::Object(root)
        }
    }
}

fn callback_status(status: &Value) -> Value {
    let mut out = status.as_object().cloned().unwrap_or_default();
    if let Some(Value::String(id)) = out.remove("biz_opaque_callback_data") {
        out.insert("id".into(), id.into());
    }
    if let Some(errors) = out.get("errors").and_then(Value::as_array) {
        out.insert("errors".into(), errors.iter().map(callback_error).collect());
    }
    Value::Object(out)
}

fn callback_error(error: &Value) -> Value {
    let code = error
        .get("code")
        .and_then(Value::as_u64)
        .and_then(|c| u32::try_from(c).ok())
        .unwrap_or(0);
    let mut out = json!({"code": to_onprem(code), "title": word(error, "title")});
    if let Some(details) = error.pointer("/error_data/details").and_then(Value::as_str) {
        out["details"] = details.into();
    }
    if let Some(href) = error.get("href") {
        out["href"] = href.clone();
    }
    out
}

fn callback_message(message: &Value) -> Value {
    let mut out = message.as_object().cloned().unwrap_or_default();
    let kind = word(message, "type");
    if kind == "audio" && message.pointer("/audio/voice") == Some(&Value::Bool(true)) {
        if let Some(audio) = out.remove("audio") {
            out.insert("voice".into(), audio);
        }
        out.insert("type".into(), "voice".into());
    }
    if kind == "unsupported" || kind == "unknown" {
        out.insert("type".into(), "unknown".into());
        out.insert(
            "errors".into(),
            json!([{"code": 501, "title": "Unknown message type"}]),
        );
    }
    Value::Object(out)
}

/// The `failed` callback for a message that the upstream refused.
pub fn failed_callback(id: &str, recipient: &str, code: u16, title: &str, at_s: u64) -> Value {
    json!({"statuses": [{
        "id": id, "recipient_id": recipient, "message": {"recipient_id": recipient}, "status": "failed",
        "timestamp": at_s.to_string(), "errors": [{"code": code, "title": title}],
    }]})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook() -> Value {
        json!({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "messages", "value": {
            "messaging_product": "whatsapp", "metadata": {"phone_number_id": "1"},
            "contacts": [{"profile": {"name": "Ann"}, "wa_id": "447700900456"}],
            "messages": [{"from": "447700900456", "id": "wamid.A", "timestamp": "1", "type": "text", "text": {"body": "hello"}}],
            "statuses": [{"id": "wamid.B", "status": "failed", "timestamp": "2", "recipient_id": "447700900457",
                "biz_opaque_callback_data": "m1", "errors": [{"code": 131047, "title": "Re-engagement message",
                "message": "x", "error_data": {"details": "24 h"}}]}]}}]}]})
    }

    /// Goal: the business sees the shapes of the reference client. Method: one of each kind, whole.
    #[test]
    fn events_are_taken_apart_and_mapped() {
        let events = events(&webhook());
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].key, "wamid.B:failed");
        assert_eq!(
            status_change(&events[0]),
            Some(("m1".into(), MessageState::Failed, "wamid.B".into()))
        );
        let status = to_callback(&events[0]);
        assert_eq!(status["statuses"][0]["id"], "m1");
        assert_eq!(
            status["statuses"][0]["errors"][0],
            json!({"code": 470, "title": "Re-engagement message", "details": "24 h"})
        );
        let message = to_callback(&events[1]);
        assert_eq!(message["contacts"][0]["wa_id"], "447700900456");
        assert_eq!(message["messages"][0]["text"]["body"], "hello");
    }

    #[test]
    fn rubbish_gives_no_events() {
        assert!(events(&json!({"entry": 5})).is_empty());
        assert!(events(&json!([])).is_empty());
        assert!(
            events(&json!({"entry": [{"changes": [{"value": {"statuses": [{}]}}]}]}))
                .iter()
                .all(|e| e.key == ":")
        );
    }
}
