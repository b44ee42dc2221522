//! What the live page tells of the one that is selected: a node and what its death would mean, a shard, a problem.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::super::render::span_text;
use super::curves::{self, Worst};
use super::lists::{reply, told};
use super::page::Panel;
use super::paint::Tone;
use super::pen::{Pen, wrap};
use crate::api::control::NodeStatus;
use crate::api::picture::curve::Measure;
use crate::api::picture::death::{self, Harm};

/// In front of a curve, and what its figures may take behind it.
const NAME_WIDTH: usize = 10;
const FIGURES_WIDTH: usize = 32;
const CURVE_MAX: usize = 90;

fn paragraphs(
    frame: &mut Frame<'_>,
    area: Rect,
    pen: Pen<'_>,
    title: &str,
    says: Vec<Line<'static>>,
) {
    let inside = pen.panel(frame, area, title, false);
    frame.render_widget(Paragraph::new(says), inside);
}

/// A sentence over as many lines as it takes.
fn wrapped(text: &str, tone: Tone, width: u16, pen: Pen<'_>) -> Vec<Line<'static>> {
    let lines = wrap(text, usize::from(width).saturating_sub(1)).into_iter();
    lines
        .map(|line| Line::from(pen.say(format!(" {line}"), tone)))
        .collect()
}

/// One curve with its name and figures.
fn curve(
    name: &str,
    points: &[Option<u64>],
    (full, said): (Option<u64>, &dyn Fn(u64) -> String),
    width: u16,
    pen: Pen<'_>,
) -> Option<Line<'static>> {
    let known = || points.iter().flatten().copied();
    let (low, high) = (known().min()?, known().max()?);
    let now = points.last().copied().flatten();
    let now = now.map_or_else(|| "-".to_owned(), said);
    let wide = usize::from(width).saturating_sub(NAME_WIDTH + 2 + FIGURES_WIDTH);
    let line = curves::line(points, wide.min(CURVE_MAX), Worst::High, full, pen.paint);
    let figures = format!(" {now}, from {} to {}", said(low), said(high));
    Some(Line::from(vec![
        pen.say(format!(" {name:<NAME_WIDTH$}"), Tone::Quiet),
        pen.say(line, Tone::Plain),
        pen.say(figures, Tone::Plain),
    ]))
}

/// The selected node.
pub fn node(frame: &mut Frame<'_>, area: Rect, pen: Pen<'_>) {
    let (Some(status), Some(node)) = (pen.seen().status(), pen.page.node()) else {
        return;
    };
    let width = area.width;
    let (harm, would) = death::of(status, &pen.seen().explained(), node);
    let (word, tone) = match harm {
        Harm::Nothing => ("", Tone::Good),
        Harm::Little => ("", Tone::Warn),
        Harm::Outage => ("OUTAGE. ", Tone::Bad),
    };
    let mut lines = wrapped(&format!("{word}{would}"), tone, width, pen);
    if let Some(twice) = &node.twice {
        lines.extend(wrapped(&format!("TWICE: {twice}"), Tone::Bad, width, pen));
    }
    let curves = &pen.seen().curves;
    let beats = curves.points(Measure::HeartbeatAge, &node.node);
    let replies = curves.points(Measure::ReplyTime, &node.node);
    let silent = Some(status.unhealthy_interval_ms);
    lines.extend(curve("heartbeat", &beats, (silent, &span_text), width, pen));
    let said = |us: u64| reply(Some(us));
    lines.extend(curve("reply", &replies, (None, &said), width, pen));
    lines.extend(wrapped(&facts(node), Tone::Plain, width, pen));
    lines.extend(mount(node, width, pen));
    if !node.fence.is_empty() {
        let says = format!("fence of the cluster: {}", status.fence);
        lines.extend(wrapped(&says, Tone::Quiet, width, pen));
    }
    let title = format!("if {} died now", node.node);
    paragraphs(frame, area, pen, &title, lines);
}

fn facts(node: &NodeStatus) -> String {
    let beat = node.db_beat_age_ms;
    let beat = beat.map_or_else(|| "never".to_owned(), |ms| format!("{} ago", span_text(ms)));
    let mut facts = vec![format!("database beat {beat}")];
    let health = node.health.join(" ");
    for (name, value) in [
        ("gate", &node.fence),
        ("health", &health),
        ("address", &node.address),
        ("zone", &node.zone),
        ("version", &node.version),
    ] {
        if !value.is_empty() {
            facts.push(format!("{name} {value}"));
        }
    }
    facts.join(", ")
}

fn mount(node: &NodeStatus, width: u16, pen: Pen<'_>) -> Vec<Line<'static>> {
    let Some(mounts) = &pen.seen().rest.mounts else {
        return Vec::new();
    };
    let Some(mount) = mounts.iter().find(|mount| mount.node == node.node) else {
        return Vec::new();
    };
    let free = bytesize::ByteSize::b(mount.free_bytes);
    let (says, tone) = match mount.ok() {
        true => (
            format!("media directory good: {}, {free} free", mount.fs_type),
            Tone::Plain,
        ),
        false => (
            format!("MEDIA DIRECTORY {}: {}", mount.word, mount.sentence),
            Tone::Bad,
        ),
    };
    wrapped(&says, tone, width, pen)
}

/// The selected shard.
pub fn shard(frame: &mut Frame<'_>, area: Rect, pen: Pen<'_>) {
    let Some(status) = pen.seen().status() else {
        return;
    };
    let Some(shard) = status.shards.get(pen.page.at(Panel::Shards)) else {
        return;
    };
    let width = area.width;
    let explained = pen.seen().explained();
    let mut lines = Vec::new();
    if let Some(why) = explained.iter().find(|of| of.shard == shard.shard) {
        lines.extend(wrapped(&why.outcome, Tone::Plain, width, pen));
        for obstacle in &why.obstacles {
            let says = format!("OBSTACLE: {obstacle}");
            lines.extend(wrapped(&says, Tone::Bad, width, pen));
        }
        let next = match &why.successor {
            Some(successor) => format!("{successor} would take over."),
            None => "NOBODY could take over.".to_owned(),
        };
        let worst = why.worst_cases.iter().filter(|of| of.host_agent);
        let worst: Vec<String> = worst
            .map(|of| format!("{} {}", of.class, span_text(of.takeover_ms)))
            .collect();
        let within = match worst.is_empty() {
            true => String::new(),
            false => format!(" At worst it takes, by what fails: {}.", worst.join(", ")),
        };
        lines.extend(wrapped(&format!("{next}{within}"), Tone::Plain, width, pen));
    }
    let number = shard.shard.to_string();
    let points = pen.seen().curves.points(Measure::RenewalAge, &number);
    lines.extend(curve("renewed", &points, (None, &span_text), width, pen));
    if !shard.unsettled.is_empty() {
        let says = format!("Not settled yet: {}", shard.unsettled.join(", "));
        lines.extend(wrapped(&says, Tone::Warn, width, pen));
    }
    if let Some(diagnosis) = &shard.diagnosis {
        let says = format!("Diagnosis: {diagnosis}");
        lines.extend(wrapped(&says, Tone::Warn, width, pen));
    }
    let title = format!("shard {number}, generation {}", shard.generation);
    paragraphs(frame, area, pen, &title, lines);
}

/// The selected problem, the whole of it.
pub fn item(frame: &mut Frame<'_>, area: Rect, pen: Pen<'_>) {
    let items = pen.seen().items();
    let Some(item) = items.get(pen.page.at(Panel::Wrong)) else {
        return node(frame, area, pen);
    };
    let lines = told(item, usize::from(area.width), pen);
    paragraphs(frame, area, pen, "the selected one", lines);
}
