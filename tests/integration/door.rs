//! What strangers can do to the ports of a running cluster: bodies that nobody signed, sockets that say nothing, heads that never end,
//! readers that never read. Judges counts and resident memory, no times. A client sends all the while, and none of its messages may fail.

// A test waits for a process by the clock of its own; nothing decides by it.
#![allow(clippy::disallowed_methods)]

mod attack;
mod figure;

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use attack::{Outcome, metric, process, under};

use crate::drill::TURN;
use crate::media::{Bench, have_curl};

/// Memory that one attack may cost a process, in MiB: the room for strangers' bytes, and 26 KiB for each of the 3,584 connections that they
/// may have, in a build without optimisation.
const COST_MAX_MIB: u64 = 128;
const PATIENCE: Duration = Duration::from_secs(90);
/// Messages a second of the client: what a build without optimisation carries beside an attack on two processors.
const RATE: u32 = 30;
const ROOM_IS_FULL: &str = "the memory for requests whose senders are not known yet is full";

/// No message failed, and memory stayed bounded.
fn harmless(outcome: &Outcome) {
    let Outcome { name, failed, .. } = outcome;
    assert!(outcome.sent >= RATE as usize, "{outcome:?}");
    assert!(failed.is_empty(), "{name}: {failed:?}");
    let cost = outcome.cost_mib();
    assert!(cost < COST_MAX_MIB, "{name}: {cost} MiB");
}

/// A process of the cluster has written these words.
fn warned(bench: &Bench, words: &str) {
    let files = std::fs::read_dir(bench.dev.directory()).expect("the state directory");
    let logs = files.flatten().map(|entry| entry.path());
    let mut logs = logs.filter(|path| path.extension().is_some_and(|end| end == "log"));
    let says = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .any(|l| l.contains("WARN") && l.contains(words))
    };
    assert!(logs.any(says), "nobody said {words:?}");
}

/// A cluster of this test's own, while it has its turn.
fn alone(test: impl FnOnce(&Bench, u16)) {
    if !have_curl() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start();
    test(&bench, bench.webapp - 9090);
}

/// Goal: bodies of people without a credential cost a process little memory, and no message of a client fails. Method: 200 webhooks of 4 MiB
/// at once without a signature, then with a wrong one, then with the end of each held back; 200 bodies of 2 MiB at a master's control port.
#[test]
fn bodies_of_strangers_cost_little_memory() {
    alone(|bench, offset| {
        let webapp = process(bench, "webapp", "1");
        let wrong = format!("\r\nx-hub-signature-256: sha256={}", "00".repeat(32));
        for (name, lines) in [
            ("200 webhooks without a signature", ""),
            ("200 webhooks with a wrong signature", &wrong),
        ] {
            harmless(&under(bench, webapp, (name, RATE), || {
                let answers = attack::webhooks(bench.webapp, lines);
                assert!(!answers.iter().any(|a| a.starts_with("HTTP/1.1 200")));
            }));
        }
        let name = "200 webhooks that never end";
        harmless(&under(bench, webapp, (name, RATE), || {
            let answers = attack::held_webhooks(bench.webapp, &wrong);
            assert!(!answers.iter().any(|a| a.starts_with("HTTP/1.1 200")));
        }));
        warned(bench, ROOM_IS_FULL);
        let master = process(bench, "master", "1");
        let name = "200 strangers at the control port";
        harmless(&under(bench, master, (name, RATE), || {
            let answers = attack::deeds(6255 + offset);
            let told = answers.iter().filter(|a| a.starts_with("HTTP/1.1 401"));
            println!("{} of them were told 401", told.count());
        }));
    });
}

/// Goal: silent sockets close no port. Method: more of them than there are places, from sixteen addresses; a client connects anew for every
/// message, while they come and while they stay.
#[test]
fn silent_sockets_close_no_port() {
    alone(|bench, _| {
        let webapp = process(bench, "webapp", "1");
        let mut held = Vec::new();
        harmless(&under(
            bench,
            webapp,
            ("4,150 silent sockets", RATE),
            || {
                held = attack::silent(bench.webapp, 4150);
            },
        ));
        assert_eq!(held.len(), 4150, "each was taken");
        harmless(&under(bench, webapp, ("while they stay", RATE), || ()));
        warned(bench, "all connections that this port may have are taken");
        drop(held);
    });
}

/// Goal: heads that never end cost little, whoever sends them and however many, and are ended. Method: 3,000 heads of 31 KiB without an end,
/// from sixteen addresses, until the process says that nothing of them is left.
#[test]
fn half_heads_cost_little_memory() {
    alone(|bench, offset| {
        let webapp = process(bench, "webapp", "1");
        let name = "3,000 half heads";
        harmless(&under(bench, webapp, (name, RATE), || {
            let held = attack::half_heads(bench.webapp, 3000, "");
            assert_eq!(held.len(), 3000, "each was taken");
            let until = Instant::now() + PATIENCE;
            while metric(9190 + offset, r#"wa_connections{port="api"}"#) > 100 {
                assert!(Instant::now() < until, "half heads are still open");
            }
            drop(held);
        }));
        assert_eq!(metric(9190 + offset, "wa_unauthenticated_bytes"), 0);
        assert!(metric(9190 + offset, "wa_unauthenticated_refused_total") > 0);
        warned(bench, ROOM_IS_FULL);
    });
}

/// Goal: readers that ask for much and take nothing are ended, and cost little. Method: fifty of them, until the process says that all are gone.
#[test]
fn readers_that_never_read_are_ended() {
    alone(|bench, offset| {
        let webapp = process(bench, "webapp", "1");
        let name = r#"wa_connections_ended_total{port="api",why="unread"}"#;
        let ended = || metric(9190 + offset, name);
        let before = ended();
        let what = ("50 readers that never read", RATE);
        harmless(&under(bench, webapp, what, || {
            let held = attack::readers(bench.webapp);
            let until = Instant::now() + PATIENCE;
            while ended() < before + 50 {
                let gone = ended() - before;
                assert!(Instant::now() < until, "{gone} of 50 are gone");
            }
            drop(held);
        }));
    });
}
