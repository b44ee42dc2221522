//! `cargo xtask sim`: plays seeds, counts what happened in them, and tells the story of those that broke a promise.
//! Knows no protocol: the library does.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Parser;
use wa_sim::world::Sim;

/// What every run of two thousand seeds or more must have met; a kind that never happened proves nothing.
const EXPECTED: &[&str] = &[
    "single: coreapp process killed",
    "single: coreapp process hung",
    "single: heartbeats lost, owner still renews",
    "single: machine or network lost",
    "single: machine of primary master and owner lost",
    "single: one master only, coreapp hung",
    "single: planned switchover",
    "fault: answers of the database lost",
    "fault: two servers",
    "fault: wall clock set",
    "fault: wall clock set back",
    "fault: disk slow",
    "fault: webapp killed",
    "fault: webapp does not hear a coreapp",
    "fault: webapp does not reach a coreapp",
    "database: refused, not the writer",
    "messages: account refused",
    "messages: ambiguous",
    "messages: answer lost",
    "messages: answered 2xx",
    "messages: commit whose outcome is unknown",
    "messages: conflict",
    "messages: event told again",
    "messages: held, locked",
    "messages: held, payment",
    "messages: held, token",
    "messages: names another, Fail",
    "messages: names another, Go",
    "messages: names another, GoBare",
    "messages: names another, Wait",
    "messages: never goes out, and might have",
    "messages: one customer refused for long",
    "messages: order kept",
    "messages: order kept over a failover",
    "messages: an earlier owner left one to wait for",
    "messages: overtakes one that waits",
    "messages: payment refused",
    "messages: question about the number",
    "messages: receipt late",
    "messages: receipt lost",
    "messages: receipt missing, Late",
    "messages: receipt missing, NewerReceipted",
    "messages: receipt missing, NoneOutstanding",
    "messages: receipt missing, SoonerThanUsual",
    "messages: receipt missing, WaitedLongest",
    "messages: request held",
    "messages: request lost",
    "messages: reported after its window",
    "messages: sent too often with unknown outcome",
    "messages: shows whether payment is in order",
    "messages: stale write",
    "messages: upstream has it",
    "messages: upstream has it and answers an error",
    "messages: upstream refuses",
    "messages: upstream's answer lost",
    "messages: waits behind its customer's",
    "messages: waits for its customer's bucket",
    "messages: waits for payment",
    "messages: webhook delivered",
    "decision: handover, DeadCoreapp",
    "decision: handover, LapsedAndSilent",
    "decision: handover, LapsedByItself",
    "decision: handover, NeverTookOver",
    "decision: handover, OperatorAsked",
    "decision: handover, OwnerStopping",
    "decision: handover, Released",
    "decision: handover, RestartedCoreapp",
    "decision: handover, UnreachableCoreapp",
    "decision: primary, LeaseFree",
    "decision: primary, LeaseLapsed",
    "decision: reshard, ShardCountChanged",
    "decision: retry, NotConverged",
    "decision: safe, Safe",
    "decision: safe, RewoundRow",
    "decision: safe, TableMadeAnew",
    "decision: secondary, LeaseExpired",
    "decision: secondary, ObserverBlind",
    "decision: settled, SettledByOwner",
    "decision: settled, SettledByReceipt",
    "decision: passed over, ReceiptOfStranger",
    "tenure: closes, LeaseExpired",
    "tenure: closes, LeaseLost",
    "tenure: closes, Stopping",
    "fault: heartbeat thread stands still",
    "fault: driver thread stands still",
    "fault: sender thread stands still",
    "fault: machine stands still",
    "fault: process that cannot be killed",
    "fault: crash between two actions",
    "fault: pause between a decision and its action",
    "fault: connection escapes the abort",
    "fault: connection without a tenure",
    "fault: deadline overwritten",
    "packet: connect passes",
    "packet: connect refused",
    "packet: payload passes",
    "packet: payload dropped",
    "packet: sent again",
    "packet: reset passes",
    "fault: crash",
    "fault: pause",
    "fault: one-way cut",
    "fault: database cut off",
    "fault: database failover with rewind",
    "fault: restored dump",
    "fault: operator adopts",
    "decision: blocked, RestoredDatabase",
    "decision: blocked, ServerChanged",
    "decision: unblocked, ServerKnown",
    "decision: reshard, OperatorAdopted",
    "fault: loss",
    "fault: terminate",
    "fault: switchover",
    "fault: reshard",
    "fault: reboot",
    "fault: epoch file holds rubbish",
    "fault: absurd number in heartbeats",
    "fault: counter in the row overwritten",
    "fault: term in the row overwritten",
    "fault: epoch in a row overwritten",
    "decision: ignored, NumberImplausible",
    "decision: handover, RowImplausible",
    "fault: new disk",
    "fault: older disk",
    "fault: copy of a machine",
    "fault: copy of a machine with its hardware's numbers",
    "fault: copy switched off",
    "decision: noticed, OtherDisk",
    "decision: passed over, NodeTwice",
    "host agent: it never saw that start here, and signs nothing",
    "host agent: its receipt waited for its row",
    "fault: host agent started anew",
    "fault: connection dropped",
    "fault: disk full",
    "network: cut",
    "network: lost",
    "network: repeated late",
    "database: slow statement",
    "database: no answer in time",
    "database: commit whose outcome is unknown",
    "tenure: opens",
    "tenure: releases",
];
const SEEDS_FOR_ALL_KINDS: u64 = 2000;

/// The protocol in simulated clusters, seed by seed.
#[derive(Parser)]
#[command(name = "cargo xtask sim")]
struct Arguments {
    /// How many seeds to play.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first of them; one seed alone prints its story.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only every so many; 32 from 9 on are all of one kind: absurd numbers. From 24 on: disks and copies. From 26 on: host
    /// agents that start anew.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    step: u64,
    /// How many seeds are played at a time; as many as there are cores if it is not given.
    #[arg(long)]
    jobs: Option<usize>,
}

type Counts = BTreeMap<String, u64>;

/// Adds to a count; of what is the longest, the longest.
fn add(counts: &mut Counts, kind: &str, count: u64) {
    let sum = counts.entry(kind.to_owned()).or_default();
    *sum = if kind.starts_with("longest") {
        count.max(*sum)
    } else {
        *sum + count
    };
}

/// Plays one seed; a panic of the deciding code is a violation like any other.
fn play(seed: u64, counts: &mut Counts) -> Result<(), (String, Vec<String>)> {
    let mut sim = Sim::of_seed(seed);
    let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sim.play()))
        .unwrap_or_else(|_| Err("the deciding code panicked".to_owned()));
    for (kind, count) in &sim.counts {
        add(counts, kind, *count);
    }
    end.map_err(|why| (why, sim.story))
}

/// One thread's part: every `step`th seed.
fn part(from: u64, to: u64, step: usize) -> (Counts, Vec<(u64, String)>) {
    let (mut counts, mut broken) = (Counts::new(), Vec::new());
    for seed in (from..to).step_by(step) {
        if let Err((why, _)) = play(seed, &mut counts) {
            println!("seed {seed}: {why}\n  replay: cargo xtask sim --seeds 1 --from {seed}");
            broken.push((seed, why));
        }
    }
    (counts, broken)
}

fn story(seed: u64) {
    let mut sim = Sim::of_seed(seed);
    let end = sim.play();
    for line in sim
        .story
        .iter()
        .chain(&sim.standing())
        .chain(&sim.why_nobody())
    {
        println!("{line}");
    }
    println!(
        "{}",
        end.err().unwrap_or_else(|| "all promises kept".to_owned())
    );
}

fn main() -> ExitCode {
    let Arguments {
        seeds,
        from,
        step,
        jobs,
    } = Arguments::parse();
    let to = from.saturating_add(seeds.saturating_mul(step));
    println!("sim: seeds {from} to {}", to - step);
    if seeds == 1 {
        story(from);
    }
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = jobs.unwrap_or_else(cores).max(1);
    let parts: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads as u64)
            .map(|thread| {
                scope.spawn(move || part(from + thread * step, to, threads * step as usize))
            })
            .collect();
        running
            .into_iter()
            .map(|part| part.join().expect("panics of a seed are caught"))
            .collect()
    });
    let (mut counts, mut violations) = (Counts::new(), 0);
    for (more, broken) in parts {
        violations += broken.len();
        for (kind, count) in &more {
            add(&mut counts, kind, *count);
        }
    }
    for (kind, count) in &counts {
        println!("{count:>10} {kind}");
    }
    let absent = EXPECTED.iter().filter(|kind| !counts.contains_key(**kind));
    let absent: Vec<_> = absent
        .filter(|_| seeds >= SEEDS_FOR_ALL_KINDS && step == 1)
        .collect();
    for kind in &absent {
        println!("         0 {kind}: it never happened, so nothing was shown of it");
    }
    println!("sim: {seeds} seeds, {violations} violations");
    if violations == 0 && absent.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
