//! A test message: a text to one number, taken as `POST /v1/messages` takes it.
//! Shows no text again once it was sent.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method};
use maud::{Markup, html};
use serde_json::json;

use super::deed::{self, administrator};
use super::frame::{Panel, form_token, panel};
use super::guard::Visitor;
use super::words::Word;
use crate::api::cloud::opaque::is_ours;
use crate::api::error::ApiError;
use crate::api::v1::code::Code;
use crate::sys::state::random_u64;
use crate::webapp::state::Webapp;
use crate::webapp::v1::message;

const CALL: &str = "POST /console/settings/send";

/// The form. Its key lets one message out however often it is sent.
pub fn form(visitor: &Visitor) -> Panel {
    let tongue = visitor.tongue;
    let title = tongue.say(Word::TestMessage);
    let body = html! {
        form.act method="post" action="/console/settings/send" {
            (form_token(visitor))
            input type="hidden" name="once" value=(format!("console-{:016x}", random_u64()));
            label { (tongue.say(Word::Recipient)) input name="to" type="tel" autocomplete="off" required maxlength="64" dir="ltr"; }
            label.long { (tongue.say(Word::Text)) input name="text" autocomplete="off" required maxlength="4096" dir="auto"; }
            button type="submit" { (tongue.say(Word::Send)) }
        }
        p.quiet lang="en" dir="auto" {
            "It goes out as each other text. WhatsApp delivers it if the customer wrote within the last 24 hours; else it needs a template."
        }
    };
    panel("test-message", &title, &body)
}

/// Sends it; the id of the message that was accepted.
///
/// # Errors
/// As the API answers.
pub async fn send(
    webapp: &Arc<Webapp>,
    visitor: &Visitor,
    request: Request,
) -> Result<String, ApiError> {
    let (source, sent) = deed::sent(webapp, visitor, request).await;
    let asked = (CALL, &Method::POST, "/console/settings/send");
    let line = deed::begin(webapp, visitor, asked, source);
    let taken = async {
        let sent = sent?;
        administrator(visitor)?;
        // As people write numbers.
        let plain = |c: &char| !matches!(c, ' ' | '-' | '(' | ')');
        let to: String = sent.text("to").chars().filter(plain).collect();
        let body = json!({"to": to, "type": "text", "text": {"body": sent.get("text").unwrap_or_default()}});
        let mut headers = HeaderMap::new();
        if let Ok(once) = HeaderValue::from_str(sent.text("once"))
            && !once.is_empty()
        {
            headers.insert("idempotency-key", once);
        }
        let body = body.to_string();
        let taken = message::take(webapp, &visitor.caller, &headers, body.as_bytes()).await?;
        let id = taken.messages.into_iter().next().map(|message| message.id);
        id.ok_or_else(|| ApiError::new(Code::Internal))
    };
    let outcome = taken.await;
    if let Ok(id) = &outcome {
        line.trace().add(id);
    }
    deed::end(line, &outcome);
    outcome
}

/// What is said of an accepted message; `None`: this is no id of a message.
pub fn said(id: &str) -> Option<Markup> {
    let find = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("find", id)
        .finish();
    is_ours(id).then(|| {
        html! {
            p.good role="status" {
                span lang="en" dir="auto" { "The message was accepted. What becomes of it is on the page of the messages: " }
                a href=(format!("/console/messages?{find}")) { bdi { (id) } }
            }
        }
    })
}
