//! `/v1/messages` and `/v1/contacts`.
//! Judges nothing itself: `api/v1` does; carries nothing itself: `forward.rs` does.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use wa_core::shard_map::recipient_hash;

use super::answer::{Answer, Body, created, ok};
use super::auth::Caller;
use super::state::Webapp;
use crate::api::cloud;
use crate::api::error::{ApiError, ErrorBody};
use crate::api::internal::{self, ReadAnswer, ReadRequest, Verdict, path};
use crate::api::v1::contact::{self, ContactsAnswer};
use crate::api::v1::message::{
    self, Message, MessageContact, MessageId, SendAnswer, SendRequest, is_message_id, parse_read,
};
use crate::api::v1::{Meta, MetaOnly};
use crate::sys::clock;

/// Longest `Idempotency-Key`, in bytes.
const KEY_LEN_MAX: usize = 255;
/// One attempt to mark a message as read: the upstream is asked meanwhile.
const READ_ATTEMPT: std::time::Duration = std::time::Duration::from_secs(5);
/// Pause between two attempts.
const READ_PAUSE: std::time::Duration = std::time::Duration::from_millis(25);

/// A new message id: 128 random bits behind the prefix that the reference client's ids have.
fn random_id() -> Result<String, ApiError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|_| ApiError::new(1014))?;
    Ok(format!("gBEG{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
}

/// The id that a client's own key stands for: the same on every webapp, another one for every account.
fn keyed_id(username: &str, key: &str) -> String {
    let digest = Sha256::new()
        .chain_update(username)
        .chain_update([0])
        .chain_update(key)
        .finalize();
    format!("gBEK{}", BASE64_URL_SAFE_NO_PAD.encode(&digest[..16]))
}

fn message_id(headers: &HeaderMap, username: &str) -> Result<String, ApiError> {
    let Some(key) = headers.get("idempotency-key") else {
        return random_id();
    };
    match key.to_str() {
        Ok(key) if (1..=KEY_LEN_MAX).contains(&key.len()) => Ok(keyed_id(username, key)),
        _ => Err(ApiError::invalid(format!(
            "Idempotency-Key must have 1 to {KEY_LEN_MAX} printable characters"
        ))),
    }
}

/// What must be equal for two requests to be the same message. 63 bits: rows hold signed numbers.
fn body_hash(message: &Message) -> u64 {
    let digest = Sha256::new()
        .chain_update(&message.wa_id)
        .chain_update([
            0,
            u8::from(message.preview_url),
            u8::from(message.reply_to.is_some()),
        ])
        .chain_update(message.reply_to.as_deref().unwrap_or_default())
        .chain_update([0])
        .chain_update(&message.body);
    let digest = match &message.attachment {
        None => digest,
        // Every field of it, in one order.
        Some(attachment) => digest
            .chain_update([0])
            .chain_update(cloud::media_message(&message.wa_id, attachment, "", None).to_string()),
    }
    .finalize();
    let mut bytes = [0u8; 8];
    bytes.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(bytes) >> 1
}

/// Send a message. 201 once it is stored durably; what becomes of it comes by webhook.
/// A client that repeats a request under the same `Idempotency-Key` gets the same id, and the message goes out once.
#[utoipa::path(post, path = "/v1/messages", tag = "messages", security(("bearer" = [])), request_body = SendRequest,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = SendAnswer), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
              (status = 409, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn send(
    State(webapp): State<Arc<Webapp>>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body,
) -> Answer {
    let own = webapp.settings.upstream.phone_number.as_deref();
    let message = Message::parse(&body, own)?;
    let id = message_id(&headers, &caller.username)?;
    let reply_to = message.reply_to.as_deref();
    let payload = match &message.attachment {
        None => {
            let (to, body) = (&message.wa_id, &message.body);
            cloud::text_message(to, body, message.preview_url, &id, reply_to)
        }
        Some(attachment) => {
            super::media::check(&webapp, attachment).await?;
            cloud::media_message(&message.wa_id, attachment, &id, reply_to)
        }
    };
    let verdict = webapp
        .forwarder
        .send(internal::Message {
            id: id.clone(),
            body_hash: body_hash(&message),
            recipient_hash: recipient_hash(&message.wa_id),
            recipient: message.wa_id.clone(),
            payload: payload.to_string(),
        })
        .await?;
    if verdict == Verdict::Conflict {
        return Err(ApiError::with(
            1004,
            "The Idempotency-Key was used for another message",
        ));
    }
    Ok(created(&SendAnswer {
        messages: vec![MessageId { id }],
        contacts: vec![MessageContact {
            input: message.input,
            wa_id: message.wa_id,
        }],
        meta: Meta::default(),
    }))
}

/// Mark an inbound message as read.
#[utoipa::path(put, path = "/v1/messages/{id}", tag = "messages", security(("bearer" = [])),
    params(("id" = String, Path)),
    responses((status = 200, body = MetaOnly), (status = 400, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn mark_read(
    State(webapp): State<Arc<Webapp>>,
    _: Caller,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer {
    parse_read(&body)?;
    if !is_message_id(&id) {
        return Err(ApiError::with(1006, "There is no message with this id"));
    }
    let request = ReadRequest { wamid: id };
    match tokio::time::timeout(
        webapp.map.hold_timeout(),
        read_until_done(&webapp, &request),
    )
    .await
    {
        Ok(result) => result.map(|()| ok(&MetaOnly::default())),
        Err(_) => {
            webapp.metrics.shed.inc();
            Err(ApiError::with(1018, "No coreapp took the request in time"))
        }
    }
}

/// Any owner can tell the upstream; repeated, it says the same once more.
async fn read_until_done(webapp: &Webapp, request: &ReadRequest) -> Result<(), ApiError> {
    let mut held = None;
    loop {
        let owner = webapp
            .map
            .now()
            .routes
            .iter()
            .find_map(|route| route.url.clone());
        if let Some(url) = owner {
            let url = format!("{url}{}", path::READ);
            let call = webapp
                .call(Method::POST, &url, Some(request), READ_ATTEMPT)
                .await;
            match call.ok().map(|(status, bytes)| read_answer(status, &bytes)) {
                Some(ReadAnswer::Done) => return Ok(()),
                Some(ReadAnswer::Refused { code, details }) => {
                    return Err(ApiError::with(code, details));
                }
                Some(ReadAnswer::Unreachable) => {
                    return Err(ApiError::with(1011, "WhatsApp does not answer; try again"));
                }
                Some(ReadAnswer::NotOwner) | None => {}
            }
        }
        held.get_or_insert_with(|| webapp.map.hold());
        clock::sleep(READ_PAUSE).await;
    }
}

/// The coreapp's answer; where it has no body, its status says the same.
fn read_answer(status: StatusCode, bytes: &[u8]) -> ReadAnswer {
    if let Ok(answer) = serde_json::from_slice(bytes) {
        return answer;
    }
    match status {
        StatusCode::BAD_GATEWAY => ReadAnswer::Refused {
            code: 1006,
            details: "WhatsApp refused the message id".to_owned(),
        },
        StatusCode::SERVICE_UNAVAILABLE => ReadAnswer::Unreachable,
        status if status.is_success() => ReadAnswer::Done,
        _ => ReadAnswer::NotOwner,
    }
}

/// Look numbers up. Every number that can be one is `valid`; nothing is asked upstream.
#[utoipa::path(post, path = "/v1/contacts", tag = "contacts", security(("bearer" = [])),
    responses((status = 200, body = ContactsAnswer), (status = 400, body = ErrorBody)))]
pub async fn contacts(_: Caller, Body(body): Body) -> Answer {
    let body = Value::Object(message::object(&body)?);
    Ok(ok(&ContactsAnswer {
        contacts: contact::answer(&body)?,
        meta: Meta::default(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Message {
        Message::parse(body.as_bytes(), None).expect("well-formed")
    }

    #[test]
    fn ids_are_opaque_and_fit_their_column() {
        let (one, two) = (random_id().expect("random"), random_id().expect("random"));
        assert_ne!(one, two);
        assert_eq!(one.len(), 26);
        assert!(is_message_id(&one));
    }

    #[test]
    fn a_key_stands_for_one_id_per_account() {
        assert_eq!(keyed_id("bot1", "k"), keyed_id("bot1", "k"));
        assert_ne!(keyed_id("bot1", "k"), keyed_id("bot2", "k"));
        assert_ne!(keyed_id("bot1", "k"), keyed_id("bot1", "l"));
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", "x".repeat(256).parse().expect("plain"));
        assert_eq!(message_id(&headers, "bot1").unwrap_err().code, 1009);
    }

    #[test]
    fn the_body_hash_tells_messages_apart_and_ignores_spelling() {
        let one = parse(r#"{"to":"+44 7700 900123","text":{"body":"hi"}}"#);
        let same = parse(r#"{"text":{"body":"hi"},"to":"447700900123","type":"text"}"#);
        let other = parse(r#"{"to":"447700900123","text":{"body":"ho"}}"#);
        let preview = parse(r#"{"to":"447700900123","preview_url":true,"text":{"body":"hi"}}"#);
        assert_eq!(body_hash(&one), body_hash(&same));
        assert_ne!(body_hash(&one), body_hash(&other));
        assert_ne!(body_hash(&one), body_hash(&preview));
        assert!(i64::try_from(body_hash(&one)).is_ok());
    }
}
