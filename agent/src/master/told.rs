//! What a master says of the cluster in its own words, beside what is judged from the evidence.
//! Judges nothing.

use std::time::Duration;

use wa_core::id::NodeId;
use wa_core::judgement::{self, Kind};
use wa_core::master::Fence;
use wa_core::reason::Reason;
use wa_core::registration::Told;
use wa_core::time::Instant;

use super::table::{Heard, Table};
use super::view::View;
use super::{explain, fit, intervals, rewinds, spread};
use crate::api::control::NodeStatus;
use crate::api::internal::{STATUS_UNREGISTERED, UNREGISTERED};

/// What this role says in its own words, by kind.
pub fn told(view: &View<'_>, nodes: &[NodeStatus]) -> Vec<(Kind, String)> {
    let core = view.core;
    let map = core.map();
    let mut all = Vec::new();
    let mut tell = |kind, said: Vec<String>| all.extend(said.into_iter().map(|s| (kind, s)));
    if core.restored() {
        tell(Kind::Restored, vec![explain::restored(view)]);
    }
    if let Some(by) = view.rewound {
        tell(Kind::Rewound, vec![rewinds::sentence(by)]);
    }
    if core.server_changed() {
        tell(Kind::ServerChanged, vec![explain::server_changed(view)]);
    }
    tell(Kind::OddNumber, explain::odd_numbers(view));
    tell(Kind::Late, late(view));
    let in_force = core.detector().intervals;
    let timers = intervals::sentence(in_force, &view.settings.timers);
    tell(Kind::TimersByApi, timers.into_iter().collect());
    let (paused, drained) = by_operators(view);
    tell(Kind::Paused, paused);
    tell(Kind::Drained, drained);
    tell(Kind::ShardBlocked, blocked(view));
    let (runs, stopped) = registration(view);
    tell(Kind::RegistrationRuns, runs);
    tell(Kind::RegistrationStopped, stopped);
    if let Some((kind, says)) = view.certificate {
        tell(*kind, vec![says.clone()]);
    }
    tell(Kind::Unregistered, unregistered(view));
    tell(Kind::Voided, view.voided.to_vec());
    if view.settings.fence == Fence::Required {
        tell(Kind::Ungated, ungated(view, nodes));
    }
    tell(Kind::EventsUnread, view.table.news.unread());
    tell(Kind::AccountNews, view.table.news.account());
    tell(Kind::OlderNode, older(&view.table, view.now));
    let mounts = &view.table.mounts;
    let broken = mounts.iter().filter(|mount| !mount.ok());
    let broken = broken.map(|mount| format!("{}: media: {}", mount.node, mount.sentence));
    tell(Kind::Media, broken.collect());
    // A development cluster is on one machine by design.
    if !view.settings.development {
        let rows = map.map(|m| m.shards.as_slice()).unwrap_or_default();
        let owners: Vec<NodeId> = rows.iter().filter_map(|row| row.owner.clone()).collect();
        tell(Kind::Spread, spread::warnings(&view.table.nodes, &owners));
    }
    all
}

/// By how much the timers of each master were late lately, as far as this one knows.
pub fn lateness<'a>(view: &'a View<'_>) -> impl Iterator<Item = (&'a NodeId, u32)> {
    let own = (&view.settings.node, view.lateness_ms);
    let others = view.core.voices(view.now);
    let others = others.map(|(node, voice)| (node, voice.lateness_ms));
    std::iter::once(own).chain(others)
}

/// Masters whose own timers were late by more than makes anybody silent: what they say then is about themselves.
fn late(view: &View<'_>) -> Vec<String> {
    let unhealthy = view.core.detector().intervals.unhealthy;
    let late = lateness(view).filter(|(_, ms)| Duration::from_millis(u64::from(*ms)) >= unhealthy);
    late.map(|(node, ms)| {
        format!(
            "{node} was late by {ms} ms lately: it abstains from judging by such rounds; look at load and pauses of that machine \
             (wa-agent doctor)"
        )
    })
    .collect()
}

/// What operators switched off, and may have forgotten: pauses, and drained nodes.
fn by_operators(view: &View<'_>) -> (Vec<String>, Vec<String>) {
    let now = view.now;
    let pauses = view.pauses.iter().filter(|(_, until)| now < **until);
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
    let nodes = view.core.map().into_iter().flat_map(|m| &m.nodes);
    let drained = nodes.filter(|n| n.draining).map(|n| {
        format!(
            "{} is drained: it takes no shard (wa-agent undrain {})",
            n.node, n.node
        )
    });
    (pauses.collect(), drained.collect())
}

/// The registration of the number: one that runs or waits, and one that came to nothing.
fn registration(view: &View<'_>) -> (Vec<String>, Vec<String>) {
    let told = view.registration.into_iter();
    let (stopped, runs): (Vec<_>, Vec<_>) = told.partition(|told| told.wrong);
    let says = |told: Vec<&Told>| told.into_iter().map(|told| told.says.clone()).collect();
    (says(runs), says(stopped))
}

/// Coreapps that do not know how this release looks: they work, and nobody here sees how.
pub(super) fn older(table: &Table, now: Instant) -> Vec<String> {
    let older: Vec<&str> = table.older(now).collect();
    let said = match older.len() {
        0 => return Vec::new(),
        1 => {
            "is of an older release, and refuses this master's questions (401): its figures are missing, and its problems are not told \
              here. It serves requests. To see them, upgrade wa-agent there"
        }
        _ => {
            "are of an older release, and refuse this master's questions (401): their figures are missing, and their problems are not \
              told here. They serve requests. To see them, upgrade wa-agent there"
        }
    };
    vec![format!("{} {said}", older.join(", "))]
}

/// Once, whoever says it: all owners have one number.
fn unregistered(view: &View<'_>) -> Vec<String> {
    let mut words = view.table.words.values();
    let says = |heard: &Heard| {
        let answer = heard.answer.as_ref();
        answer.is_some_and(|(at, answer)| {
            answer.gateway_status == STATUS_UNREGISTERED
                && view.now.since(*at) <= judgement::WORD_AGE_MAX
        })
    };
    let said = words.any(says);
    said.then(|| UNREGISTERED.to_owned()).into_iter().collect()
}

/// Shards that have to move and wait for a successor, and why nobody is one. That a shard which need not move has no
/// standby is judged from the evidence.
fn blocked(view: &View<'_>) -> Vec<String> {
    let core = view.core;
    let Some(map) = core.map() else {
        return Vec::new();
    };
    let mut out = Vec::new();
    let rows = map.shards.iter();
    for row in rows.filter(|row| row.shard.0 < map.master.shard_count) {
        let Some(reason @ (Reason::NoStandby | Reason::NoGatedStandby)) =
            core.verdict_reason(row.shard)
        else {
            continue;
        };
        out.push(fit::nobody(row.shard, reason));
        out.extend(fit::unfit(view, row));
    }
    out
}

/// Coreapps that nobody promotes, and why.
fn ungated(view: &View<'_>, nodes: &[NodeStatus]) -> Vec<String> {
    let without = |n: &&NodeStatus| {
        n.role == "coreapp" && n.healthy && n.heartbeat_age_ms.is_some() && n.fence != "bpf"
    };
    let without = nodes.iter().filter(without);
    let sentence = |n: &NodeStatus| {
        let why = view.table.fence_of(&n.node).map(|word| &word.sentence);
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
