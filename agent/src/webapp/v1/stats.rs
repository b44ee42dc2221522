//! `/v1/stats/db` and `/metrics`: what the primary master counts in the database, and what this webapp measures.
//! Counts nothing itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use wa_core::id::Role;

use crate::api::control;
use crate::api::error::{ApiError, ErrorBody};
use crate::api::v1::Meta;
use crate::api::v1::code::Code;
use crate::api::v1::stats::{Metric, StatsAnswer, StatsDb, prometheus};
use crate::webapp::answer::{Answer, database, ok};
use crate::webapp::state::Webapp;

/// `?format=prometheus`.
#[derive(Debug, Deserialize)]
pub struct Format {
    format: Option<String>,
}

/// Counts of rows in the database, by the primary master.
#[utoipa::path(get, path = "/v1/stats/db", tag = "monitoring",
    params(("format" = Option<String>, Query)),
    responses((status = 200, body = StatsAnswer), (status = 503, body = ErrorBody)))]
pub async fn stats_db(State(webapp): State<Arc<Webapp>>, Query(format): Query<Format>) -> Answer {
    let no_master = || ApiError::with(Code::NotPrimaryMaster, "No primary master is up; try again");
    let (primary, control) = webapp.map.now().master.clone().ok_or_else(no_master)?;
    let url = format!("{control}{}", control::path::STATS_DB);
    let call = webapp
        .call(Method::GET, &url, None::<&()>, Duration::from_secs(3))
        .await;
    let (status, bytes) = call.map_err(|_| no_master())?;
    if !status.is_success() {
        return Err(
            ApiError::with(Code::Database, "The statistics could not be counted").status(503),
        );
    }
    let counts: Vec<(String, u64)> =
        serde_json::from_slice(&bytes).map_err(|_| ApiError::new(Code::Internal))?;
    let metrics: BTreeMap<String, Metric> = counts
        .into_iter()
        .map(|(name, value)| (metric_name(&name), Metric::gauge(&help(&name), value)))
        .collect();
    if format.format.as_deref() == Some("prometheus") {
        return Ok(text(prometheus(&metrics)));
    }
    let mut db: BTreeMap<String, BTreeMap<String, Metric>> = BTreeMap::new();
    for node in webapp
        .db()?
        .members(&webapp.map.roll)
        .await
        .map_err(|e| database(&e))?
    {
        if matches!(node.registration.role, Role::Master | Role::Coreapp) {
            db.insert(node.registration.node.to_string(), BTreeMap::new());
        }
    }
    db.insert(primary.to_string(), metrics);
    Ok(ok(&StatsAnswer {
        stats: StatsDb { db },
        meta: Meta::default(),
    }))
}

fn metric_name(name: &str) -> String {
    if name.starts_with("db_") {
        name.to_owned()
    } else {
        format!("db_{name}")
    }
}

fn help(name: &str) -> String {
    format!("Rows: {}", name.trim_start_matches("db_").replace('_', " "))
}

fn text(body: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], body).into_response()
}

/// This webapp's metrics as Prometheus text.
#[utoipa::path(get, path = "/v1/metrics", tag = "monitoring",
    responses((status = 200, content_type = "text/plain"), (status = 401, body = ErrorBody)))]
pub async fn metrics(State(webapp): State<Arc<Webapp>>) -> Response {
    text(webapp.metrics.encode())
}

/// The same, where scrapers look by themselves.
#[utoipa::path(get, path = "/metrics", tag = "monitoring",
    responses((status = 200, content_type = "text/plain"), (status = 401, body = ErrorBody)))]
pub async fn metrics_at_the_root(webapp: State<Arc<Webapp>>) -> Response {
    metrics(webapp).await
}

/// What the nodes count in memory.
#[utoipa::path(get, path = "/v1/stats/app", tag = "monitoring",
    responses((status = 200)))]
pub async fn stats_app() -> ApiError {
    crate::webapp::answer::unknown_path().await
}

/// The same, with the figures of our own.
#[utoipa::path(get, path = "/v1/stats/app/internal", tag = "monitoring",
    responses((status = 200)))]
pub async fn stats_app_internal() -> ApiError {
    crate::webapp::answer::unknown_path().await
}

/// Counts of rows in the database, with the tables of our own.
#[utoipa::path(get, path = "/v1/stats/db/internal", tag = "monitoring",
    responses((status = 200)))]
pub async fn stats_db_internal() -> ApiError {
    crate::webapp::answer::unknown_path().await
}
