//! `wa-agent explain`: why each shard is where it is, by the primary master, or by any that answers.

use std::fmt::Write as _;

use super::history;
use super::view::View;
use crate::api::control::{Explanation, StoredEvidence, WorstCaseMs};
use crate::cli::Reach;
use crate::db::history::Decision;
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
        let view = View::find(reach.config.as_deref()).await?;
        let mut all = match view.explain().await {
            Ok(all) => all,
            Err(nothing) => return Ok(nothing.told()),
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

/// One past decision from the database: what was known, which rule, what came of it.
///
/// # Errors
/// When there is no usable configuration.
pub fn decision(reach: &Reach, id: i64) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let view = View::find(reach.config.as_deref()).await?;
        let found = match view.decision(id).await {
            Ok(found) => found,
            Err(nothing) => return Ok(nothing.told()),
        };
        let Some((decision, evidence, after)) = found else {
            eprintln!("wa-agent: there is no decision {id}; see wa-agent history");
            return Ok(Exit::Failure);
        };
        let evidence: StoredEvidence = serde_json::from_str(&evidence).unwrap_or_default();
        if reach.json {
            let after: Vec<_> = after.iter().map(history::value).collect();
            let value = serde_json::json!({
                "decision": history::value(&decision), "evidence": evidence, "after": after,
            });
            println!("{value}");
        } else {
            print!("{}", decision_text(&decision, &evidence, &after));
        }
        Ok(Exit::Ok)
    })
}

fn decision_text(d: &Decision, e: &StoredEvidence, after: &[Decision]) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", history::line(d).trim_start());
    let _ = writeln!(out, "  rule       {}: {}", d.reason, e.sentence);
    if let Some(reason) = &e.reason {
        let _ = writeln!(out, "  in words   {reason}");
    }
    if let Some(by) = &e.by {
        let _ = writeln!(out, "  typed by   {by}");
    }
    if e.term != 0 {
        let _ = writeln!(out, "  term       {}", e.term);
    }
    for fact in &e.evidence {
        let _ = writeln!(out, "  evidence   {fact}");
    }
    for obstacle in &e.obstacles {
        let _ = writeln!(out, "  obstacle   {obstacle}");
    }
    if let Some(next) = &e.successor {
        let _ = writeln!(out, "  successor  {next}");
    }
    for next in after {
        let _ = writeln!(out, "  then       {}", history::line(next).trim_start());
    }
    if !e.worst_cases.is_empty() {
        let _ = writeln!(out, "\nat worst, as it was set then (detection, takeover):");
        for case in &e.worst_cases {
            let _ = writeln!(out, "  {}", case_text(case));
        }
    }
    out
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

    /// Goal: a past decision is told with all that was known then, and what followed.
    #[test]
    fn a_past_decision_is_told_whole() {
        let decision = |id, what: &str| Decision {
            id,
            at_ms: 1_700_000_000_000,
            node: "a:master-1".into(),
            shard: 0,
            what: what.into(),
            subject: "b:coreapp-1".into(),
            reason: "DeadCoreapp".into(),
        };
        let evidence = StoredEvidence {
            sentence: "its host agent says so".into(),
            term: 7,
            reason: Some("new disk".into()),
            by: Some("root@a".into()),
            evidence: vec!["a:coreapp-1 answered 1s ago".into()],
            obstacles: vec!["failover is paused".into()],
            successor: Some("b:coreapp-1".into()),
            worst_cases: vec![WorstCaseMs {
                class: "coreapp process killed".into(),
                host_agent: true,
                detection_ms: 10,
                takeover_ms: 210,
            }],
        };
        let text = decision_text(
            &decision(41, "handover"),
            &evidence,
            &[decision(42, "activate")],
        );
        for part in [
            "41 2023-11-14T22:13:20.000Z",
            "rule       DeadCoreapp: its host agent says so",
            "new disk",
            "root@a",
            "term       7",
            "answered 1s ago",
            "failover is paused",
            "successor  b:coreapp-1",
            "then       42",
            "210 ms",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let bare = decision_text(&decision(1, "primary"), &StoredEvidence::default(), &[]);
        assert!(!bare.contains("at worst"), "{bare}");
    }

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
