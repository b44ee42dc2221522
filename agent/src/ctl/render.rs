//! Draws a cluster's status for a person: tables, colours when a terminal looks, plain text otherwise.
//! Asks nobody: what it draws comes from `status.rs`.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use crate::api::control::{ClusterStatus, NodeStatus, ShardStatus};

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const WARN: Style = AnsiColor::Yellow.on_default();
const HEAD: Style = Style::new().bold();

/// The whole status as text with ANSI styles; `anstream` strips them where no terminal looks.
pub fn cluster(status: &ClusterStatus) -> String {
    let mut out = String::new();
    headline(&mut out, status);
    let _ = writeln!(out);
    shards(&mut out, &status.shards);
    let _ = writeln!(out);
    nodes(&mut out, &status.nodes);
    if !status.decisions.is_empty() {
        let _ = writeln!(out, "\n{HEAD}newest decisions{HEAD:#}");
        for decision in status.decisions.iter().rev().take(5) {
            let shard = decision
                .shard
                .map_or(String::new(), |shard| format!(" shard {shard}"));
            let _ = writeln!(
                out,
                "  {}{shard}  {}: {} ({})",
                clock_text(decision.at_unix_s),
                decision.what,
                decision.sentence,
                decision.reason
            );
        }
    }
    for p in &status.planned {
        let to = p.to.as_deref().unwrap_or("whoever is best then");
        let at = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(p.at_ms);
        let at = humantime::format_rfc3339_seconds(at);
        let _ = writeln!(
            out,
            "\n{WARN}planned{WARN:#} shard {} moves to {to} at {at} (wa-agent switchover --shard {} --cancel)",
            p.shard, p.shard
        );
    }
    if status.problems.is_empty() {
        let _ = writeln!(out, "\n{GOOD}nothing is wrong{GOOD:#}");
    } else {
        let _ = writeln!(out, "\n{BAD}what is wrong{BAD:#}");
        for problem in &status.problems {
            let _ = writeln!(out, "  - {problem}");
        }
    }
    alarms(&mut out, status);
    out
}

/// Alarms that no problem above tells.
fn alarms(out: &mut String, status: &ClusterStatus) {
    let mut others = status.other_alarms().peekable();
    if others.peek().is_some() {
        let _ = writeln!(out, "\n{WARN}figures beyond their limits{WARN:#}");
    }
    for alarm in others {
        let _ = writeln!(
            out,
            "  - {} {} ({}; {} is {})",
            alarm.says, alarm.means, alarm.remedy, alarm.figure, alarm.value
        );
    }
}

fn headline(out: &mut String, status: &ClusterStatus) {
    let primary = status.primary_master.as_deref().unwrap_or("none");
    let style = if status.primary_master.is_some() {
        GOOD
    } else {
        BAD
    };
    let _ = write!(
        out,
        "{HEAD}primary master{HEAD:#} {style}{primary}{style:#}, term {}",
        status.term
    );
    if let Some(margin_ms) = status.lease_margin_ms {
        let _ = write!(out, ", lease good for {}", span_text(margin_ms));
    }
    if let Some(safe_ms) = status.safe_ms {
        let _ = write!(
            out,
            ", {WARN}no promotion for {}{WARN:#}",
            span_text(safe_ms)
        );
    }
    let takeover = status.timers.as_ref().map_or_else(String::new, |timers| {
        let takeover = span_text(timers.takeover_ms);
        match timers.by_api {
            false => format!(", takeover at most {takeover}"),
            true => format!(
                ", {WARN}set over the API: takeover at most {takeover}, as configured {}{WARN:#}",
                span_text(timers.configured_takeover_ms)
            ),
        }
    });
    let _ = writeln!(
        out,
        "\nheartbeat every {}, unhealthy after {}{takeover} (settings version {}), fence {}; asked {} ({})",
        span_text(status.heartbeat_interval_ms),
        span_text(status.unhealthy_interval_ms),
        status.settings_version,
        status.fence,
        status.node,
        status.version
    );
}

fn shards(out: &mut String, shards: &[ShardStatus]) {
    let mut rows = vec![cells([
        "shard",
        "phase",
        "owner",
        "epoch",
        "renewed",
        "unsettled",
        "diagnosis",
    ])];
    for shard in shards {
        rows.push(vec![
            shard.shard.to_string(),
            shard.phase.clone(),
            shard.owner.clone().unwrap_or_else(|| "-".into()),
            shard.epoch.to_string(),
            age_text(shard.renewal_age_ms),
            if shard.unsettled.is_empty() {
                "-".into()
            } else {
                shard.unsettled.join(", ")
            },
            shard.diagnosis.clone().unwrap_or_else(|| "-".into()),
        ]);
    }
    table(out, &rows, |row| {
        if row.get(1).is_some_and(|phase| phase == "active") {
            GOOD
        } else {
            WARN
        }
    });
}

fn nodes(out: &mut String, nodes: &[NodeStatus]) {
    let mut rows = vec![cells([
        "node",
        "role",
        "heartbeat",
        "database beat",
        "shard",
        "epoch",
        "health",
        "fence",
        "address",
    ])];
    for node in nodes {
        let asked = node.role != "webapp";
        rows.push(vec![
            node.node.clone(),
            node.role.clone(),
            if asked {
                age_text(node.heartbeat_age_ms)
            } else {
                "-".into()
            },
            age_text(node.db_beat_age_ms),
            node.shard
                .map_or_else(|| "-".into(), |shard| shard.to_string()),
            node.epoch
                .map_or_else(|| "-".into(), |epoch| epoch.to_string()),
            if node.twice.is_some() {
                format!("TWICE {}", node.health.join(" "))
            } else if node.healthy {
                node.health.join(" ")
            } else {
                format!("SILENT {}", node.health.join(" "))
            },
            if node.fence.is_empty() {
                "-".into()
            } else {
                node.fence.clone()
            },
            node.address.clone(),
        ]);
    }
    table(out, &rows, |row| {
        if row
            .get(6)
            .is_some_and(|health| health.starts_with("SILENT") || health.starts_with("TWICE"))
        {
            BAD
        } else {
            Style::new()
        }
    });
}

fn cells<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn table(out: &mut String, rows: &[Vec<String>], style_of: impl Fn(&[String]) -> Style) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|c| {
            rows.iter()
                .filter_map(|row| row.get(c))
                .map(String::len)
                .max()
                .unwrap_or(0)
        })
        .collect();
    for (index, row) in rows.iter().enumerate() {
        let style = if index == 0 { HEAD } else { style_of(row) };
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        let _ = writeln!(out, "{style}{}{style:#}", line.join("  ").trim_end());
    }
}

fn age_text(age_ms: Option<u64>) -> String {
    age_ms.map_or_else(|| "never".into(), |ms| format!("{} ago", span_text(ms)))
}

/// `80ms`, `2.4s`, `3m12s`: what a person reads at a glance.
pub fn span_text(ms: u64) -> String {
    match ms {
        0..=999 => format!("{ms}ms"),
        1_000..=59_999 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        _ => format!("{}m{}s", ms / 60_000, ms % 60_000 / 1000),
    }
}

/// Wall-clock time of day of a record, in UTC.
pub fn clock_text(unix_s: u64) -> String {
    let in_day = unix_s % 86_400;
    format!(
        "{:02}:{:02}:{:02}Z",
        in_day / 3600,
        in_day % 3600 / 60,
        in_day % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> String {
        anstream::adapter::strip_str(&cluster(&status())).to_string()
    }

    fn two_alarms() -> Vec<crate::api::alarm::AlarmStatus> {
        use wa_core::alarm::Alarm;
        let two = [Alarm::TokenEnds, Alarm::CallbacksFail];
        two.map(|alarm| (alarm, 7).into()).to_vec()
    }

    /// One silent node, a problem, two alarms, and a move that waits.
    fn status() -> ClusterStatus {
        ClusterStatus {
            node: "a:master-1".into(),
            version: "0".into(),
            primary: true,
            primary_master: Some("a:master-1".into()),
            term: 4,
            lease_margin_ms: Some(800),
            safe_ms: None,
            database_error: None,
            fence: "process".into(),
            console_acts: None,
            heartbeat_interval_ms: 50,
            unhealthy_interval_ms: 300,
            timers: Some(crate::api::control::TimersStatus {
                by_api: true,
                takeover_ms: 40_200,
                configured_heartbeat_interval_ms: 200,
                configured_unhealthy_interval_ms: 2_000,
                configured_takeover_ms: 2_600,
            }),
            late_ms: 0,
            settings_version: 1,
            shards: vec![ShardStatus {
                shard: 0,
                generation: 1,
                phase: "active".into(),
                owner: Some("a:coreapp-1".into()),
                epoch: 7,
                renewal_age_ms: Some(90),
                unsettled: vec![],
                diagnosis: None,
            }],
            nodes: vec![NodeStatus {
                node: "a:coreapp-2".into(),
                role: "coreapp".into(),
                address: "127.0.0.1:6260".into(),
                zone: "a".into(),
                version: "0".into(),
                heartbeat_age_ms: Some(2_400),
                reply_us: Some(180),
                db_beat_age_ms: None,
                healthy: false,
                twice: None,
                shard: None,
                epoch: None,
                fence: "process".into(),
                health: vec!["database".into()],
            }],
            judged: vec![crate::api::judged::Judged {
                kind: "callbacks_wait".into(),
                ..Default::default()
            }],
            alarms: two_alarms(),
            start: "1.0".into(),
            problems: vec!["a:coreapp-2 is silent; type: journalctl -u wa-coreapp@2".into()],
            planned: vec![crate::api::control::StoredSwitchover {
                shard: 0,
                to: None,
                at_ms: 1_800_000_000_000,
                reason: None,
                by: None,
            }],
            decisions: vec![],
        }
    }

    /// Goal: an operator sees owner, trouble and remedy without asking for more. Method: draw a cluster with one silent
    /// node and look for each.
    #[test]
    fn a_silent_node_and_a_problem_are_visible() {
        let text = shown();
        assert!(text.contains("SILENT database"), "{text}");
        assert!(text.contains("2.4s ago"), "{text}");
        assert!(text.contains("a:coreapp-1"), "{text}");
        assert!(text.contains("journalctl -u wa-coreapp@2"), "{text}");
        assert!(text.contains("at 2027-01-15T08:00:00Z (wa-agent"), "{text}");
    }

    /// Goal: an alarm is told with its figure, unless a problem tells it already. Method: one of each.
    #[test]
    fn alarms_are_told_once() {
        let text = shown();
        assert!(text.contains("wa:token_days is 7"), "{text}");
        assert!(!text.contains("wa:callbacks_failing"), "{text}");
    }

    #[test]
    fn spans_read_at_a_glance() {
        assert_eq!(span_text(80), "80ms");
        assert_eq!(span_text(2_450), "2.4s");
        assert_eq!(span_text(192_000), "3m12s");
    }
}
