//! Every guard of the core carries weight. Goal: without any one of them something here turns red. Method: take out each
//! in turn, play all scenarios, the gate's own cases, then seeds of the simulator until packets break S1.
//!
//! Only with the feature `mutants`, and alone in its process, since a guard is out for the whole process:
//! `cargo xtask mutants`. Each line that begins with `mutant:` is read there and becomes a row of `GUARDS.md`.

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};

use wa_core::guard::{ALL, About, Place, take_out};
use wa_sim::gate;
use wa_sim::world::Sim;

use crate::scenario;

/// Seeds that are looked at for anything that breaks, and for how many more after it for packets that break S1.
const SEEDS: u64 = 240;
const MORE_SEEDS: u64 = 60;
const TABLE: &str = include_str!("../../GUARDS.md");
const BY_PACKETS: &str = "S1 by packets";

/// What a failed seed broke, as far as it says so.
fn broken(seed: u64) -> Option<&'static str> {
    let why = match catch_unwind(|| Sim::of_seed(seed).play()) {
        Ok(Ok(())) => return None,
        Ok(Err(why)) => why,
        Err(panic) => *panic.downcast::<String>().unwrap_or_default(),
    };
    Some(promise(&why))
}

/// The promise that a complaint speaks of.
fn promise(why: &str) -> &'static str {
    let words = [
        ("by packets", BY_PACKETS),
        ("S1", "S1 by open gates"),
        ("S2", "S2"),
        ("S3", "S3"),
        ("S4", "S4"),
        ("S5", "S5"),
        ("L3", "L3"),
        ("L4", "L4"),
        ("no end", "L4"),
        ("order", "order"),
        ("F05", "F05"),
        ("pace", "pace"),
    ];
    words
        .iter()
        .find(|(word, _)| why.contains(word))
        .map_or("a panic", |(_, promise)| promise)
}

/// The first seed whose packets break S1, or else the first that breaks anything; looked for on two threads.
fn first_broken() -> Option<(u64, &'static str)> {
    let until = AtomicU64::new(SEEDS);
    let half = |odd: u64| {
        let mut found = Vec::new();
        for seed in (odd..SEEDS).step_by(2) {
            if seed >= until.load(Ordering::Relaxed) {
                break;
            }
            let Some(what) = broken(seed) else { continue };
            found.push((seed, what));
            let more = if what == BY_PACKETS { 0 } else { MORE_SEEDS };
            until.fetch_min(seed + more, Ordering::Relaxed);
            if more == 0 {
                break;
            }
        }
        found
    };
    let found: Vec<(u64, &'static str)> = std::thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        let mine = half(0);
        let other = other.join().expect("panics are caught");
        mine.into_iter().chain(other).collect()
    });
    found
        .into_iter()
        .min_by_key(|(seed, what)| (*what != BY_PACKETS, *seed))
}

/// The gate alone says yes where it must say no.
fn wrong_cases() -> Vec<&'static str> {
    let cases = gate::CASES.iter().filter(|case| !(case.right)());
    cases.map(|case| case.name).collect()
}

/// What catches a guard that is out.
struct Caught {
    /// Scenarios that are red, and whether packets then break S1.
    scenarios: Vec<(String, bool)>,
    cases: Vec<&'static str>,
    seed: Option<(u64, &'static str)>,
}

fn caught(about: &About, scenarios: &[(String, String)]) -> Caught {
    take_out(Some(about.guard));
    let red = scenarios.iter().filter_map(|(name, text)| {
        scenario::wrong(text).map(|why| (name.clone(), why.contains("by packets")))
    });
    let caught = Caught {
        scenarios: red.collect(),
        cases: wrong_cases(),
        seed: first_broken(),
    };
    take_out(None);
    caught
}

impl Caught {
    /// The scenario that says it best, packets that break S1 before another story and one that few guards turn red before
    /// one that many do; what the gate alone lets through; and the first seed.
    fn words(&self, all: &[Caught]) -> String {
        let how_many = |name: &str| {
            let red = |caught: &&Caught| caught.scenarios.iter().any(|(other, _)| other == name);
            all.iter().filter(red).count()
        };
        let best = self
            .scenarios
            .iter()
            .min_by_key(|(name, s1)| (!s1, how_many(name), name.clone()));
        let scenario = best.map(|(name, s1)| {
            let s1 = if *s1 { " (S1 by packets)" } else { "" };
            format!("scenario `{name}`{s1}")
        });
        let seed = self
            .seed
            .map(|(seed, what)| format!("{what} in seed {seed}"));
        let case = self.cases.first().map(|case| format!("gate case `{case}`"));
        scenario
            .into_iter()
            .chain(case)
            .chain(seed)
            .collect::<Vec<_>>()
            .join("; ")
    }
}

/// What is red with all guards in place would catch every mutant, and show nothing.
fn green_scenarios() -> Vec<(String, String)> {
    let scenarios = scenario::all();
    take_out(None);
    let red = scenarios
        .iter()
        .find(|(_, text)| scenario::wrong(text).is_some());
    assert!(red.is_none(), "red with all guards in place: {red:?}");
    scenarios
}

fn quietly<T>(work: impl FnOnce() -> T) -> T {
    // What a mutant says as it panics is of no use.
    std::panic::set_hook(Box::new(|_| {}));
    let done = work();
    let _ = std::panic::take_hook();
    done
}

#[test]
#[ignore = "takes guards out of the whole process: cargo xtask mutants"]
fn all() {
    let scenarios = green_scenarios();
    // Those named in WA_MUTANTS, or all.
    let only = std::env::var("WA_MUTANTS").unwrap_or_default();
    let some: Vec<&About> = ALL
        .iter()
        .filter(|about| only.is_empty() || only.split(',').any(|name| name == about.name))
        .collect();
    let all: Vec<Caught> = quietly(|| {
        let each = some.iter().map(|about| {
            println!("without {} ...", about.name);
            caught(about, &scenarios)
        });
        each.collect()
    });
    let mut idle = Vec::new();
    for (about, caught) in some.into_iter().zip(&all) {
        let (name, place, source) = (about.name, about.place, about.source);
        let words = caught.words(&all);
        println!(
            "mutant: | `{name}` | {} | {source} | {place:?} | {words} |",
            about.what
        );
        // What is written into the rows has the store suite to catch it.
        if words.is_empty() && place != Place::Sql {
            idle.push(name);
        }
    }
    assert!(idle.is_empty(), "nothing catches: {}", idle.join(", "));
}

/// Goal: the table of guards in GUARDS.md is true. Method: for each guard only what its row says that it is caught
/// by: the scenario, or the seed.
#[test]
#[ignore = "takes guards out of the whole process: cargo xtask mutants --check"]
fn check() {
    let scenarios = green_scenarios();
    let wrong: Vec<String> = quietly(|| {
        ALL.iter()
            .filter_map(|about| row_is_wrong(about, &scenarios))
            .collect()
    });
    println!("{} guards, {} wrong rows", ALL.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn row_is_wrong(about: &About, scenarios: &[(String, String)]) -> Option<String> {
    let name = about.name;
    let start = format!("| `{name}` | {} | {} |", about.what, about.source);
    let Some(row) = TABLE.lines().find(|line| line.starts_with(&start)) else {
        return Some(format!("{name}: no row, or another: cargo xtask mutants"));
    };
    let scenario = scenarios
        .iter()
        .find(|(scenario, _)| row.contains(&format!("scenario `{scenario}`")));
    let seed = row.split_once(" in seed ").map(|(_, rest)| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    });
    let case = gate::CASES
        .iter()
        .find(|case| row.contains(&format!("gate case `{}`", case.name)));
    take_out(Some(about.guard));
    // All that the row names: a scenario, packets at the gate alone, a seed.
    let mut seen = Vec::new();
    seen.extend(scenario.map(|(_, text)| scenario::wrong(text).is_some()));
    seen.extend(case.map(|case| !(case.right)()));
    seen.extend(seed.map(|seed| broken(seed).is_some()));
    take_out(None);
    // `tests/integration/store_mutants.rs` shows what only the store does.
    let caught = match seen[..] {
        [] => row.contains("store test `"),
        ref seen => seen.iter().all(|red| *red),
    };
    (!caught).then(|| format!("{name}: its row's scenario, gate case or seed does not catch it"))
}
