//! What the upstream says, as the business is told of it: events and refusals in, callbacks in the shapes of `/v1` out. Pure.

use serde_json::{Map, Value};

use super::ErrorBody;
use super::code;
use super::event::{Event, FileKind, Inbound, Kind, Status, VendorError, Word};
use crate::api::error::ErrorObject;
use crate::api::v1::callback::{self, AccountEvent, Callback};
use crate::api::v1::code::Code;

/// Longest number of a call that is told on, in bytes.
const TRACE_LEN_MAX: usize = 64;

/// What became of the file of an inbound message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attached {
    /// It has none.
    Nothing,
    /// It was fetched: our id.
    Ours(String),
    /// It was not fetched: our id, by which it is fetched when somebody asks for it.
    Later(String),
    /// It was not fetched, and nobody can ask for it.
    Undownloaded,
}

/// The callback for an event. Statuses carry our message id, as the answer to the request did.
pub fn callback(event: Event, file: Attached) -> Callback {
    match event {
        Event::Status(status) => Callback::of_status(status_of(status)),
        Event::Message(mut message) => match revoked(&mut message) {
            Some(status) => Callback::of_status(status),
            None => Callback {
                contacts: message.contact.take().into_iter().collect(),
                messages: vec![message_of(message, file)],
                ..Callback::default()
            },
        },
        Event::Error(error) => Callback {
            errors: vec![failure_of(error)],
            ..Callback::default()
        },
        Event::Account { field, value } => Callback {
            account_events: vec![AccountEvent { field, value }],
            ..Callback::default()
        },
        Event::Unread { .. } => Callback::default(),
    }
}

/// What the reference client said of a customer who takes back a message: a status of that message, by its own id.
fn revoked(message: &mut Inbound) -> Option<callback::Status> {
    let Kind::Revoked(original) = &mut message.kind else {
        return None;
    };
    Some(callback::Status {
        id: Some(std::mem::take(original)),
        recipient_id: message.from.take(),
        status: Some("deleted".to_owned()),
        timestamp: message.timestamp.take(),
        ..callback::Status::default()
    })
}

fn status_of(status: Status) -> callback::Status {
    let failed = status.word == Word::Failed;
    let recipient = status.recipient.clone().filter(|_| failed);
    let repeated = recipient.map(|recipient_id| callback::StatusMessage { recipient_id });
    callback::Status {
        id: status.ours.or(status.id),
        recipient_id: status.recipient,
        message: repeated,
        status: status.word.text(),
        timestamp: status.timestamp,
        errors: status.errors.into_iter().map(failure_of).collect(),
        more: with_number(status.more),
    }
}

/// The end of a conversation is a number of seconds, which the upstream writes as text.
fn with_number(mut more: Map<String, Value>) -> Map<String, Value> {
    let conversation = more.get_mut("conversation");
    if let Some(end) = conversation.and_then(|c| c.get_mut("expiration_timestamp"))
        && let Some(seconds) = end.as_str().and_then(|text| text.parse::<u64>().ok())
    {
        *end = seconds.into();
    }
    more
}

fn message_of(message: Inbound, file: Attached) -> callback::Message {
    let mut errors: Vec<ErrorObject> = message.errors.into_iter().map(error_of).collect();
    let mut more = message.more;
    let kind = match message.kind {
        Kind::File(kind, object) => {
            more.insert(kind.as_str().to_owned(), file_of(object, file));
            Some(kind.as_str().to_owned())
        }
        Kind::Unsupported => {
            let details = errors.into_iter().find_map(|error| error.details);
            // The reference client knew no such object.
            let object = more.remove("unsupported");
            let of_type = object
                .as_ref()
                .and_then(|object| object.get("type")?.as_str());
            let of_type = of_type.map(|of_type| format!("The upstream does not pass on {of_type}"));
            errors = vec![unknown_type(details.or(of_type))];
            Some("unknown".to_owned())
        }
        Kind::Edited => {
            with_file(&mut more, file);
            let why = "The customer changed a message: see edit".to_owned();
            errors = vec![unknown_type(Some(why))];
            Some("unknown".to_owned())
        }
        Kind::Typeless => {
            let why = "The upstream said no type".to_owned();
            errors.insert(0, unknown_type(Some(why)));
            Some("unknown".to_owned())
        }
        // Told as a status.
        Kind::Revoked(_) => None,
        Kind::Plain(word) => {
            with_emoji(&mut more);
            word
        }
    };
    callback::Message {
        from: message.from,
        id: message.id,
        timestamp: message.timestamp,
        kind,
        errors,
        more,
    }
}

/// A reaction that was taken back has an empty emoji; the upstream leaves it out.
fn with_emoji(more: &mut Map<String, Value>) {
    if let Some(Value::Object(reaction)) = more.get_mut("reaction") {
        reaction.entry("emoji").or_insert_with(|| "".into());
    }
}

/// The file of a message that was written anew is told like any other. The upstream's address of it needs the upstream's token.
fn with_file(more: &mut Map<String, Value>, mut file: Attached) {
    let message = more
        .get_mut("edit")
        .and_then(|edit| edit.get_mut("message"));
    let Some(Value::Object(message)) = message else {
        return;
    };
    for (name, value) in message {
        let Value::Object(object) = value else {
            continue;
        };
        if FileKind::of(name).is_some() {
            let file = std::mem::replace(&mut file, Attached::Undownloaded);
            *value = file_of(std::mem::take(object), file);
        } else {
            object.remove("url");
        }
    }
}

/// The object of a file: with our id, or without one. The upstream's address of it needs the upstream's token.
fn file_of(mut object: Map<String, Value>, file: Attached) -> Value {
    object.remove("url");
    // The type says so.
    object.remove("voice");
    match file {
        Attached::Nothing if object.contains_key("id") => {}
        Attached::Ours(id) => drop(object.insert("id".to_owned(), id.into())),
        // The reference had no usable id here: whoever looks at the status first is not misled.
        Attached::Later(id) => {
            object.insert("id".to_owned(), id.into());
            object.insert("status".to_owned(), "undownloaded".into());
        }
        // Without an id nobody can fetch it.
        Attached::Undownloaded | Attached::Nothing => {
            object.remove("id");
            object.insert("status".to_owned(), "undownloaded".into());
        }
    }
    object.into()
}

/// Inbound messages of types that are not passed on have a title of their own.
fn unknown_type(details: Option<String>) -> ErrorObject {
    ErrorObject {
        title: "Unknown message type".to_owned(),
        ..ErrorObject::new(Code::TypeNotSupported, details)
    }
}

/// An error in `/v1` words: the documented code and title, the upstream's details. Of one that is not known, the upstream's
/// title is all there is.
fn error_of(error: VendorError) -> ErrorObject {
    let code = code::of(error.code);
    let details = match code {
        Code::GenericError => error.details.or(error.title),
        _ => error.details,
    };
    ErrorObject {
        href: error.href,
        ..ErrorObject::new(code, details)
    }
}

/// Why a message of ours failed: with the upstream's own number, which is finer than ours.
fn failure_of(error: VendorError) -> ErrorObject {
    let (code, trace) = (error.code, error.trace.clone());
    let told = error_of(error);
    ErrorObject {
        details: with_origin(told.details, code, trace),
        ..told
    }
}

/// The upstream's words, and where to find more of them: its number of the error, which is finer than ours, and of the call.
fn with_origin(words: Option<String>, code: u32, trace: Option<String>) -> Option<String> {
    if code == 0 {
        return words;
    }
    let trace = trace.map_or(String::new(), |trace| format!(", fbtrace_id {trace}"));
    let origin = format!("Cloud API code {code}{trace}");
    Some(words.map_or(origin.clone(), |words| format!("{words} ({origin})")))
}

/// Why the upstream refused a call, in `/v1` words.
pub fn refusal(error: &ErrorBody) -> ErrorObject {
    let details = error.details().map(str::to_owned);
    failure_of(VendorError {
        code: error.code,
        title: Some(error.message.clone()).filter(|text| !text.is_empty()),
        details,
        href: None,
        trace: error
            .fbtrace_id
            .clone()
            .filter(|id| id.len() <= TRACE_LEN_MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cloud::event::Raw;
    use serde_json::json;

    fn told(message: Value, file: Attached) -> Value {
        let raw = Raw::Message {
            message,
            contact: None,
        };
        let callback = callback(Event::of(raw), file);
        serde_json::to_value(callback).expect("plain data")["messages"][0].clone()
    }

    /// Goal: a file goes by our id or none, a voice note under its own name, and never with the upstream's address.
    #[test]
    fn files_are_named() {
        let voice =
            json!({"type": "audio", "audio": {"id": "7", "voice": true, "url": "https://x"}});
        let ours = told(voice.clone(), Attached::Ours("ours".into()));
        assert_eq!(
            (&ours["type"], &ours["voice"]["id"]),
            (&json!("voice"), &json!("ours"))
        );
        assert!(ours.get("audio").is_none() && ours["voice"].get("url").is_none());
        let later = told(voice.clone(), Attached::Later("ours".into()));
        assert_eq!(
            (&later["voice"]["id"], &later["voice"]["status"]),
            (&json!("ours"), &json!("undownloaded"))
        );
        assert!(later["voice"].get("url").is_none());
        let none = told(voice, Attached::Undownloaded);
        assert_eq!(none["voice"]["status"], "undownloaded");
        assert!(none["voice"].get("id").is_none());
    }

    /// Goal: what is odd, or new, is told as it came. Method: fields of other types than expected, and unknown ones.
    #[test]
    fn what_is_not_understood_is_passed_on() {
        let odd =
            json!({"id": {"x": 1}, "type": ["y"], "errors": "z", "timestamp": 5, "new": null});
        let mut wanted = odd.clone();
        wanted["timestamp"] = "5".into();
        assert_eq!(told(odd, Attached::Nothing), wanted);
    }

    #[test]
    fn a_refusal_has_the_documented_title() {
        let error: super::super::ErrorAnswer = serde_json::from_value(
            json!({"error": {"message": "(#131047) Re-engagement message",
            "code": 131047, "error_data": {"details": "24 h"}}}),
        )
        .expect("an answer");
        let wanted = ErrorObject::new(
            Code::ReEngagement,
            Some("24 h (Cloud API code 131047)".into()),
        );
        assert_eq!(refusal(&error.error), wanted);
        for odd in [json!(null), json!("24 h"), json!(7), json!({"details": []})] {
            let odd = json!({"error": {"code": 131047, "error_data": odd}});
            let odd: super::super::ErrorAnswer = serde_json::from_value(odd).expect("an answer");
            let wanted = ErrorObject::new(Code::ReEngagement, Some("Cloud API code 131047".into()));
            assert_eq!(refusal(&odd.error), wanted);
        }
        let unknown = ErrorBody {
            code: 999_999,
            message: "new".into(),
            ..ErrorBody::default()
        };
        let wanted = ErrorObject::new(
            Code::GenericError,
            Some("new (Cloud API code 999999)".into()),
        );
        assert_eq!(refusal(&unknown), wanted);
    }
}
