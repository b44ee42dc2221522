//! `GET /{id}`: the business's number and account, and files.
//! Changes nothing.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::business::photo;
use super::refusal::Refusal;
use super::state::{Simulator, lock};
use super::{media, registration_calls};

/// What may stand behind the question mark.
#[derive(Debug, Deserialize)]
pub struct Asked {
    fields: Option<String>,
    /// The number that a file must belong to.
    phone_number_id: Option<String>,
}

/// Fields that are told of the number when none is named.
const USUAL: &str = "verified_name,code_verification_status,display_phone_number,quality_rating,platform_type,throughput";

/// A number, an account, or a file.
pub async fn node(
    State(simulator): State<Arc<Simulator>>,
    headers: HeaderMap,
    Path((_, id)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, Refusal> {
    simulator.authorize(&headers)?;
    let fields = asked.fields.as_deref();
    if id == simulator.args.phone_number_id {
        let all = number(&simulator);
        return some(&all, fields.unwrap_or(USUAL)).map(Json);
    }
    if id == simulator.args.waba_id {
        let all = account(&simulator);
        return some(&all, fields.unwrap_or("name")).map(Json);
    }
    let own = asked.phone_number_id.as_ref();
    if own.is_some_and(|own| *own != simulator.args.phone_number_id) {
        return Err(Refusal::nothing(&id));
    }
    let about = media::about(&simulator, &headers, &id);
    about.map(Json).ok_or_else(|| Refusal::nothing(&id))
}

/// What is asked of a token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedToken {
    input_token: String,
}

/// What a token is allowed: ours everything, any other nothing.
pub async fn token(
    State(simulator): State<Arc<Simulator>>,
    headers: HeaderMap,
    Query(asked): Query<AskedToken>,
) -> Result<Json<Value>, Refusal> {
    simulator.authorize(&headers)?;
    let good = simulator.authorize_token(&asked.input_token).is_ok();
    let scopes: &[&str] = match good {
        true => &[
            "whatsapp_business_management",
            "whatsapp_business_messaging",
            "public_profile",
        ],
        false => &[],
    };
    Ok(Json(json!({"data": {
        "app_id": simulator.args.app_id,
        "type": "SYSTEM_USER",
        "application": "Example Shop",
        "expires_at": 0,
        "is_valid": good,
        "scopes": scopes,
    }})))
}

/// The apps that get the account's events.
pub async fn apps(
    State(simulator): State<Arc<Simulator>>,
    headers: HeaderMap,
    Path((_, account)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    simulator.authorize(&headers)?;
    if account != simulator.args.waba_id {
        return Err(Refusal::nothing(&account));
    }
    let app =
        json!({"id": simulator.args.app_id, "name": "Example Shop", "link": "https://example.com"});
    let data = if simulator.args.webhooks.is_empty() {
        json!([])
    } else {
        json!([{"whatsapp_business_api_data": app}])
    };
    Ok(Json(json!({"data": data})))
}

/// POST to an id: bytes of an upload, or the pin of the number.
pub async fn post(
    state: State<Arc<Simulator>>,
    path: Path<(String, String)>,
    request: Request,
) -> Response {
    let id = &path.0.1;
    match id.starts_with(photo::UPLOAD) {
        true => photo::part(&state, id, request).await.into_response(),
        false => registration_calls::set_pin(state, path, request).await,
    }
}

/// The fields that are asked for, and the id.
pub fn some(all: &Value, fields: &str) -> Result<Value, Refusal> {
    let mut found = Map::new();
    for name in fields
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        let value = all
            .get(name)
            .ok_or_else(|| Refusal::bad(&format!("Tried accessing nonexisting field ({name})")))?;
        found.insert(name.to_owned(), value.clone());
    }
    found.insert("id".into(), all["id"].clone());
    Ok(found.into())
}

fn number(simulator: &Simulator) -> Value {
    let args = &simulator.args;
    let banned = lock(&simulator.seen).ban.banned();
    let number = lock(&simulator.registration).number.clone();
    let high = lock(&simulator.knobs).throughput_high;
    let level = ["STANDARD", "HIGH"][usize::from(high)];
    json!({
        "id": args.phone_number_id,
        "verified_name": "Example Shop",
        "display_phone_number": args.display_phone_number,
        "status": if banned { "BANNED".into() } else { number.status },
        "quality_rating": "GREEN",
        "code_verification_status": number.code_verification_status,
        "name_status": number.name_status,
        "new_name_status": number.new_name_status,
        "platform_type": number.platform_type,
        "throughput": {"level": level},
        "webhook_configuration": {"application": args.webhooks.first()},
        "account_mode": "LIVE",
        "is_official_business_account": false,
        "certificate": "",
        "health_status": health("PHONE_NUMBER", &args.phone_number_id, banned),
        "whatsapp_business_manager_messaging_limit": "TIER_2K",
    })
}

fn account(simulator: &Simulator) -> Value {
    let args = &simulator.args;
    json!({
        "id": args.waba_id,
        "name": "Example Shop",
        "health_status": health("WABA", &args.waba_id, lock(&simulator.seen).ban.banned()),
    })
}

fn health(kind: &str, id: &str, banned: bool) -> Value {
    let can = if banned { "BLOCKED" } else { "AVAILABLE" };
    json!({"can_send_message": can, "entities": [{"entity_type": kind, "id": id, "can_send_message": can}]})
}
