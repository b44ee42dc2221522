//! Resumable uploads, the handles that stand for finished ones, and the photo that customers see.
//! An upload is of one app; its bytes come in order, each part from where the one before ended.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::BytesMut;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::refusal::Refusal;
use super::super::state::{Claim, Judged, Simulator, lock};
use super::entry;
use super::kept::{Picture, Upload, bounded};

/// Types of uploads, and the longest.
const TYPES: &[&str] = &["image/jpeg", "image/jpg", "image/png"];
const LEN_MAX: usize = 5 << 20;
/// How ids of uploads begin.
pub const UPLOAD: &str = "upload:";

/// What may stand behind the question mark.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    file_name: String,
    file_length: usize,
    file_type: String,
}

/// POST that begins an upload.
pub async fn begin(
    State(simulator): State<Arc<Simulator>>,
    Path((_, app)): Path<(String, String)>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let (mut parts, _) = request.into_parts();
    simulator.authorize(&parts.headers)?;
    if app != simulator.args.app_id {
        return Err(Refusal::nothing(&app));
    }
    let _judged = Judged::begin(&simulator, Claim::of(&parts));
    entry::misbehave(&simulator, "uploads").await?;
    let asked: Begin = entry::query(&mut parts).await?;
    if !TYPES.contains(&&*asked.file_type) {
        return Err(Refusal::bad("file_type is not supported"));
    }
    if !(1..=LEN_MAX).contains(&asked.file_length) || asked.file_name.is_empty() {
        return Err(Refusal::bad("file_length or file_name is not valid"));
    }
    let (id, sig) = (simulator.number(), simulator.number());
    let (id, sig) = (format!("{UPLOAD}MTph{id}=="), format!("ARZ_{sig}"));
    let upload = Upload {
        mime: asked.file_type,
        length: asked.file_length,
        sig: sig.clone(),
        bytes: BytesMut::new(),
    };
    let mut business = lock(&simulator.business);
    bounded(&mut business.photos.uploads, id.clone(), upload);
    Ok(Json(json!({"id": format!("{id}?sig={sig}")})))
}

/// What signs an upload.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    sig: String,
}

/// POST of bytes to an upload. This call alone names the token in another way.
pub async fn part(
    simulator: &Simulator,
    id: &str,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let (mut parts, body) = request.into_parts();
    let shown = parts.headers.get(header::AUTHORIZATION);
    let shown = shown.and_then(|value| value.to_str().ok());
    let token = shown.and_then(|value| value.strip_prefix("OAuth "));
    simulator.authorize_token(token.unwrap_or_default())?;
    let _judged = Judged::begin(simulator, Claim::of(&parts));
    entry::misbehave(simulator, "upload").await?;
    let offset = parts.headers.get("file_offset");
    let offset = offset.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let offset = offset.ok_or_else(|| Refusal::bad("The header file_offset is required"))?;
    let signed: Signed = entry::query(&mut parts).await?;
    let bytes = entry::whole(body, LEN_MAX).await?;
    let mut business = lock(&simulator.business);
    let photos = &mut business.photos;
    let upload = photos.uploads.get_mut(id);
    let upload = upload.filter(|upload| upload.sig == signed.sig);
    let upload = upload.ok_or_else(|| Refusal::nothing(id))?;
    if offset != upload.bytes.len() || upload.bytes.len() + bytes.len() > upload.length {
        return Err(Refusal::bad("file_offset does not fit what was uploaded"));
    }
    upload.bytes.extend_from_slice(&bytes);
    if upload.bytes.len() < upload.length {
        let so_far = upload.bytes.len();
        return Ok(Json(json!({"id": id, "file_offset": so_far})));
    }
    let finished = photos.uploads.remove(id).expect("it was found");
    let handle = format!("4:cGhvdG8=:{}", simulator.number());
    let picture = Picture {
        mime: finished.mime,
        bytes: finished.bytes.freeze(),
    };
    bounded(&mut photos.handles, handle.clone(), picture);
    Ok(Json(json!({ "h": handle })))
}

/// The picture that customers see; anybody may fetch it. One that was replaced is gone.
pub async fn picture(
    State(simulator): State<Arc<Simulator>>,
    Path(id): Path<u64>,
    request: Request,
) -> Response {
    if request.headers().contains_key(header::AUTHORIZATION) {
        // A token that goes to whoever keeps pictures is a token that was given away.
        return StatusCode::BAD_REQUEST.into_response();
    }
    let picture = lock(&simulator.business).photos.pictures.get(&id).cloned();
    match picture {
        Some(picture) => ([(header::CONTENT_TYPE, picture.mime)], picture.bytes).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
