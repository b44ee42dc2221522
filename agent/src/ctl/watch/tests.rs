//! The live page as people see it, drawn into memory: every size, every state, every key; texts that others wrote.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;
use serde_json::{Value, json};
use wa_core::time::Instant;
use wa_core::worst_case::Failure;

use super::ask::{Answer, Rest, Told};
use super::draw;
use super::keys::Key;
use super::page::{Fresh, Next, Page, Panel};
use super::paint::{Paint, harmless};
use crate::api::control::{ClusterStatus, Explanation};
use crate::db::mount::Mount;
use crate::exit::Exit;

const COLOURS: Paint = Paint {
    colours: true,
    signs: true,
};
const PLAIN: Paint = Paint {
    colours: false,
    signs: false,
};
/// 08:00:00 in UTC.
const WALL_MS: u64 = 1_800_000_000_000;

fn at(ms: u64) -> Instant {
    Instant::from_millis(1_000_000 + ms)
}

fn node(name: &str, role: &str, more: Value) -> Value {
    let mut node = json!({
        "node": name, "role": role, "address": "192.0.2.1:6260", "zone": "east", "version": "0.1.0", "heartbeat_age_ms": 21,
        "reply_us": 180, "db_beat_age_ms": 1200, "healthy": true, "shard": null, "epoch": null, "fence": "bpf",
        "health": ["database"],
    });
    let more = more.as_object().expect("an object").clone();
    node.as_object_mut().expect("an object").extend(more);
    node
}

/// Everything that a status can have: an owner, a silent node, a full disk, an alarm, a move that waits.
fn rich() -> Value {
    json!({
        "node": "a.example:master-1", "version": "0.1.0", "primary": true, "primary_master": "a.example:master-1", "term": 42,
        "lease_margin_ms": 820, "safe_ms": 1500, "database_error": null, "fence": "required: by the kernel", "heartbeat_interval_ms": 50,
        "unhealthy_interval_ms": 300, "settings_version": 1,
        "timers": {"by_api": true, "takeover_ms": 2600, "configured_heartbeat_interval_ms": 200,
            "configured_unhealthy_interval_ms": 2000, "configured_takeover_ms": 4400},
        "shards": [
            {"shard": 0, "generation": 1, "phase": "active", "owner": "a.example:coreapp-1", "epoch": 7, "renewal_age_ms": 90,
                "unsettled": [], "diagnosis": null},
            {"shard": 1, "generation": 1, "phase": "claiming", "owner": "b.example:coreapp-1", "epoch": 9, "renewal_age_ms": 900,
                "unsettled": ["c.example:coreapp-1"], "diagnosis": "DeadOwner"},
        ],
        "nodes": [
            node("b.example:coreapp-1", "coreapp", json!({})),
            node("a.example:master-1", "master", json!({"fence": ""})),
            node("a.example:coreapp-1", "coreapp", json!({"shard": 0, "epoch": 7})),
            node("c.example:coreapp-1", "coreapp", json!({"healthy": false, "heartbeat_age_ms": 9000, "fence": "process"})),
            node("b.example:webapp-1", "webapp", json!({"fence": "", "heartbeat_age_ms": null, "reply_us": null})),
        ],
        "problems": ["c.example:coreapp-1 is silent (journalctl -u wa-coreapp@1)"],
        "judged": [
            {"kind": "layout", "grade": "remark", "about": "", "says": "All masters are on one machine.", "remedy": ""},
            {"kind": "silent", "grade": "broken", "about": "c.example:coreapp-1", "says": "c.example:coreapp-1 is silent",
                "remedy": "journalctl -u wa-coreapp@1"},
        ],
        "alarms": [{"name": "WaTokenEnds", "severity": "ticket", "figure": "wa:token_days", "value": 7,
            "says": "The access token ends soon.", "means": "Then nothing is sent.", "remedy": "make a new one"}],
        "planned": [{"shard": 0, "to": "b.example:coreapp-1", "at_ms": WALL_MS, "reason": null, "by": null}],
        "decisions": [
            {"at_unix_s": WALL_MS / 1000 - 60, "shard": 0, "what": "promote", "reason": "DeadOwner", "sentence": "The old owner died."},
            {"at_unix_s": WALL_MS / 1000 - 5, "shard": 1, "what": "claim", "reason": "ProcessKilled", "sentence": "It was killed."},
        ],
    })
}

fn status(of: &Value) -> ClusterStatus {
    serde_json::from_value(of.clone()).expect("a status")
}

fn rest() -> Rest {
    let explained: Vec<Explanation> = serde_json::from_value(json!([{
        "shard": 0, "phase": "active", "owner": "a.example:coreapp-1", "epoch": 7, "rule": "Healthy",
        "outcome": "The owner is healthy.", "evidence": [], "obstacles": [], "successor": "b.example:coreapp-1",
        "worst_cases": [{"class": Failure::ProcessKilled.as_str(), "host_agent": true, "detection_ms": 40, "takeover_ms": 90}],
    }]))
    .expect("explanations");
    let mount = |node: &str, word: &str, sentence: &str| Mount {
        node: node.into(),
        word: word.into(),
        sentence: sentence.into(),
        fs_type: "nfs4".into(),
        free_bytes: 12_000_000_000,
    };
    Rest {
        explained,
        mounts: Some(vec![
            mount("a.example:coreapp-1", "ok", ""),
            mount(
                "b.example:coreapp-1",
                "full",
                "No room is left: delete files.",
            ),
        ]),
        remarks: Vec::new(),
    }
}

fn answered(page: &mut Page, ms: u64, status: ClusterStatus) {
    let answer = Answer {
        at: at(ms),
        wall_ms: WALL_MS + ms,
        status,
    };
    page.take(Told::Status(Box::new(answer))).expect("taken");
}

fn shown() -> Page {
    let mut page = Page::new();
    page.take(Told::Rest(Box::new(rest()))).expect("taken");
    answered(&mut page, 0, status(&rich()));
    page
}

fn drawn(page: &Page, (width, height): (u16, u16), paint: Paint, now: u64) -> Buffer {
    let backend = TestBackend::new(width, height);
    let mut terminal = Terminal::new(backend).expect("in memory");
    let picture = |frame: &mut ratatui::Frame<'_>| draw::page(frame, page, paint, at(now));
    terminal.draw(picture).expect("in memory");
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width).max(1);
    let rows = buffer.content.chunks(width);
    let row = |cells: &[ratatui::buffer::Cell]| {
        let row: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        row.trim_end().to_owned()
    };
    rows.map(row).collect::<Vec<_>>().join("\n")
}

fn has(screen: &str, words: &[&str]) {
    for word in words {
        assert!(screen.contains(word), "{word:?} is missing in\n{screen}");
    }
}

/// Goal: on the smallest usual terminal one sees who owns what, what is wrong, what to type, and what a death would mean. Method: the
/// page at 80x24.
#[test]
fn a_small_terminal_shows_what_counts() {
    let screen = text(&drawn(&shown(), (80, 24), COLOURS, 500));
    has(
        &screen,
        &[
            "live 08:00:00Z",
            "a.example:master-1",
            "term 42",
            "lease good for 820ms",
            "takeover at most 2.6s",
            "BROKEN: c.example:coreapp-1 is silent",
            "what to do: journalctl -u wa-coreapp@1",
            "owner 0",
            "nodes (1 WRONG) 2 of 5",
            "CLAIMING",
            "bpf",
            "FULL",
            "if a.example:coreapp-1 died now",
            "Shard 0 moves to b.example:coreapp-1 within 90 ms at worst",
            "? help",
        ],
    );
}

/// Goal: a large terminal shows all of it at once. Method: the page at 200x60.
#[test]
fn a_large_terminal_shows_everything() {
    let screen = text(&drawn(&shown(), (200, 60), COLOURS, 500));
    has(
        &screen,
        &[
            "NO PROMOTION for 1.5s",
            "SILENT",
            "set over the API; as configured 4.4s",
            "fence required",
            "machine",
            "b.example:coreapp-1",
            "DeadOwner",
            "FIGURE: The access token ends soon.",
            "wa:token_days is",
            "Shard 0 moves to b.example:coreapp-1 at 2027-01-15 08:00:00Z",
            "remark: All masters are on one machine.",
            "07:59:55Z shard 1 claim: It was killed. (ProcessKilled)",
            "media directory good: nfs4, 11.2 GiB free",
            "fence of the cluster: required: by the kernel",
            "curves: 5.0s of 15 min",
        ],
    );
    let broken = screen.find("BROKEN").expect("shown");
    assert!(broken < screen.find("remark:").expect("shown"), "{screen}");
}

/// Goal: no size breaks the page, and one that is too small says what it needs. Method: all sizes up to a large one, in steps, with the
/// help and in every panel.
#[test]
fn every_size_is_drawn() {
    let screen = text(&drawn(&shown(), (39, 9), COLOURS, 0));
    has(&screen, &["39 columns and 9", "40 and 10"]);
    assert!(!screen.contains("master"), "{screen}");
    let mut page = shown();
    for (width, height) in (1..140)
        .step_by(13)
        .flat_map(|w| (1..50).step_by(3).map(move |h| (w, h)))
    {
        for key in [Key::Help, Key::Next] {
            page.press(key);
            let buffer = drawn(&page, (width, height), COLOURS, 500);
            assert_eq!((buffer.area.width, buffer.area.height), (width, height));
        }
    }
}

/// Goal: a cluster of any size can be looked at. Method: 64 nodes on a small terminal, by keys to the last one and back.
#[test]
fn many_nodes_scroll() {
    let mut of = rich();
    let many = (0..64).map(|n| node(&format!("m{n:02}.example:coreapp-1"), "coreapp", json!({})));
    of["nodes"] = many.collect();
    let mut page = Page::new();
    answered(&mut page, 0, status(&of));
    let screen = text(&drawn(&page, (80, 24), COLOURS, 0));
    has(&screen, &["nodes 1 of 64", "m00.example"]);
    assert!(!screen.contains("m63.example"), "{screen}");
    page.press(Key::Last);
    let screen = text(&drawn(&page, (80, 24), COLOURS, 0));
    has(
        &screen,
        &["nodes 64 of 64", "if m63.example:coreapp-1 died now"],
    );
    page.press(Key::PageUp);
    page.press(Key::Up);
    has(
        &text(&drawn(&page, (80, 24), COLOURS, 0)),
        &["nodes 53 of 64"],
    );
    page.press(Key::First);
    has(
        &text(&drawn(&page, (80, 24), COLOURS, 0)),
        &["nodes 1 of 64"],
    );
}

/// Goal: without colours nothing is lost, and there are none. Method: the same page with and without them.
#[test]
fn colours_mean_nothing_alone() {
    let page = shown();
    let words = Paint {
        colours: false,
        ..COLOURS
    };
    let (with, without) = (
        drawn(&page, (200, 60), COLOURS, 500),
        drawn(&page, (200, 60), words, 500),
    );
    assert_eq!(text(&with), text(&without));
    let coloured = |buffer: &Buffer| {
        let mut cells = buffer.content.iter();
        cells.any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(coloured(&with) && !coloured(&without));
    let ascii = text(&drawn(&page, (200, 60), PLAIN, 500));
    assert!(ascii.is_ascii(), "{ascii}");
}

/// Every text in it, with something in front.
fn spoiled(value: &mut Value, with: &str) {
    match value {
        Value::String(text) => *text = format!("{with}{text}{with}"),
        Value::Array(all) => all.iter_mut().for_each(|one| spoiled(one, with)),
        Value::Object(all) => all.values_mut().for_each(|one| spoiled(one, with)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Goal: what others wrote into the database steers no terminal. Method: escapes, ends of lines and marks that turn the direction of
/// writing in every text, in every panel.
#[test]
fn texts_of_others_are_text() {
    let mut of = rich();
    spoiled(&mut of, "\x1b]0;x\x07\u{9b}2J\r\n\t\u{202e}\u{2066}\u{0}");
    let mut page = Page::new();
    answered(&mut page, 0, serde_json::from_value(of).expect("a status"));
    let why = "no \x1b[31manswer\u{202e}".to_owned();
    for silent in [false, true] {
        if silent {
            let told = Told::Nothing(why.clone(), Exit::Unavailable);
            page.take(told).expect("taken");
        }
        for size in [(80, 24), (200, 60), (40, 10)] {
            for _ in Panel::ALL {
                page.press(Key::Next);
                let buffer = drawn(&page, size, COLOURS, 500);
                let bad = buffer.content.iter().find(|cell| !harmless(cell.symbol()));
                assert_eq!(bad, None, "{size:?}");
            }
        }
    }
}

/// Goal: an old picture never says that it is live. Method: an answer, a slow one, none, and an answer again.
#[test]
fn an_old_picture_is_not_live() {
    let mut page = Page::new();
    let state = |page: &Page, now| text(&drawn(page, (100, 30), COLOURS, now));
    has(
        &state(&page, 0),
        &["asking", "Asking how the cluster stands."],
    );
    let told = Told::Nothing("no master answers".into(), Exit::Unavailable);
    page.take(told).expect("taken");
    has(&state(&page, 0), &["NO ANSWER", "No master answers"]);
    answered(&mut page, 0, status(&rich()));
    assert_eq!(page.fresh(at(3000)), Fresh::Live);
    page.take(Told::Asking(at(1000))).expect("taken");
    let slow = state(&page, 6000);
    has(&slow, &["of 08:00:00Z, asked 5.0s ago"]);
    let told = Told::Nothing("no master answers".into(), Exit::Unavailable);
    page.take(told).expect("taken");
    let old = state(&page, 9000);
    has(
        &old,
        &[
            "NOT LIVE, of 08:00:00Z",
            "how it was at 08:00:00Z, 9.0s ago",
            "No master answers",
        ],
    );
    for screen in [slow, old] {
        assert!(!screen.contains("live 08"), "{screen}");
    }
    answered(&mut page, 10_000, status(&rich()));
    has(&state(&page, 10_000), &["live 08:00:10Z"]);
    page.press(Key::Pause);
    let told = Told::Nothing("no master answers".into(), Exit::Unavailable);
    page.take(told).expect("taken");
    let held = state(&page, 20_000);
    has(
        &held,
        &[
            "HELD STILL, of 08:00:10Z",
            "By now nobody answers. No master answers",
        ],
    );
    assert!(!held.contains("live 08"), "{held}");
}

/// Goal: the exit code is that of the last answer. Method: good, wrong, none.
#[test]
fn the_last_answer_counts() {
    let mut page = Page::new();
    assert_eq!(Page::new().end().0, Exit::Unavailable);
    answered(&mut page, 0, status(&rich()));
    assert_eq!(page.end(), (Exit::Refuted, None));
    let mut good = rich();
    good["judged"] = json!([]);
    let mut page = Page::new();
    answered(&mut page, 0, status(&good));
    assert_eq!(page.end(), (Exit::Ok, None));
    let mut page = shown();
    let told = Told::Nothing("why".into(), Exit::Failure);
    page.take(told).expect("taken");
    assert_eq!(page.end(), (Exit::Failure, Some("why".to_owned())));
}

/// Goal: what is selected stays selected when others come and go, and its place goes to the next when it goes itself. Method: nodes
/// that come and leave.
#[test]
fn the_selected_one_is_kept() {
    let mut page = shown();
    let name = |page: &Page| page.node().expect("one").node.clone();
    assert_eq!(name(&page), "a.example:coreapp-1", "an owner first");
    page.press(Key::Down);
    let kept = name(&page);
    assert_eq!(kept, "b.example:coreapp-1");
    let mut of = rich();
    let nodes = of["nodes"].as_array_mut().expect("a list");
    nodes.push(node("a.example:coreapp-2", "coreapp", json!({})));
    answered(&mut page, 1000, status(&of));
    assert_eq!(name(&page), kept);
    let nodes = of["nodes"].as_array_mut().expect("a list");
    nodes.retain(|node| node["node"] != "b.example:coreapp-1");
    answered(&mut page, 2000, status(&of));
    assert_ne!(name(&page), kept);
    assert_eq!(page.at(Panel::Nodes), 2, "by its place");
}

/// Goal: a picture that is held still does not move, and the newest is there when it goes on. Method: a term that grows meanwhile.
#[test]
fn a_picture_is_held_still() {
    let mut page = shown();
    let term = |page: &Page| page.seen().status().expect("a status").term;
    assert_eq!(page.press(Key::Pause), Next::Draw);
    let mut of = rich();
    of["term"] = json!(43);
    answered(&mut page, 5000, status(&of));
    assert_eq!((term(&page), page.fresh(at(5000))), (42, Fresh::Paused));
    page.press(Key::Pause);
    assert_eq!((term(&page), page.fresh(at(5000))), (43, Fresh::Live));
}

/// Goal: who owns a shard by now is not told as its next owner. Method: an explanation of the epoch before.
#[test]
fn an_older_explanation_is_not_told() {
    let mut page = shown();
    has(
        &text(&drawn(&page, (100, 30), COLOURS, 0)),
        &["Shard 0 moves to b.example"],
    );
    let mut of = rich();
    of["shards"][0]["owner"] = json!("b.example:coreapp-1");
    of["shards"][0]["epoch"] = json!(8);
    answered(&mut page, 1000, status(&of));
    // The next owner of before is the owner now, and is selected.
    assert_eq!(page.node().expect("one").node, "b.example:coreapp-1");
    let screen = text(&drawn(&page, (200, 60), COLOURS, 1000));
    has(
        &screen,
        &["It owns shard 0; what would follow is not known at the moment."],
    );
    assert!(
        !screen.contains("moves to b.example:coreapp-1 within"),
        "{screen}"
    );
}

/// Goal: keys do what the help says. Method: each, on a page of its own.
#[test]
fn keys_do_what_the_help_says() {
    let plain = |code| Key::of(KeyEvent::new(code, KeyModifiers::NONE));
    let control = |c| Key::of(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL));
    for (key, wanted) in [
        (plain(KeyCode::Char('q')), Some(Key::End)),
        (control('c'), Some(Key::End)),
        (control('z'), Some(Key::Suspend)),
        (control('q'), None),
        (plain(KeyCode::Esc), Some(Key::Leave)),
        (plain(KeyCode::Char('j')), Some(Key::Down)),
        (plain(KeyCode::Up), Some(Key::Up)),
        (plain(KeyCode::Tab), Some(Key::Next)),
        (plain(KeyCode::BackTab), Some(Key::Before)),
        (plain(KeyCode::Char('?')), Some(Key::Help)),
        (plain(KeyCode::Char('p')), Some(Key::Pause)),
        (plain(KeyCode::Char('x')), None),
    ] {
        assert_eq!(key, wanted);
    }
    let mut page = shown();
    for panel in [Panel::Shards, Panel::Wrong, Panel::Decisions, Panel::Nodes] {
        page.press(Key::Next);
        assert_eq!(page.panel, panel);
    }
    page.press(Key::Before);
    assert_eq!(page.panel, Panel::Decisions);
    page.press(Key::Help);
    has(
        &text(&drawn(&page, (80, 24), COLOURS, 0)),
        &["Shift-Tab, Left", "suspend; fg brings"],
    );
    assert_eq!(page.press(Key::Leave), Next::Draw, "away with the help");
    assert!(!page.help);
    assert_eq!(page.press(Key::Leave), Next::End);
    assert_eq!(shown().press(Key::End), Next::End);
    assert_eq!(shown().press(Key::Suspend), Next::Suspend);
    assert_eq!(shown().press(Key::Redraw), Next::Redraw);
}
