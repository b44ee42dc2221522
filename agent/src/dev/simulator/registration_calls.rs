//! The calls that change the number's registration, and those of tests that look at it or make it fail.
//! What each does is in `registration.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::refusal::Refusal;
use super::registration::{Change, Hang, Registration};
use super::state::{Claim, Judged, Simulator, lock};
use crate::sys::clock;

/// Largest call, in bytes: a backup may be long.
const CALL_LEN_MAX: usize = 1 << 20;
/// So long nobody answers.
const NEVER: Duration = Duration::from_secs(3600);

pub async fn request_code(
    state: State<Arc<Simulator>>,
    path: Path<(String, String)>,
    request: Request,
) -> Response {
    change(state, path, request, Change::RequestCode).await
}

pub async fn verify_code(
    state: State<Arc<Simulator>>,
    path: Path<(String, String)>,
    request: Request,
) -> Response {
    change(state, path, request, Change::VerifyCode).await
}

pub async fn register(
    state: State<Arc<Simulator>>,
    path: Path<(String, String)>,
    request: Request,
) -> Response {
    change(state, path, request, Change::Register).await
}

pub async fn deregister(
    state: State<Arc<Simulator>>,
    path: Path<(String, String)>,
    request: Request,
) -> Response {
    change(state, path, request, Change::Deregister).await
}

pub async fn set_pin(
    state: State<Arc<Simulator>>,
    path: Path<(String, String)>,
    request: Request,
) -> Response {
    change(state, path, request, Change::SetPin).await
}

async fn change(
    State(simulator): State<Arc<Simulator>>,
    Path((_, phone)): Path<(String, String)>,
    request: Request,
    change: Change,
) -> Response {
    let (parts, body) = request.into_parts();
    let judged = Judged::begin(&simulator, Claim::of(&parts));
    let received = to_bytes(Body::new(body), CALL_LEN_MAX).await;
    if let Some(judged) = &judged {
        judged.received();
    }
    let Ok(bytes) = received else {
        return Refusal::bad("The body is too large or broke off").into_response();
    };
    if let Err(refusal) = simulator.own_number(&parts.headers, &phone) {
        return refusal.into_response();
    }
    let hang = {
        let mut registration = lock(&simulator.registration);
        *registration.calls.entry(change).or_default() += 1;
        registration.hang.remove(&change)
    };
    if hang == Some(Hang::Before) {
        clock::sleep(NEVER).await;
    }
    let now_s = simulator.now_s();
    let done = lock(&simulator.registration).apply(change, &bytes, now_s);
    if hang == Some(Hang::After) {
        clock::sleep(NEVER).await;
    }
    match done {
        Ok(()) => Json(json!({"success": true})).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// The number and what was asked of it.
pub async fn show(State(simulator): State<Arc<Simulator>>) -> Json<Registration> {
    Json(lock(&simulator.registration).clone())
}

/// Puts the number into a state, with what goes wrong the next time; what is not named begins anew.
pub async fn put(
    State(simulator): State<Arc<Simulator>>,
    Json(new): Json<Registration>,
) -> StatusCode {
    *lock(&simulator.registration) = new;
    StatusCode::NO_CONTENT
}

/// Says what goes wrong the next time, and leaves the rest.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    fail: BTreeMap<Change, u32>,
    hang: BTreeMap<Change, Hang>,
}

pub async fn faults(
    State(simulator): State<Arc<Simulator>>,
    Json(faults): Json<Faults>,
) -> StatusCode {
    let mut registration = lock(&simulator.registration);
    registration.fail = faults.fail;
    registration.hang = faults.hang;
    StatusCode::NO_CONTENT
}
