//! What a coreapp answers on its API port: the calls of webapps to an owner, nudges, and its word on itself.
//! Refuses everything that this node does not own; what a call does is in the rooms that it names.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::node::Node;
use super::upstream::UpstreamError;
use super::work::Work;
use super::{account, intake, on_demand, profile, registration, template, word};
use crate::api::cloud::call::Call;
use crate::api::cloud::refusal;
use crate::api::internal::{AccountAnswer, HealthAnswer, STATUS_UNREGISTERED, path};
use crate::api::owner::{self, OwnerAnswer, OwnerCall, OwnerRequest, Setback, Settled};
use crate::metrics::figure::Page;
use crate::net::door::known_node;
use crate::sys::clock;

/// Longest request between nodes, in bytes: a photo of the profile has a third more on its way.
const BODY_LEN_MAX: usize = 8 << 20;

/// The API port's routes.
pub fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route(owner::PATH, post(serve))
        .route(path::EVENTS, post(events))
        .route(path::HEALTH, get(health))
        .route(path::FIGURES, get(figures))
        .route(path::ACCOUNT, get(account_word))
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&node),
            authenticate,
        ))
        .with_state(node)
}

async fn authenticate(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let header = request.headers().get("authorization");
    let header = header.map_or(&b""[..], |value| value.as_bytes());
    let of_node = node.keys.internal_ok(header);
    // Whoever may only look may GET: nothing changes by it. For the door he stays a stranger.
    let looks = request.method() == Method::GET && node.keys.look_ok(header);
    if of_node {
        known_node(request.extensions());
    }
    if looks || of_node {
        let (began, of_owner) = (clock::now(), request.uri().path() == owner::PATH);
        let response = next.run(request).await;
        let took = clock::now().since(began);
        node.documented.internal.add(took);
        if of_owner {
            node.documented.endpoint.add(took);
        }
        response
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

/// The work, if it is the one that the request means and its tenure lives.
fn work_of(node: &Node, request: &OwnerRequest) -> Option<Arc<Work>> {
    let work = node.work()?;
    let named = request.shard == work.own.shard.0
        && request.generation == work.generation.0
        && request.epoch <= work.own.epoch.0;
    (named && node.gate.passes(work.own.epoch, clock::now())).then_some(work)
}

async fn serve(
    State(node): State<Arc<Node>>,
    Json(request): Json<OwnerRequest>,
) -> Json<OwnerAnswer> {
    let Some(work) = work_of(&node, &request) else {
        return Json(OwnerAnswer::Setback(Setback::NotOwner));
    };
    let asked = Call::of(&request.call);
    let answer = match request.call {
        OwnerCall::Accept { messages } => intake::accept(&node, &work, messages).await,
        OwnerCall::MarkRead { .. } => ask_upstream(&node, &work, asked).await,
        OwnerCall::FetchMedium { id } => on_demand::answer(&node, &work, id).await,
        OwnerCall::LookUpTemplate { name } => template::answer(&node, &work, &name).await,
        OwnerCall::AskRegistration(asked) => registration::ask(&node, &work, asked).await,
        OwnerCall::VerifyRegistration(with) => registration::verify(&node, &work, with).await,
        OwnerCall::TwoStep { .. } => {
            let answer = ask_upstream(&node, &work, asked).await;
            if matches!(answer, OwnerAnswer::Settled(Settled::Done)) {
                let (n, w) = (Arc::clone(&node), Arc::clone(&work));
                work.spawn(async move { registration::forget_pin(&n, &w).await });
            }
            answer
        }
        call @ (OwnerCall::ReadProfile
        | OwnerCall::ChangeProfile { .. }
        | OwnerCall::ReadCompliance
        | OwnerCall::ChangeCompliance { .. }
        | OwnerCall::ReadPhoto
        | OwnerCall::ChangePhoto { .. }
        | OwnerCall::Block { .. }
        | OwnerCall::Unblock { .. }) => profile::answer(&node, &work, call).await,
    };
    Json(answer)
}

/// Makes a call that the upstream answers.
async fn ask_upstream(node: &Node, work: &Work, asked: Option<Call>) -> OwnerAnswer {
    let Some(asked) = asked else {
        return OwnerAnswer::Settled(Settled::Done);
    };
    // The next owner has a connection, too.
    if work.held() {
        return OwnerAnswer::Setback(Setback::Busy);
    }
    let answered = work.upstream.call(&asked);
    match work.stop.run_until_cancelled(answered).await {
        // The tenure ended in the middle of it.
        None => OwnerAnswer::Setback(Setback::Unknown),
        Some(Ok((status, body))) => {
            if status.is_success() {
                node.upstream_seen(true);
            }
            OwnerAnswer::Settled(refusal::settled(status.as_u16(), &body))
        }
        Some(Err(UpstreamError::Shut)) => OwnerAnswer::Setback(Setback::NotOwner),
        Some(Err(
            UpstreamError::Plain
            | UpstreamError::NoAddress
            | UpstreamError::Elsewhere(_)
            | UpstreamError::Request(_)
            | UpstreamError::Call(_),
        )) => OwnerAnswer::Settled(Settled::Unreachable),
    }
}

async fn events(State(node): State<Arc<Node>>) -> StatusCode {
    if let Some(work) = node.work() {
        work.inbox_wanted.notify_one();
    }
    StatusCode::OK
}

async fn figures(State(node): State<Arc<Node>>) -> Json<Page> {
    Json(node.figures())
}

async fn account_word(State(node): State<Arc<Node>>) -> Json<AccountAnswer> {
    let heard = match node.work() {
        Some(work) => account::heard(&node, &work).await,
        None => None,
    };
    Json(AccountAnswer {
        node: node.settings.node.as_str().into(),
        start: node.incarnation.to_string(),
        heard,
    })
}

async fn health(State(node): State<Arc<Node>>) -> Json<HealthAnswer> {
    let work = node.work();
    let gateway_status = match &work {
        Some(_) if node.unregistered() => STATUS_UNREGISTERED,
        Some(_) if node.connected() => "connected",
        Some(_) => "connecting",
        None => "disconnected",
    };
    Json(HealthAnswer {
        node: node.settings.node.as_str().into(),
        start: node.incarnation.to_string(),
        work: word::of(&node),
        gateway_status: gateway_status.into(),
        shard: work.as_ref().map(|w| w.own.shard.0),
        epoch: work.as_ref().map_or(0, |w| w.own.epoch.0),
    })
}
