//! `wa-agent explain`: the evidence on each owner, the rule that applies, what hinders it, and the worst cases.
//! Decides nothing: it asks the core what it thinks.

use std::time::Duration;

use wa_core::id::ShardId;
use wa_core::master::{Odd, Verdict};
use wa_core::shard_map::{Phase, ShardRow};

use super::fit;
use super::view::{View, ms};
use crate::api::control::{Explanation, StoredEvidence, WorstCaseMs};
use crate::config::worst_cases;

fn span(span: Duration) -> String {
    humantime::format_duration(Duration::from_millis(ms(span))).to_string()
}

/// Every shard of the map.
pub fn all(view: &View<'_>) -> Vec<Explanation> {
    let map = view.core.map();
    let count = map.map_or(0, |m| m.master.shard_count);
    let rows = map.into_iter().flat_map(|m| &m.shards);
    rows.filter(|row| row.shard.0 < count)
        .map(|row| one(view, row))
        .collect()
}

/// What is known at the moment of a decision, for the history.
pub fn stored(view: &View<'_>, shard: Option<ShardId>, sentence: &str) -> StoredEvidence {
    let (core, now) = (view.core, view.now);
    let mut rows = core.map().into_iter().flat_map(|m| &m.shards);
    let row = rows.find(|row| Some(row.shard) == shard);
    let successor = row.and_then(|row| core.successor(now, row));
    StoredEvidence {
        sentence: sentence.into(),
        term: core.primary(now).map_or(0, |(term, _)| term.0),
        evidence: row.map_or_else(|| everybody(view), |row| evidence(view, row)),
        obstacles: row.map_or_else(Vec::new, |row| obstacles(view, row, successor.is_none())),
        successor: successor.map(|n| n.as_str().into()),
        worst_cases: worst(view),
        ..StoredEvidence::default()
    }
}

/// Who answered this master when, in short.
fn everybody(view: &View<'_>) -> Vec<String> {
    let (core, now) = (view.core, view.now);
    let peers = core.detector().peers.iter();
    peers
        .map(|(node, peer)| match peer.heard_at() {
            None => format!("{node} never answered this master"),
            Some(at) => format!("{node} answered this master {} ago", span(now.since(at))),
        })
        .collect()
}

fn one(view: &View<'_>, row: &ShardRow) -> Explanation {
    let (core, now) = (view.core, view.now);
    let (rule, outcome) = match (row.phase, core.verdict(now, row)) {
        (Phase::Handover, _) => (
            "Handover".into(),
            "the new owner acts when every earlier one is settled".into(),
        ),
        (Phase::Free, _) => ("NoOwner".into(), "a standby is promoted".into()),
        (_, Verdict::Healthy) => ("Healthy".into(), "nothing is done".into()),
        (_, Verdict::Watch(reason)) => (reason.name().to_owned(), reason.sentence().to_owned()),
        (_, Verdict::Replace { reason, .. }) => (
            reason.name().to_owned(),
            format!("it is replaced: {}", reason.sentence()),
        ),
    };
    let successor = core.successor(now, row);
    Explanation {
        shard: row.shard.0,
        phase: row.phase.as_str().into(),
        owner: row.owner.as_ref().map(|n| n.as_str().into()),
        epoch: row.epoch.0,
        rule,
        outcome,
        evidence: evidence(view, row),
        obstacles: obstacles(view, row, successor.is_none()),
        successor: successor.map(|n| n.as_str().into()),
        worst_cases: worst(view),
    }
}

fn evidence(view: &View<'_>, row: &ShardRow) -> Vec<String> {
    let (core, now) = (view.core, view.now);
    let mut facts = Vec::new();
    let Some(owner) = &row.owner else {
        return vec!["nobody is named as its owner".into()];
    };
    match core.detector().peers.get(owner) {
        None => facts.push(format!("{owner} is not asked for heartbeats")),
        Some(peer) => {
            facts.push(match peer.heard_at() {
                None => format!("{owner} never answered this master"),
                Some(at) => format!(
                    "{owner} answered this master {} ago (silent after {})",
                    span(now.since(at)),
                    span(core.detector().intervals.unhealthy)
                ),
            });
            if let Some(report) = peer.report() {
                facts.push(format!(
                    "its main loop made progress {} before that; it says: {}",
                    span(Duration::from_millis(report.progress_age_ms.into())),
                    report.health.words().collect::<Vec<_>>().join(", ")
                ));
            }
        }
    }
    if let Some(since) = core.renewal_seen(row) {
        let timers = &view.settings.timers;
        facts.push(format!(
            "its lease was seen renewed {} ago (over after {} without)",
            span(now.since(since)),
            span(timers.tolerance.challenge(row.ttl))
        ));
    }
    let mut nodes = view.table.nodes.iter();
    let beat = nodes.find(|n| n.registration.node == *owner);
    facts.extend(beat.map(|n| {
        format!(
            "its database beat is {} old (stale after {})",
            span(Duration::from_millis(n.beat_age_ms)),
            span(view.settings.timers.db_unhealthy_interval)
        )
    }));
    // The owner of the first shard carries registrations out.
    let told = view.registration.filter(|_| row.shard.0 == 0);
    facts.extend(told.map(|told| told.says.clone()));
    facts.extend(
        row.previous
            .iter()
            .map(|p| format!("before it: {} epoch {}, not settled yet", p.owner, p.epoch)),
    );
    facts
}

fn obstacles(view: &View<'_>, row: &ShardRow, nobody: bool) -> Vec<String> {
    let (core, now) = (view.core, view.now);
    let mut found = Vec::new();
    if core.primary(now).is_none() {
        found.push("this master is not primary: it decides nothing".into());
    }
    if let Some(left) = core.safe_left(now) {
        found.push(format!(
            "SAFE: the database connection is new, or the lease table was restored; no promotion for another {}",
            span(left)
        ));
    }
    if core.restored() {
        found.push(restored(view));
    }
    if core.server_changed() {
        found.push(server_changed(view));
    }
    if let Some(until) = core.paused_until(now, row.shard) {
        found.push(format!(
            "failover is paused for another {} (wa-agent resume)",
            span(until.since(now))
        ));
    }
    if let Some(until) = core.blocked_until(now, row.shard) {
        found.push(format!(
            "anti-flap: too many failovers; blocked for another {} (wa-agent ack --shard {})",
            span(until.since(now)),
            row.shard
        ));
    }
    let unfit = fit::unfit(view, row);
    if nobody && unfit.is_empty() {
        found.push("there is no other coreapp (systemctl start wa-coreapp@2)".into());
    } else if nobody {
        found.push("no other coreapp can take it over".into());
        found.extend(unfit);
    }
    found
}

/// The database is older than what it has shown before, and what to type.
pub fn restored(view: &View<'_>) -> String {
    let core = view.core;
    let shown = core.map().map_or(0, |m| m.master.epoch_high.0);
    format!(
        "the database shows epoch {shown} and has shown {} before: it was restored from an older state. Nothing is promoted until \
         you type: wa-agent adopt --reason TEXT",
        core.seen().epoch
    )
}

/// Numbers that cannot be true, who names them, what was done, and what to type.
pub fn odd_numbers(view: &View<'_>) -> Vec<String> {
    let core = view.core;
    let highest = core.map().map_or(0, |map| map.shown().0);
    core.odd_numbers()
        .iter()
        .map(|odd| odd_sentence(odd, highest))
        .collect()
}

fn odd_sentence(odd: &Odd, highest: u64) -> String {
    match odd {
        Odd::Epoch(node, epoch) => format!(
            "NumberImplausible: {node} says that it has obeyed epoch {epoch}, and the highest one ever given out is {highest}. \
             That number is ignored, and {node} gets no shard. Its file \"epoch\" in /var/lib/wa-agent is damaged, or the disk \
             is: write {highest} into it there; a running coreapp reads it again by itself"
        ),
        Odd::Term(node, term) => format!(
            "NumberImplausible: {node} says that it holds the lease under term {term}, which no master has come to. That number \
             is ignored; restart that master"
        ),
        Odd::Counter(epoch) => format!(
            "RowImplausible: row master of table lease says that epoch {} was given out, and the highest one in the shards' rows \
             is {highest}. The counter is ignored, and the next handover mends it: wa-agent switchover --shard 0",
            epoch.0.cast_signed()
        ),
        Odd::RowTerm(term) => format!(
            "RowImplausible: row master of table lease holds term {}, which no master has come to. The next master that takes \
             the lease mends it; it does that by itself",
            term.0.cast_signed()
        ),
        Odd::Row(shard, epoch) => format!(
            "RowImplausible: the row of shard {shard} in table lease holds epoch {}, and the highest one ever given out is \
             {highest}. Its owner cannot renew it; it is replaced by itself, which mends the row",
            epoch.0.cast_signed()
        ),
        Odd::GivenBack(node, times) => format!(
            "GivenBack: {node} was given a shard {times} times in a row and gave it back unused. Others are chosen before it, and \
             it is tried again every 30 s; on that machine type: wa-agent doctor, then journalctl -u 'wa-coreapp@*'"
        ),
    }
}

/// Another server answers, and who keeps it from being trusted.
pub fn server_changed(view: &View<'_>) -> String {
    let open = view.core.unaccounted();
    let names: Vec<&str> = open.iter().map(|n| n.as_str()).collect();
    if names.is_empty() {
        return "another database server took over and may lack commits; everybody is accounted for, so failover goes on in a moment".into();
    }
    format!(
        "another database server took over and may lack commits. No failover until these are accounted for: {} (answering, and \
         holding nothing or renewing there; or known to be dead). When you know that they are off: wa-agent ack --server --reason TEXT",
        names.join(", ")
    )
}

fn worst(view: &View<'_>) -> Vec<WorstCaseMs> {
    let mut timers = view.settings.timers.clone();
    let intervals = view.core.detector().intervals;
    timers.heartbeat_interval = intervals.heartbeat;
    timers.unhealthy_interval = intervals.unhealthy;
    [true, false]
        .into_iter()
        .flat_map(|host_agent| {
            let cases = worst_cases(&timers, host_agent);
            cases.into_iter().map(move |case| WorstCaseMs {
                class: case.class.to_owned(),
                host_agent,
                detection_ms: ms(case.detection),
                takeover_ms: ms(case.takeover),
            })
        })
        .collect()
}
