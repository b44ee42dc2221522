//! The simulated upstream's media: uploads are counted and digested, small ones kept; inbound files can be fetched.
//! Keeps no large file: a test of streaming must not need its memory twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{FromRequest as _, Multipart, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, extract::ConnectInfo};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Judged, Simulator, lock, refuse};

/// Files up to this length are kept, in bytes.
const KEEP_LEN_MAX: usize = 1 << 20;
/// Files that are known at once.
const FILES_MAX: usize = 1000;

/// The files by their ids.
pub type Shelf = BTreeMap<String, Kept>;

/// One file.
#[derive(Debug, Clone, Serialize)]
pub struct Kept {
    mime: String,
    bytes: u64,
    sha256: String,
    #[serde(skip)]
    content: Option<Bytes>,
}

/// A file that a customer sends.
#[derive(Debug, Deserialize)]
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
    let headers = request.headers();
    if !simulator.authorized(headers) || phone != simulator.args.phone_number_id {
        return refuse(
            StatusCode::UNAUTHORIZED,
            190,
            "Invalid OAuth access token or phone number id",
        );
    }
    let number = |name: &str| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
    let claim = number("x-wa-shard").zip(number("x-wa-epoch"));
    let peer = request
        .extensions()
        .get::<ConnectInfo<std::net::SocketAddr>>()
        .map(|peer| peer.0);
    // An upload is upstream traffic like any other: two owners at once are two owners.
    let judged = claim.map(|claim| Judged::begin(&simulator, claim, peer));
    let taken = take(request).await;
    drop(judged);
    match taken {
        Ok(kept) => Json(json!({"id": shelve(&simulator, kept)})).into_response(),
        Err(why) => refuse(StatusCode::BAD_REQUEST, 100, &why),
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
            "file" => {
                let mime = field.content_type().unwrap_or_default().to_owned();
                let (mut hash, mut bytes, mut content) = (Sha256::new(), 0u64, Vec::new());
                while let Some(chunk) = field.chunk().await.map_err(|error| words(&error))? {
                    hash.update(&chunk);
                    bytes += chunk.len() as u64;
                    if content.len() <= KEEP_LEN_MAX {
                        content.extend_from_slice(&chunk);
                    }
                }
                found = Some(Kept {
                    mime,
                    bytes,
                    sha256: hex::encode(hash.finalize()),
                    content: (content.len() <= KEEP_LEN_MAX).then(|| content.into()),
                });
            }
            _ => {}
        }
    }
    if product != "whatsapp" {
        return Err("messaging_product must be whatsapp".into());
    }
    found.ok_or_else(|| "there is no file in the form".into())
}

fn shelve(simulator: &Simulator, kept: Kept) -> String {
    let id = simulator.wamids.fetch_add(1, Ordering::Relaxed).to_string();
    let mut shelf = lock(&simulator.media);
    if shelf.len() >= FILES_MAX {
        shelf.pop_first();
    }
    shelf.insert(id.clone(), kept);
    id
}

/// A message may name this id.
pub fn known(simulator: &Simulator, id: &str) -> bool {
    lock(&simulator.media).contains_key(id)
}

/// Where a file can be fetched.
pub fn about(simulator: &Simulator, headers: &HeaderMap, id: &str) -> Option<Value> {
    let kept = lock(&simulator.media).get(id).cloned()?;
    let host = headers.get(header::HOST)?.to_str().ok()?;
    Some(json!({
        "messaging_product": "whatsapp", "url": format!("http://{host}/media-file/{id}"), "mime_type": kept.mime,
        "sha256": kept.sha256, "file_size": kept.bytes, "id": id,
    }))
}

/// The bytes, for whoever shows the token.
pub async fn file(
    State(simulator): State<Arc<Simulator>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    if !simulator.authorized(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let kept = lock(&simulator.media).get(&id).cloned();
    match kept.and_then(|kept| Some((kept.mime, kept.content?))) {
        Some((mime, content)) => ([(header::CONTENT_TYPE, mime)], content).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Every file: type, length, digest.
pub async fn list(State(simulator): State<Arc<Simulator>>) -> Json<Shelf> {
    Json(lock(&simulator.media).clone())
}

/// Keeps the customer's file; the content of the message that brings it.
pub fn inbound(simulator: &Simulator, given: Given) -> Value {
    let content = BASE64_STANDARD.decode(&given.base64).unwrap_or_default();
    let sha256 = hex::encode(Sha256::digest(&content));
    let kept = Kept {
        mime: given.mime.clone(),
        bytes: content.len() as u64,
        sha256: sha256.clone(),
        content: Some(content.into()),
    };
    let id = shelve(simulator, kept);
    let kind = given.kind;
    json!({"type": kind.clone(), kind: {"id": id, "mime_type": given.mime, "sha256": sha256}})
}
