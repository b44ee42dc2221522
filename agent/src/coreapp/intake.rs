//! Intake: the internal HTTP calls, and the loop that accepts many requests with one commit.
//! Checks no message: the webapp did. Refuses everything that this node does not own.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::{mpsc, oneshot};
use wa_core::shard_map::shard_of;

use super::node::Node;
use super::work::Work;
use super::{sender, upstream};
use crate::api::cloud;
use crate::api::internal::{
    AcceptAnswer, AcceptRequest, HealthAnswer, ReadAnswer, ReadRequest, Verdict, path,
};
use crate::db::message::{AcceptError, Accepted, Claimed, NewMessage};
use crate::sys::clock;

/// Messages in one commit, roughly: a request is never split.
const COMMIT_LEN_MAX: usize = 256;
/// Longest request between nodes, in bytes.
const BODY_LEN_MAX: usize = 4 << 20;
/// How often a commit is tried before its outcome is called unknown.
const TRIES: u32 = 3;

/// A request that waits for a commit.
pub struct Group {
    messages: Vec<NewMessage>,
    reply: oneshot::Sender<AcceptAnswer>,
}

/// The API port's routes.
pub fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route(path::MESSAGES, post(messages))
        .route(path::READ, post(read))
        .route(path::EVENTS, post(events))
        .route(path::HEALTH, get(health))
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&node),
            authenticate,
        ))
        .with_state(node)
}

async fn authenticate(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let header = request.headers().get("authorization");
    if header.is_some_and(|value| node.keys.internal_ok(value.as_bytes())) {
        next.run(request).await
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

async fn messages(
    State(node): State<Arc<Node>>,
    Json(request): Json<AcceptRequest>,
) -> Json<AcceptAnswer> {
    Json(accept(&node, request).await)
}

/// The work, if it is the one that the request means and its tenure lives.
fn owner_of(node: &Node, request: &AcceptRequest) -> Option<Arc<Work>> {
    let work = node.work()?;
    let named = request.shard == work.own.shard.0
        && request.generation == work.generation.0
        && request.epoch <= work.own.epoch.0;
    let within = request
        .messages
        .iter()
        .all(|m| shard_of(m.recipient_hash, work.shard_count) == work.own.shard);
    (named && within && node.gate.passes(work.own.epoch, clock::now())).then_some(work)
}

async fn accept(node: &Node, request: AcceptRequest) -> AcceptAnswer {
    let Some(work) = owner_of(node, &request) else {
        return AcceptAnswer::NotOwner;
    };
    // Counted before the hold is asked: a hold that is set later waits for this request.
    let accepting = work.accepting();
    if work.held() {
        return AcceptAnswer::Busy;
    }
    let messages = request.messages.into_iter().map(|m| NewMessage {
        id: m.id,
        // Columns hold 63 bits.
        body_hash: m.body_hash & (u64::MAX >> 1),
        recipient: m.recipient,
        recipient_hash: m.recipient_hash,
        payload: m.payload,
    });
    let (reply, answer) = oneshot::channel();
    let group = Group {
        messages: messages.collect(),
        reply,
    };
    if group.messages.is_empty() {
        return AcceptAnswer::Accepted {
            verdicts: Vec::new(),
        };
    }
    if work.intake.try_send(group).is_err() {
        return AcceptAnswer::Busy;
    }
    let longest = node.settings.timers.lease_ttl * 2;
    let answer = tokio::time::timeout(longest, answer).await;
    drop(accepting);
    // Dropped unanswered: the tenure ended around the commit.
    answer
        .ok()
        .and_then(Result::ok)
        .unwrap_or(AcceptAnswer::Unknown)
}

async fn read(State(node): State<Arc<Node>>, Json(request): Json<ReadRequest>) -> Json<ReadAnswer> {
    let Some(work) = node.work() else {
        return Json(ReadAnswer::NotOwner);
    };
    if work.held() {
        return Json(ReadAnswer::Unreachable);
    }
    let body = cloud::read_status(&request.wamid).to_string();
    let call = work.upstream.post_message(body);
    let answer = match work.stop.run_until_cancelled(call).await {
        None => ReadAnswer::NotOwner,
        Some(Ok((status, _))) if status.is_success() => {
            node.upstream_seen(true);
            ReadAnswer::Done
        }
        Some(Ok((_, body))) => {
            let (code, details) = sender::refusal(&body);
            ReadAnswer::Refused { code, details }
        }
        Some(Err(upstream::UpstreamError::Shut)) => ReadAnswer::NotOwner,
        Some(Err(_)) => ReadAnswer::Unreachable,
    };
    Json(answer)
}

async fn events(State(node): State<Arc<Node>>) -> StatusCode {
    if let Some(work) = node.work() {
        work.inbox_wanted.notify_one();
    }
    StatusCode::OK
}

async fn health(State(node): State<Arc<Node>>) -> Json<HealthAnswer> {
    let work = node.work();
    let gateway_status = match &work {
        Some(_) if node.connected() => "connected",
        Some(_) => "connecting",
        None => "disconnected",
    };
    Json(HealthAnswer {
        gateway_status: gateway_status.into(),
        shard: work.as_ref().map(|w| w.own.shard.0),
        epoch: work.as_ref().map_or(0, |w| w.own.epoch.0),
    })
}

/// Accepts what waits, group by group, one commit at a time.
pub async fn commit(node: Arc<Node>, work: Arc<Work>, mut groups: mpsc::Receiver<Group>) {
    while let Some(first) = groups.recv().await {
        let mut len = first.messages.len();
        let mut batch = vec![first];
        while len < COMMIT_LEN_MAX {
            let Ok(group) = groups.try_recv() else { break };
            len += group.messages.len();
            batch.push(group);
        }
        commit_batch(&node, &work, batch).await;
    }
}

async fn commit_batch(node: &Node, work: &Work, batch: Vec<Group>) {
    let (mut messages, mut replies) = (Vec::new(), Vec::new());
    for group in batch {
        replies.push((group.messages.len(), group.reply));
        messages.extend(group.messages);
    }
    // Asked before the commit: a message that is put down meanwhile has its outcome recorded already.
    let known: Vec<bool> = messages.iter().map(|m| work.outbox.has(&m.id)).collect();
    let claim = work.outbox.claim_at_once(messages.len());
    let began = clock::now();
    let result = store(node, work, &messages, claim).await;
    let took = clock::now().since(began);
    node.metrics.commit.observe(took.as_secs_f64());
    if !claim {
        work.outbox.queued();
        work.claim_wanted.notify_one();
    }
    let accepted = match result {
        Ok(accepted) => accepted,
        Err(error) => return refuse(&error, messages.len(), replies),
    };
    let each = messages.into_iter().zip(known).zip(accepted);
    let verdicts: Vec<Verdict> = each
        .map(|((m, known), accepted)| settle(node, work, m, known, accepted, claim))
        .collect();
    let mut verdicts = verdicts.into_iter();
    for (len, reply) in replies {
        let verdicts = verdicts.by_ref().take(len).collect();
        let _ = reply.send(AcceptAnswer::Accepted { verdicts });
    }
}

/// Nothing was accepted, or nobody knows: rows that were claimed all the same, the store queues by itself.
fn refuse(error: &AcceptError, len: usize, replies: Vec<(usize, oneshot::Sender<AcceptAnswer>)>) {
    let answer = match error {
        AcceptError::Stale => AcceptAnswer::NotOwner,
        AcceptError::Db(error) => {
            tracing::warn!(error = %error.brief(), "a group of {len} messages was not accepted; the webapp retries");
            AcceptAnswer::Unknown
        }
    };
    for (_, reply) in replies {
        let _ = reply.send(answer.clone());
    }
}

/// What the webapp is told of one message; a new one goes straight to the sender.
fn settle(
    node: &Node,
    work: &Work,
    message: NewMessage,
    known: bool,
    accepted: Accepted,
    claim: bool,
) -> Verdict {
    match accepted {
        Accepted::Conflict => Verdict::Conflict,
        Accepted::Duplicate => Verdict::Duplicate,
        Accepted::New if known => Verdict::Duplicate,
        Accepted::New => {
            node.metrics.accepted.inc();
            if claim && !work.outbox.take(&message.id) {
                return Verdict::Duplicate;
            }
            if claim {
                let claimed = Claimed {
                    id: message.id,
                    recipient: message.recipient,
                    payload: message.payload,
                    attempts: -1,
                };
                // The queue is longer than what may be in hand; if it is full all the same, the row waits as ambiguous.
                if let Err(error) = work.send.try_send(claimed) {
                    tracing::error!(%error, "the sender's queue is full, which its bound rules out");
                }
            }
            Verdict::Accepted
        }
    }
}

/// One commit, tried again while the store is busy: the ids make a repetition harmless.
async fn store(
    node: &Node,
    work: &Work,
    messages: &[NewMessage],
    claim: bool,
) -> Result<Vec<Accepted>, AcceptError> {
    let deadline = node.settings.timers.lease_ttl;
    let mut last = AcceptError::Db(crate::db::DbError::Deadline(deadline));
    for attempt in 1..=TRIES {
        let Some(db) = node.db() else { break };
        let write = tokio::time::timeout(deadline, db.accept(&work.own, messages, claim));
        match node.in_turn(write).await {
            Ok(Ok(accepted)) => return Ok(accepted),
            Ok(Err(AcceptError::Stale)) => return Err(AcceptError::Stale),
            Ok(Err(error)) => last = error,
            Err(_) => break,
        }
        clock::sleep(Duration::from_millis(10) * attempt).await;
    }
    Err(last)
}
