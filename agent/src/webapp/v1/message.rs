//! `/v1/messages`.
//! Judges nothing itself: `api/v1` does; carries nothing itself: `webapp/forward.rs` does.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::api::cloud::opaque::is_ours;
use crate::api::cloud::short::is_short;
use crate::api::error::{ApiError, ErrorBody};
use crate::api::owner::{Acceptance, OwnerCall};
use crate::api::v1::code::Code;
use crate::api::v1::message::{
    Content, Message, MessageContact, MessageId, RANDOM_LEN, SendAnswer, SendRequest,
    is_message_id, new_id, parse_read,
};
use crate::api::v1::who::Recipient;
use crate::api::v1::{Meta, MetaOnly};
use crate::sys::clock;
use crate::webapp::answer::{Answer, Body, created, database, ok};
use crate::webapp::forward::Outgoing;
use crate::webapp::identity;
use crate::webapp::routes::Place;
use crate::webapp::state::Webapp;
use crate::webapp::tokens::Caller;

/// Longest `Idempotency-Key`, in bytes.
const KEY_LEN_MAX: usize = 255;
/// For the look at the message that is named.
const NAMED_TIMEOUT: Duration = Duration::from_secs(1);

/// The id of a message that comes without a key.
fn random_id() -> Result<String, ApiError> {
    let mut random = [0u8; RANDOM_LEN];
    getrandom::fill(&mut random).map_err(|_| ApiError::new(Code::Internal))?;
    Ok(new_id(clock::wall_ms(), &random))
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

/// A message of ours that is named is one to the same customer. One that nobody knows is no mistake that is seen here, and the
/// database's silence none at all: the owner looks again.
async fn check_named(webapp: &Webapp, message: &Message, place: &Place) -> Result<(), ApiError> {
    let Some(named) = message.named().filter(|named| is_ours(named)) else {
        return Ok(());
    };
    let found = tokio::time::timeout(NAMED_TIMEOUT, webapp.db()?.recipient_hash_of(named)).await;
    let other = matches!(found, Ok(Ok(Some(hash))) if !place.may_be(hash));
    let path = match message.content {
        Content::Reaction(_) => "reaction.message_id",
        Content::Text(_)
        | Content::Media(_)
        | Content::Location(_)
        | Content::Contacts(_)
        | Content::Template(_)
        | Content::Hsm(_)
        | Content::Interactive(_) => "context.message_id",
    };
    match other {
        true => Err(ApiError::invalid(format!(
            "{path} must be the id of a message to the same recipient"
        ))),
        false => Ok(()),
    }
}

/// A message to an alias of ours is for the user id that it stands for; what was typed says that it was an alias.
async fn stands_for(webapp: &Webapp, message: &mut Message) -> Result<(), ApiError> {
    let Some(alias) = message.to.alias() else {
        return Ok(());
    };
    let found = webapp.db()?.user_of_alias(alias).await;
    let user_id = found.map_err(|error| database(&error))?.ok_or_else(|| {
        ApiError::invalid("to must be a phone number, a user id, or an alias that was told")
    })?;
    message.to = Recipient::User(user_id);
    Ok(())
}

/// Send a message. 201 once it is stored durably; what becomes of it comes by webhook.
/// A client that repeats a request under the same `Idempotency-Key` gets the same id, and the message goes out once.
///
/// Differs from the reference: groups as recipients are refused with 1002, because those of the reference are gone; and the
/// limits of the Cloud API are checked before 2xx, because it would only refuse them later.
#[utoipa::path(post, path = "/v1/messages", tag = "messages", request_body = SendRequest,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = SendAnswer), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
              (status = 409, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn send(
    State(webapp): State<Arc<Webapp>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Body(body): Body,
) -> Answer {
    Ok(created(&take(&webapp, &caller, &headers, &body).await?))
}

/// Takes a message, for the API and for the console.
///
/// # Errors
/// As the API answers.
pub async fn take(
    webapp: &Webapp,
    caller: &Caller,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<SendAnswer, ApiError> {
    let own = webapp.settings.upstream.phone_number.as_deref();
    let mut message = Message::parse(body, own)?;
    let wa_id = message.to.as_str().to_owned();
    stands_for(webapp, &mut message).await?;
    let id = message_id(headers, &caller.username)?;
    super::media::check(webapp, &message.content).await?;
    super::template::check(webapp, &message.content).await?;
    let fallback = message.content.falls_back();
    let db = webapp.db().ok();
    let place = webapp.routes.place(db.as_deref(), message.to.as_str());
    let place = place.await;
    let recipient_hash = place.hash();
    identity::check(webapp, db.as_deref(), &message.to).await?;
    check_named(webapp, &message, &place).await?;
    let answer = MessageContact {
        input: message.input.clone().unwrap_or_default(),
        wa_id,
    };
    let verdict = webapp
        .forwarder
        .send(Outgoing {
            id: id.clone(),
            recipient_hash,
            message,
        })
        .await?;
    if verdict == Acceptance::Conflict {
        return Err(ApiError::with(
            Code::AlreadyExists,
            "The Idempotency-Key was used for another message",
        ));
    }
    if fallback {
        webapp.metrics.hsm_fallback.inc();
    }
    Ok(SendAnswer {
        messages: vec![MessageId { id }],
        contacts: vec![answer],
        meta: Meta::default(),
    })
}

/// Mark an inbound message as read.
#[utoipa::path(put, path = "/v1/messages/{id}", tag = "messages",
    params(("id" = String, Path)),
    responses((status = 200, body = MetaOnly), (status = 400, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn mark_read(
    State(webapp): State<Arc<Webapp>>,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer {
    parse_read(&body)?;
    let id = id.strip_suffix('/').unwrap_or(&id).to_owned();
    if !is_message_id(&id) {
        return Err(ApiError::with(
            Code::NotFound,
            "There is no message with this id",
        ));
    }
    let wamid = match is_short(&id) {
        false => id,
        true => {
            let found = webapp.db()?.upstream_id_of(&id).await;
            let found = found.map_err(|error| database(&error))?;
            found
                .ok_or_else(|| ApiError::with(Code::NotFound, "There is no message with this id"))?
        }
    };
    let call = OwnerCall::MarkRead { wamid };
    webapp.owners.ask(call).await?;
    Ok(ok(&MetaOnly::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(
            message_id(&headers, "bot1").unwrap_err().code.number(),
            1009
        );
    }
}
