//! `wa-agent explain`: why each shard is where it is, by the primary master, or by any that answers.

use std::fmt::Write as _;

use super::reach::Cluster;
use crate::api::control::{ClusterStatus, Explanation, WorstCaseMs, path};
use crate::cli::Reach;
use crate::exit::Exit;

/// Asks and prints.
///
/// # Errors
/// When there is no usable configuration.
pub fn run(reach: &Reach, shard: Option<u16>) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let cluster = Cluster::find(reach.config.as_deref()).await?;
        let Some(mut all) = ask(&cluster).await else {
            eprintln!("wa-agent: {}", cluster.nobody());
            return Ok(Exit::Unavailable);
        };
        all.retain(|e| shard.is_none_or(|shard| e.shard == shard));
        if all.is_empty() {
            eprintln!("wa-agent: there is no such shard; see wa-agent status");
            return Ok(Exit::Failure);
        }
        if reach.json {
            println!("{}", serde_json::to_string(&all)?);
        } else {
            print!("{}", text(&all));
        }
        Ok(Exit::Ok)
    })
}

/// The primary's answer, else that of any master.
pub async fn ask(cluster: &Cluster) -> Option<Vec<Explanation>> {
    let mut any = None;
    for master in &cluster.masters {
        let Ok(answer) = cluster.get::<Vec<Explanation>>(master, path::EXPLAIN).await else {
            continue;
        };
        let status = cluster.get::<ClusterStatus>(master, path::STATUS).await;
        if status.is_ok_and(|status| status.primary) {
            return Some(answer);
        }
        any = Some(answer);
    }
    any
}

fn text(all: &[Explanation]) -> String {
    let mut out = String::new();
    for e in all {
        let owner = e.owner.as_deref().unwrap_or("nobody");
        let _ = writeln!(
            out,
            "shard {} ({}): {owner}, epoch {}",
            e.shard, e.phase, e.epoch
        );
        for fact in &e.evidence {
            let _ = writeln!(out, "  evidence   {fact}");
        }
        let _ = writeln!(out, "  rule       {}", e.rule);
        let _ = writeln!(out, "  outcome    {}", e.outcome);
        for obstacle in &e.obstacles {
            let _ = writeln!(out, "  obstacle   {obstacle}");
        }
        let next = e.successor.as_deref().unwrap_or("nobody");
        let _ = writeln!(out, "  successor  {next}");
    }
    if let Some(first) = all.first() {
        let _ = writeln!(out, "\nat worst (detection, takeover):");
        for case in &first.worst_cases {
            let _ = writeln!(out, "  {}", case_text(case));
        }
    }
    out
}

/// One line of the worst cases.
pub fn case_text(case: &WorstCaseMs) -> String {
    let host = if case.host_agent { "with" } else { "without" };
    format!(
        "{:<44} {host:>7} host agent  {:>7} ms {:>7} ms",
        case.class, case.detection_ms, case.takeover_ms
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_printed() {
        let all = [Explanation {
            shard: 3,
            phase: "active".into(),
            owner: Some("a:coreapp-1".into()),
            epoch: 9,
            rule: "SilentOneObserver".into(),
            outcome: "nothing is done".into(),
            evidence: vec!["a:coreapp-1 answered 1s ago".into()],
            obstacles: vec!["failover is paused".into()],
            successor: None,
            worst_cases: vec![WorstCaseMs {
                class: "coreapp process hung".into(),
                host_agent: true,
                detection_ms: 400,
                takeover_ms: 600,
            }],
        }];
        let text = text(&all);
        for part in [
            "shard 3 (active): a:coreapp-1, epoch 9",
            "1s ago",
            "SilentOneObserver",
            "paused",
            "nobody",
            "600 ms",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
