//! `POST /{phone_number_id}/messages`: a send is read, judged by limits, templates and files, answered, and its statuses begin.
//! What is documented stands in `reader`, what single recipients do in `script.rs`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use super::event::{self, Plan, Send};
use super::knobs::{Knobs, MediaRefusal};
use super::reader::sent::{Asked, Recipient, Sent};
use super::reader::{self};
use super::refusal::Refusal;
use super::script::{self, Odd, Script, Story};
use super::state::{Claim, Judged, Simulator, lock};
use super::template::check;
use super::{ids, webhooks};
use crate::sys::clock;

/// Largest call, in bytes.
const CALL_LEN_MAX: usize = 1 << 20;
/// Messages older than this can neither be read nor be reacted to, in seconds.
const OLD_S: u64 = 30 * 24 * 3600;
/// So long nobody answers.
const NEVER: Duration = Duration::from_secs(3600);
/// So long the answer waits until all webhooks have come.
const AFTER_WEBHOOKS: Duration = Duration::from_secs(2);
/// What a proxy on the way answers.
const PAGE: &str = "<html><head><title>Error</title></head><body><h1>Sorry, something went wrong.</h1></body></html>";

/// The answer to a send, our id of the message, and how long the answer is held back.
struct Verdict {
    answer: Response,
    id: String,
    held: Duration,
}

impl Verdict {
    fn now(answer: impl IntoResponse, id: &str) -> Self {
        Self {
            answer: answer.into_response(),
            id: id.to_owned(),
            held: Duration::ZERO,
        }
    }
}

/// A send, or a message that was read.
pub async fn messages(
    State(simulator): State<Arc<Simulator>>,
    Path((_, phone)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let claim = Claim::of(&parts);
    let judged = Judged::begin(&simulator, claim);
    let received = to_bytes(body, CALL_LEN_MAX).await;
    if let Some(judged) = &judged {
        judged.received();
    }
    let Ok(bytes) = received else {
        return Refusal::bad("The body is too large or broke off").into_response();
    };
    if let Err(refusal) = simulator.own_number(&parts.headers, &phone) {
        return refusal.into_response();
    }
    let verdict = judge(&simulator, &bytes);
    // Before the answer is held back: whoever asked may be gone by then, and this with it.
    if let Some(record) = &simulator.record {
        let status = verdict.answer.status();
        record.line(claim.shard_epoch, claim.peer, &verdict.id, status);
    }
    clock::sleep(verdict.held).await;
    verdict.answer
}

fn judge(simulator: &Simulator, bytes: &[u8]) -> Verdict {
    let sent = match reader::read(bytes) {
        Ok(Asked::Message(sent)) => sent,
        Ok(Asked::Read { message_id }) => {
            return match old(simulator, &message_id) {
                false => Verdict::now(Json(json!({"success": true})), ""),
                true => Verdict::now(Refusal::value("message_id is older than 30 days"), ""),
            };
        }
        Err(refusal) => {
            // Nobody sees this but who looks for a mistake of ours.
            tracing::warn!(
                code = refusal.code,
                why = refusal.why,
                "a send is not as documented; refused"
            );
            return refused(simulator, refusal, "");
        }
    };
    let knobs = lock(&simulator.knobs).clone();
    match limits(simulator, &knobs, &sent).and_then(|()| content(simulator, &knobs, &sent)) {
        Err(refusal) => refused(simulator, refusal, sent.id()),
        Ok(fault) => play(simulator, &knobs, &sent, fault),
    }
}

fn refused(simulator: &Simulator, refusal: Refusal, id: &str) -> Verdict {
    let mut seen = lock(&simulator.seen);
    *seen.refused.entry(refusal.code).or_default() += 1;
    Verdict::now(refusal, id)
}

/// A message of ours or of a customer that is older than 30 days.
fn old(simulator: &Simulator, id: &str) -> bool {
    ids::made_at_s(id).is_some_and(|at_s| at_s + OLD_S < simulator.now_s())
}

/// Limits and errors that the knobs ask for.
fn limits(simulator: &Simulator, knobs: &Knobs, sent: &Sent) -> Result<(), Refusal> {
    if !lock(&simulator.registration).number.registered() {
        return Err(Refusal::new(133_010, "The number is not registered"));
    }
    let mut seen = lock(&simulator.seen);
    if seen.ban.banned() {
        return Err(Refusal::new(368, "The number is banned; see /admin/report"));
    }
    if lock(&simulator.business).blocked.contains(sent.to.key()) {
        return Err(Refusal::new(130_403, "The business blocked this user"));
    }
    if knobs.maintenance {
        return Err(Refusal::new(131_057, "The number is being upgraded"));
    }
    let now_ms = clock::now().as_millis();
    if !seen.throttle.message(now_ms, knobs.rate_per_second) {
        return Err(Refusal::new(130_429, "Too many messages of this number"));
    }
    let pair = || Refusal::new(131_056, "Too many messages to this recipient");
    let to = sent.to.key();
    if !seen.throttle.gap(to, now_ms, knobs.pair_gap_ms) {
        return Err(pair());
    }
    if knobs.pair_limit && !seen.throttle.pair(to, now_ms) {
        return Err(pair());
    }
    if knobs.errors_per_mille > 0 && crate::sys::state::random_u64() % 1000 < knobs.errors_per_mille
    {
        return Err(Refusal::new(131_000, "An error by chance"));
    }
    Ok(())
}

/// Template and files. `Some`: the send is accepted and will fail.
fn content(simulator: &Simulator, knobs: &Knobs, sent: &Sent) -> Result<Option<Refusal>, Refusal> {
    if let Some(template) = &sent.template {
        let catalog = lock(&simulator.templates);
        let entry = check::find(&catalog, template)?;
        if matches!(sent.to, Recipient::User(_)) && entry.category() == "AUTHENTICATION" {
            let why = "Authentication templates need a phone number";
            return Err(Refusal::new(131_062, why));
        }
        check::compare(entry, template)?;
    }
    if lock(&simulator.identities).refuses(sent) {
        let why = "The recipient has another identity key";
        return Err(Refusal::new(137_000, why));
    }
    let now_s = simulator.now_s();
    let shelf = lock(&simulator.media);
    let unfit = |file: &super::reader::sent::File| shelf.unfit(&file.id, file.kind, now_s);
    if let Some(why) = sent.files.iter().find_map(unfit) {
        let refusal = Refusal::new(131_053, why);
        return match knobs.media_refusal {
            MediaRefusal::Answer => Err(refusal),
            MediaRefusal::Webhook => Ok(Some(refusal)),
        };
    }
    let about = sent.reacts_to.as_deref();
    let too_old = about.is_some_and(|id| old(simulator, id));
    Ok(too_old.then(|| Refusal::value("reaction.message_id is older than 30 days")))
}

/// What the recipient does, then the answer.
fn play(simulator: &Simulator, knobs: &Knobs, sent: &Sent, fault: Option<Refusal>) -> Verdict {
    let refusal = |known| refused(simulator, Refusal::played(known), sent.id());
    let usual = match &sent.to {
        Recipient::Nobody { .. } => Plan::new(),
        Recipient::Number { .. } | Recipient::User(_) | Recipient::Group(_) => {
            event::usual(sent.reacts_to.is_some())
        }
    };
    let (plan, story) = match (fault, script::of(&sent.to)) {
        (Some(fault), _) => (event::failed(fault), None),
        (None, Some(Script::Refused(known))) => return refusal(known),
        (None, Some(Script::Once(known))) if lock(&simulator.seen).first(sent.id()) => {
            return refusal(known);
        }
        (None, Some(Script::Both(known))) => {
            let send = of(simulator, sent, false);
            let plan = event::failed(Refusal::played(known));
            webhooks::statuses(simulator, knobs, send, plan);
            return refusal(known);
        }
        (None, Some(Script::Odd(odd))) => return play_odd(simulator, knobs, sent, odd),
        (None, Some(Script::Failed(known))) => (event::failed(Refusal::played(known)), None),
        (None, Some(Script::Story(story))) => (event::of_story(story), Some(story)),
        (None, Some(Script::Once(_)) | None) => (usual, None),
    };
    let send = of(simulator, sent, story == Some(Story::Strange));
    let answer = Json(answer(knobs, sent, &send.wamid));
    go_out(simulator, knobs, sent, send, plan);
    let after = match story {
        Some(Story::BeforeAnswer) => AFTER_WEBHOOKS + Duration::from_millis(knobs.webhook_delay_ms),
        Some(_) | None => Duration::ZERO,
    };
    let stalled = if knobs.stall { NEVER } else { Duration::ZERO };
    Verdict {
        held: stalled + after + Duration::from_millis(knobs.latency_ms),
        ..Verdict::now(answer, sent.id())
    }
}

fn play_odd(simulator: &Simulator, knobs: &Knobs, sent: &Sent, odd: Odd) -> Verdict {
    if odd.goes_out() {
        let send = of(simulator, sent, false);
        go_out(simulator, knobs, sent, send, event::usual(false));
    }
    let page = |status: StatusCode| (status, Html(PAGE)).into_response();
    let (answer, held) = match odd {
        Odd::NoId => {
            let body = json!({"messaging_product": "whatsapp", "contacts": contacts(sent)});
            (Json(body).into_response(), Duration::ZERO)
        }
        Odd::PageOk => (page(StatusCode::OK), Duration::ZERO),
        Odd::SilentSent | Odd::SilentUnsent => (page(StatusCode::GATEWAY_TIMEOUT), NEVER),
        Odd::Broken => (broken(), Duration::ZERO),
        Odd::PageUnsent => (page(StatusCode::INTERNAL_SERVER_ERROR), Duration::ZERO),
        Odd::PageSent => (page(StatusCode::BAD_GATEWAY), Duration::ZERO),
    };
    Verdict {
        held,
        ..Verdict::now(answer, sent.id())
    }
}

/// The head of a good answer, and some of its body.
fn broken() -> Response {
    let some = Ok(Bytes::from_static(b"{\"messaging_product\":\"wh"));
    let end = Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    let body = Body::from_stream(futures_util::stream::iter([some, end]));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn of(simulator: &Simulator, sent: &Sent, strange: bool) -> Send {
    let category = match &sent.template {
        None => "service",
        Some(template) => {
            let catalog = lock(&simulator.templates);
            check::find(&catalog, template).map_or("utility", |entry| entry.priced_as())
        }
    };
    Send {
        at: clock::now(),
        at_s: simulator.now_s(),
        wamid: simulator.message_id(),
        to: sent.to.clone(),
        opaque: sent.opaque.clone(),
        category,
        strange,
    }
}

/// Counts the message, and begins its statuses.
fn go_out(simulator: &Simulator, knobs: &Knobs, sent: &Sent, send: Send, plan: Plan) {
    {
        let mut seen = lock(&simulator.seen);
        seen.accepted += 1;
        seen.never_delivered += u64::from(matches!(sent.to, Recipient::Nobody { .. }));
        *seen.ids.entry(sent.id().to_owned()).or_default() += 1;
    }
    simulator.ledger.taken(sent.id(), send.at);
    webhooks::statuses(simulator, knobs, send, plan);
}

fn contacts(sent: &Sent) -> Value {
    match &sent.to {
        Recipient::Number { input, digits } | Recipient::Nobody { input, digits } => {
            json!([{"input": input, "wa_id": digits}])
        }
        Recipient::User(id) => json!([{"input": id, "user_id": id}]),
        Recipient::Group(id) => json!([{"input": id, "wa_id": id}]),
    }
}

fn answer(knobs: &Knobs, sent: &Sent, wamid: &str) -> Value {
    let mut message = json!({"id": wamid});
    if sent.template.is_some() {
        let status =
            [&knobs.message_status, "accepted"][usize::from(knobs.message_status.is_empty())];
        message["message_status"] = status.into();
    }
    json!({"messaging_product": "whatsapp", "contacts": contacts(sent), "messages": [message]})
}
