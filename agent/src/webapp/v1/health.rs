//! `/v1/health`: what the nodes say of themselves.
//! Asks the nodes and the database; keeps nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{Method, StatusCode};
use futures_util::future::join_all;
use wa_core::id::Role;
use wa_core::judgement::{self, Evidence};

use crate::api::control;
use crate::api::error::{ApiError, ErrorBody, ErrorObject};
use crate::api::internal;
use crate::api::judged::Judged;
use crate::api::v1::Meta;
use crate::api::v1::code::Code;
use crate::api::v1::health::{
    GatewayStatus, Health, HealthAnswer, MediaHealth, NodeHealth, ProblemHealth,
};
use crate::db::Db;
use crate::db::node::Registered;
use crate::media::watch::REPORT_AGE_MAX_MS;
use crate::webapp::answer::{Answer, database, ok};
use crate::webapp::state::Webapp;

/// A node that does not answer within this time is shown with an error.
const NODE_DEADLINE: Duration = Duration::from_millis(500);

/// Health of every master and coreapp. Whoever asks within five seconds gets the same answer.
///
/// Differs from the reference: nodes are named as `wa-agent status` names them, because there are no containers here.
#[utoipa::path(get, path = "/v1/health", tag = "monitoring",
    responses((status = 200, body = HealthAnswer), (status = 401, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn health(State(webapp): State<Arc<Webapp>>) -> Answer {
    let answer = match webapp.db() {
        Ok(db) => webapp.health.get(look(&webapp, &db)).await?,
        // No schema yet: the documented word for that.
        Err(_) => Arc::new(uninitialized()),
    };
    Ok(ok(&*answer))
}

/// Asks every node.
async fn look(webapp: &Webapp, db: &Db) -> Result<HealthAnswer, ApiError> {
    let nodes = db.members(&webapp.map.roll).await;
    let nodes = nodes.map_err(|e| database(&e))?;
    let mounts = db.mounts(REPORT_AGE_MAX_MS).await;
    let mounts = mounts.map_err(|e| database(&e))?;
    let of_interest = nodes
        .iter()
        .filter(|node| matches!(node.registration.role, Role::Master | Role::Coreapp));
    let asked = of_interest
        .map(|node| async { (node.registration.node.to_string(), ask(webapp, node).await) });
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
    Ok(HealthAnswer {
        health: Health::Nodes(health),
        problems: problems(webapp, views),
        meta: Meta::default(),
    })
}

/// The primary master's judgement, else that of any master, and what this webapp meets itself.
fn problems(webapp: &Webapp, views: Vec<control::ClusterStatus>) -> Vec<ProblemHealth> {
    let own = judgement::judge(&Evidence {
        masters_mute: views.is_empty(),
        ..webapp.map.evidence()
    });
    let view = views.into_iter().max_by_key(|view| view.primary);
    let judged = view.map_or_else(Vec::new, |view| view.judged);
    let all = own.iter().map(Judged::from).chain(judged);
    all.map(|judged| ProblemHealth {
        details: judged.line(),
        kind: judged.kind,
        grade: judged.grade,
    })
    .collect()
}

/// No node is known: webapps are none of those that are shown.
fn uninitialized() -> HealthAnswer {
    let health = NodeHealth {
        gateway_status: Some(GatewayStatus::Uninitialized),
        ..NodeHealth::default()
    };
    HealthAnswer {
        health: Health::Single(health),
        problems: Vec::new(),
        meta: Meta::default(),
    }
}

/// A node's own word, which counts only for the name and the start that it carries: whoever is registered there may have
/// left, and another node may have its address. With it, what a master sees of the whole cluster.
async fn ask(webapp: &Webapp, node: &Registered) -> (NodeHealth, Option<control::ClusterStatus>) {
    let r = &node.registration;
    let start = r.incarnation.to_string();
    if r.role == Role::Coreapp {
        let url = format!("{}{}", r.api_url(), internal::path::HEALTH);
        return match get::<internal::HealthAnswer>(webapp, &url).await {
            Said::Word(word) if word.of(r.node.as_str(), &start) => (coreapp(&word), None),
            Said::Older => (older(), None),
            Said::Word(_) | Said::Nothing => (mute(), None),
        };
    }
    let url = format!("{}{}", r.control_url(), control::path::STATUS);
    match get::<control::ClusterStatus>(webapp, &url).await {
        Said::Word(s) if s.node == r.node.as_str() && s.start == start => (master(&s), Some(s)),
        Said::Older => (older(), None),
        Said::Word(_) | Said::Nothing => (mute(), None),
    }
}

/// A node that refuses to be looked at.
fn older() -> NodeHealth {
    let why = "The node is of an older release than this webapp, or has another cluster key; upgrade that machine";
    NodeHealth {
        errors: vec![ErrorObject::new(Code::NotReady, Some(why.into()))],
        ..NodeHealth::default()
    }
}

/// A node that does not answer.
fn mute() -> NodeHealth {
    let why = "The node does not answer";
    NodeHealth {
        errors: vec![ErrorObject::new(Code::NotReady, Some(why.into()))],
        ..NodeHealth::default()
    }
}

/// Masters hold no connection to WhatsApp of their own.
fn master(status: &control::ClusterStatus) -> NodeHealth {
    let role = if status.primary {
        "primary_master"
    } else {
        "secondary_master"
    };
    NodeHealth {
        gateway_status: Some(GatewayStatus::Disconnected),
        role: Some(role.to_owned()),
        ..NodeHealth::default()
    }
}

/// An owner that WhatsApp refuses, for example because of a bad token, is disconnected, and says why.
fn coreapp(answer: &internal::HealthAnswer) -> NodeHealth {
    let status = gateway_status(&answer.gateway_status);
    let refused = answer.work.as_ref().and_then(|work| work.upstream.as_ref());
    let why = refused.map(|failing| {
        let details = format!("WhatsApp cannot be used: {}", failing.error);
        ErrorObject::new(Code::NotReady, Some(details))
    });
    let status = match (&why, status) {
        (Some(_), GatewayStatus::Connected | GatewayStatus::Connecting) => {
            GatewayStatus::Disconnected
        }
        (None, GatewayStatus::Connected | GatewayStatus::Connecting)
        | (_, GatewayStatus::Disconnected)
        | (_, GatewayStatus::Uninitialized)
        | (_, GatewayStatus::Unregistered) => status,
    };
    NodeHealth {
        gateway_status: Some(status),
        role: Some("coreapp".to_owned()),
        errors: why.into_iter().collect(),
        ..NodeHealth::default()
    }
}

/// What came of a look.
enum Said<T> {
    Word(T),
    /// It does not know such a look.
    Older,
    Nothing,
}

async fn get<T: serde::de::DeserializeOwned>(webapp: &Webapp, url: &str) -> Said<T> {
    let look = webapp.look(Method::GET, url, NODE_DEADLINE).await;
    match look {
        Ok((StatusCode::UNAUTHORIZED, _)) => Said::Older,
        Ok((status, bytes)) if status.is_success() => {
            serde_json::from_slice(&bytes).map_or(Said::Nothing, Said::Word)
        }
        Ok(_) | Err(_) => Said::Nothing,
    }
}

fn gateway_status(word: &str) -> GatewayStatus {
    match word {
        "connected" => GatewayStatus::Connected,
        "connecting" => GatewayStatus::Connecting,
        "unregistered" => GatewayStatus::Unregistered,
        "uninitialized" => GatewayStatus::Uninitialized,
        _ => GatewayStatus::Disconnected,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_of_coreapps_become_documented_ones() {
        assert_eq!(gateway_status("connected"), GatewayStatus::Connected);
        assert_eq!(gateway_status("connecting"), GatewayStatus::Connecting);
        assert_eq!(gateway_status("anything"), GatewayStatus::Disconnected);
    }

    fn answer(value: serde_json::Value) -> internal::HealthAnswer {
        serde_json::from_value(value).expect("an answer")
    }

    /// Goal: without a schema the documented word is told, and no node is named, least of all a webapp. Method: the fixture.
    #[test]
    fn without_a_schema_no_node_is_named() {
        let shown = serde_json::to_value(uninitialized()).expect("plain data");
        let wanted: serde_json::Value = serde_json::from_str(include_str!(
            "../../../../tests/fixtures/v1/monitoring/health-uninitialized.json"
        ))
        .expect("JSON");
        assert_eq!(shown["health"], wanted["health"]);
    }

    /// Goal: the documented shape, and nothing else, for a cluster with a dead node and one with a bad token. Method: the
    /// fixture, which was written from the documentation.
    #[test]
    fn the_shape_is_the_documented_one() {
        let well = json!({"gateway_status": "connected", "shard": 0, "epoch": 1});
        let refused = json!({"gateway_status": "connected", "shard": 1, "epoch": 1,
            "work": {"intake": null, "upstream": {"since_ms": 9, "error": "it answers 401 Unauthorized"},
                "callbacks": 0, "oldest_callback_ms": 0, "callback_error": null}});
        let standby = json!({"gateway_status": "disconnected", "shard": null, "epoch": 0});
        let new = json!({"gateway_status": "unregistered", "shard": null, "epoch": 0});
        let role = |primary: bool| NodeHealth {
            role: Some(
                if primary {
                    "primary_master"
                } else {
                    "secondary_master"
                }
                .into(),
            ),
            gateway_status: Some(GatewayStatus::Disconnected),
            ..NodeHealth::default()
        };
        let shown = HealthAnswer {
            health: Health::Nodes(BTreeMap::from(
                [
                    ("core1.example:coreapp-1", coreapp(&answer(well))),
                    ("core2.example:coreapp-1", coreapp(&answer(refused))),
                    ("core3.example:coreapp-1", coreapp(&answer(standby))),
                    ("core4.example:coreapp-1", coreapp(&answer(new))),
                    ("core5.example:coreapp-1", mute()),
                    ("m1.example:master-1", role(true)),
                    ("m2.example:master-1", role(false)),
                ]
                .map(|(node, health)| (node.to_owned(), health)),
            )),
            problems: Vec::new(),
            meta: Meta::default(),
        };
        let wanted: serde_json::Value = serde_json::from_str(include_str!(
            "../../../../tests/fixtures/v1/monitoring/health.json"
        ))
        .expect("JSON");
        let shown = serde_json::to_value(shown).expect("plain data");
        assert_eq!(shown["health"], wanted["health"]);
    }
}
