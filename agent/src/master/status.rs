//! What `wa-agent status` is told.
//! Changes nothing.

use wa_core::judgement::{self, Problem};
use wa_core::master::Fence;

use super::view::{View, ms};
use super::{alarms, evidence, intervals, nodes, told};
use crate::api::control::{ClusterStatus, ShardStatus};

/// Everything, as this master sees it now.
pub fn of(view: &View<'_>) -> ClusterStatus {
    let now = view.now;
    let core = view.core;
    let map = core.map();
    let in_force = core.detector().intervals;
    let mut status = ClusterStatus {
        node: view.settings.node.as_str().into(),
        version: env!("CARGO_PKG_VERSION").into(),
        primary: core.primary(now).is_some(),
        start: view.incarnation.to_string(),
        primary_master: evidence::primary_master(view),
        term: map.map_or(0, |m| m.master.term.0),
        lease_margin_ms: core.lease_margin(now).map(ms),
        safe_ms: core.safe_left(now).map(ms),
        database_error: view.reads.as_ref().map(|failing| failing.error.clone()),
        fence: match view.settings.fence {
            Fence::Required => "required (no promotion without the kernel gate)".into(),
            Fence::BestEffort => {
                "best-effort: without a kernel gate, one primary is promised only where the old process is known to be gone"
                    .into()
            }
        },
        console_acts: Some(view.settings.console.acts.to_string()),
        heartbeat_interval_ms: ms(in_force.heartbeat),
        unhealthy_interval_ms: ms(in_force.unhealthy),
        settings_version: view.settings_version,
        timers: Some(intervals::told(in_force, &view.settings.timers)),
        late_ms: u64::from(told::lateness(view).map(|(_, ms)| ms).max().unwrap_or(0)),
        shards: shards(view),
        nodes: nodes::all(view),
        problems: Vec::new(),
        judged: Vec::new(),
        alarms: Vec::new(),
        planned: view.planned.to_vec(),
        decisions: view.decisions.iter().cloned().collect(),
    };
    let judged = judgement::judge(&evidence::gather(view, &status.nodes));
    status.alarms = alarms::told(&alarms::figures(view, &judged));
    status.problems = judged.iter().map(Problem::line).collect();
    status.judged = judged.iter().map(Into::into).collect();
    status
}

fn shards(view: &View<'_>) -> Vec<ShardStatus> {
    let (core, now) = (view.core, view.now);
    let count = core.map().map_or(0, |m| m.master.shard_count);
    let rows = core.map().map(|m| m.shards.as_slice()).unwrap_or_default();
    rows.iter()
        // A row beyond the count is kept for its epochs only.
        .filter(|row| row.shard.0 < count)
        .map(|row| ShardStatus {
            shard: row.shard.0,
            generation: row.generation.0,
            phase: row.phase.as_str().into(),
            owner: row.owner.as_ref().map(|n| n.as_str().into()),
            epoch: row.epoch.0,
            renewal_age_ms: core.renewal_seen(row).map(|since| ms(now.since(since))),
            unsettled: row
                .previous
                .iter()
                .map(|p| format!("{} epoch {}", p.owner, p.epoch))
                .collect(),
            diagnosis: core.verdict_reason(row.shard).map(|r| r.name().into()),
        })
        .collect()
}
