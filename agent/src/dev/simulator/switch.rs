//! `/{phone_number_id}/settings`: the number's switch for identity keys; and tests that give a customer another key.
//! Keeps no key: `identity.rs` does.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::state::{Simulator, lock};

/// The settings that can be changed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    user_identity_change: Change,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    enable_identity_key_check: bool,
}

/// `POST /{phone_number_id}/settings`.
pub async fn set(
    State(simulator): State<Arc<Simulator>>,
    headers: HeaderMap,
    Path((_, phone)): Path<(String, String)>,
    Json(asked): Json<Asked>,
) -> Result<Json<Value>, Refusal> {
    simulator.own_number(&headers, &phone)?;
    lock(&simulator.identities).told = asked.user_identity_change.enable_identity_key_check;
    Ok(Json(json!({"success": true})))
}

/// A customer who has another key from now on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changed {
    from: String,
    identity_key_hash: String,
}

/// `POST /admin/identity`: nobody is told of it.
pub async fn change(
    State(simulator): State<Arc<Simulator>>,
    Json(asked): Json<Changed>,
) -> StatusCode {
    let mut identities = lock(&simulator.identities);
    identities.told(&asked.from, Some(asked.identity_key_hash));
    StatusCode::NO_CONTENT
}

/// `GET /{phone_number_id}/settings`.
pub async fn get(
    State(simulator): State<Arc<Simulator>>,
    headers: HeaderMap,
    Path((_, phone)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    simulator.own_number(&headers, &phone)?;
    let on = lock(&simulator.identities).told;
    Ok(Json(
        json!({"user_identity_change": {"enable_identity_key_check": on}}),
    ))
}
