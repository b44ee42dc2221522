//! Draws the live page: the head, what is below it at which size, and the last line. Panels are drawn by `lists.rs` and `detail.rs`.
//! Asks nobody.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph};
use wa_core::time::Instant;

use super::super::render::span_text;
use super::curves::{self, Worst};
use super::keys::HELP;
use super::page::{Fresh, Page, Panel};
use super::paint::{Paint, Tone, harmless};
use super::pen::{Pen, split, wrap};
use super::{detail, lists};
use crate::api::control::ClusterStatus;
use crate::api::picture::curve::{Measure, REACH};

/// Below that there is no room for a page.
pub const WIDTH_MIN: u16 = 40;
pub const HEIGHT_MIN: u16 = 10;
/// From there on panels stand beside each other.
const WIDE: u16 = 120;
const HIGH: u16 = 24;
/// A lower page has a head of few lines.
const HIGH_HEAD: u16 = 30;
const HEAD_MAX: usize = 3;
/// Of the curve in the head.
const MARGIN_WIDTH: usize = 20;
/// The smallest heights of panels below each other, with their titles.
const NODES_MIN: u16 = 6;
const DETAIL_MIN: u16 = 5;

/// The whole page, at any size.
pub fn page(frame: &mut Frame<'_>, page: &Page, paint: Paint, now: Instant) {
    let area = frame.area();
    let pen = Pen { page, paint, now };
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        let says = format!(
            "This terminal has {} columns and {} rows. The page needs {WIDTH_MIN} and {HEIGHT_MIN}. Make it larger; q ends.",
            area.width, area.height
        );
        frame.render_widget(paragraph(&says, area.width, paint.style(Tone::Plain)), area);
    } else {
        whole(frame, area, pen);
    }
    scrub(frame);
}

/// Nothing that others wrote steers the terminal, whichever way it came here.
fn scrub(frame: &mut Frame<'_>) {
    for cell in &mut frame.buffer_mut().content {
        if !harmless(cell.symbol()) {
            cell.set_symbol("?");
        }
    }
}

fn whole(frame: &mut Frame<'_>, area: Rect, pen: Pen<'_>) {
    let mut head = head(pen, area);
    if area.height < HIGH_HEAD {
        head.truncate(HEAD_MAX);
    }
    let [top, rest] = split(area, u16::try_from(head.len()).unwrap_or(1));
    frame.render_widget(Paragraph::new(head), top);
    let [body, foot] = split(rest, rest.height.saturating_sub(1));
    frame.render_widget(footer(pen, usize::from(area.width)), foot);
    let notice = notice(pen);
    let lines = notice.as_deref().unwrap_or_default();
    let lines = wrap(lines, usize::from(body.width));
    let most = usize::from(body.height / 3).max(1);
    let shown = lines.len().min(most);
    let [above, body] = split(body, u16::try_from(shown).unwrap_or(0));
    let bad = pen.paint.style(Tone::Bad);
    let lines = lines.into_iter().take(shown);
    let lines: Vec<Line<'_>> = lines.map(|line| Line::styled(line, bad)).collect();
    frame.render_widget(Paragraph::new(lines), above);
    if pen.seen().status().is_some() {
        panels(frame, body, pen);
        if let Fresh::Old(_) = pen.page.fresh(pen.now) {
            frame
                .buffer_mut()
                .set_style(body, Style::new().add_modifier(Modifier::DIM));
        }
    }
    if pen.page.help {
        help(frame, area, pen);
    }
}

/// What has to be said before everything else.
fn notice(pen: Pen<'_>) -> Option<String> {
    let of = pen.seen().of().unwrap_or_default();
    let answer = pen.seen().answer.as_ref();
    let age = answer.map(|answer| age(pen.now, answer.at));
    let age = age.unwrap_or_default();
    match pen.page.fresh(pen.now) {
        Fresh::First => Some(match pen.page.silent() {
            Some(why) => format!("Nobody tells how the cluster stands. {}", sentence(why)),
            None => "Asking how the cluster stands.".to_owned(),
        }),
        Fresh::Old(why) => Some(format!(
            "NOT LIVE: nobody answers. Below is how it was at {of}, {age} ago. {}",
            sentence(&why)
        )),
        Fresh::Paused => pen
            .page
            .silent()
            .map(|why| format!("By now nobody answers. {}", sentence(why))),
        Fresh::Live | Fresh::Slow(_) => None,
    }
}

/// With a capital letter.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// How long ago that was.
fn age(now: Instant, then: Instant) -> String {
    span_text(u64::try_from(now.since(then).as_millis()).unwrap_or(u64::MAX))
}

/// Whether it is live, in words.
fn state(pen: Pen<'_>) -> Span<'static> {
    let of = pen.seen().of().unwrap_or_default();
    match pen.page.fresh(pen.now) {
        Fresh::First if pen.page.silent().is_some() => pen.say("NO ANSWER", Tone::Bad),
        Fresh::First => pen.say("asking", Tone::Warn),
        Fresh::Live => pen.say(format!("live {of}"), Tone::Good),
        Fresh::Slow(since) => {
            let ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
            let says = format!("of {of}, asked {} ago", span_text(ms));
            pen.say(says, Tone::Warn)
        }
        Fresh::Old(_) => pen.say(format!("NOT LIVE, of {of}"), Tone::Bad),
        Fresh::Paused => pen.say(format!("HELD STILL, of {of}; p goes on"), Tone::Warn),
    }
}

fn head(pen: Pen<'_>, area: Rect) -> Vec<Line<'static>> {
    let width = usize::from(area.width);
    let state = state(pen);
    let mut parts = vec![vec![pen.say("wa-agent", Tone::Head)]];
    if let Some(status) = pen.seen().status() {
        let whole = area.height >= HIGH_HEAD && area.width >= WIDE;
        parts.extend(masters(pen, status, whole));
    }
    let mut lines: Vec<Vec<Span<'static>>> = vec![Vec::new()];
    let length = |line: &[Span<'static>]| line.iter().map(Span::width).sum::<usize>();
    for part in parts {
        let first = lines.len() == 1;
        let room = if first {
            width.saturating_sub(state.width() + 2)
        } else {
            width
        };
        let line = lines.last_mut().expect("there is one");
        let gap = if line.is_empty() { 0 } else { 2 };
        if !line.is_empty() && length(line) + gap + length(&part) > room {
            lines.push(part);
        } else {
            line.push(Span::raw(" ".repeat(gap)));
            line.extend(part);
        }
    }
    let used = length(&lines[0]) + state.width();
    lines[0].push(Span::raw(" ".repeat(width.saturating_sub(used))));
    lines[0].push(state);
    lines.into_iter().map(Line::from).collect()
}

/// The primary master, its lease, and what is promised: what counts most first. `whole`: there is room for sentences.
fn masters(pen: Pen<'_>, status: &ClusterStatus, whole: bool) -> Vec<Vec<Span<'static>>> {
    let part = |name: &str, value: String, tone| {
        vec![
            pen.say(format!("{name} "), Tone::Quiet),
            pen.say(value, tone),
        ]
    };
    let mut parts = Vec::new();
    parts.push(match &status.primary_master {
        Some(primary) => part("primary", primary.clone(), Tone::Good),
        None => part("primary", "NONE".into(), Tone::Bad),
    });
    parts.push(part("term", status.term.to_string(), Tone::Plain));
    if let Some(ms) = status.lease_margin_ms {
        let points = pen.seen().curves.points(Measure::LeaseMargin, "");
        let line = curves::line(&points, MARGIN_WIDTH, Worst::Low, None, pen.paint);
        let mut lease = part("lease good for", span_text(ms), Tone::Plain);
        let low = points.iter().flatten().min();
        let low = low.map_or_else(String::new, |low| {
            format!(" {} low {}", line.trim_start(), span_text(*low))
        });
        lease.push(pen.say(low, Tone::Quiet));
        parts.push(lease);
    }
    if let Some(ms) = status.safe_ms {
        parts.push(part("NO PROMOTION for", span_text(ms), Tone::Warn));
    }
    if let Some(timers) = &status.timers {
        let within = span_text(timers.takeover_ms);
        parts.push(part("takeover at most", within, Tone::Plain));
        if timers.by_api {
            let configured = span_text(timers.configured_takeover_ms);
            parts.push(part(
                "set over the API; as configured",
                configured,
                Tone::Warn,
            ));
        }
    }
    let every = span_text(status.heartbeat_interval_ms);
    let after = span_text(status.unhealthy_interval_ms);
    let beats = format!("every {every}, silent after {after}");
    parts.push(part("heartbeat", beats, Tone::Plain));
    let fence = match status.fence.split_once(':') {
        Some((word, _)) if !whole => word,
        Some(_) | None => &status.fence,
    };
    parts.push(part("fence", fence.to_owned(), Tone::Plain));
    let from = format!("{} ({})", status.node, status.version);
    parts.push(part("told by", from, Tone::Plain));
    parts
}

fn footer(pen: Pen<'_>, width: usize) -> Line<'static> {
    let keys = "q end  Tab panel  Up/Down select  p hold still  ? help";
    let reach = pen.seen().curves.reach();
    let reach = if reach >= REACH {
        "curves: 15 min".to_owned()
    } else {
        let ms = u64::try_from(reach.as_millis()).unwrap_or(u64::MAX);
        format!("curves: {} of 15 min", span_text(ms))
    };
    let used = keys.len() + reach.len();
    let line = match width.checked_sub(used).filter(|gap| *gap >= 2) {
        Some(gap) => format!("{keys}{}{reach}", " ".repeat(gap)),
        None => keys.to_owned(),
    };
    Line::from(pen.say(line, Tone::Quiet))
}

/// What is below the head, beside each other or below each other, as there is room.
fn panels(frame: &mut Frame<'_>, area: Rect, pen: Pen<'_>) {
    if area.width >= WIDE && area.height >= HIGH {
        return beside(frame, area, pen);
    }
    let shards = lists::shards_height(pen).min(area.height / 4).max(3);
    let wrong = lists::wrong_height(pen, area.width).min(area.height / 4);
    let wrong = wrong.max(2);
    if wrong + shards + NODES_MIN + DETAIL_MIN > area.height {
        return one(frame, area, pen);
    }
    let [top, rest] = split(area, wrong);
    let [second, rest] = split(rest, shards);
    lists::wrong(frame, top, pen);
    lists::shards(frame, second, pen);
    let left = rest.height.saturating_sub(lists::nodes_height(pen));
    let below = left.clamp(DETAIL_MIN, DETAIL_MIN * 2);
    let below = below.min(rest.height - NODES_MIN);
    let [third, fourth] = split(rest, rest.height - below);
    lists::nodes(frame, third, pen);
    match pen.page.panel {
        Panel::Nodes => detail::node(frame, fourth, pen),
        Panel::Shards => detail::shard(frame, fourth, pen),
        Panel::Wrong => detail::item(frame, fourth, pen),
        Panel::Decisions => lists::decisions(frame, fourth, pen),
    }
}

/// Too low for all: the panel that is chosen, and what belongs to it.
fn one(frame: &mut Frame<'_>, area: Rect, pen: Pen<'_>) {
    let low = area.height < 2 * DETAIL_MIN;
    let list = if low { area.height } else { area.height / 2 };
    let [top, below] = split(area, list);
    match pen.page.panel {
        Panel::Nodes => {
            lists::nodes(frame, top, pen);
            detail::node(frame, below, pen);
        }
        Panel::Shards => {
            lists::shards(frame, top, pen);
            detail::shard(frame, below, pen);
        }
        Panel::Wrong => lists::wrong(frame, area, pen),
        Panel::Decisions => lists::decisions(frame, area, pen),
    }
}

fn beside(frame: &mut Frame<'_>, area: Rect, pen: Pen<'_>) {
    let left = Rect {
        width: area.width * 3 / 5,
        ..area
    };
    let right = Rect {
        x: left.right() + 2,
        width: area.width - left.width - 2,
        ..area
    };
    let shards = lists::shards_height(pen).min(left.height / 3).max(3);
    let [top, below] = split(left, shards);
    lists::shards(frame, top, pen);
    let wanted = lists::nodes_height(pen);
    // Decisions stand below the nodes, where these leave enough room.
    let nodes = match below.height.saturating_sub(wanted) >= DETAIL_MIN {
        true => wanted,
        false => below.height,
    };
    let [middle, below] = split(below, nodes);
    lists::nodes(frame, middle, pen);
    let wrong = lists::wrong_height(pen, right.width);
    let wrong = wrong.clamp(3, right.height / 2);
    let [top, mut rest] = split(right, wrong);
    lists::wrong(frame, top, pen);
    if below.height == 0 {
        let [middle, last] = split(rest, rest.height / 2);
        lists::decisions(frame, last, pen);
        rest = middle;
    } else {
        lists::decisions(frame, below, pen);
    }
    match pen.page.panel {
        Panel::Shards => detail::shard(frame, rest, pen),
        Panel::Nodes | Panel::Wrong | Panel::Decisions => detail::node(frame, rest, pen),
    }
}

fn help(frame: &mut Frame<'_>, area: Rect, pen: Pen<'_>) {
    let lines: Vec<String> = HELP
        .iter()
        .map(|(keys, what)| format!(" {keys:<20}{what}"))
        .collect();
    let widest = lines.iter().map(String::len).max().unwrap_or(0) + 2;
    let width = u16::try_from(widest).unwrap_or(WIDTH_MIN).min(area.width);
    let height = u16::try_from(lines.len() + 1).unwrap_or(1).min(area.height);
    let place = Rect {
        x: (area.width - width) / 2,
        y: (area.height - height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, place);
    let inside = pen.panel(frame, place, "keys; ? closes this", true);
    let lines: Vec<Line<'_>> = lines.into_iter().map(Line::from).collect();
    frame.render_widget(Paragraph::new(lines), inside);
}

fn paragraph(text: &str, width: u16, style: Style) -> Paragraph<'static> {
    let lines = wrap(text, usize::from(width)).into_iter();
    let lines: Vec<Line<'static>> = lines.map(|line| Line::styled(line, style)).collect();
    Paragraph::new(lines)
}
