//! The panels of the live page that have lines to select: nodes by machine, shards, what is wrong, decisions.
//! Each shows as many lines as it has rows, around the selected one.

use std::ops::Range;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::super::render::{clock_text, span_text};
use super::curves::{self, Worst};
use super::page::{Item, Panel, Weight};
use super::paint::Tone;
use super::pen::{Pen, cut, width_of, wrap};
use crate::api::control::{ClusterStatus, DecisionStatus, NodeStatus, ShardStatus};
use crate::api::picture::curve::Measure;
use crate::api::picture::{NodeState, machine_of};

/// Of a curve in a table.
const CURVE_MIN: usize = 8;
const CURVE_MAX: usize = 30;
/// Lines of one problem in the list; the whole of it is told where it is selected.
const ITEM_LINES_MAX: usize = 4;

/// One column of a table.
struct Column {
    head: &'static str,
    /// No column is wider.
    most: usize,
    /// The highest goes first where there is no room for all; 0 stays.
    rank: u8,
    of: Of,
}

/// What stands in a column, a cell for each row.
enum Of {
    Text(Vec<(String, Tone)>),
    Curve {
        points: Vec<Vec<Option<u64>>>,
        full: Option<u64>,
    },
}

impl Column {
    fn text(head: &'static str, most: usize, rank: u8, of: Vec<(String, Tone)>) -> Self {
        let of = Of::Text(of);
        Self {
            head,
            most,
            rank,
            of,
        }
    }

    fn curve(rank: u8, points: Vec<Vec<Option<u64>>>, full: Option<u64>) -> Self {
        Self {
            head: "15 min",
            most: CURVE_MAX,
            rank,
            of: Of::Curve { points, full },
        }
    }

    /// What it takes at least.
    fn width(&self) -> usize {
        let wanted = match &self.of {
            Of::Text(cells) => cells.iter().map(|(text, _)| width_of(text)).max(),
            Of::Curve { .. } => Some(CURVE_MIN),
        };
        wanted
            .unwrap_or(0)
            .min(self.most)
            .max(width_of(self.head).min(self.most))
    }

    fn cell(&self, row: usize, width: usize, pen: Pen<'_>) -> (String, Tone) {
        match &self.of {
            Of::Text(cells) => {
                let (text, tone) = cells
                    .get(row)
                    .cloned()
                    .unwrap_or((String::new(), Tone::Plain));
                (cut(&text, width, pen.paint), tone)
            }
            Of::Curve { points, full } => {
                let points = points.get(row).map_or(&[][..], Vec::as_slice);
                let line = curves::line(points, width, Worst::High, *full, pen.paint);
                (line, Tone::Plain)
            }
        }
    }
}

/// Columns that fit, with their widths.
fn fitting(mut columns: Vec<Column>, width: usize) -> Vec<(Column, usize)> {
    let taken = |columns: &[Column]| columns.iter().map(|of| of.width() + 1).sum::<usize>();
    while taken(&columns) > width {
        let last = columns.iter().map(|of| of.rank).max().unwrap_or(0);
        if last == 0 {
            break;
        }
        columns.retain(|of| of.rank != last);
    }
    let left = width.saturating_sub(taken(&columns));
    let curves = columns
        .iter()
        .filter(|of| matches!(of.of, Of::Curve { .. }))
        .count();
    let more = left.checked_div(curves).unwrap_or(0);
    let widths: Vec<usize> = columns
        .iter()
        .map(|of| match of.of {
            Of::Text(_) => of.width(),
            Of::Curve { .. } => (of.width() + more).min(CURVE_MAX),
        })
        .collect();
    columns.into_iter().zip(widths).collect()
}

/// Rows that are shown of all.
fn window(selected: usize, all: usize, rows: usize) -> Range<usize> {
    let from = selected.saturating_sub(rows / 2);
    let from = from.min(all.saturating_sub(rows));
    from..all.min(from + rows)
}

/// A line of cells; the selected one can be told by its sign and by its colours.
fn row(
    cells: &[(String, usize, Tone)],
    selected: bool,
    width: usize,
    pen: Pen<'_>,
) -> Line<'static> {
    let sign = if selected { pen.paint.selected() } else { " " };
    let mut spans = vec![Span::raw(sign)];
    let mut used = 1;
    for (text, wide, tone) in cells {
        let gap = " ".repeat((wide + 1).saturating_sub(width_of(text)));
        used += wide + 1;
        spans.push(Span::styled(text.clone(), pen.paint.style(*tone)));
        spans.push(Span::raw(gap));
    }
    spans.push(Span::raw(" ".repeat(width.saturating_sub(used))));
    let style = match selected {
        true => Style::new().add_modifier(Modifier::REVERSED),
        false => Style::new(),
    };
    Line::from(spans).style(style)
}

fn table(
    frame: &mut Frame<'_>,
    area: Rect,
    pen: Pen<'_>,
    (panel, name, all): (Panel, &str, usize),
    columns: Vec<Column>,
) {
    let at = pen.page.at(panel);
    let chosen = pen.page.panel == panel;
    let inside = pen.panel(frame, area, &title(name, at, all), chosen);
    let width = usize::from(inside.width);
    let columns = fitting(columns, width.saturating_sub(1));
    let heads: Vec<_> = columns
        .iter()
        .map(|(of, wide)| (cut(of.head, *wide, pen.paint), *wide, Tone::Quiet))
        .collect();
    let mut lines = vec![row(&heads, false, width, pen)];
    let rows = usize::from(inside.height).saturating_sub(1);
    for n in window(at, all, rows) {
        let cells: Vec<_> = columns
            .iter()
            .map(|(of, wide)| {
                let (text, tone) = of.cell(n, *wide, pen);
                (text, *wide, tone)
            })
            .collect();
        lines.push(row(&cells, chosen && n == at, width, pen));
    }
    frame.render_widget(Paragraph::new(lines), inside);
}

/// What is in a panel, and where one stands in it.
fn title(name: &str, at: usize, all: usize) -> String {
    match all {
        0 => format!("{name}: none"),
        _ => format!("{name} {} of {all}", at + 1),
    }
}

fn rows_of(count: usize, more: u16) -> u16 {
    u16::try_from(count)
        .unwrap_or(u16::MAX)
        .saturating_add(more)
}

/// Rows that all nodes take.
pub fn nodes_height(pen: Pen<'_>) -> u16 {
    rows_of(pen.seen().nodes().len(), 2)
}

/// The word of a node's state.
pub fn state(status: &ClusterStatus, node: &NodeStatus) -> (String, Tone) {
    let draining = node.health.iter().any(|word| word == "draining");
    let (word, tone) = match NodeState::of(status, node) {
        NodeState::Twice => ("TWICE".to_owned(), Tone::Bad),
        NodeState::Silent => ("SILENT".to_owned(), Tone::Bad),
        NodeState::Owner(shards) => {
            let shards: Vec<String> = shards.iter().map(u16::to_string).collect();
            (format!("owner {}", shards.join(",")), Tone::Good)
        }
        NodeState::Primary => ("primary".to_owned(), Tone::Good),
        NodeState::Backup => ("backup".to_owned(), Tone::Plain),
        NodeState::Up => ("up".to_owned(), Tone::Plain),
    };
    match draining {
        true => (format!("{word} drained"), Tone::Warn),
        false => (word, tone),
    }
}

/// Since a node answered. Webapps are not asked, and nobody asks himself.
pub fn heartbeat(status: &ClusterStatus, node: &NodeStatus) -> String {
    let asked = node.role != "webapp" && node.node != status.node;
    match node.heartbeat_age_ms {
        Some(ms) if asked => span_text(ms),
        None if asked => "never".to_owned(),
        Some(_) | None => "-".to_owned(),
    }
}

/// A round trip.
pub fn reply(us: Option<u64>) -> String {
    us.map_or_else(
        || "-".to_owned(),
        |us| match us {
            0..=9_999 => format!("{us}us"),
            _ => span_text(us / 1000),
        },
    )
}

pub fn nodes(frame: &mut Frame<'_>, area: Rect, pen: Pen<'_>) {
    let Some(status) = pen.seen().status() else {
        return;
    };
    let nodes = pen.seen().nodes();
    let columns = node_columns(pen, status, &nodes);
    let wrong = nodes
        .iter()
        .filter(|node| NodeState::of(status, node).wrong());
    // Also of those that are out of sight.
    let name = match wrong.count() {
        0 => "nodes".to_owned(),
        count => format!("nodes ({count} WRONG)"),
    };
    table(
        frame,
        area,
        pen,
        (Panel::Nodes, &name, nodes.len()),
        columns,
    );
}

fn node_columns(pen: Pen<'_>, status: &ClusterStatus, nodes: &[&NodeStatus]) -> Vec<Column> {
    let text = |head, most, rank, cell: &dyn Fn(&NodeStatus) -> (String, Tone)| {
        let cells = nodes.iter().map(|node| cell(node));
        Column::text(head, most, rank, cells.collect())
    };
    let curve = |rank, measure, full| {
        let points = |node: &&NodeStatus| pen.seen().curves.points(measure, &node.node);
        Column::curve(rank, nodes.iter().map(points).collect(), full)
    };
    let silent = Some(status.unhealthy_interval_ms);
    let beat = |node: &NodeStatus| {
        node.db_beat_age_ms
            .map_or_else(|| "never".into(), span_text)
    };
    vec![
        text("machine", 24, 0, &|node| {
            (machine_of(&node.node).to_owned(), Tone::Quiet)
        }),
        text("node", 14, 0, &|node| plain(name_of(node))),
        text("state", 16, 0, &|node| state(status, node)),
        text("heartbeat", 9, 0, &|node| plain(heartbeat(status, node))),
        curve(3, Measure::HeartbeatAge, silent),
        text("reply", 8, 2, &|node| plain(reply(node.reply_us))),
        curve(5, Measure::ReplyTime, None),
        text("db beat", 8, 4, &|node| plain(beat(node))),
        text("gate", 8, 1, &gate),
        text("mount", 12, 1, &|node| mount(pen, node)),
        text("health", 40, 6, &|node| plain(node.health.join(" "))),
    ]
}

fn plain(text: String) -> (String, Tone) {
    (text, Tone::Plain)
}

/// Without its machine.
fn name_of(node: &NodeStatus) -> String {
    let machine = machine_of(&node.node).len();
    node.node[machine..].trim_start_matches(':').to_owned()
}

fn gate(node: &NodeStatus) -> (String, Tone) {
    match node.fence.as_str() {
        "" => plain("-".into()),
        "bpf" => ("bpf".into(), Tone::Good),
        other => (other.to_owned(), Tone::Warn),
    }
}

fn mount(pen: Pen<'_>, node: &NodeStatus) -> (String, Tone) {
    let mounts = pen.seen().rest.mounts.as_deref().unwrap_or_default();
    match mounts.iter().find(|mount| mount.node == node.node) {
        Some(mount) if mount.ok() => plain(mount.word.clone()),
        Some(mount) => (mount.word.to_uppercase(), Tone::Bad),
        None => plain("-".into()),
    }
}

/// Rows that all shards take.
pub fn shards_height(pen: Pen<'_>) -> u16 {
    let shards = pen.seen().status().map_or(0, |status| status.shards.len());
    rows_of(shards, 2)
}

pub fn shards(frame: &mut Frame<'_>, area: Rect, pen: Pen<'_>) {
    let Some(status) = pen.seen().status() else {
        return;
    };
    let count = status.shards.len();
    let columns = shard_columns(pen, &status.shards);
    table(frame, area, pen, (Panel::Shards, "shards", count), columns);
}

fn shard_columns(pen: Pen<'_>, shards: &[ShardStatus]) -> Vec<Column> {
    let text = |head, most, rank, cell: &dyn Fn(&ShardStatus) -> (String, Tone)| {
        Column::text(head, most, rank, shards.iter().map(cell).collect())
    };
    let points = |shard: &ShardStatus| {
        let number = shard.shard.to_string();
        pen.seen().curves.points(Measure::RenewalAge, &number)
    };
    let explained = pen.seen().explained();
    let or_none = |text: Option<&str>| plain(text.unwrap_or("-").to_owned());
    let next = |shard: &ShardStatus| {
        let why = explained.iter().find(|of| of.shard == shard.shard);
        or_none(why.and_then(|of| of.successor.as_deref()))
    };
    let renewed = |shard: &ShardStatus| {
        let age = shard.renewal_age_ms;
        age.map_or_else(|| "never".to_owned(), span_text)
    };
    vec![
        text("shard", 5, 0, &|shard| plain(shard.shard.to_string())),
        text("phase", 12, 0, &phase),
        text("owner", 30, 0, &|shard| or_none(shard.owner.as_deref())),
        text("epoch", 8, 2, &|shard| plain(shard.epoch.to_string())),
        text("renewed", 8, 1, &|shard| plain(renewed(shard))),
        Column::curve(4, shards.iter().map(points).collect(), None),
        text("next owner", 30, 3, &next),
        text("unsettled", 24, 5, &unsettled),
        text("diagnosis", 30, 6, &|shard| {
            or_none(shard.diagnosis.as_deref())
        }),
    ]
}

fn phase(shard: &ShardStatus) -> (String, Tone) {
    match shard.phase.as_str() {
        "active" => ("active".to_owned(), Tone::Good),
        other => (other.to_uppercase(), Tone::Warn),
    }
}

fn unsettled(shard: &ShardStatus) -> (String, Tone) {
    match shard.unsettled.is_empty() {
        true => plain("-".into()),
        false => (shard.unsettled.join(" "), Tone::Warn),
    }
}

/// The lines of one problem.
pub fn told(item: &Item, width: usize, pen: Pen<'_>) -> Vec<Line<'static>> {
    let tone = match item.weight {
        Weight::Broken => Tone::Bad,
        Weight::Weak | Weight::Figure | Weight::Planned => Tone::Warn,
        Weight::Remark => Tone::Quiet,
    };
    let word = item.weight.word();
    let mut lines: Vec<Line<'static>> = Vec::new();
    for (n, text) in wrap(&format!("{word}: {}", item.says), width)
        .into_iter()
        .enumerate()
    {
        let line = match text.strip_prefix(word) {
            Some(rest) if n == 0 => {
                Line::from(vec![pen.say(word, tone), pen.say(rest, Tone::Plain)])
            }
            Some(_) | None => Line::from(pen.say(text, Tone::Plain)),
        };
        lines.push(line);
    }
    if !item.remedy.is_empty() {
        let remedy = wrap(
            &format!("what to do: {}", item.remedy),
            width.saturating_sub(2),
        );
        lines.extend(
            remedy
                .into_iter()
                .map(|line| Line::from(pen.say(format!("  {line}"), Tone::Head))),
        );
    }
    lines
}

/// What all of it takes in the list.
fn listed(pen: Pen<'_>, width: u16) -> Vec<Vec<Line<'static>>> {
    let width = usize::from(width).saturating_sub(2);
    let short = |item: &Item| {
        let mut lines = told(item, width, pen);
        lines.truncate(ITEM_LINES_MAX);
        lines
    };
    pen.seen().items().iter().map(short).collect()
}

/// Rows that everything takes that is wrong.
pub fn wrong_height(pen: Pen<'_>, width: u16) -> u16 {
    let lines: usize = listed(pen, width).iter().map(Vec::len).sum();
    rows_of(lines.max(1), 1)
}

pub fn wrong(frame: &mut Frame<'_>, area: Rect, pen: Pen<'_>) {
    let items = pen.seen().items();
    let bad = items
        .iter()
        .filter(|item| item.weight != Weight::Remark && item.weight != Weight::Planned);
    let name = match bad.count() {
        0 => "nothing is wrong",
        _ => "WHAT IS WRONG",
    };
    let blocks = listed(pen, area.width);
    if blocks.is_empty() {
        let inside = pen.panel(frame, area, "what is wrong", pen.page.panel == Panel::Wrong);
        frame.render_widget(
            Line::from(pen.say("  Nothing is wrong.", Tone::Good)),
            inside,
        );
        return;
    }
    below_each_other(frame, area, pen, (Panel::Wrong, name), blocks);
}

pub fn decisions(frame: &mut Frame<'_>, area: Rect, pen: Pen<'_>) {
    let width = usize::from(area.width).saturating_sub(2);
    let one = |of: &&DecisionStatus| {
        let shard = of
            .shard
            .map_or_else(String::new, |shard| format!(" shard {shard}"));
        let at = clock_text(of.at_unix_s);
        let says = format!("{at}{shard} {}: {} ({})", of.what, of.sentence, of.reason);
        let lines = wrap(&says, width).into_iter();
        lines
            .map(|line| Line::from(pen.say(line, Tone::Plain)))
            .collect()
    };
    let blocks: Vec<Vec<Line<'static>>> = pen.seen().decisions().iter().map(one).collect();
    below_each_other(
        frame,
        area,
        pen,
        (Panel::Decisions, "newest decisions"),
        blocks,
    );
}

/// Blocks of lines, the selected one in sight.
fn below_each_other(
    frame: &mut Frame<'_>,
    area: Rect,
    pen: Pen<'_>,
    (panel, name): (Panel, &str),
    blocks: Vec<Vec<Line<'static>>>,
) {
    let at = pen.page.at(panel);
    let chosen = pen.page.panel == panel;
    let inside = pen.panel(frame, area, &title(name, at, blocks.len()), chosen);
    let before: usize = blocks.iter().take(at).map(Vec::len).sum();
    let all: usize = blocks.iter().map(Vec::len).sum();
    let rows = usize::from(inside.height);
    let own = blocks.get(at).map_or(0, Vec::len);
    // The first lines while the selected one is among them.
    let from = match before + own <= rows {
        true => 0,
        false => before.min(all.saturating_sub(rows)),
    };
    let mut lines = Vec::new();
    for (n, block) in blocks.into_iter().enumerate() {
        for (line_at, mut line) in block.into_iter().enumerate() {
            let sign = match chosen && n == at && line_at == 0 {
                true => pen.paint.selected(),
                false => " ",
            };
            line.spans.insert(0, Span::raw(format!("{sign} ")));
            lines.push(line);
        }
    }
    let shown: Vec<Line<'static>> = lines.into_iter().skip(from).take(rows).collect();
    frame.render_widget(Paragraph::new(shown), inside);
}
