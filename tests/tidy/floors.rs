//! Which room of `agent/src` may use which: a room uses what lies below it, never what lies above or beside it.
//! Roles meet in `api`, in datagrams and in tables, and share `member` and `media`.

use super::{code, hold, is_test};

/// From the ground up.
const FLOORS: &[&[&str]] = &[
    &["api", "exit", "metrics"],
    &["say"],
    &["config", "log", "sys"],
    &["db", "net"],
    &["media", "member"],
    &["coreapp", "host", "master", "webapp"],
    &["ctl", "dev"],
    &["cli", "runtime"],
    &["dispatch"],
];

/// Uses that lead sideways or up, and why they may. This list may only shrink.
const ALLOWED: &[(&str, &str)] = &[
    // Settings name users, groups and mounts, the kernel's part reads what is configured, and both write to the journal.
    ("config", "sys"),
    ("log", "sys"),
    ("sys", "config"),
    ("sys", "log"),
    // Verbs take the arguments that the command line has read.
    ("ctl", "cli"),
    // The simulator is a process of its own.
    ("dev", "runtime"),
];

/// The same for one file.
const FILES_ALLOWED: &[(&str, &str)] = &[
    // Operator verbs find the development cluster of the same user.
    ("agent/src/ctl/reach.rs", "crate::dev::state_directory"),
];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn room(path: &str) -> Option<&str> {
    let room = path.strip_prefix("agent/src/")?.split('/').next()?;
    Some(room.trim_end_matches(".rs")).filter(|room| !["lib", "main"].contains(room))
}

/// The rooms that a line names.
fn named(line: &str) -> Vec<&str> {
    let part = |c: char| c.is_ascii_lowercase() || c == '_';
    let names = line.split("crate::").skip(1);
    names
        .map(|rest| &rest[..rest.find(|c| !part(c)).unwrap_or(rest.len())])
        .filter(|room| floor(room).is_some())
        .collect()
}

fn complaints(path: &str, text: &str) -> Vec<String> {
    let Some(room) = room(path).filter(|_| !is_test(path)) else {
        return Vec::new();
    };
    let Some(own) = floor(room) else {
        return vec![format!(
            "{path}: {room} stands on no floor: name it in FLOORS"
        )];
    };
    let mut bad = Vec::new();
    for (n, line) in code(text) {
        let allowed = |other: &str| {
            let file = |(p, name): &(&str, &str)| *p == path && line.contains(name);
            ALLOWED.contains(&(room, other)) || FILES_ALLOWED.iter().any(file)
        };
        let reaches = |other: &&str| *other != room && floor(other).is_some_and(|of| of >= own);
        for other in named(line).into_iter().filter(reaches) {
            if !allowed(other) {
                bad.push(format!("{path}:{n}: {room} may not use {other}"));
            }
        }
    }
    bad
}

#[test]
fn floors_use_only_what_lies_below() {
    for (path, bad) in [
        ("agent/src/webapp/a.rs", "use crate::coreapp::Intake;"),
        ("agent/src/db/a.rs", "use crate::net::udp;"),
        ("agent/src/member/a.rs", "use crate::media::Media;"),
        ("agent/src/member/a.rs", "crate::master::run()"),
        ("agent/src/net/a.rs", "use crate::member::register;"),
        ("agent/src/new/a.rs", ""),
    ] {
        assert!(!complaints(path, bad).is_empty(), "{path}: {bad}");
    }
    for (path, good) in [
        ("agent/src/webapp/a.rs", "use crate::db::Db;"),
        ("agent/src/host/a.rs", "use crate::member::register;"),
        ("agent/src/member/a.rs", "use crate::{config, db};"),
        ("agent/src/dev/a.rs", "use crate::member::register;"),
        ("agent/src/sys/a.rs", "use crate::log::seldom;"),
    ] {
        assert!(complaints(path, good).is_empty(), "{path}: {good}");
    }
    hold(complaints);
}

#[test]
fn no_leave_is_given_that_nobody_takes() {
    let all = super::sources();
    for (from, to) in ALLOWED {
        let uses = |s: &super::Source| {
            let lines = code(&s.text);
            let mut lines = lines.iter();
            room(&s.path) == Some(from)
                && !is_test(&s.path)
                && lines.any(|(_, l)| named(l).contains(to))
        };
        assert!(
            all.iter().any(uses),
            "{from} does not use {to} any more: take it off ALLOWED"
        );
    }
}

/// Who writes a settings row by its version with means of its own, and why. This list may only shrink.
const COMPARES_ITSELF: &[&str] = &[
    // A drill stores what no API would take.
    "agent/src/dev/drill/fault.rs",
    // Decided by what nodes report as well: whoever is too late is asked to type it again.
    "agent/src/master/keys.rs",
];

fn compares(path: &str, text: &str) -> Vec<String> {
    let own = path.starts_with("agent/src/db/") || COMPARES_ITSELF.contains(&path);
    if own || !path.starts_with("agent/src/") || is_test(path) {
        return Vec::new();
    }
    code(text)
        .into_iter()
        .filter(|(_, line)| line.contains(".store_setting("))
        .map(|(n, _)| format!("{path}:{n}: rows of settings are changed by member::settings"))
        .collect()
}

#[test]
fn settings_are_changed_in_one_place() {
    assert!(!compares("agent/src/webapp/a.rs", "db.store_setting(A, 1, text)").is_empty());
    hold(compares);
}
