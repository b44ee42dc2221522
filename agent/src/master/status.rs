//! What `wa-agent status` is told, and what a switchover would do.
//! Changes nothing.

use std::time::Duration;

use serde_json::Value;
use wa_core::detector::Intervals;
use wa_core::id::{NodeId, Role};
use wa_core::master::Fence;
use wa_core::reason::Reason;
use wa_core::shard_map::{Phase, ShardRow};
use wa_core::wire::Health;

use super::driver::Driver;
use super::{explain, fit, spread};
use crate::api::control::{
    ClusterStatus, NodeStatus, ShardStatus, ShardsAnswer, ShardsRequest, SwitchoverAnswer,
    SwitchoverRequest,
};
use crate::config::Timers;
use crate::sys::clock;

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The intervals of the application settings; where they are not set, those of the configuration.
pub fn intervals(value: &str, timers: &Timers) -> Intervals {
    let parsed: Value = serde_json::from_str(value).unwrap_or_default();
    let seconds = |key: &str| {
        let field = parsed.get(key)?;
        let number = field.as_f64().or_else(|| field.as_str()?.parse().ok())?;
        Duration::try_from_secs_f64(number)
            .ok()
            .filter(|d| *d >= Duration::from_millis(10))
    };
    match (seconds("heartbeat_interval"), seconds("unhealthy_interval")) {
        (Some(heartbeat), Some(unhealthy)) if unhealthy >= heartbeat * 3 => Intervals {
            heartbeat,
            unhealthy,
        },
        _ => Intervals {
            heartbeat: timers.heartbeat_interval,
            unhealthy: timers.unhealthy_interval,
        },
    }
}

/// Everything, as this master sees it now.
pub fn of(driver: &Driver) -> ClusterStatus {
    let now = clock::now();
    let core = &driver.parts.core;
    let map = core.map();
    let intervals = core.detector().intervals;
    let mut status = ClusterStatus {
        node: driver.parts.settings.node.as_str().into(),
        version: env!("CARGO_PKG_VERSION").into(),
        primary: core.primary(now).is_some(),
        primary_master: map
            .and_then(|m| m.master.holder.as_ref())
            .map(|n| n.as_str().into()),
        term: map.map_or(0, |m| m.master.term.0),
        lease_margin_ms: core.lease_margin(now).map(ms),
        safe_ms: core.safe_left(now).map(ms),
        database_error: None,
        fence: match driver.parts.settings.fence {
            Fence::Required => "required (no promotion without the kernel gate)".into(),
            Fence::BestEffort => {
                "best-effort: without a kernel gate, one primary is promised only where the old process is known to be gone"
                    .into()
            }
        },
        heartbeat_interval_ms: ms(intervals.heartbeat),
        unhealthy_interval_ms: ms(intervals.unhealthy),
        settings_version: driver.settings_version,
        shards: shards(driver),
        nodes: nodes(driver),
        problems: Vec::new(),
        planned: driver.planned.clone(),
        decisions: driver.decisions.iter().cloned().collect(),
    };
    status.problems = problems(&status);
    if core.restored() {
        status.problems.push(explain::restored(driver));
    }
    if core.server_changed() {
        status.problems.push(explain::server_changed(driver));
    }
    status.problems.extend(late(driver));
    status.problems.extend(by_operators(driver));
    status.problems.extend(blocked(driver));
    status.problems.extend(driver.parts.voided.iter().cloned());
    if driver.parts.settings.fence == Fence::Required {
        status.problems.extend(ungated(driver, &status));
    }
    let mounts = driver.directory.mounts();
    let broken = mounts.iter().filter(|mount| !mount.ok());
    status
        .problems
        .extend(broken.map(|mount| format!("{}: media: {}", mount.node, mount.sentence)));
    // A development cluster is on one machine by design.
    if !driver.parts.settings.development {
        let rows = map.map(|m| m.shards.as_slice()).unwrap_or_default();
        let owners: Vec<NodeId> = rows.iter().filter_map(|row| row.owner.clone()).collect();
        status
            .problems
            .extend(spread::warnings(&driver.directory.all(), &owners));
    }
    status
}

fn shards(driver: &Driver) -> Vec<ShardStatus> {
    let (core, now) = (&driver.parts.core, clock::now());
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

fn nodes(driver: &Driver) -> Vec<NodeStatus> {
    let (core, now) = (&driver.parts.core, clock::now());
    let own = &driver.parts.settings.node;
    let status = |n: &crate::db::node::Registered| {
        let r = &n.registration;
        let peer = core.detector().peers.get(&r.node);
        let report = peer.and_then(|p| p.report);
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
            heartbeat_age_ms: peer.and_then(|p| p.heard_at).map(|at| ms(now.since(at))),
            db_beat_age_ms: Some(n.beat_age_ms),
            healthy: r.role == Role::Webapp
                || r.node == *own
                || peer
                    .is_some_and(|p| p.heard_at.is_some() && !p.silent(&core.detector().intervals)),
            shard: report.and_then(|r| r.shard).map(|s| s.0),
            epoch: report.filter(|r| r.shard.is_some()).map(|r| r.epoch.0),
            fence: match report {
                Some(r) if r.health.has(Health::GATE_ATTESTED) => "bpf".into(),
                Some(_) if matches!(n.registration.role, Role::Coreapp | Role::Host) => {
                    let word = driver.directory.fence_of(r.node.as_str());
                    word.filter(|word| word.level != "bpf")
                        .map_or("process".into(), |word| word.level)
                }
                _ => String::new(),
            },
            health: report
                .map(|r| r.health.words().map(Into::into).collect())
                .unwrap_or_default(),
        }
    };
    driver.directory.all().iter().map(status).collect()
}

/// Masters whose own timers were late by more than makes anybody silent: what they say then is about themselves.
fn late(driver: &Driver) -> Vec<String> {
    let (core, now) = (&driver.parts.core, clock::now());
    let unhealthy = core.detector().intervals.unhealthy;
    let own = (
        &driver.parts.settings.node,
        driver.parts.report.lateness_ms(),
    );
    let others = core
        .voices(now)
        .map(|(node, voice)| (node, voice.lateness_ms));
    let all = std::iter::once(own).chain(others);
    let late = all.filter(|(_, ms)| Duration::from_millis(u64::from(*ms)) >= unhealthy);
    late.map(|(node, ms)| {
        format!(
            "{node} was late by {ms} ms lately: it abstains from judging by such rounds; look at load and pauses of that machine \
             (wa-agent doctor)"
        )
    })
    .collect()
}

/// What operators switched off, and may have forgotten.
fn by_operators(driver: &Driver) -> Vec<String> {
    let now = clock::now();
    let pauses = driver.pauses.iter().filter(|(_, until)| now < **until);
    let pauses = pauses.map(|(shard, until)| {
        let left = Duration::from_secs(until.since(now).as_secs());
        let (what, option) = shard.map_or(("every shard".into(), String::new()), |s| {
            (format!("shard {s}"), format!(" --shard {s}"))
        });
        format!(
            "failover of {what} is paused for another {} (wa-agent resume{option})",
            humantime::format_duration(left)
        )
    });
    let nodes = driver.parts.core.map().into_iter().flat_map(|m| &m.nodes);
    let drained = nodes.filter(|n| n.draining).map(|n| {
        format!(
            "{} is drained: it takes no shard (wa-agent undrain {})",
            n.node, n.node
        )
    });
    pauses.chain(drained).collect()
}

/// Shards that wait for a successor, and why nobody is one.
fn blocked(driver: &Driver) -> Vec<String> {
    let core = &driver.parts.core;
    let mut out = Vec::new();
    for row in core.map().into_iter().flat_map(|m| &m.shards) {
        let reason = core.verdict_reason(row.shard);
        let Some(reason @ (Reason::NoStandby | Reason::NoGatedStandby)) = reason else {
            continue;
        };
        out.push(format!(
            "shard {} has to move and cannot: {}",
            row.shard,
            reason.sentence()
        ));
        out.extend(fit::unfit(driver, row));
    }
    out
}

/// Coreapps that nobody promotes, and why.
fn ungated(driver: &Driver, status: &ClusterStatus) -> Vec<String> {
    let without = |n: &&NodeStatus| {
        n.role == "coreapp" && n.healthy && n.heartbeat_age_ms.is_some() && n.fence != "bpf"
    };
    let without = status.nodes.iter().filter(without);
    let sentence = |n: &NodeStatus| {
        let why = driver.directory.fence_of(&n.node).map(|word| word.sentence);
        let why = why.filter(|why| !why.is_empty());
        format!(
            "{} is not behind a kernel gate and is not promoted (fence = \"required\"){}; type there: wa-agent gate status, \
             then wa-agent doctor",
            n.node,
            why.map_or(String::new(), |why| format!(": {why}"))
        )
    };
    without.map(sentence).collect()
}

fn problems(status: &ClusterStatus) -> Vec<String> {
    let mut out = Vec::new();
    if status.primary_master.is_none() {
        out.push("no primary master: start one (systemctl start wa-master@1)".into());
    }
    for shard in status.shards.iter().filter(|s| s.phase != "active") {
        let why = shard.diagnosis.as_deref().unwrap_or("it is being moved");
        out.push(format!("shard {} has no active owner ({why})", shard.shard));
    }
    for node in status.nodes.iter().filter(|n| !n.healthy) {
        let unit = node
            .node
            .rsplit_once(':')
            .map_or(node.node.as_str(), |(_, unit)| unit)
            .replacen('-', "@", 1);
        out.push(format!(
            "{} does not answer heartbeats: look at journalctl -u wa-{unit}",
            node.node
        ));
    }
    let standbys = status
        .nodes
        .iter()
        .filter(|n| n.role == "coreapp" && n.healthy && n.shard.is_none())
        .count();
    if standbys == 0 {
        out.push("no standby coreapp: the next failure has nobody to take over (systemctl start wa-coreapp@2)".into());
    }
    if status
        .nodes
        .iter()
        .filter(|n| n.role == "master" && n.healthy)
        .count()
        < 2
    {
        out.push("only one master answers: start another on another machine".into());
    }
    out
}

/// Coreapps that answer and hold nothing, without the owner.
fn standbys<'a>(driver: &'a Driver, row: &ShardRow) -> Vec<&'a NodeId> {
    let core = &driver.parts.core;
    let intervals = &core.detector().intervals;
    core.detector()
        .peers
        .iter()
        .filter(|(node, peer)| {
            let coreapp = core.map().is_some_and(|m| {
                m.nodes
                    .iter()
                    .any(|n| n.node == **node && n.role == Role::Coreapp)
            });
            coreapp
                && Some(*node) != row.owner.as_ref()
                && peer.fresh(intervals).is_some_and(|r| r.shard.is_none())
        })
        .map(|(node, _)| node)
        .collect()
}

const NOT_PRIMARY: &str = "this master is not primary (1017); ask the primary master";

/// What a switchover would do, or why it cannot be.
pub fn switchover_answer(driver: &Driver, wish: &SwitchoverRequest) -> SwitchoverAnswer {
    let core = &driver.parts.core;
    let no = |message: String| SwitchoverAnswer {
        accepted: false,
        from: None,
        to: wish.to.clone(),
        epoch_before: 0,
        elsewhere: false,
        message,
    };
    if core.primary(clock::now()).is_none() {
        return SwitchoverAnswer {
            elsewhere: true,
            ..no(NOT_PRIMARY.into())
        };
    }
    let row = core
        .map()
        .and_then(|m| m.shards.iter().find(|r| r.shard.0 == wish.shard));
    let Some(row) = row.filter(|r| r.phase == Phase::Active) else {
        return no(format!(
            "shard {} does not exist or has no active owner now; see wa-agent status",
            wish.shard
        ));
    };
    let standbys = standbys(driver, row);
    if let Some(to) = &wish.to
        && !standbys.iter().any(|n| n.as_str() == to)
    {
        let names: Vec<&str> = standbys.iter().map(|n| n.as_str()).collect();
        return no(format!(
            "{to} is not a healthy standby; standbys now: {}",
            if names.is_empty() {
                "none".into()
            } else {
                names.join(", ")
            }
        ));
    }
    let Some(first) = standbys.first() else {
        return no("there is no healthy standby; start one (systemctl start wa-coreapp@2)".into());
    };
    let to = wish.to.clone().unwrap_or_else(|| first.as_str().into());
    let verb = if wish.dry_run { "would be" } else { "is being" };
    SwitchoverAnswer {
        accepted: true,
        from: row.owner.as_ref().map(|n| n.as_str().into()),
        message: format!(
            "shard {} {verb} moved to {to}: intake held, requests finished, epoch raised",
            wish.shard
        ),
        to: Some(to),
        elsewhere: false,
        epoch_before: row.epoch.0,
    }
}

/// What a change of the number of shards would do, or why it cannot be. A coreapp holds one shard at most, so a count
/// above the number of healthy coreapps would leave recipients without an owner.
pub fn shards_answer(driver: &Driver, wish: &ShardsRequest) -> ShardsAnswer {
    let core = &driver.parts.core;
    let before = core.map().map_or(0, |m| m.master.shard_count);
    let answer = |accepted, message| ShardsAnswer {
        accepted,
        before,
        message,
    };
    if core.primary(clock::now()).is_none() || before == 0 {
        return answer(
            false,
            "this master is not primary (1017); ask the primary master".into(),
        );
    }
    if !wa_core::shard_map::SHARD_COUNTS.contains(&wish.shards) {
        return answer(false, "shards must be 1, 2, 4, 8, 16 or 32".into());
    }
    if before == wish.shards {
        return answer(true, format!("there are {before} shards already"));
    }
    let intervals = &core.detector().intervals;
    let coreapps = core
        .map()
        .into_iter()
        .flat_map(|map| &map.nodes)
        .filter(|n| n.role == Role::Coreapp)
        .filter(|n| {
            let peer = core.detector().peers.get(&n.node);
            peer.is_some_and(|p| p.fresh(intervals).is_some())
        })
        .count();
    if coreapps < usize::from(wish.shards) {
        return answer(
            false,
            format!(
                "{} shards need as many coreapps, better one more; {coreapps} answer: start others first \
                 (systemctl start wa-coreapp@2)",
                wish.shards
            ),
        );
    }
    let verb = if wish.dry_run {
        "would be"
    } else {
        "are being"
    };
    answer(
        true,
        format!(
            "{before} shards {verb} regrouped into {}: every owner ends, epochs are raised, requests wait meanwhile",
            wish.shards
        ),
    )
}
