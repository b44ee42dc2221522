//! `wa-agent plan NODE`: what would happen if it died now, from what the masters say.

use super::view::View;
use crate::api::control::{ClusterStatus, Explanation};
use crate::cli::Reach;
use crate::exit::Exit;

/// Asks and prints.
///
/// # Errors
/// When there is no usable configuration.
pub fn run(reach: &Reach, node: &str) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let view = View::find(reach.config.as_deref()).await?;
        let (status, explained) = match (view.status().await, view.explain().await) {
            (Ok(status), Ok(explained)) => (status, explained),
            (Err(nothing), _) | (_, Err(nothing)) => return Ok(nothing.told()),
        };
        let Some(lines) = plan(&status, &explained, node) else {
            let names: Vec<&str> = status.nodes.iter().map(|n| n.node.as_str()).collect();
            eprintln!(
                "wa-agent: there is no node {node}; there are: {}",
                names.join(", ")
            );
            return Ok(Exit::Failure);
        };
        if reach.json {
            println!("{}", serde_json::json!({ "node": node, "plan": lines }));
        } else {
            println!("If {node} died now:");
            for line in lines {
                println!("  {line}");
            }
        }
        Ok(Exit::Ok)
    })
}

fn plan(status: &ClusterStatus, explained: &[Explanation], node: &str) -> Option<Vec<String>> {
    let found = status.nodes.iter().find(|n| n.node == node)?;
    let others = |role: &str| {
        let others = status
            .nodes
            .iter()
            .filter(|n| n.role == role && n.node != node && n.healthy);
        others.map(|n| n.node.clone()).collect::<Vec<_>>()
    };
    Some(match found.role.as_str() {
        "coreapp" => coreapp(explained, node, others("coreapp").len()),
        "master" if status.primary_master.as_deref() == Some(node) => match &others("master")[..] {
            [] => vec![
                "no other master answers: traffic goes on, nothing fails over until one is started"
                    .into(),
            ],
            names => vec![
                format!(
                    "one of {} takes the master lease when it lapses; traffic goes on",
                    names.join(", ")
                ),
                "nothing fails over meanwhile".into(),
            ],
        },
        "master" => match others("master").len() {
            0 | 1 => vec![
                "one master is left: silence alone no longer replaces an owner that still renews"
                    .into(),
            ],
            left => vec![format!("{left} masters are left; nothing changes")],
        },
        "webapp" => match &others("webapp")[..] {
            [] => vec!["no other webapp: clients reach nothing until it is back".into()],
            names => vec![format!("clients go on through {}", names.join(", "))],
        },
        _ => vec![
            "roles go on; deaths on its machine are noticed by silence, and settled by time".into(),
        ],
    })
}

fn coreapp(explained: &[Explanation], node: &str, others: usize) -> Vec<String> {
    let owned: Vec<&Explanation> = explained
        .iter()
        .filter(|e| e.owner.as_deref() == Some(node))
        .collect();
    if owned.is_empty() {
        let left = others.saturating_sub(explained.len());
        return vec![format!("it owns nothing; {left} standby coreapps are left")];
    }
    let mut lines = Vec::new();
    for e in owned {
        let worst = |host| {
            let mut cases = e.worst_cases.iter().filter(|c| c.host_agent == host);
            cases
                .find(|c| c.class.contains("killed"))
                .map_or(0, |c| c.takeover_ms)
        };
        lines.push(match &e.successor {
            Some(next) => format!(
                "shard {}: {next} takes over, at worst after {} ms with a host agent on its machine, {} ms without",
                e.shard,
                worst(true),
                worst(false)
            ),
            None => format!("shard {}: nobody can take it over; requests wait, then get 503", e.shard),
        });
        lines.extend(
            e.obstacles
                .iter()
                .map(|o| format!("shard {}: {o}", e.shard)),
        );
    }
    lines
}
