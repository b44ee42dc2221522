//! `/v1/health`: what the nodes say of themselves.
//! Asks the nodes and the database; keeps nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::Method;
use futures_util::future::join_all;
use wa_core::id::Role;
use wa_core::judgement::{self, Evidence};

use crate::api::control;
use crate::api::error::{ErrorBody, ErrorObject};
use crate::api::internal;
use crate::api::v1::Meta;
use crate::api::v1::code::Code;
use crate::api::v1::health::{GatewayStatus, HealthAnswer, MediaHealth, NodeHealth, ProblemHealth};
use crate::db::node::Registered;
use crate::media::watch::REPORT_AGE_MAX_MS;
use crate::webapp::answer::{Answer, database, ok};
use crate::webapp::state::Webapp;

/// A node that does not answer within this time is shown with an error.
const NODE_DEADLINE: Duration = Duration::from_millis(500);

/// Health of every master and coreapp.
#[utoipa::path(get, path = "/v1/health", tag = "monitoring",
    responses((status = 200, body = HealthAnswer), (status = 401, body = ErrorBody)))]
pub async fn health(State(webapp): State<Arc<Webapp>>) -> Answer {
    let (nodes, mounts) = match webapp.db() {
        Ok(db) => {
            let members = db.members(&webapp.map.roll).await;
            let nodes = members.map_err(|e| database(&e))?;
            let mounts = db.mounts(REPORT_AGE_MAX_MS).await;
            (nodes, mounts.map_err(|e| database(&e))?)
        }
        // No schema yet: the documented word for that.
        Err(_) => return Ok(ok(&uninitialized(&webapp))),
    };
    let of_interest = nodes
        .iter()
        .filter(|node| matches!(node.registration.role, Role::Master | Role::Coreapp));
    let asked = of_interest
        .map(|node| async { (node.registration.node.to_string(), ask(&webapp, node).await) });
    let (mut health, mut views) = (BTreeMap::new(), Vec::new());
    for (node, (shown, view)) in join_all(asked).await {
        health.insert(node, shown);
        views.extend(view);
    }
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
        problems: problems(&webapp, views),
        meta: Meta::default(),
    }))
}

/// The primary master's judgement, else that of any master, and what this webapp meets itself.
fn problems(webapp: &Webapp, views: Vec<control::ClusterStatus>) -> Vec<ProblemHealth> {
    let own = judgement::judge(&Evidence {
        masters_mute: views.is_empty(),
        ..webapp.map.evidence()
    });
    let view = views.into_iter().max_by_key(|view| view.primary);
    let judged = view.map_or_else(Vec::new, |view| view.judged);
    let all = own.iter().map(control::Judged::from).chain(judged);
    all.map(|judged| ProblemHealth {
        details: judged.line(),
        kind: judged.kind,
        grade: judged.grade,
    })
    .collect()
}

fn uninitialized(webapp: &Webapp) -> HealthAnswer {
    let health = NodeHealth {
        gateway_status: Some(GatewayStatus::Uninitialized),
        ..NodeHealth::default()
    };
    HealthAnswer {
        health: BTreeMap::from([(webapp.settings.node.to_string(), health)]),
        problems: Vec::new(),
        meta: Meta::default(),
    }
}

/// A node's own word, which counts only for the name and the start that it carries: whoever is registered there may have
/// left, and another node may have its address. With it, what a master sees of the whole cluster.
async fn ask(webapp: &Webapp, node: &Registered) -> (NodeHealth, Option<control::ClusterStatus>) {
    let r = &node.registration;
    let start = r.incarnation.to_string();
    let mut view = None;
    let found = if r.role == Role::Coreapp {
        let url = format!("{}{}", r.api_url(), internal::path::HEALTH);
        get::<internal::HealthAnswer>(webapp, &url)
            .await
            .filter(|answer| answer.of(r.node.as_str(), &start))
            .map(|answer| (gateway_status(&answer.gateway_status), "coreapp"))
    } else {
        let url = format!("{}{}", r.control_url(), control::path::STATUS);
        get::<control::ClusterStatus>(webapp, &url)
            .await
            .filter(|status| status.node == r.node.as_str() && status.start == start)
            .map(|status| {
                let role = if status.primary {
                    "primary_master"
                } else {
                    "secondary_master"
                };
                view = Some(status);
                // Masters hold no connection to WhatsApp of their own.
                (GatewayStatus::Disconnected, role)
            })
    };
    let shown = match found {
        Some((status, role)) => NodeHealth {
            gateway_status: Some(status),
            role: Some(role.to_owned()),
            ..NodeHealth::default()
        },
        None => NodeHealth {
            errors: vec![ErrorObject::new(
                Code::NotReady,
                Some("The node does not answer".to_owned()),
            )],
            ..NodeHealth::default()
        },
    };
    (shown, view)
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
            errors: vec![ErrorObject::new(Code::NotReady, None)],
            ..NodeHealth::default()
        };
        let json = serde_json::to_value(node).expect("plain data");
        assert!(json.get("gateway_status").is_none() && json.get("role").is_none());
        assert_eq!(json["errors"][0]["title"], "Service not ready");
    }
}
