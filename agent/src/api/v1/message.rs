//! `/v1/messages`: the one place that decides whether a message is well-formed.
//! Says nothing about whether it can be delivered: that is known upstream only.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Meta;
use super::contact::wa_id;
use super::media::{Attachment, Kind};
use crate::api::error::ApiError;

/// Longest text body, in characters.
pub const TEXT_LEN_MAX: usize = 4096;
/// Longest message id that clients may name in a reply or a read mark, in bytes.
pub const MESSAGE_ID_LEN_MAX: usize = 256;

/// Documented message types. Texts and media are sent by this version; the others answer 1009 with that sentence.
const TYPES: [&str; 11] = [
    "text",
    "image",
    "audio",
    "video",
    "document",
    "sticker",
    "location",
    "contacts",
    "template",
    "interactive",
    "hsm",
];

/// A well-formed message.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The recipient as the client wrote it.
    pub input: String,
    /// The recipient's WhatsApp id: digits only.
    pub wa_id: String,
    /// Of a text; empty for media.
    pub body: String,
    /// Of a media message.
    pub attachment: Option<Attachment>,
    pub preview_url: bool,
    /// Id of the message that this one answers.
    pub reply_to: Option<String>,
}

impl std::fmt::Debug for Message {
    // Bodies and recipients must not reach a log by way of a debug print.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.attachment.as_ref().map_or("text", |a| a.kind.as_str());
        write!(f, "Message {{ {kind}, {} bytes }}", self.body.len())
    }
}

/// The answer of `POST /v1/messages`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SendAnswer {
    pub messages: Vec<MessageId>,
    pub contacts: Vec<MessageContact>,
    pub meta: Meta,
}

/// `{"id":…}`; opaque.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MessageId {
    pub id: String,
}

/// The recipient as given and as understood.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MessageContact {
    pub input: String,
    pub wa_id: String,
}

/// Request body as the API description shows it; parsing is [`Message::parse`], which answers documented codes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SendRequest)]
pub struct SendRequest {
    #[schema(example = "447700900123")]
    pub to: String,
    /// `text` (the default), `image`, `audio`, `video`, `document` or `sticker`.
    pub r#type: Option<String>,
    /// `individual` (the default).
    pub recipient_type: Option<String>,
    pub preview_url: Option<bool>,
    pub text: Option<TextObject>,
    pub image: Option<MediaObject>,
    pub audio: Option<MediaObject>,
    pub video: Option<MediaObject>,
    pub document: Option<MediaObject>,
    pub sticker: Option<MediaObject>,
    pub context: Option<ContextObject>,
}

/// `{"body":"hi"}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct TextObject {
    pub body: String,
}

/// `{"id":"…"}` of an upload, or `{"link":"https://…"}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct MediaObject {
    pub id: Option<String>,
    pub link: Option<String>,
    /// Images, videos and documents.
    pub caption: Option<String>,
    /// Documents.
    pub filename: Option<String>,
}

/// `{"message_id":"…"}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ContextObject {
    pub message_id: String,
}

/// Parses bytes as a JSON object; anything else is 1025.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ApiError::with(1025, "The body must be a JSON object")),
        // The parser's text names line and column and never quotes the body's values.
        Err(error) => Err(ApiError::with(
            1025,
            format!(
                "The body is not valid JSON (line {}, column {})",
                error.line(),
                error.column()
            ),
        )),
    }
}

impl Message {
    /// Reads a request body. `own` is the sender's number, which cannot write to itself (1021).
    pub fn parse(bytes: &[u8], own: Option<&str>) -> Result<Self, ApiError> {
        let mut object = object(bytes)?;
        let kind = check_type(&object)?;
        check_recipient_type(&object)?;
        let input = take_text(&mut object, "to")?;
        let wa_id = wa_id(&input).ok_or_else(|| ApiError::invalid("to must be a phone number"))?;
        if own == Some(wa_id.as_str()) {
            return Err(ApiError::with(1021, "The recipient is the sender"));
        }
        let preview_url = match object.get("preview_url") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(on)) => *on,
            Some(_) => return Err(ApiError::invalid("preview_url must be a boolean")),
        };
        let reply_to = reply_to(&object)?;
        let (body, attachment) = match kind {
            None => (text_body(&mut object)?, None),
            Some(kind) => {
                let own = take_object(&mut object, kind.as_str())?;
                (String::new(), Some(Attachment::parse(kind, &own)?))
            }
        };
        Ok(Self {
            input,
            wa_id,
            body,
            attachment,
            preview_url,
            reply_to,
        })
    }
}

fn take_object(
    object: &mut Map<String, Value>,
    name: &str,
) -> Result<Map<String, Value>, ApiError> {
    match object.remove(name) {
        None | Some(Value::Null) => Err(ApiError::missing(name)),
        Some(Value::Object(inner)) => Ok(inner),
        Some(_) => Err(ApiError::invalid(format!("{name} must be an object"))),
    }
}

fn text_body(object: &mut Map<String, Value>) -> Result<String, ApiError> {
    let mut text = take_object(object, "text")?;
    let body = take_text(&mut text, "body").map_err(|error| ApiError {
        details: error.details.map(|d| format!("text.{d}")),
        ..error
    })?;
    let length = body.chars().count();
    if length > TEXT_LEN_MAX {
        return Err(ApiError::with(
            1001,
            format!("text.body has {length} characters, {TEXT_LEN_MAX} are allowed"),
        ));
    }
    Ok(body)
}

/// A text that must be there and not be empty, moved out of its object.
fn take_text(object: &mut Map<String, Value>, name: &str) -> Result<String, ApiError> {
    match object.remove(name) {
        None | Some(Value::Null) => Err(ApiError::missing(name)),
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        Some(Value::String(_)) => Err(ApiError::invalid(format!("{name} must not be empty"))),
        Some(_) => Err(ApiError::invalid(format!("{name} must be a string"))),
    }
}

/// The kind of media, or `None` for a text.
fn check_type(object: &Map<String, Value>) -> Result<Option<Kind>, ApiError> {
    let kind = match object.get("type") {
        None | Some(Value::Null) => "text",
        Some(Value::String(kind)) => kind,
        Some(_) => return Err(ApiError::invalid("type must be a string")),
    };
    if !TYPES.contains(&kind) {
        return Err(ApiError::invalid(
            "type must be one of the documented message types",
        ));
    }
    let media = Kind::parse(kind);
    if kind != "text" && media.is_none() {
        return Err(ApiError::invalid(format!(
            "type {kind} is not supported by this version; text and media are"
        )));
    }
    // Another type's object beside it is a mistake that would silently lose content.
    for other in TYPES.iter().filter(|other| **other != kind) {
        if object.get(*other).is_some_and(|value| !value.is_null()) {
            return Err(ApiError::with(
                1010,
                format!("{other} does not belong to a message of type {kind}"),
            ));
        }
    }
    Ok(media)
}

fn check_recipient_type(object: &Map<String, Value>) -> Result<(), ApiError> {
    match object.get("recipient_type") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(kind)) if kind == "individual" => Ok(()),
        Some(Value::String(kind)) if kind == "group" => {
            Err(ApiError::with(1002, "Groups do not exist any more"))
        }
        Some(_) => Err(ApiError::with(1002, "recipient_type must be individual")),
    }
}

fn reply_to(object: &Map<String, Value>) -> Result<Option<String>, ApiError> {
    let context = match object.get("context") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(context)) => context,
        Some(_) => return Err(ApiError::invalid("context must be an object")),
    };
    match context.get("message_id") {
        None | Some(Value::Null) => Err(ApiError::missing("context.message_id")),
        Some(Value::String(id)) if is_message_id(id) => Ok(Some(id.clone())),
        Some(_) => Err(ApiError::invalid(
            "context.message_id must be the id of a message",
        )),
    }
}

/// Whether a text can be the id of a message: printable, no blanks, of a sane length.
pub fn is_message_id(id: &str) -> bool {
    (1..=MESSAGE_ID_LEN_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Reads the body of `PUT /v1/messages/{id}`: only `{"status":"read"}` is documented.
pub fn parse_read(bytes: &[u8]) -> Result<(), ApiError> {
    let object = object(bytes)?;
    match object.get("status") {
        None | Some(Value::Null) => Err(ApiError::missing("status")),
        Some(Value::String(status)) if status == "read" => Ok(()),
        Some(_) => Err(ApiError::invalid("status must be read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Option<&str> = Some("447700900999");

    #[test]
    fn a_plain_text_is_read_with_defaults() {
        let message =
            Message::parse(br#"{"to":"+44 7700 900123","text":{"body":"hi"}}"#, OWN).expect("good");
        assert_eq!(message.input, "+44 7700 900123");
        assert_eq!(message.wa_id, "447700900123");
        assert_eq!(
            (
                message.body.as_str(),
                message.preview_url,
                &message.reply_to
            ),
            ("hi", false, &None)
        );
    }

    #[test]
    fn all_fields_are_read() {
        let message = Message::parse(
            br#"{"to":"447700900123","type":"text","recipient_type":"individual","preview_url":true,
                "ttl":{"x":1},"context":{"message_id":"wamid.A="},"text":{"body":"hi","more":1},"unknown":3}"#,
            OWN,
        )
        .expect("good");
        assert!(message.preview_url);
        assert_eq!(message.reply_to.as_deref(), Some("wamid.A="));
    }

    /// Goal: every malformed field gets the documented code. Method: a table of bodies and codes.
    #[test]
    fn malformed_messages_get_the_documented_codes() {
        let long = format!(
            r#"{{"to":"447700900123","text":{{"body":"{}"}}}}"#,
            "x".repeat(4097)
        );
        #[rustfmt::skip]
        let table: &[(&str, u16)] = &[
            ("", 1025), ("{", 1025), ("[]", 1025), ("\"x\"", 1025), ("null", 1025),
            ("{\"to\":\"\u{1}\"}", 1025),
            (r#"{}"#, 1008),
            (r#"{"text":{"body":"hi"}}"#, 1008),
            (r#"{"to":null,"text":{"body":"hi"}}"#, 1008),
            (r#"{"to":"","text":{"body":"hi"}}"#, 1009),
            (r#"{"to":447700900123,"text":{"body":"hi"}}"#, 1009),
            (r#"{"to":"nobody","text":{"body":"hi"}}"#, 1009),
            (r#"{"to":"447700900999","text":{"body":"hi"}}"#, 1021),
            (r#"{"to":"447700900123"}"#, 1008),
            (r#"{"to":"447700900123","text":"hi"}"#, 1009),
            (r#"{"to":"447700900123","text":{}}"#, 1008),
            (r#"{"to":"447700900123","text":{"body":""}}"#, 1009),
            (r#"{"to":"447700900123","text":{"body":7}}"#, 1009),
            (&long, 1001),
            (r#"{"to":"447700900123","recipient_type":"group","text":{"body":"hi"}}"#, 1002),
            (r#"{"to":"447700900123","recipient_type":7,"text":{"body":"hi"}}"#, 1002),
            (r#"{"to":"447700900123","type":"fax","text":{"body":"hi"}}"#, 1009),
            (r#"{"to":"447700900123","type":5,"text":{"body":"hi"}}"#, 1009),
            (r#"{"to":"447700900123","type":"image","image":{"id":"x"}}"#, 1009),
            (r#"{"to":"447700900123","type":"image"}"#, 1008),
            (r#"{"to":"447700900123","type":"image","image":7}"#, 1009),
            (r#"{"to":"447700900123","type":"location","location":{}}"#, 1009),
            (r#"{"to":"447700900123","type":"image","image":{"link":"https://a.example/b"},"text":{"body":"x"}}"#, 1010),
            (r#"{"to":"447700900123","text":{"body":"hi"},"image":{"id":"x"}}"#, 1010),
            (r#"{"to":"447700900123","preview_url":"yes","text":{"body":"hi"}}"#, 1009),
            (r#"{"to":"447700900123","context":"x","text":{"body":"hi"}}"#, 1009),
            (r#"{"to":"447700900123","context":{},"text":{"body":"hi"}}"#, 1008),
            (r#"{"to":"447700900123","context":{"message_id":"a b"},"text":{"body":"hi"}}"#, 1009),
        ];
        for (body, code) in table {
            let error = Message::parse(body.as_bytes(), OWN).expect_err(body);
            assert_eq!(error.code, *code, "{body}: {error}");
        }
    }

    #[test]
    fn length_is_counted_in_characters() {
        let body = |n| {
            format!(
                r#"{{"to":"447700900123","text":{{"body":"{}"}}}}"#,
                "ü".repeat(n)
            )
        };
        assert!(Message::parse(body(4096).as_bytes(), None).is_ok());
        assert_eq!(
            Message::parse(body(4097).as_bytes(), None)
                .unwrap_err()
                .code,
            1001
        );
    }

    #[test]
    fn only_read_can_be_marked() {
        assert!(parse_read(br#"{"status":"read"}"#).is_ok());
        for (body, code) in [("{}", 1008), (r#"{"status":"seen"}"#, 1009), ("x", 1025)] {
            assert_eq!(parse_read(body.as_bytes()).unwrap_err().code, code);
        }
    }

    #[test]
    fn a_printed_message_shows_no_body() {
        let message = Message::parse(br#"{"to":"447700900123","text":{"body":"pssst"}}"#, None)
            .expect("good");
        let text = format!("{message:?}");
        assert!(!text.contains("pssst") && !text.contains("4477"));
    }
}
