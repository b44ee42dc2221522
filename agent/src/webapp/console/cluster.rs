//! The page of the cluster: what is wrong, machines and nodes, shards and owners, gate and mounts.
//! Draws what `sampler.rs` saw; asks nobody.

use maud::{Markup, html};
use wa_core::alarm::Severity;
use wa_core::judgement::{self, Evidence, Grade, Kind};

use super::act::{Act, May};
use super::curve::draw;
use super::frame::{Panel, measured, moment, panel, table};
use super::guard::Visitor;
use super::sampler::{Sampler, Seen};
use super::words::{Tongue, Word};
use crate::api::alarm::AlarmStatus;
use crate::api::control::{ClusterStatus, Explanation, NodeStatus, StoredSwitchover};
use crate::api::judged::Judged;
use crate::api::picture::curve::Measure;
use crate::api::picture::death::{self, Harm};
use crate::api::picture::{NodeState, by_machine};
use crate::webapp::state::Webapp;

/// All parts of the page.
pub fn panels(webapp: &Webapp, visitor: &Visitor) -> Vec<Panel> {
    let sampler = &webapp.console;
    let seen = sampler.seen();
    let tongue = visitor.tongue;
    let may = May::of(webapp, visitor);
    let alarms: Vec<&AlarmStatus> = match &seen.status {
        Some(status) => status.other_alarms().collect(),
        None => Vec::new(),
    };
    let mut panels = vec![verdict(&judged(webapp, &seen), &alarms, may)];
    match &seen.status {
        Some(status) => {
            panels.push(masters(status, sampler, may));
            panels.push(machines(status, &seen.explained, sampler, may));
            panels.push(shards(status, &seen.explained, sampler, may));
            panels.push(gate(status, &seen, tongue));
        }
        // What stood there is old: it goes.
        None => {
            let parts = [
                ("masters", Word::Primary),
                ("machines", Word::Machines),
                ("shards", Word::Shards),
                ("gate", Word::Gate),
            ];
            panels.extend(parts.map(|(id, word)| unknown(id, word, tongue)));
        }
    }
    panels
}

/// A part of which nothing is known now.
fn unknown(id: &'static str, word: Word, tongue: Tongue) -> Panel {
    let body = html! { p.warn { (tongue.say(Word::NobodyKnows)) } };
    panel(id, &tongue.say(word), &body)
}

/// What a master judged, and what this webapp meets itself.
pub fn judged(webapp: &Webapp, seen: &Seen) -> Vec<Judged> {
    let own = judgement::judge(&Evidence {
        masters_mute: seen.at.is_some() && seen.status.is_none() && !seen.refused,
        ..webapp.map.evidence()
    });
    let told = seen.status.as_ref().map(|status| status.judged.clone());
    let older = seen.refused.then(|| Judged {
        kind: "older_master".into(),
        grade: Grade::Weak.as_str().into(),
        about: String::new(),
        says: "A master does not know this webapp's credential: it is of an older release, or has another cluster key.".into(),
        remedy: "upgrade the masters first, then the webapps; wa-agent doctor compares the keys".into(),
    });
    let own = own.iter().map(Judged::from).chain(older);
    own.chain(told.unwrap_or_default()).collect()
}

/// What helps against a problem.
fn help(may: May, judged: &Judged) -> Markup {
    let is = |kind: Kind| judged.kind == kind.as_str();
    html! {
        @if is(Kind::ServerChanged) { (may.link(Act::AckServer, &[])) }
        @if is(Kind::Restored) { (may.link(Act::Adopt, &[])) }
        @if is(Kind::Paused) { (may.link(Act::Resume, &[])) }
        @if is(Kind::EventsUnread) { (may.link(Act::RetryEvents, &[])) }
    }
}

/// Figures beyond their limits that no problem tells, as `wa-agent status` lists them.
fn beyond(alarms: &[&AlarmStatus], tongue: Tongue) -> Markup {
    html! {
        @if !alarms.is_empty() {
            h3 { (tongue.say(Word::BeyondLimits)) }
            ul.judged dir="auto" {
                @for alarm in alarms {
                    li class=(if alarm.severity == Severity::Page.as_str() { "bad" } else { "warn" }) {
                        p lang="en" { (alarm.says) " " (alarm.means) }
                        p.remedy lang="en" { strong { (tongue.say(Word::WhatToDo)) ": " } (alarm.remedy) }
                        p.quiet lang="en" { (alarm.figure) " is " (alarm.value) }
                    }
                }
            }
        }
    }
}

fn verdict(judged: &[Judged], alarms: &[&AlarmStatus], may: May) -> Panel {
    let tongue = may.tongue;
    let wrong: Vec<&Judged> = judged.iter().filter(|one| one.wrong()).collect();
    let remarks: Vec<&Judged> = judged.iter().filter(|one| !one.wrong()).collect();
    let list = |of: &[&Judged]| {
        html! {
            ul.judged dir="auto" {
                @for one in of {
                    li class=(if one.broken() { "bad" } else if one.wrong() { "warn" } else { "quiet" }) {
                        p lang="en" { (one.says) }
                        @if !one.remedy.is_empty() {
                            p.remedy lang="en" { strong { (tongue.say(Word::WhatToDo)) ": " } (one.remedy) }
                        }
                        (help(may, one))
                    }
                }
            }
        }
    };
    let body = html! {
        div role="status" {
            @if wrong.is_empty() {
                p.good.verdict { (tongue.say(Word::AllIsWell)) }
            } @else {
                (list(&wrong))
            }
            @if !remarks.is_empty() { (list(&remarks)) }
            (beyond(alarms, tongue))
        }
    };
    panel("verdict", &tongue.say(Word::WhatIsWrong), &body)
}

fn masters(status: &ClusterStatus, sampler: &Sampler, may: May) -> Panel {
    let tongue = may.tongue;
    let none = tongue.say(Word::None);
    let points = sampler.points(Measure::LeaseMargin, "");
    let label = label(tongue, Word::LeaseMargin, "ms");
    let body = html! {
        dl.facts {
            div { dt { (tongue.say(Word::Primary)) } dd { bdi { (status.primary_master.as_deref().unwrap_or(&none)) } } }
            div { dt { (tongue.say(Word::Term)) } dd { (status.term) } }
            div {
                dt { (tongue.say(Word::LeaseMargin)) }
                dd {
                    @match status.lease_margin_ms {
                        Some(ms) => { (measured(ms)) }
                        None => { "-" }
                    }
                    (draw(&points, None, &label))
                }
            }
            @if let Some(timers) = &status.timers {
                div { dt { (tongue.say(Word::TakeoverAtMost)) } dd { (measured(timers.takeover_ms)) } }
            }
            div { dt { (tongue.say(Word::Version)) } dd { bdi { (status.version) } } }
        }
        @if may.act(Act::Pause) {
            p.acts { (may.link(Act::Pause, &[])) (may.link(Act::Resume, &[])) }
        }
    };
    panel("masters", &tongue.say(Word::Primary), &body)
}

/// The name of a curve, for people and for screen readers.
fn label(tongue: Tongue, word: Word, unit: &str) -> String {
    format!(
        "{} ({unit}), {}",
        tongue.say(word),
        tongue.say(Word::LastMinutes)
    )
}

fn machines(
    status: &ClusterStatus,
    explained: &[Explanation],
    sampler: &Sampler,
    may: May,
) -> Panel {
    let tongue = may.tongue;
    let body = html! {
        div.machines {
            @for (machine, nodes) in by_machine(&status.nodes) {
                article.machine {
                    h3 {
                        bdi { (machine) }
                        @if let Some(zone) = nodes.first().map(|node| &node.zone).filter(|zone| !zone.is_empty()) {
                            span.quiet { " " (tongue.say(Word::Zone)) " " bdi { (zone) } }
                        }
                    }
                    div.nodes { @for node in nodes { (tile(status, explained, node, (sampler, may))) } }
                }
            }
        }
    };
    panel("machines", &tongue.say(Word::Machines), &body)
}

/// The word of a node's state, and its class.
fn state(status: &ClusterStatus, node: &NodeStatus, tongue: Tongue) -> (String, &'static str) {
    match NodeState::of(status, node) {
        NodeState::Twice => ("TWICE".into(), "bad"),
        NodeState::Silent => (tongue.say(Word::Silent).into_owned(), "bad"),
        NodeState::Owner(shards) => {
            let shards: Vec<String> = shards.iter().map(u16::to_string).collect();
            let shards = shards.join(", ");
            (format!("{} {shards}", tongue.say(Word::Owner)), "good")
        }
        NodeState::Primary => (tongue.say(Word::Primary).into_owned(), "good"),
        NodeState::Backup => (tongue.say(Word::Backup).into_owned(), "quiet"),
        NodeState::Up => (String::new(), "quiet"),
    }
}

/// The word of a harm in classes of the style sheet.
fn class_of(harm: Harm) -> &'static str {
    match harm {
        Harm::Nothing => "good",
        Harm::Little => "warn",
        Harm::Outage => "bad",
    }
}

fn tile(
    status: &ClusterStatus,
    explained: &[Explanation],
    node: &NodeStatus,
    (sampler, may): (&Sampler, May),
) -> Markup {
    let tongue = may.tongue;
    let (word, class) = state(status, node, tongue);
    let (harm, would) = death::of(status, explained, node);
    let curve = |measure, word, unit, bound| {
        let points = sampler.points(measure, &node.node);
        let newest = points.last().copied().flatten();
        html! {
            @if !points.is_empty() {
                figure {
                    figcaption {
                        (tongue.say(word))
                        @match (newest, unit) {
                            (Some(ms), "ms") => { " " (measured(ms)) }
                            (Some(newest), unit) => { " " bdi { (newest) " " (unit) } }
                            (None, _) => {}
                        }
                    }
                    (draw(&points, bound, &label(tongue, word, unit)))
                }
            }
        }
    };
    let unhealthy = Some(status.unhealthy_interval_ms);
    html! {
        div class=(format!("node {class}")) {
            h4 { bdi { (node.node) } @if !word.is_empty() { " " span.badge { (word) } } }
            p.quiet {
                bdi { (node.address) }
                @if let Some(ms) = node.db_beat_age_ms { ", " (tongue.say(Word::Beat)) " " (measured(ms)) }
                @if !node.version.is_empty() { ", " bdi { (node.version) } }
            }
            @if !node.health.is_empty() { p.quiet { (tongue.say(Word::Health)) ": " bdi { (node.health.join(", ")) } } }
            div.curves {
                (curve(Measure::HeartbeatAge, Word::Heartbeat, "ms", unhealthy))
                (curve(Measure::ReplyTime, Word::ReplyTime, "µs", None))
            }
            p class=(format!("death {}", class_of(harm))) { strong { (tongue.say(Word::IfItDied)) ": " } span lang="en" dir="auto" { (would) } }
            (of_node(may, node))
        }
    }
}

/// What can be done with a node.
fn of_node(may: May, node: &NodeStatus) -> Markup {
    let drained = node.health.iter().any(|word| word == "draining");
    let of = |act| may.link(act, &[("node", &node.node)]);
    html! {
        p.acts {
            @if node.role == "coreapp" { (of(if drained { Act::Undrain } else { Act::Drain })) }
            @if !node.healthy { (of(Act::Forget)) }
        }
    }
}

fn shards(status: &ClusterStatus, explained: &[Explanation], sampler: &Sampler, may: May) -> Panel {
    let tongue = may.tongue;
    let mut heads = vec![
        Word::Shard,
        Word::Owner,
        Word::Phase,
        Word::Epoch,
        Word::Renewed,
        Word::Successor,
        Word::Diagnosis,
    ];
    if may.act(Act::Switchover) {
        heads.push(Word::Acts);
    }
    let row = |shard: &crate::api::control::ShardStatus| {
        let why = explained.iter().find(|e| e.shard == shard.shard);
        let points = sampler.points(Measure::RenewalAge, &shard.shard.to_string());
        let owner = shard.owner.as_deref().unwrap_or("-");
        let class = if shard.phase == "active" {
            "good"
        } else {
            "warn"
        };
        let mut row = vec![
            html! { (shard.shard) },
            html! {
                bdi { (owner) }
                @if !shard.unsettled.is_empty() {
                    p.warn { (tongue.say(Word::Unsettled)) ": " bdi { (shard.unsettled.join(", ")) } }
                }
            },
            html! { span class=(format!("badge {class}")) { (shard.phase) } },
            html! { (shard.epoch) },
            html! {
                @match shard.renewal_age_ms { Some(ms) => { (measured(ms)) } None => { "-" } }
                (draw(&points, None, &label(tongue, Word::Renewed, "ms")))
            },
            html! { bdi { (why.and_then(|e| e.successor.as_deref()).unwrap_or("-")) } },
            html! {
                (shard.diagnosis.as_deref().unwrap_or("-"))
                @if let Some(why) = why.filter(|why| !why.obstacles.is_empty()) {
                    ul { @for obstacle in &why.obstacles { li lang="en" { (obstacle) } } }
                }
            },
        ];
        if may.act(Act::Switchover) {
            let obstacles = why.map_or(&[][..], |why| &why.obstacles);
            let blocked = obstacles
                .iter()
                .any(|why| why.contains("wa-agent ack --shard"));
            row.push(of_shard(may, shard.shard, blocked));
        }
        row
    };
    let rows: Vec<Vec<Markup>> = status.shards.iter().map(row).collect();
    let title = tongue.say(Word::Shards);
    let heads: Vec<_> = heads.into_iter().map(|word| tongue.say(word)).collect();
    let body = html! {
        (table(&title, &heads, &rows))
        (planned(may, &status.planned))
    };
    panel("shards", &title, &body)
}

/// What can be done with a shard; `blocked`: it failed over too often.
fn of_shard(may: May, shard: u16, blocked: bool) -> Markup {
    let shard = shard.to_string();
    let of = |act| may.link(act, &[("shard", &shard)]);
    html! { span.acts { (of(Act::Switchover)) (of(Act::Failover)) @if blocked { (of(Act::Ack)) } } }
}

/// Switchovers that wait for their time.
fn planned(may: May, list: &[StoredSwitchover]) -> Markup {
    let tongue = may.tongue;
    let at = |ms: u64| moment(i64::try_from(ms).unwrap_or(i64::MAX));
    html! {
        @if !list.is_empty() {
            h3 { (tongue.say(Word::Planned)) }
            ul.plain {
                @for one in list {
                    li {
                        time { (at(one.at_ms)) } ": " (tongue.say(Word::Shard)) " " (one.shard)
                        @if let Some(to) = &one.to { ", " bdi { (to) } }
                        " " (may.link(Act::CancelSwitchover, &[("shard", &one.shard.to_string())]))
                    }
                }
            }
        }
    }
}

fn gate(status: &ClusterStatus, seen: &Seen, tongue: Tongue) -> Panel {
    let fenced = status.nodes.iter().filter(|node| !node.fence.is_empty());
    let nodes: Vec<Vec<Markup>> = fenced
        .map(|node| {
            let class = if node.fence == "bpf" { "good" } else { "warn" };
            vec![
                html! { bdi { (node.node) } },
                html! { span class=(format!("badge {class}")) { (node.fence) } },
            ]
        })
        .collect();
    let mounts: Vec<Vec<Markup>> = seen
        .mounts
        .iter()
        .map(|mount| {
            let class = if mount.ok() { "good" } else { "bad" };
            let free = bytesize::ByteSize::b(mount.free_bytes);
            vec![
                html! { bdi { (mount.node) } },
                html! { span class=(format!("badge {class}")) { (mount.word) } " " bdi { (mount.fs_type) } " " bdi { (free) } },
                html! { span lang="en" dir="auto" { (mount.sentence) } },
            ]
        })
        .collect();
    let node = tongue.say(Word::Node);
    let (gate, mount) = (tongue.say(Word::Gate), tongue.say(Word::Mounts));
    let body = html! {
        p lang="en" dir="auto" { (status.fence) }
        (table(&gate, &[node.clone(), gate.clone()], &nodes))
        @if !mounts.is_empty() {
            (table(&mount, &[node, tongue.say(Word::Health), tongue.say(Word::WhatToDo)], &mounts))
        }
    };
    let title = format!("{gate}, {mount}");
    panel("gate", &title, &body)
}
