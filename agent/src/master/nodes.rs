//! Each node as this master sees it: what its row, its heartbeats and its host agent say.
//! Judges nothing.

use wa_core::id::{NodeId, Role};
use wa_core::wire::Health;

use super::view::{View, ms};
use crate::api::control::NodeStatus;

/// Every node of the table.
pub fn all(view: &View<'_>) -> Vec<NodeStatus> {
    let (core, now) = (view.core, view.now);
    let own = &view.settings.node;
    let status = |n: &crate::db::node::Registered| {
        let r = &n.registration;
        let peer = core.detector().peers.get(&r.node);
        let report = peer.and_then(|p| p.report());
        NodeStatus {
            node: r.node.as_str().into(),
            role: r.role.as_str().into(),
            address: format!(
                "{}:{}",
                r.address,
                if r.role == Role::Webapp {
                    r.port_api
                } else {
                    r.port_heartbeat
                }
            ),
            zone: r.zone.clone(),
            version: r.version.clone(),
            heartbeat_age_ms: peer.and_then(|p| p.heard_at()).map(|at| ms(now.since(at))),
            reply_us: view.table.replies.of(&r.node),
            db_beat_age_ms: Some(n.beat_age_ms),
            healthy: r.role == Role::Webapp
                || r.node == *own
                || peer.is_some_and(|p| {
                    p.heard_at().is_some() && !p.silent(&core.detector().intervals)
                }),
            twice: twice(view, &r.node),
            shard: report.and_then(|r| r.shard).map(|s| s.0),
            epoch: report.filter(|r| r.shard.is_some()).map(|r| r.epoch.0),
            fence: match report {
                Some(r) if r.health.has(Health::GATE_ATTESTED) => "bpf".into(),
                Some(_) if matches!(n.registration.role, Role::Coreapp | Role::Host) => {
                    let word = view.table.fence_of(r.node.as_str());
                    word.filter(|word| word.level != "bpf")
                        .map_or("process".into(), |word| word.level.clone())
                }
                _ => String::new(),
            },
            health: report
                .map(|r| r.health.words().map(Into::into).collect())
                .unwrap_or_default(),
        }
    };
    view.table.nodes.iter().map(status).collect()
}

/// Two starts that answer under one name, and where; nothing where there is one.
fn twice(view: &View<'_>, node: &NodeId) -> Option<String> {
    let core = view.core;
    let twin = core.twin(node)?;
    let newest = core.detector().peers.get(node)?.incarnation()?;
    let places = view.table.places(node, view.now);
    let places: Vec<String> = places.iter().map(ToString::to_string).collect();
    Some(format!(
        "starts {newest} and {twin}, at {}",
        places.join(" and ")
    ))
}
