//! Our messages as the upstream's requests: `POST /{phone_number_id}/messages`. Pure; exhaustive over [`Content`].

use serde_json::{Value, json};

use super::content;
pub use super::content::media::{Files, MissingFile};
use crate::api::v1::message::{Content, Message};
use crate::api::v1::who::Recipient;

/// The body that sends a message to this address of its recipient; `id` is ours and travels as opaque data. `named` is the upstream's id of the message that it
/// names ([`Message::named`]); without one an answer goes out as if it answered nothing.
///
/// # Errors
/// [`MissingFile`] when `files` lacks one of [`Content::sources`].
pub fn send(
    message: &Message,
    to: &Recipient,
    id: &str,
    files: &Files,
    named: Option<&str>,
) -> Result<Value, MissingFile> {
    let kind = match &message.content {
        Content::Media(attachment) => content::media::upstream_type(attachment.kind),
        Content::Hsm(_) => "template",
        other => other.kind().as_str(),
    };
    let object = match &message.content {
        Content::Text(text) => content::text::object(text, message.preview_url),
        Content::Media(attachment) => content::media::object(attachment, files)?,
        Content::Location(location) => content::location::object(location),
        Content::Contacts(contacts) => content::contacts::object(contacts),
        Content::Template(template) => content::template::object(template, files)?,
        Content::Hsm(hsm) => content::hsm::object(hsm, files)?,
        Content::Interactive(interactive) => content::interactive::object(interactive, files)?,
        Content::Reaction(reaction) => {
            content::reaction::object(reaction, named.unwrap_or(&reaction.message_id))
        }
    };
    let mut request = json!({
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "type": kind,
        kind: object,
        "biz_opaque_callback_data": id,
    });
    let (field, recipient) = address(to);
    request[field] = recipient.into();
    let answers = !matches!(message.content, Content::Reaction(_));
    if let Some(named) = named.filter(|_| answers) {
        request["context"] = json!({"message_id": named});
    }
    Ok(request)
}

/// Field and text of a recipient. A user id has a field of its own: in `to` the upstream takes it, and delivers nothing.
fn address(to: &Recipient) -> (&'static str, String) {
    match to {
        Recipient::Phone(digits) => ("to", digits.clone()),
        Recipient::International(digits) => ("to", format!("+{digits}")),
        Recipient::User(id) => ("recipient", id.clone()),
    }
}

/// It goes to nobody but the customer who has this identity key (137000).
pub fn with_identity(request: &mut Value, hash: &str) {
    request["recipient_identity_key_hash"] = hash.into();
}

/// The body that marks an inbound message as read.
pub fn read_status(wamid: &str) -> Value {
    json!({"messaging_product": "whatsapp", "status": "read", "message_id": wamid})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1::message::media::{FileId, Source};

    fn message(text: &str) -> Message {
        Message::parse(text.as_bytes(), None).expect("well-formed")
    }

    /// Goal: a message goes out as the API reference has it. Method: each type and source once, the whole request.
    #[test]
    fn each_type_becomes_the_documented_request() {
        let file = FileId("f043afd0-0000-4000-8000-000000000001".into());
        let files = Files::from([(Source::Id(file), "990".to_owned())]);
        let head = |kind: &str, object: Value| {
            json!({"messaging_product": "whatsapp", "recipient_type": "individual", "to": "447700900123",
                   "type": kind, kind: object, "biz_opaque_callback_data": "m1"})
        };
        let mut reply = head("text", json!({"preview_url": true, "body": "hi"}));
        reply["context"] = json!({"message_id": "wamid.A="});
        let table = [
            (
                r#"{"to":"447700900123","text":{"body":"hi"}}"#,
                head("text", json!({"preview_url": false, "body": "hi"})),
            ),
            (
                r#"{"to":"447700900123","preview_url":true,"context":{"message_id":"wamid.A="},"text":{"body":"hi"}}"#,
                reply,
            ),
            (
                r#"{"to":"447700900123","type":"document","document":{"id":"f043afd0-0000-4000-8000-000000000001","caption":"c","filename":"f.pdf"}}"#,
                head(
                    "document",
                    json!({"id": "990", "caption": "c", "filename": "f.pdf"}),
                ),
            ),
            (
                r#"{"to":"447700900123","type":"image","image":{"link":"https://files.example/a.png"}}"#,
                head("image", json!({"link": "https://files.example/a.png"})),
            ),
        ];
        for (text, wanted) in table {
            let message = message(text);
            let sent = send(&message, &message.to, "m1", &files, message.named());
            assert_eq!(sent, Ok(wanted), "{text}");
        }
    }

    #[test]
    fn a_file_that_the_upstream_does_not_have_is_never_left_out() {
        let id = "f043afd0-0000-4000-8000-000000000001";
        let text = format!(r#"{{"to":"447700900123","type":"image","image":{{"id":"{id}"}}}}"#);
        let sent = send(
            &message(&text),
            &message(&text).to,
            "m1",
            &Files::new(),
            None,
        );
        assert_eq!(sent, Err(MissingFile(id.to_owned())));
    }
}
