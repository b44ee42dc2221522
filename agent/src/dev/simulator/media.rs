//! The simulated upstream's media: uploads are counted and digested, small ones kept; files can be asked for, fetched, deleted.
//! Which files are there, and for how long, `shelf.rs` knows.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest as _, Multipart, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::refusal::Refusal;
use super::shelf::{self, Kept};
use super::state::{Claim, Judged, Simulator, lock};

/// How long the address of a file is good, in seconds.
const ADDRESS_S: u64 = 300;

/// A file that a customer sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// `image`, `document`, ...
    kind: String,
    mime: String,
    /// The bytes, in Base64.
    base64: String,
}

/// POST of a form as the Cloud API takes it.
pub async fn upload(
    State(simulator): State<Arc<Simulator>>,
    Path((_, phone)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    if let Err(refusal) = simulator.own_number(&parts.headers, &phone) {
        return refusal.into_response();
    }
    // An upload is upstream traffic like any other: two owners at once are two owners.
    let judged = Judged::begin(&simulator, Claim::of(&parts));
    let taken = take(Request::from_parts(parts, body)).await;
    drop(judged);
    match taken {
        Ok(mut kept) => {
            kept.until_s = simulator.now_s() + shelf::UPLOAD_S;
            Json(json!({"id": shelve(&simulator, kept)})).into_response()
        }
        Err(why) => Refusal::bad(&why).into_response(),
    }
}

async fn take(request: Request) -> Result<Kept, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|error| words(&error))?;
    let (mut product, mut found) = (String::new(), None);
    while let Some(mut field) = form.next_field().await.map_err(|error| words(&error))? {
        match field.name().unwrap_or_default() {
            "messaging_product" => product = field.text().await.map_err(|error| words(&error))?,
            // The type of the file itself counts.
            "type" => drop(field.text().await.map_err(|error| words(&error))?),
            "file" => {
                if field.file_name().is_none_or(str::is_empty) {
                    return Err("the file has no name".into());
                }
                let mime = field.content_type().unwrap_or_default().to_owned();
                let (mut hash, mut bytes, mut content) = (Sha256::new(), 0u64, Vec::new());
                while let Some(chunk) = field.chunk().await.map_err(|error| words(&error))? {
                    hash.update(&chunk);
                    bytes += chunk.len() as u64;
                    if content.len() <= shelf::KEEP_LEN_MAX {
                        content.extend_from_slice(&chunk);
                    }
                }
                found = Some(Kept {
                    mime,
                    bytes,
                    sha256: hex::encode(hash.finalize()),
                    content: (content.len() <= shelf::KEEP_LEN_MAX).then(|| content.into()),
                    until_s: 0,
                    fetched: 0,
                });
            }
            other => return Err(format!("unexpected part {other} of the form")),
        }
    }
    if product != "whatsapp" {
        return Err("messaging_product must be whatsapp".into());
    }
    let kept = found.ok_or("there is no file in the form")?;
    match shelf::unwanted(&kept.mime, kept.bytes) {
        Some(why) => Err(why),
        None => Ok(kept),
    }
}

fn shelve(simulator: &Simulator, kept: Kept) -> String {
    let id = simulator.number().to_string();
    lock(&simulator.media).add(id.clone(), kept);
    id
}

/// Where a file can be fetched.
pub fn about(simulator: &Simulator, headers: &HeaderMap, id: &str) -> Option<Value> {
    let now_s = simulator.now_s();
    let kept = lock(&simulator.media).get(id, now_s).cloned()?;
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let until_s = now_s + ADDRESS_S;
    Some(json!({
        "messaging_product": "whatsapp", "url": format!("http://{host}/media-file/{id}?until={until_s}"),
        "mime_type": kept.mime, "sha256": kept.sha256, "file_size": kept.bytes, "id": id,
    }))
}

/// Until when an address is good.
#[derive(Debug, Deserialize)]
pub struct Address {
    #[serde(default)]
    until: u64,
}

/// The bytes, for whoever shows the token, as long as the address is good.
pub async fn file(
    State(simulator): State<Arc<Simulator>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(address): Query<Address>,
) -> Response {
    if simulator.authorize(&headers).is_err() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let now_s = simulator.now_s();
    // An address is good for minutes, whatever stands in it.
    let good = now_s < address.until && address.until <= now_s + ADDRESS_S;
    let kept = match good {
        true => lock(&simulator.media).fetch(&id, now_s),
        false => None,
    };
    match kept.and_then(|kept| Some((kept.mime, kept.content?))) {
        Some((mime, content)) => ([(header::CONTENT_TYPE, mime)], content).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// DELETE of a file.
pub async fn delete(
    State(simulator): State<Arc<Simulator>>,
    headers: HeaderMap,
    Path((_, id)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    simulator.authorize(&headers)?;
    match lock(&simulator.media).forget(&id) {
        true => Ok(Json(json!({"success": true}))),
        false => Err(Refusal::nothing(&id)),
    }
}

/// Keeps the customer's file; the content of the message that brings it.
pub fn inbound(simulator: &Simulator, given: Given) -> Value {
    let content = BASE64_STANDARD.decode(&given.base64).unwrap_or_default();
    let digest = Sha256::digest(&content);
    let kept = Kept {
        mime: given.mime.clone(),
        bytes: content.len() as u64,
        sha256: hex::encode(digest),
        content: Some(content.into()),
        until_s: simulator.now_s() + shelf::INBOUND_S,
        fetched: 0,
    };
    let id = shelve(simulator, kept);
    let kind = given.kind;
    let object =
        json!({"id": id, "mime_type": given.mime, "sha256": BASE64_STANDARD.encode(digest)});
    json!({"type": kind.clone(), kind: object})
}
