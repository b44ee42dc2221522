//! What every call about the business passes first: who may call, what the knobs want, and its body.
//! Answers none of them.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts as _, Query};
use axum::http::request::Parts;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::super::refusal::Refusal;
use super::super::state::{Claim, Judged, Simulator, lock};
use crate::sys::clock;

/// Largest call that is JSON, in bytes.
const CALL_LEN_MAX: usize = 1 << 20;
/// So long nobody answers.
const NEVER: Duration = Duration::from_secs(3600);

/// Lets a call in, as its knobs say: `name` is what they call it. The request is judged until the answer is dropped.
///
/// # Errors
/// 190 and 100 for strangers, or what the knob says.
pub async fn begin<'a>(
    simulator: &'a Simulator,
    name: &str,
    parts: &Parts,
    phone: &str,
) -> Result<Option<Judged<'a>>, Refusal> {
    simulator.own_number(&parts.headers, phone)?;
    let judged = Judged::begin(simulator, Claim::of(parts));
    misbehave(simulator, name).await?;
    Ok(judged)
}

/// What the knobs want of this call.
pub async fn misbehave(simulator: &Simulator, name: &str) -> Result<(), Refusal> {
    let hangs = lock(&simulator.knobs).calls_hang.contains(name);
    if hangs {
        clock::sleep(NEVER).await;
    }
    misbehave_now(simulator, name)
}

/// The same, without waiting.
pub fn misbehave_now(simulator: &Simulator, name: &str) -> Result<(), Refusal> {
    let refused = lock(&simulator.knobs).calls_refused.get(name).copied();
    match refused {
        Some(code) => Err(Refusal::new(code, "A knob refuses this call")),
        None => Ok(()),
    }
}

/// What stands behind the question mark.
pub async fn query<T: DeserializeOwned + Send>(parts: &mut Parts) -> Result<T, Refusal> {
    let asked = Query::<T>::from_request_parts(parts, &()).await;
    asked
        .map(|Query(asked)| asked)
        .map_err(|error| Refusal::bad(&error.to_string()))
}

pub async fn object(body: Body) -> Result<Map<String, Value>, Refusal> {
    let bytes = whole(body, CALL_LEN_MAX).await?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) | Err(_) => Err(Refusal::bad("The body is no JSON object")),
    }
}

pub async fn whole(body: Body, most: usize) -> Result<Bytes, Refusal> {
    let received = to_bytes(body, most).await;
    received.map_err(|_| Refusal::bad("The body is too large or broke off"))
}
