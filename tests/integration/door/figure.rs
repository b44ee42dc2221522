//! The attacks as a table, by hand, against any build of the program: what one of them costs, and what a client notices of it.
//! Judges nothing, so that an older release can be put beside this one.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::attack::{self, Outcome, metric, process, under};
use crate::media::Bench;

/// Messages a second of the client.
const RATE: u32 = 200;
/// How long readers may stay: a build that ends them takes half of it.
const READERS_FOR: Duration = Duration::from_secs(60);

fn row(table: &mut String, outcome: &Outcome, note: &str) {
    let Outcome {
        name,
        before_mib,
        peak_mib,
        sent,
        failed,
        slowest,
    } = outcome;
    let (failed, ms) = (failed.len(), slowest.as_millis());
    let _ = writeln!(
        table,
        "| {name} | {before_mib} | {peak_mib} | {sent} | {failed} | {ms} | {note} |"
    );
}

/// Runs one attack on a cluster of its own: what an earlier attack left is no part of the figure.
fn fresh(attack: impl FnOnce(&Bench, u16, &mut String), table: &mut String) {
    let bench = Bench::start();
    attack(&bench, bench.webapp - 9090, table);
}

fn of_bodies(table: &mut String) {
    let wrong = format!("\r\nx-hub-signature-256: sha256={}", "00".repeat(32));
    for (name, lines) in [
        ("200 webhooks of 4 MiB without a signature", ""),
        ("200 webhooks of 4 MiB with a wrong signature", &wrong),
    ] {
        let attack = |bench: &Bench, _, table: &mut String| {
            let webapp = process(bench, "webapp", "1");
            let outcome = under(bench, webapp, (name, RATE), || {
                attack::webhooks(bench.webapp, lines);
            });
            row(table, &outcome, "");
        };
        fresh(attack, table);
    }
    let attack = |bench: &Bench, _, table: &mut String| {
        let webapp = process(bench, "webapp", "1");
        let name = "200 webhooks of 4 MiB with a wrong signature that never end";
        let outcome = under(bench, webapp, (name, RATE), || {
            attack::held_webhooks(bench.webapp, &wrong);
        });
        row(table, &outcome, "");
    };
    fresh(attack, table);
    let attack = |bench: &Bench, offset, table: &mut String| {
        let master = process(bench, "master", "1");
        let name = "200 bodies of 2 MiB at a master's control port";
        let outcome = under(bench, master, (name, RATE), || {
            attack::deeds(6255 + offset);
        });
        row(table, &outcome, "");
    };
    fresh(attack, table);
}

fn of_silence(table: &mut String) {
    let attack = |bench: &Bench, _, table: &mut String| {
        let webapp = process(bench, "webapp", "1");
        let mut held = Vec::new();
        let outcome = under(
            bench,
            webapp,
            ("4,150 silent sockets, while they come", RATE),
            || {
                held = attack::silent(bench.webapp, 4150);
            },
        );
        row(table, &outcome, &format!("{} were taken", held.len()));
        let outcome = under(bench, webapp, ("the same, while they stay", RATE), || ());
        row(table, &outcome, "");
    };
    fresh(attack, table);
}

fn of_heads(table: &mut String) {
    let attack = |bench: &Bench, _, table: &mut String| {
        let webapp = process(bench, "webapp", "1");
        let mut held = Vec::new();
        let outcome = under(bench, webapp, ("3,000 half heads of 31 KiB", RATE), || {
            held = attack::half_heads(bench.webapp, 3000, "");
        });
        row(table, &outcome, &format!("{} were taken", held.len()));
    };
    fresh(attack, table);
}

fn of_readers(table: &mut String) {
    let attack = |bench: &Bench, offset, table: &mut String| {
        let webapp = process(bench, "webapp", "1");
        let name = r#"wa_connections_ended_total{port="api",why="unread"}"#;
        let mut left = 50;
        let outcome = under(bench, webapp, ("50 readers that never read", RATE), || {
            let held = attack::readers(bench.webapp);
            let until = Instant::now() + READERS_FOR;
            while left > 0 && Instant::now() < until {
                std::thread::park_timeout(Duration::from_millis(200));
                left = 50u64.saturating_sub(metric(9190 + offset, name));
            }
            drop(held);
        });
        let note = format!("{left} of them stay after {} s", READERS_FOR.as_secs());
        row(table, &outcome, &note);
    };
    fresh(attack, table);
}

/// Goal: figures of before and after, with a client that sends 200 messages a second. Method: each attack on a new cluster of the program that
/// `WA_AGENT_BINARY` names (without it, of this build); a table. Fails only where the cluster does not start.
#[test]
#[ignore = "a measurement: see tests/README.md"]
fn strangers_as_a_table() {
    let mut table =
        "| attack | MiB before | MiB at most | messages | failed | slowest answer, ms | |\n\
                     |---|---|---|---|---|---|---|\n"
            .to_owned();
    of_bodies(&mut table);
    of_silence(&mut table);
    of_heads(&mut table);
    of_readers(&mut table);
    println!("\n{}\n\n{table}", crate::dev::program().display());
}
