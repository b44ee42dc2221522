//! The rules that a set of values must keep, and the worst cases that it leads to.
//! Adjusts nothing: a set that cannot work is refused with the rule that it breaks.

use std::time::Duration;

use super::{ConfigError, Settings, Timers};

/// Worst-case times for one class of failure.
#[derive(Debug, Clone)]
pub struct WorstCase {
    pub class: &'static str,
    /// Until a master knows.
    pub detection: Duration,
    /// Until the old owner is known to be over.
    pub fencing: Duration,
    /// Until the next request is answered.
    pub takeover: Duration,
}

/// Two commits, two nudges, one fsync of the epoch: what a promotion takes on a healthy database.
const PROMOTION: Duration = Duration::from_millis(200);

/// Worst cases with (`true`) or without a living host agent on the owner's machine.
pub fn worst_cases(t: &Timers, host_agent: bool) -> Vec<WorstCase> {
    let lapse = t.tolerance.challenge(t.lease_ttl) + t.lease_ttl / 3;
    let silence = t.unhealthy_interval + t.heartbeat_interval * 2;
    let receipt = t.tolerance.margin + t.heartbeat_interval;
    let case = |class, detection: Duration, fencing: Duration| WorstCase {
        class,
        detection,
        fencing,
        takeover: detection.max(fencing) + PROMOTION,
    };
    let fence = |detection: Duration| {
        if host_agent {
            detection + receipt
        } else {
            lapse.max(detection)
        }
    };
    let killed = if host_agent {
        Duration::from_millis(10)
    } else {
        silence
    };
    vec![
        case("coreapp process killed", killed, fence(killed)),
        case("coreapp process hung", silence, fence(silence)),
        case("machine or network lost", silence, lapse.max(silence)),
        case(
            "machine of primary master and owner lost",
            silence + lapse,
            silence + lapse * 2,
        ),
        case(
            "one master only, coreapp hung",
            t.db_unhealthy_interval.min(lapse.max(silence)),
            lapse.max(silence),
        ),
        case("planned switchover", Duration::ZERO, t.tolerance.margin),
    ]
}

/// The longest takeover of any class: what `hold_timeout` must cover.
pub(super) fn longest_takeover(t: &Timers) -> Duration {
    worst_cases(t, false)
        .iter()
        .map(|case| case.takeover)
        .max()
        .unwrap_or_default()
}

/// Checks every rule.
pub(super) fn check(s: &Settings) -> Result<(), ConfigError> {
    let t = &s.timers;
    let rule = |text: String| Err(ConfigError::Rule(text));
    let shown = |d: Duration| humantime::format_duration(d).to_string();
    if t.unhealthy_interval < t.heartbeat_interval * 3 {
        return rule(format!(
            "[timers] unhealthy_interval {} must be at least 3 × heartbeat_interval {}",
            shown(t.unhealthy_interval),
            shown(t.heartbeat_interval)
        ));
    }
    if t.heartbeat_interval < Duration::from_millis(10) {
        return rule(format!(
            "[timers] heartbeat_interval {} must be at least 10ms",
            shown(t.heartbeat_interval)
        ));
    }
    if t.lease_ttl < Duration::from_millis(300) {
        return rule(format!(
            "[timers] lease_ttl {} must be at least 300ms",
            shown(t.lease_ttl)
        ));
    }
    if t.tolerance.hold(t.lease_ttl) < t.lease_ttl / 2 {
        return rule(
            "[timers] drift and margin leave less than half of lease_ttl: make lease_ttl longer"
                .into(),
        );
    }
    if t.db_unhealthy_interval < t.db_beat_interval * 2 {
        return rule("[timers] db_unhealthy_interval must be at least 2 × db_beat_interval".into());
    }
    let worst = longest_takeover(t);
    if t.hold_timeout < worst {
        return rule(format!(
            "[timers] hold_timeout {} is shorter than the worst-case takeover {}: requests would fail during a failover",
            shown(t.hold_timeout),
            shown(worst)
        ));
    }
    if !wa_core::shard_map::SHARD_COUNTS.contains(&s.shard_count) {
        return rule(format!(
            "[cluster] shards = {}: write 1, 2, 4, 8, 16 or 32",
            s.shard_count
        ));
    }
    if s.node.as_str().len() > wa_core::id::NODE_ID_LEN_MAX {
        return rule(format!(
            "the node name {} is longer than {} bytes",
            s.node,
            wa_core::id::NODE_ID_LEN_MAX
        ));
    }
    Ok(())
}
