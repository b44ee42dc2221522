//! The calls of tests and drills below `/admin`, and the business's own end point.
//! The vendor has none of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::event::user_id;
use super::knobs::Knobs;
use super::lag::Lags;
use super::shelf::Kept;
use super::state::{Report, Simulator, lock};
use super::{media, webhooks};
use crate::sys::clock;

/// Messages whose statuses are kept.
const NOTED_MAX: usize = 10_000;
/// Largest callback, in bytes.
const CALL_LEN_MAX: usize = 1 << 20;

pub async fn report(State(simulator): State<Arc<Simulator>>) -> Json<Report> {
    Json(simulator.report())
}

/// Our ids of all messages that were accepted.
pub async fn ids(State(simulator): State<Arc<Simulator>>) -> Json<Vec<String>> {
    Json(lock(&simulator.seen).ids.keys().cloned().collect())
}

/// Our ids of all messages of which the business was told.
pub async fn told(State(simulator): State<Arc<Simulator>>) -> Json<BTreeSet<String>> {
    Json(lock(&simulator.told).clone())
}

/// Verifies every webhook address as the vendor's dashboard does, and says which answered right.
pub async fn challenge(State(simulator): State<Arc<Simulator>>) -> Json<BTreeMap<String, bool>> {
    Json(webhooks::challenge(&simulator).await)
}

pub async fn knobs(State(simulator): State<Arc<Simulator>>) -> Json<Knobs> {
    Json(lock(&simulator.knobs).clone())
}

pub async fn set_knobs(
    State(simulator): State<Arc<Simulator>>,
    Json(new): Json<Knobs>,
) -> Json<Knobs> {
    lock(&simulator.knobs).clone_from(&new);
    Json(new)
}

/// A customer writes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inbound {
    from: String,
    #[serde(default)]
    body: String,
    /// A file that the customer sends.
    media: Option<media::Given>,
    /// An item of `messages[]` as it is to be sent; sender, id and time are added where it has none.
    message: Option<Map<String, Value>>,
    /// Of the customer; derived from the number when absent.
    user_id: Option<String>,
    username: Option<String>,
    /// The customer's name.
    profile: Option<String>,
    /// The number is not told: it has a user name.
    #[serde(default)]
    no_number: bool,
    /// The contact has no profile.
    #[serde(default)]
    no_profile: bool,
    /// There is no contact.
    #[serde(default)]
    no_contact: bool,
    /// The customer has this identity key from now on.
    identity_key_hash: Option<String>,
}

pub async fn inbound(
    State(simulator): State<Arc<Simulator>>,
    Json(mut asked): Json<Inbound>,
) -> StatusCode {
    let content = match (asked.message.take(), asked.media.take()) {
        (Some(message), _) => Value::Object(message),
        (None, Some(given)) => media::inbound(&simulator, given),
        (None, None) => json!({"type": "text", "text": {"body": asked.body}}),
    };
    let now_ms = clock::now().as_millis();
    let most = lock(&simulator.knobs).rate_per_second;
    // In and out count together; what comes in is never refused.
    lock(&simulator.seen).throttle.message(now_ms, most);
    let user = asked.user_id.clone();
    let user = user.unwrap_or_else(|| user_id(&asked.from));
    for who in [&asked.from, &user] {
        let now_s = simulator.now_s();
        lock(&simulator.business).wrote(who, now_s);
    }
    let mut message = Map::new();
    if !asked.no_number {
        message.insert("from".into(), asked.from.as_str().into());
    }
    message.insert("from_user_id".into(), user.as_str().into());
    message.insert("id".into(), simulator.message_id().into());
    let at_s = simulator.now_s().to_string();
    message.insert("timestamp".into(), at_s.into());
    if let Value::Object(content) = content {
        message.extend(content);
    }
    // A system message comes without contacts.
    let system = message.get("type").is_some_and(|kind| kind == "system");
    let identity = asked.identity_key_hash.take();
    let identity = lock(&simulator.identities).told(&asked.from, identity);
    let contact = (!asked.no_contact && !system).then(|| contact(&asked, &user, identity));
    webhooks::inbound(&simulator, &message.into(), contact.as_ref());
    StatusCode::ACCEPTED
}

fn contact(asked: &Inbound, user: &str, identity: Option<String>) -> Value {
    let mut contact = json!({"user_id": user});
    if let Some(identity) = identity {
        contact["identity_key_hash"] = identity.into();
    }
    if !asked.no_number {
        contact["wa_id"] = asked.from.as_str().into();
    }
    if !asked.no_profile {
        let name = asked.profile.as_deref().unwrap_or("Ann Lee");
        contact["profile"] = json!({"name": name});
        if let Some(username) = &asked.username {
            contact["profile"]["username"] = username.as_str().into();
        }
    }
    contact
}

/// A change of any field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    field: String,
    value: Value,
}

pub async fn webhook(
    State(simulator): State<Arc<Simulator>>,
    Json(change): Json<Change>,
) -> StatusCode {
    webhooks::other(&simulator, &change.field, &change.value);
    StatusCode::ACCEPTED
}

pub async fn last_inbound(State(simulator): State<Arc<Simulator>>) -> Json<Value> {
    Json(lock(&simulator.last_inbound).clone())
}

/// Every file: type, length, digest.
pub async fn files(State(simulator): State<Arc<Simulator>>) -> Json<BTreeMap<String, Kept>> {
    let now_s = simulator.now_s();
    Json(lock(&simulator.media).all(now_s))
}

/// A file that the simulator is to forget; absent: all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forgotten {
    id: Option<String>,
}

/// Forgets files, as the vendor does after 30 days.
pub async fn forget(
    State(simulator): State<Arc<Simulator>>,
    Json(asked): Json<Forgotten>,
) -> StatusCode {
    let mut shelf = lock(&simulator.media);
    match asked.id {
        None => shelf.forget_all(),
        Some(id) => {
            if !shelf.forget(&id) {
                return StatusCode::NOT_FOUND;
            }
        }
    }
    StatusCode::NO_CONTENT
}

/// Forgets all sends and the ban; for the next drill.
pub async fn reset(State(simulator): State<Arc<Simulator>>) -> StatusCode {
    lock(&simulator.seen).reset();
    lock(&simulator.told).clear();
    lock(&simulator.statuses).clear();
    *lock(&simulator.lags) = Lags::default();
    StatusCode::NO_CONTENT
}

/// What the business was told of the first messages: the words of each, in order.
pub async fn statuses(
    State(simulator): State<Arc<Simulator>>,
) -> Json<BTreeMap<String, Vec<String>>> {
    Json(lock(&simulator.statuses).clone())
}

fn note_statuses(simulator: &Simulator, statuses: Option<&Vec<Value>>) {
    let now = clock::now();
    let mut noted = lock(&simulator.statuses);
    for status in statuses.into_iter().flatten() {
        let text = |name: &str| status.get(name).and_then(Value::as_str);
        let (Some(id), Some(word)) = (text("id"), text("status")) else {
            continue;
        };
        simulator.ledger.told(id, word, now);
        if noted.len() < NOTED_MAX || noted.contains_key(id) {
            noted
                .entry(id.to_owned())
                .or_default()
                .push(word.to_owned());
        }
    }
}

/// The business's end point: takes every callback.
pub async fn business(
    State(simulator): State<Arc<Simulator>>,
    Query(_): Query<BTreeMap<String, String>>,
    body: Body,
) -> StatusCode {
    let body = to_bytes(body, CALL_LEN_MAX).await.unwrap_or_default();
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    let statuses = value.get("statuses").and_then(Value::as_array);
    let ids = statuses.into_iter().flatten().filter_map(|s| s.get("id"));
    if value.get("messages").is_some() {
        *lock(&simulator.last_inbound) = value.clone();
    }
    note_statuses(&simulator, statuses);
    lock(&simulator.told).extend(ids.filter_map(Value::as_str).map(ToOwned::to_owned));
    simulator.callbacks.fetch_add(1, Ordering::Relaxed);
    StatusCode::OK
}
