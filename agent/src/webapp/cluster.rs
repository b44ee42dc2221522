//! What the cluster says of itself: `/v1/health`, `/v1/stats/db`, `/v1/account/shards`.
//! Asks the nodes and the database; keeps nothing but the last answer for a moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::Value;
use wa_core::id::Role;

use super::answer::{Answer, Body, created, database, ok};
use super::auth::{Admin, Monitor};
use super::shard_map::base_url;
use super::state::Webapp;
use crate::api::control;
use crate::api::error::{ApiError, ErrorBody, ErrorObject};
use crate::api::internal;
use crate::api::v1::account::{Shards, ShardsAnswer, wanted_shards};
use crate::api::v1::health::{GatewayStatus, HealthAnswer, MediaHealth, NodeHealth};
use crate::api::v1::stats::{Metric, StatsAnswer, StatsDb, prometheus};
use crate::api::v1::{Meta, message};
use crate::db::node::Registered;
use crate::media::watch::REPORT_AGE_MAX_MS;
use crate::sys::clock;

/// A node that does not answer within this time is shown with an error.
const NODE_DEADLINE: Duration = Duration::from_millis(500);
/// One call to the primary master.
const MASTER_DEADLINE: Duration = Duration::from_secs(3);
/// How often the map is read while it changes.
const POLL: Duration = Duration::from_millis(20);
/// Nodes of which nothing was heard for this long have left.
const GONE_MS: u64 = 3_600_000;

/// Health of every master and coreapp.
#[utoipa::path(get, path = "/v1/health", tag = "monitoring", security(("bearer" = []), ("apikey" = [])),
    responses((status = 200, body = HealthAnswer), (status = 401, body = ErrorBody)))]
pub async fn health(State(webapp): State<Arc<Webapp>>, _: Monitor) -> Answer {
    let (nodes, mounts) = match webapp.db() {
        Ok(db) => {
            let nodes = db.nodes().await.map_err(|e| database(&e))?;
            let mounts = db.mounts(REPORT_AGE_MAX_MS).await;
            (nodes, mounts.map_err(|e| database(&e))?)
        }
        // No schema yet: the documented word for that.
        Err(_) => return Ok(ok(&uninitialized(&webapp))),
    };
    let of_interest = nodes.iter().filter(|node| {
        matches!(node.registration.role, Role::Master | Role::Coreapp) && node.beat_age_ms < GONE_MS
    });
    let asked = of_interest
        .map(|node| async { (node.registration.node.to_string(), ask(&webapp, node).await) });
    let mut health: BTreeMap<String, NodeHealth> = join_all(asked).await.into_iter().collect();
    for mount in mounts {
        if let Some(node) = health.get_mut(&mount.node) {
            node.media = Some(MediaHealth {
                details: (!mount.ok()).then_some(mount.sentence),
                status: mount.word,
            });
        }
    }
    Ok(ok(&HealthAnswer {
        health,
        meta: Meta::default(),
    }))
}

fn uninitialized(webapp: &Webapp) -> HealthAnswer {
    let health = NodeHealth {
        gateway_status: Some(GatewayStatus::Uninitialized),
        ..NodeHealth::default()
    };
    HealthAnswer {
        health: BTreeMap::from([(webapp.settings.node.to_string(), health)]),
        meta: Meta::default(),
    }
}

async fn ask(webapp: &Webapp, node: &Registered) -> NodeHealth {
    let r = &node.registration;
    let found = if r.role == Role::Coreapp {
        let url = format!(
            "{}{}",
            base_url(&r.address, r.port_api),
            internal::path::HEALTH
        );
        get::<internal::HealthAnswer>(webapp, &url)
            .await
            .map(|answer| (gateway_status(&answer.gateway_status), "coreapp"))
    } else {
        let url = format!(
            "{}{}",
            base_url(&r.address, r.port_control),
            control::path::STATUS
        );
        get::<control::ClusterStatus>(webapp, &url)
            .await
            .map(|status| {
                let role = if status.primary {
                    "primary_master"
                } else {
                    "secondary_master"
                };
                // Masters hold no connection to WhatsApp of their own.
                (GatewayStatus::Disconnected, role)
            })
    };
    match found {
        Some((status, role)) => NodeHealth {
            gateway_status: Some(status),
            role: Some(role.to_owned()),
            ..NodeHealth::default()
        },
        None => NodeHealth {
            errors: vec![ErrorObject::new(
                1011,
                Some("The node does not answer".to_owned()),
            )],
            ..NodeHealth::default()
        },
    }
}

async fn get<T: serde::de::DeserializeOwned>(webapp: &Webapp, url: &str) -> Option<T> {
    let (status, bytes) = webapp
        .call(Method::GET, url, None::<&()>, NODE_DEADLINE)
        .await
        .ok()?;
    if status.is_success() {
        serde_json::from_slice(&bytes).ok()
    } else {
        None
    }
}

fn gateway_status(word: &str) -> GatewayStatus {
    match word {
        "connected" => GatewayStatus::Connected,
        "connecting" => GatewayStatus::Connecting,
        "unregistered" => GatewayStatus::Unregistered,
        _ => GatewayStatus::Disconnected,
    }
}

/// `?format=prometheus`.
#[derive(Debug, Deserialize)]
pub struct Format {
    format: Option<String>,
}

/// Counts of rows in the database, by the primary master.
#[utoipa::path(get, path = "/v1/stats/db", tag = "monitoring", security(("bearer" = []), ("apikey" = [])),
    params(("format" = Option<String>, Query)),
    responses((status = 200, body = StatsAnswer), (status = 503, body = ErrorBody)))]
pub async fn stats_db(
    State(webapp): State<Arc<Webapp>>,
    _: Monitor,
    Query(format): Query<Format>,
) -> Answer {
    let no_master = || ApiError::with(1017, "No primary master is up; try again");
    let (primary, control) = webapp.map.now().master.clone().ok_or_else(no_master)?;
    let url = format!("{control}{}", control::path::STATS_DB);
    let call = webapp
        .call(Method::GET, &url, None::<&()>, Duration::from_secs(3))
        .await;
    let (status, bytes) = call.map_err(|_| no_master())?;
    if !status.is_success() {
        return Err(ApiError::with(1023, "The statistics could not be counted").status(503));
    }
    let counts: Vec<(String, u64)> =
        serde_json::from_slice(&bytes).map_err(|_| ApiError::new(1014))?;
    let metrics: BTreeMap<String, Metric> = counts
        .into_iter()
        .map(|(name, value)| (metric_name(&name), Metric::gauge(&help(&name), value)))
        .collect();
    if format.format.as_deref() == Some("prometheus") {
        return Ok(text(prometheus(&metrics)));
    }
    let mut db: BTreeMap<String, BTreeMap<String, Metric>> = BTreeMap::new();
    for node in webapp.db()?.nodes().await.map_err(|e| database(&e))? {
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
pub async fn metrics(State(webapp): State<Arc<Webapp>>, _: Monitor) -> Response {
    text(webapp.metrics.encode())
}

/// How many shards the cluster has.
#[utoipa::path(get, path = "/v1/account/shards", tag = "account", security(("bearer" = [])),
    responses((status = 200, body = ShardsAnswer), (status = 403, body = ErrorBody)))]
pub async fn shards(State(webapp): State<Arc<Webapp>>, _: Admin) -> Answer {
    Ok(ok(&shards_answer(&webapp)?))
}

fn shards_answer(webapp: &Webapp) -> Result<ShardsAnswer, ApiError> {
    match webapp.map.now().count {
        0 => Err(ApiError::with(1011, "The shard map is not there yet")),
        shards => Ok(ShardsAnswer {
            account: Shards { shards },
            meta: Meta::default(),
        }),
    }
}

/// Change how many shards the cluster has. Answers when the map says so; requests wait meanwhile. `cc`, `phone_number`,
/// `pin` and `cert` of the reference API are taken and not needed: the Cloud API knows the number by its id.
#[utoipa::path(post, path = "/v1/account/shards", tag = "account", security(("bearer" = [])),
    responses((status = 201, body = ShardsAnswer), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub async fn change_shards(
    State(webapp): State<Arc<Webapp>>,
    _: Admin,
    Body(body): Body,
) -> Answer {
    let wanted = wanted_shards(&Value::Object(message::object(&body)?))?;
    // The documented answer to a change that cannot be made now.
    let not_now = |details: &str| ApiError::with(1011, details).status(403);
    let control = super::settings::primary_master(&webapp).await?;
    let url = format!("{control}{}", control::path::SHARDS);
    let wish = control::ShardsRequest {
        shards: wanted,
        dry_run: false,
    };
    let call = webapp.call(Method::POST, &url, Some(&wish), MASTER_DEADLINE);
    let answer = match call.await {
        Ok((status, bytes)) if status.is_success() => {
            serde_json::from_slice::<control::ShardsAnswer>(&bytes).ok()
        }
        _ => None,
    };
    let answer = answer.ok_or_else(|| not_now("The primary master does not answer; try again"))?;
    if !answer.accepted {
        return Err(not_now(&answer.message));
    }
    let until = clock::now() + webapp.settings.timers.hold_timeout;
    while webapp.map.now().count != wanted {
        if clock::now() >= until {
            return Err(not_now(
                "The change was asked for and is not done yet; look at GET /v1/account/shards",
            ));
        }
        webapp.map.reread();
        clock::sleep(POLL).await;
    }
    Ok(created(&shards_answer(&webapp)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_coreapps_become_documented_ones() {
        assert_eq!(gateway_status("connected"), GatewayStatus::Connected);
        assert_eq!(gateway_status("connecting"), GatewayStatus::Connecting);
        assert_eq!(gateway_status("anything"), GatewayStatus::Disconnected);
    }

    #[test]
    fn a_dead_node_has_errors_instead_of_a_status() {
        let node = NodeHealth {
            errors: vec![ErrorObject::new(1011, None)],
            ..NodeHealth::default()
        };
        let json = serde_json::to_value(node).expect("plain data");
        assert!(json.get("gateway_status").is_none() && json.get("role").is_none());
        assert_eq!(json["errors"][0]["title"], "Service not ready");
    }
}
