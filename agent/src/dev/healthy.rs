//! When a development cluster is whole: what masters say of it must lack nothing.
//! Asks nobody: `cluster.rs` does.

use crate::api::control::ClusterStatus;

/// What a healthy cluster lacks.
pub fn missing(status: &ClusterStatus, masters: u16) -> Option<String> {
    if !status.primary {
        return Some("no primary master".into());
    }
    if status.shards.is_empty() || status.shards.iter().any(|s| s.phase != "active") {
        return Some(format!(
            "a shard has no active owner: {}",
            status.problems.join("; ")
        ));
    }
    let count = |role: &str| {
        status
            .nodes
            .iter()
            .filter(|n| n.role == role && n.healthy)
            .count()
    };
    let owner = status.nodes.iter().any(|n| n.shard == Some(0) && n.healthy);
    let standby = status
        .nodes
        .iter()
        .any(|n| n.role == "coreapp" && n.healthy && n.shard.is_none());
    if !owner || !standby || count("master") < usize::from(masters) || count("webapp") < 2 {
        return Some(format!(
            "owner {owner}, standby {standby}, {} masters, {} webapps",
            count("master"),
            count("webapp")
        ));
    }
    status
        .safe_ms
        .map(|ms| format!("no promotion for {ms} ms yet"))
}
