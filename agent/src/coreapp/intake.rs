//! Intake: internal calls in, one commit for all that wait, answers out.
//! Checks no message: the webapp did, and minted its id.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use wa_core::id::Ownership;

use super::Shared;
use crate::api::cloud;
use crate::api::internal::{
    AcceptAnswer, AcceptRequest, HealthAnswer, Message, ReadRequest, Verdict, path,
};
use crate::db::message::{AcceptError, Accepted, Claimed, NewMessage};
use crate::net::keys::Keys;
use crate::net::{NetError, server};
use crate::sys::clock;

/// Calls waiting for a commit; more are told to come again.
const QUEUE_LEN: usize = 1024;
/// Most messages of one commit.
const GROUP_MAX: usize = 256;
/// A commit that takes longer has an unknown outcome.
const COMMIT_WITHIN: Duration = Duration::from_secs(5);
/// Largest internal call, in bytes.
const CALL_LEN_MAX: usize = 16 << 20;

struct Waiting {
    messages: Vec<Message>,
    answer: oneshot::Sender<AcceptAnswer>,
}

#[derive(Clone)]
struct Intake {
    shared: Arc<Shared>,
    keys: Keys,
    queue: mpsc::Sender<Waiting>,
}

/// Serves the API port and the commit loop in tasks of their own.
///
/// # Errors
/// When the port is taken.
pub async fn start(
    shared: Arc<Shared>,
    keys: Keys,
    shutdown: CancellationToken,
) -> Result<(), NetError> {
    let address = SocketAddr::new(shared.settings.bind, shared.settings.ports.api);
    let listener = server::listen("internal API", address).await?;
    let (queue, waiting) = mpsc::channel(QUEUE_LEN);
    tokio::spawn(commit_loop(Arc::clone(&shared), waiting));
    let router = Router::new()
        .route(path::MESSAGES, post(messages))
        .route(path::READ, post(read))
        .route(path::EVENTS, post(events))
        .route(path::HEALTH, get(health))
        .layer(DefaultBodyLimit::max(CALL_LEN_MAX))
        .with_state(Intake {
            shared,
            keys,
            queue,
        });
    tokio::spawn(server::serve(listener, router, shutdown));
    Ok(())
}

impl Intake {
    fn known(&self, headers: &HeaderMap) -> bool {
        self.keys.internal_ok(
            headers
                .get("authorization")
                .map_or(&b""[..], |value| value.as_bytes()),
        )
    }
}

async fn messages(
    State(intake): State<Intake>,
    headers: HeaderMap,
    Json(call): Json<AcceptRequest>,
) -> Response {
    if !intake.known(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let answer = match intake.shared.gate.live() {
        Some(own) if own.shard.0 == call.shard && own.epoch.0 >= call.epoch => {
            if intake.shared.hold.load(Ordering::Acquire) {
                AcceptAnswer::Busy
            } else {
                wait_for_commit(&intake, call.messages).await
            }
        }
        _ => AcceptAnswer::NotOwner,
    };
    Json(answer).into_response()
}

async fn wait_for_commit(intake: &Intake, messages: Vec<Message>) -> AcceptAnswer {
    let (answer, committed) = oneshot::channel();
    if intake.queue.try_send(Waiting { messages, answer }).is_err() {
        return AcceptAnswer::Busy;
    }
    committed.await.unwrap_or(AcceptAnswer::Unknown)
}

/// Collects what waits, commits it together, answers everybody.
async fn commit_loop(shared: Arc<Shared>, mut waiting: mpsc::Receiver<Waiting>) {
    while let Some(first) = waiting.recv().await {
        shared.busy.fetch_add(1, Ordering::AcqRel);
        let mut count = first.messages.len();
        let mut group = vec![first];
        while count < GROUP_MAX {
            let Ok(next) = waiting.try_recv() else { break };
            count += next.messages.len();
            group.push(next);
        }
        commit(&shared, group).await;
        shared.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn commit(shared: &Shared, group: Vec<Waiting>) {
    let all = |group: Vec<Waiting>, answer: AcceptAnswer| {
        for call in group {
            let _ = call.answer.send(answer.clone());
        }
    };
    let Some(own) = shared.gate.live() else {
        return all(group, AcceptAnswer::NotOwner);
    };
    if shared.hold.load(Ordering::Acquire) {
        return all(group, AcceptAnswer::Busy);
    }
    let new: Vec<NewMessage> = group
        .iter()
        .flat_map(|call| &call.messages)
        .map(new_message)
        .collect();
    // Claimed with the very commit that accepts it, as long as the sender has room: one commit less a message.
    let claim = shared.to_sender.capacity() > new.len();
    let started = clock::now();
    let done = tokio::time::timeout(COMMIT_WITHIN, shared.db.accept(&own, &new, claim)).await;
    shared
        .metrics
        .commit
        .observe(clock::now().since(started).as_secs_f64());
    match done {
        Ok(Ok(accepted)) => {
            shared
                .metrics
                .accepted
                .inc_by(accepted.iter().filter(|a| **a == Accepted::New).count() as u64);
            if claim {
                hand_to_sender(shared, &own, new, &accepted);
            } else {
                shared.outbox_ready.notify_one();
            }
            answer_each(group, &accepted);
        }
        Ok(Err(AcceptError::Stale)) => all(group, AcceptAnswer::NotOwner),
        Ok(Err(AcceptError::Db(error))) => {
            tracing::warn!(error = %error.brief(), "a commit failed; the webapps retry under the same ids");
            all(group, AcceptAnswer::Unknown);
        }
        Err(_) => all(group, AcceptAnswer::Unknown),
    }
}

fn new_message(message: &Message) -> NewMessage {
    NewMessage {
        id: message.id.clone(),
        body_hash: message.body_hash >> 1,
        recipient: message.recipient.clone(),
        recipient_hash: message.recipient_hash,
        payload: message.payload.clone(),
    }
}

fn hand_to_sender(shared: &Shared, own: &Ownership, new: Vec<NewMessage>, accepted: &[Accepted]) {
    for (message, _) in new
        .into_iter()
        .zip(accepted)
        .filter(|(_, a)| **a == Accepted::New)
    {
        let claimed = Claimed {
            id: message.id,
            recipient: message.recipient,
            payload: message.payload,
            attempts: 0,
        };
        if shared.to_sender.try_send(claimed).is_err() {
            // Cannot happen: only this loop and the claimer fill the queue, and both look at its room first. The row
            // stays claimed under this epoch and comes back as ambiguous.
            tracing::warn!(
                EPOCH = own.epoch.0,
                "the sender's queue is full; a message waits for the ambiguity window"
            );
        }
    }
}

fn answer_each(group: Vec<Waiting>, accepted: &[Accepted]) {
    let mut rest = accepted.iter();
    for call in group {
        let verdicts = rest.by_ref().take(call.messages.len()).map(|a| match a {
            Accepted::New => Verdict::Accepted,
            Accepted::Duplicate => Verdict::Duplicate,
            Accepted::Conflict => Verdict::Conflict,
        });
        let _ = call.answer.send(AcceptAnswer::Accepted {
            verdicts: verdicts.collect(),
        });
    }
}

async fn read(
    State(intake): State<Intake>,
    headers: HeaderMap,
    Json(call): Json<ReadRequest>,
) -> Response {
    if !intake.known(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let shared = &intake.shared;
    let Some(own) = shared.gate.live() else {
        return StatusCode::CONFLICT.into_response();
    };
    let body = cloud::read_status(&call.wamid).to_string();
    match super::sender::post(shared, &own, body).await {
        Ok(answer) if answer.status().is_success() => StatusCode::OK.into_response(),
        Ok(answer) => (StatusCode::BAD_GATEWAY, answer.into_body()).into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn events(State(intake): State<Intake>, headers: HeaderMap) -> StatusCode {
    if !intake.known(&headers) {
        return StatusCode::UNAUTHORIZED;
    }
    intake.shared.inbox_ready.notify_one();
    StatusCode::NO_CONTENT
}

async fn health(State(intake): State<Intake>, headers: HeaderMap) -> Response {
    if !intake.known(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let own = intake.shared.gate.live();
    let answered = clock::now().since(wa_core::time::Instant(
        intake.shared.upstream_ok_at.load(Ordering::Relaxed),
    ));
    // The documented meaning: connected = success or probe younger than 30 s.
    let status = match &own {
        None => "disconnected",
        Some(_) if answered < Duration::from_secs(30) => "connected",
        Some(_) => "connecting",
    };
    let answer = HealthAnswer {
        gateway_status: status.into(),
        shard: own.as_ref().map(|o| o.shard.0),
        epoch: own.as_ref().map_or(0, |o| o.epoch.0),
    };
    Json(answer).into_response()
}
