//! `/v1/messages`: the one place that decides whether a message is well-formed.
//! Says nothing about whether it can be delivered: that is known upstream only.

use serde::Serialize;
use utoipa::ToSchema;

use super::Meta;
use super::fields::Fields;
use super::who::Recipient;
use crate::api::error::ApiError;
use crate::api::v1::code::Code;

/// Cards of contacts.
pub mod contacts;
/// What a message carries.
pub mod content;
/// Numbers of forms.
pub mod form;
/// Messages in the form that templates had first.
pub mod hsm;
/// Ids of messages.
mod id;
/// Interactive messages.
pub mod interactive;
/// Objects that are checked and kept whole.
mod kept;
/// Locations.
pub mod location;
/// Media objects of messages.
pub mod media;
/// Reactions.
pub mod reaction;
/// How objects of messages look in the description of the API.
pub mod schema;
/// The form in which messages are stored.
pub mod stored;
/// Template messages.
pub mod template;
/// Texts.
pub mod text;
/// How long a message may wait.
pub mod ttl;

pub use content::{Content, Kind};
use form::Form;
pub use id::{MESSAGE_ID_LEN_MAX, RANDOM_LEN, is_message_id, new_id};
use schema::{ContactCard, HsmObject, InteractiveObject, ReactionObject, TemplateObject};

/// Longest `biz_opaque_callback_data`, in characters.
const CALLBACK_DATA_LEN_MAX: usize = 512;
/// So much of a recipient that cannot be one is shown, in characters.
const SHOWN_LEN_MAX: usize = 40;

/// Documented message types.
const TYPES: [&str; 13] = [
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
    "voice",
    "reaction",
];

/// A well-formed message, in our own words: what is stored is made of it (`stored.rs`), and what the upstream is sent
/// (`api/cloud/request.rs`).
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The recipient as the client wrote it; `None` where that was not kept (form 1).
    pub input: Option<String>,
    pub to: Recipient,
    /// Id of the message that this one answers.
    pub reply_to: Option<String>,
    /// Show a link of the text as a card.
    pub preview_url: bool,
    /// Not sent any more when it is older than this, in seconds (410).
    pub ttl_s: Option<u64>,
    /// The client's own `biz_opaque_callback_data`, which its callbacks repeat.
    pub callback_data: Option<String>,
    pub content: Content,
}

impl Message {
    /// The alias of ours that the client named. What it stands for is the recipient, by then.
    pub fn alias(&self) -> Option<String> {
        let named = Recipient::parse(self.input.as_deref()?)?;
        named.alias().map(str::to_owned)
    }
}

impl std::fmt::Debug for Message {
    // Bodies and recipients must not reach a log by way of a debug print.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message {{ {} }}", self.content.kind().as_str())
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
    /// A phone number in any format, or a user id of the upstream (`GB.1234567890`).
    #[schema(example = "447700900123")]
    pub to: String,
    /// `text` (the default), or the name of the object that the message has.
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
    pub voice: Option<MediaObject>,
    pub location: Option<LocationObject>,
    pub template: Option<TemplateObject>,
    pub hsm: Option<HsmObject>,
    /// 257 at most.
    pub contacts: Option<Vec<ContactCard>>,
    pub interactive: Option<InteractiveObject>,
    pub reaction: Option<ReactionObject>,
    /// An empty one is none.
    pub context: Option<ContextObject>,
    /// Seconds; after them it is not sent any more (410). Also `{"days":1,"hours":12}`.
    pub ttl: Option<u64>,
    /// Repeated in its callbacks; 512 characters at most.
    pub biz_opaque_callback_data: Option<String>,
}

/// `{"body":"hi"}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct TextObject {
    /// 4096 characters at most.
    pub body: String,
    /// Wins over the one outside.
    pub preview_url: Option<bool>,
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

/// Degrees as strings or numbers.
#[derive(Debug, Serialize, ToSchema)]
pub struct LocationObject {
    #[schema(example = "51.5")]
    pub latitude: String,
    #[schema(example = "-0.12")]
    pub longitude: String,
    pub name: Option<String>,
    /// Shown only with a name.
    pub address: Option<String>,
}

/// `{"message_id":"…"}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ContextObject {
    pub message_id: String,
}

impl Message {
    /// The first form that can hold it.
    pub fn since(&self) -> Form {
        let came_later = self.ttl_s.is_some() || self.callback_data.is_some();
        let own = if came_later { Form::Three } else { Form::One };
        own.max(self.to.since()).max(self.content.since())
    }

    /// The id of the message that it names, of ours or of a customer: what it reacts to, or answers. A reaction answers nothing.
    pub fn named(&self) -> Option<&str> {
        match &self.content {
            Content::Reaction(reaction) => Some(&reaction.message_id),
            Content::Text(_)
            | Content::Media(_)
            | Content::Location(_)
            | Content::Contacts(_)
            | Content::Template(_)
            | Content::Hsm(_)
            | Content::Interactive(_) => self.reply_to.as_deref(),
        }
    }

    /// Reads a request body. `own` is the sender's number, which cannot write to itself (1021).
    pub fn parse(bytes: &[u8], own: Option<&str>) -> Result<Self, ApiError> {
        let mut body = Fields::parse(bytes)?;
        let kind = read_type(&mut body)?;
        check_recipient_type(&mut body)?;
        // The upstream has a field of its own for user ids; where both are filled in, `to` wins there, too.
        let field = match body.has("recipient") && !body.has("to") {
            true => "recipient",
            false => "to",
        };
        let input = body.need_text(field)?;
        let to = Recipient::parse(&input).ok_or_else(|| nobody(&body, field, &input))?;
        if own.is_some_and(|own| to.is_phone(own)) {
            return Err(ApiError::with(Code::BadUser, "The recipient is the sender"));
        }
        Ok(Self {
            input: Some(input),
            to,
            reply_to: reply_to(&mut body)?,
            preview_url: preview_url(&mut body)?,
            ttl_s: ttl::read(&mut body)?,
            callback_data: body.text_within("biz_opaque_callback_data", CALLBACK_DATA_LEN_MAX)?,
            content: Content::parse(kind, &mut body)?,
        })
    }
}

fn read_type(body: &mut Fields) -> Result<Kind, ApiError> {
    let word = body.text("type")?;
    let word = word.as_deref().unwrap_or(Kind::Text.as_str());
    let Some(kind) = Kind::parse(word) else {
        return Err(body.invalid("type", "one of the documented message types"));
    };
    // Another type's object beside it is a mistake that would silently lose content; an empty one is a habit of clients that
    // fill in one form for all types.
    let mut others = TYPES.iter().filter(|other| **other != word);
    match others.find(|other| body.says(other)) {
        Some(other) => Err(ApiError::with(
            Code::ParameterNotRequired,
            format!("{other} does not belong to a message of type {word}"),
        )),
        None => Ok(kind),
    }
}

fn check_recipient_type(body: &mut Fields) -> Result<(), ApiError> {
    let wrong = |why| ApiError::with(Code::RecipientTypeNotValid, why);
    let other = "recipient_type must be individual";
    let word = body.text("recipient_type").map_err(|_| wrong(other))?;
    match word.map(|word| word.to_ascii_lowercase()).as_deref() {
        None | Some("individual") => Ok(()),
        Some("group") => Err(wrong("Groups do not exist any more")),
        Some(_) => Err(wrong(other)),
    }
}

/// 1009 for a recipient that nobody can be. It is shown, escaped: what makes it wrong is often not seen.
fn nobody(body: &Fields, field: &str, input: &str) -> ApiError {
    let cut = input.char_indices().nth(SHOWN_LEN_MAX).map(|(at, _)| at);
    let (shown, more) = match cut {
        Some(at) => (&input[..at], " …"),
        None => (input, ""),
    };
    body.invalid(
        field,
        &format!("a phone number or a user id; it is {shown:?}{more}"),
    )
}

/// At the top, where the reference client has it, or inside `text`, where the upstream has it and which wins.
fn preview_url(body: &mut Fields) -> Result<bool, ApiError> {
    let outer = body.flag("preview_url")?;
    let inner = body.within("text", |text| text.flag("preview_url"))?;
    Ok(inner.flatten().or(outer).unwrap_or(false))
}

/// An empty `context` is none.
fn reply_to(body: &mut Fields) -> Result<Option<String>, ApiError> {
    if !body.says("context") {
        return Ok(None);
    }
    let mut context = body.need_object("context")?;
    let id = context.need_text("message_id")?;
    match is_message_id(&id) {
        true => Ok(Some(id)),
        false => Err(context.invalid("message_id", "the id of a message")),
    }
}

/// Reads the body of `PUT /v1/messages/{id}`: only `{"status":"read"}` is documented.
pub fn parse_read(bytes: &[u8]) -> Result<(), ApiError> {
    let mut body = Fields::parse(bytes)?;
    match body.need_text("status")?.as_str() {
        "read" => Ok(()),
        _ => Err(body.invalid("status", "read")),
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
        let expected = Message {
            input: Some("+44 7700 900123".into()),
            to: Recipient::International("447700900123".into()),
            reply_to: None,
            preview_url: false,
            ttl_s: None,
            callback_data: None,
            content: Content::Text(text::Text { body: "hi".into() }),
        };
        assert!(message == expected);
    }

    #[test]
    fn all_fields_are_read() {
        let message = Message::parse(
            br#"{"to":"447700900123","type":"text","recipient_type":"individual","preview_url":true,
                "ttl":{"days":1},"biz_opaque_callback_data":"order 17","context":{"message_id":"wamid.A="},"text":{"body":"hi","more":1},"unknown":3}"#,
            OWN,
        )
        .expect("good");
        assert!(message.preview_url);
        assert_eq!(message.ttl_s, Some(86_400));
        assert_eq!(message.callback_data.as_deref(), Some("order 17"));
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
            (r#"{"to":"","text":{"body":"hi"}}"#, 1008),
            (r#"{"to":["447700900123"],"text":{"body":"hi"}}"#, 1009),
            (r#"{"to":"nobody","text":{"body":"hi"}}"#, 1009),
            (r#"{"to":"447700900999","text":{"body":"hi"}}"#, 1021),
            (r#"{"to":"447700900123"}"#, 1008),
            (r#"{"to":"447700900123","text":"hi"}"#, 1009),
            (r#"{"to":"447700900123","text":{}}"#, 1008),
            (r#"{"to":"447700900123","text":{"body":""}}"#, 1008),
            (r#"{"to":"447700900123","text":{"body":[7]}}"#, 1009),
            (&long, 1001),
            (r#"{"to":"447700900123","recipient_type":"group","text":{"body":"hi"}}"#, 1002),
            (r#"{"to":"447700900123","recipient_type":7,"text":{"body":"hi"}}"#, 1002),
            (r#"{"to":"447700900123","type":"fax","text":{"body":"hi"}}"#, 1009),
            (r#"{"to":"447700900123","type":5,"text":{"body":"hi"}}"#, 1009),
            (r#"{"to":"447700900123","type":"image","image":{"id":"x"}}"#, 1009),
            (r#"{"to":"447700900123","type":"image"}"#, 1008),
            (r#"{"to":"447700900123","type":"image","image":7}"#, 1009),
            (r#"{"to":"447700900123","type":"location","location":{}}"#, 1008),
            (r#"{"to":"447700900123","type":"template","template":{}}"#, 1008),
            (r#"{"to":"447700900123","type":"image","image":{"link":"https://a.example/b"},"text":{"body":"x"}}"#, 1010),
            (r#"{"to":"447700900123","text":{"body":"hi"},"image":{"id":"x"}}"#, 1010),
            (r#"{"to":"447700900123","preview_url":"yes","text":{"body":"hi"}}"#, 1009),
            (r#"{"to":"447700900123","context":"x","text":{"body":"hi"}}"#, 1009),
            (r#"{"to":"447700900123","context":{"id":"x"},"text":{"body":"hi"}}"#, 1008),
            (r#"{"to":"447700900123","ttl":"soon","text":{"body":"hi"}}"#, 1009),
            (r#"{"to":"447700900123","preview_url":true,"text":{"body":"hi","preview_url":"no"}}"#, 1009),
            (r#"{"to":"447700900123","context":{"message_id":"a b"},"text":{"body":"hi"}}"#, 1009),
        ];
        for (body, code) in table {
            let error = Message::parse(body.as_bytes(), OWN).expect_err(body);
            assert_eq!(error.code.number(), *code, "{body}: {error}");
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
                .code
                .number(),
            1001
        );
    }

    #[test]
    fn only_read_can_be_marked() {
        assert!(parse_read(br#"{"status":"read"}"#).is_ok());
        for (body, code) in [("{}", 1008), (r#"{"status":"seen"}"#, 1009), ("x", 1025)] {
            assert_eq!(parse_read(body.as_bytes()).unwrap_err().code.number(), code);
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
