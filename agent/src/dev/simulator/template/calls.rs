//! The calls about templates: the vendor's list, and those by which tests change it.
//! Creates and reviews nothing as the vendor does.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::number;
use super::super::refusal::Refusal;
use super::super::state::{Simulator, lock};
use super::super::webhooks;
use super::catalog::{Entry, Written};
use crate::sys::clock;

/// Templates of a page, when nothing is said, and at most.
const PAGE_LEN: usize = 25;
const PAGE_LEN_MAX: usize = 1000;
/// Fields that are told when none is named.
const USUAL: &str = "name,parameter_format,components,language,status,category";

/// What may stand behind the question mark.
#[derive(Debug, Default, Deserialize)]
pub struct Asked {
    fields: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
    name: Option<String>,
    language: Option<String>,
    status: Option<String>,
    category: Option<String>,
}

fn told(entry: &Entry) -> Value {
    let written = &entry.written;
    json!({
        "id": entry.id.to_string(), "name": written.name, "language": written.language, "status": written.status,
        "category": written.category, "parameter_format": written.parameter_format, "components": written.components,
        "quality_score": {"score": "GREEN"}, "rejected_reason": "NONE",
    })
}

/// The list of the account's templates, page by page.
pub async fn list(
    State(simulator): State<Arc<Simulator>>,
    headers: HeaderMap,
    Path((version, account)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, Refusal> {
    simulator.authorize(&headers)?;
    if account != simulator.args.waba_id {
        return Err(Refusal::nothing(&account));
    }
    let most = lock(&simulator.knobs).management_per_hour;
    let now_ms = clock::now().as_millis();
    if !lock(&simulator.seen).throttle.management(now_ms, most) {
        return Err(Refusal::new(
            80_007,
            "Too many calls of management in this hour",
        ));
    }
    let begin = match &asked.after {
        None => 0,
        Some(cursor) => place(cursor).ok_or_else(|| Refusal::bad("after is no cursor"))?,
    };
    let len = asked.limit.unwrap_or(PAGE_LEN);
    if !(1..=PAGE_LEN_MAX).contains(&len) {
        return Err(Refusal::bad("limit is out of range"));
    }
    let fits = |wanted: &Option<String>, has: &str| wanted.as_ref().is_none_or(|w| w == has);
    let catalog = lock(&simulator.templates);
    let entries = catalog.all().map(|entry| (entry, &entry.written));
    let chosen: Vec<&Entry> = entries
        .filter(|(_, written)| {
            // A part of the name is enough.
            let name = asked.name.as_ref();
            name.is_none_or(|name| written.name.contains(name.as_str()))
                && fits(&asked.language, &written.language)
                && fits(&asked.status, &written.status)
                && fits(&asked.category, &written.category)
        })
        .map(|(entry, _)| entry)
        .collect();
    let page = chosen.iter().skip(begin).take(len);
    let fields = asked.fields.as_deref().unwrap_or(USUAL);
    let data: Result<Vec<Value>, Refusal> = page
        .map(|entry| number::some(&told(entry), fields))
        .collect();
    let data = data?;
    let end = begin + data.len();
    if data.is_empty() {
        return Ok(Json(json!({"data": []})));
    }
    let mut paging = json!({"cursors": {"before": cursor(begin), "after": cursor(end)}});
    if end < chosen.len() {
        let next = format!(
            "/{version}/{account}/message_templates?limit={len}&after={}",
            cursor(end)
        );
        paging["next"] = next.into();
    }
    Ok(Json(json!({"data": data, "paging": paging})))
}

/// A cursor says nothing to whoever reads it.
fn cursor(place: usize) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("at:{place}"))
}

fn place(cursor: &str) -> Option<usize> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?;
    String::from_utf8(bytes)
        .ok()?
        .strip_prefix("at:")?
        .parse()
        .ok()
}

/// All of them, for tests.
pub async fn all(State(simulator): State<Arc<Simulator>>) -> Json<Vec<Value>> {
    Json(lock(&simulator.templates).all().map(told).collect())
}

/// Adds or replaces one; a new status is told by webhook.
pub async fn put(
    State(simulator): State<Arc<Simulator>>,
    Json(written): Json<Written>,
) -> StatusCode {
    let (name, language) = (written.name.clone(), written.language.clone());
    let status = written.status.clone();
    let Some((before, id)) = lock(&simulator.templates).put(written) else {
        return StatusCode::INSUFFICIENT_STORAGE;
    };
    if before.is_some_and(|before| before != status) {
        let value = json!({
            "event": status, "message_template_id": id, "message_template_name": name,
            "message_template_language": language, "reason": "NONE",
        });
        webhooks::other(&simulator, "message_template_status_update", &value);
    }
    StatusCode::NO_CONTENT
}

/// Which one goes.
#[derive(Debug, Deserialize)]
pub struct Gone {
    name: String,
    language: Option<String>,
}

/// Takes one away.
pub async fn remove(
    State(simulator): State<Arc<Simulator>>,
    Query(gone): Query<Gone>,
) -> StatusCode {
    let removed = lock(&simulator.templates).remove(&gone.name, gone.language.as_deref());
    match removed {
        0 => StatusCode::NOT_FOUND,
        1.. => StatusCode::NO_CONTENT,
    }
}
