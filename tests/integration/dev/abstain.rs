//! Masters that stand still beside a healthy owner: when they go on they judge nobody by the rounds that they were late for.
//! Counts, no times: nothing is waited for but what processes say.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Dev, PATIENCE, owner, status, status_until, verb};
use crate::drill::{TURN, port, request};
use crate::{mariadb, skipped};

/// How often each of the two is done.
const ROUNDS: u64 = 3;

/// The process of a master, by its name in the cluster.
fn pid_of(dev: &Dev, node: &str) -> i32 {
    let instance = node.rsplit_once('-').expect("a number").1;
    let runs = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
        let named = |at: usize| words.get(at + 1) == Some(&instance.as_bytes());
        let at = words.iter().position(|word| *word == b"--instance");
        at.is_some_and(named)
    };
    let mut masters = dev.processes_of("master").into_iter();
    masters.find(runs).expect("that master runs")
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("it runs");
}

fn healthy(status: &Value, node: &str) -> Option<bool> {
    let nodes = status["nodes"].as_array()?;
    nodes.iter().find(|n| n["node"] == node)?["healthy"].as_bool()
}

/// Rounds by which a master has judged nobody, by its page of figures.
fn abstained(node: &str, first: u16) -> u64 {
    let instance: u16 = node
        .rsplit_once('-')
        .expect("a number")
        .1
        .parse()
        .expect("a number");
    let at = 6257 + 10 * (instance - 1) + (first - 9090);
    let page = request([127, 0, 0, 1], at, "GET /metrics HTTP/1.1", "");
    let line = page
        .lines()
        .find(|line| line.starts_with("wa_rounds_abstained_total "));
    let count = line.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    count.unwrap_or_else(|| panic!("no such figure in {page}")) as u64
}

/// Its driver may answer before it takes in what the heartbeat thread says of the round.
fn abstains_once_more(node: &str, first: u16, count: u64) {
    let end = std::time::Instant::now() + PATIENCE;
    while abstained(node, first) <= count {
        assert!(
            std::time::Instant::now() < end,
            "{node} counted a round that was late"
        );
    }
}

/// Who owns the shard, under which epoch, and how many handovers were ever decided.
fn ownership(dev: &Dev) -> (Option<String>, u64, usize) {
    let now = status(dev);
    let (_, history) = verb(dev, &["history", "--limit", "500"]);
    let handovers = history
        .lines()
        .filter(|line| line.contains("handover"))
        .count();
    (
        owner(&now),
        now["shards"][0]["epoch"].as_u64().unwrap_or(0),
        handovers,
    )
}

/// Goal: a master that stood still while the owner was well has nobody replaced, and says that it abstained; nor do all of
/// them together. Method: the secondary is stopped until the primary misses it, then both until nobody answers; each goes on
/// and must have said in status and figures that it was late, with owner, epoch and handovers as they were.
#[test]
fn masters_that_stood_still_replace_nobody() {
    if let Some(why) = mariadb::missing() {
        // A process that is stopped in the middle of a write keeps the embedded database's lock.
        return skipped("masters that stand still, on MariaDB", &why);
    }
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let first = port();
    let mut dev = Dev::with(first, &["--database", "mariadb", "--profile", "standard"]);
    dev.until("ready: primary");
    let masters = ["dev:master-1", "dev:master-2"];
    let settled = |s: &Value| {
        let well = masters
            .iter()
            .filter(|m| healthy(s, m) == Some(true))
            .count();
        s["primary"] == true && s["shards"][0]["phase"] == "active" && well == 2
    };
    status_until(&dev, "settled", settled);
    let before = ownership(&dev);
    let late = |s: &Value, node: &str| {
        let problems = s["problems"].to_string();
        problems.contains(&format!("{node} was late")) && problems.contains("abstains")
    };

    for _ in 0..ROUNDS {
        let now = status_until(&dev, "settled", settled);
        let primary = now["primary_master"].as_str().expect("one").to_owned();
        let other = masters.into_iter().find(|m| *m != primary).expect("two");
        let (pid, count) = (pid_of(&dev, other), abstained(other, first));
        signal(pid, Signal::SIGSTOP);
        status_until(&dev, "missed", |s| healthy(s, other) == Some(false));
        signal(pid, Signal::SIGCONT);
        status_until(&dev, "said to be late", |s| late(s, other));
        abstains_once_more(other, first, count);
    }
    for _ in 0..ROUNDS {
        status_until(&dev, "settled", settled);
        let both = masters.map(|m| (pid_of(&dev, m), abstained(m, first)));
        for (pid, _) in both {
            signal(pid, Signal::SIGSTOP);
        }
        let (code, said) = verb(&dev, &["status", "--json"]);
        assert_eq!(code, 69, "nobody can answer: {said}");
        for (pid, _) in both {
            signal(pid, Signal::SIGCONT);
        }
        status_until(&dev, "settled", settled);
        for (master, (_, count)) in masters.into_iter().zip(both) {
            abstains_once_more(master, first, count);
        }
    }
    let after = ownership(&dev);
    let (_, history) = verb(&dev, &["history", "--limit", "60"]);
    assert_eq!(after, before, "owner, epoch, handovers: {history}");
}
