//! Every guard of the core carries weight. Goal: without any one of them something here turns red. Method: take out each
//! in turn, play all scenarios, then seeds until one fails.
//!
//! Only with the feature `mutants`, and alone in its process, since a guard is out for the whole process:
//! `cargo xtask mutants`. Each line that begins with `mutant:` is read there and becomes a row of `ARCHITECTURE.md`.

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, Ordering};

use wa_core::guard::{ALL, About, Place, take_out};

use crate::{run, scenario};

const SEEDS: u64 = 1000;
const TABLE: &str = include_str!("../../../ARCHITECTURE.md");

/// What a failed seed broke, as far as it says so.
fn broken(seed: u64) -> Option<&'static str> {
    let why = match catch_unwind(|| run(seed, false)) {
        Ok(Ok(())) => return None,
        Ok(Err(why)) => why,
        Err(panic) => *panic.downcast::<String>().unwrap_or_default(),
    };
    Some(promise(&why))
}

/// The promise that a complaint speaks of.
fn promise(why: &str) -> &'static str {
    let words = [
        ("S1", "S1"),
        ("S2", "S2"),
        ("nobody took over", "L4"),
        ("no end", "L4"),
    ];
    words
        .iter()
        .find(|(word, _)| why.contains(word))
        .map_or("a panic", |(_, promise)| promise)
}

/// The first failed seed, looked for on two threads.
fn first_broken() -> Option<(u64, &'static str)> {
    let found = AtomicBool::new(false);
    let half = |odd: u64| {
        (0..SEEDS)
            .filter(|seed| seed % 2 == odd)
            .take_while(|_| !found.load(Ordering::Relaxed))
            .find_map(|seed| broken(seed).map(|what| (seed, what)))
            .inspect(|_| found.store(true, Ordering::Relaxed))
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        let mine = half(0);
        let other = other.join().expect("panics are caught");
        mine.into_iter().chain(other).min()
    })
}

/// What catches a guard that is out: the scenario that says it best, and the first seed.
fn catchers(about: &About, scenarios: &[(String, String)]) -> Vec<String> {
    take_out(Some(about.guard));
    let mut red: Vec<(bool, &str)> = scenarios
        .iter()
        .filter_map(|(name, text)| {
            scenario::wrong(text).map(|why| (!why.starts_with("S1 at"), name.as_str()))
        })
        .collect();
    red.sort();
    let seed = first_broken();
    take_out(None);
    let mut caught = Vec::new();
    if let Some((no_s1, name)) = red.first() {
        let s1 = if *no_s1 { "" } else { " (S1)" };
        caught.push(format!("scenario `{name}`{s1}"));
    }
    caught.extend(seed.map(|(seed, what)| format!("{what} in seed {seed}")));
    caught
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
    let scenarios = scenario::all();
    take_out(None);
    let red = scenarios
        .iter()
        .find(|(_, text)| scenario::wrong(text).is_some());
    assert!(red.is_none(), "red with all guards in place: {red:?}");
    let idle = quietly(|| {
        let mut idle = Vec::new();
        for about in ALL {
            let caught = catchers(about, &scenarios);
            // What is written into the rows has the store suite to catch it.
            if caught.is_empty() && about.place != Place::Sql {
                idle.push(about.name);
            }
            let (name, place, source) = (about.name, about.place, about.source);
            let caught = caught.join("; ");
            println!(
                "mutant: | `{name}` | {} | {source} | {place:?} | {caught} |",
                about.what
            );
        }
        idle
    });
    assert!(idle.is_empty(), "nothing catches: {}", idle.join(", "));
}

/// Goal: the table of guards in ARCHITECTURE.md is true. Method: for each guard only what its row says that it is caught
/// by: the scenario, or the seed.
#[test]
#[ignore = "takes guards out of the whole process: cargo xtask mutants --check"]
fn check() {
    let scenarios = scenario::all();
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
    take_out(Some(about.guard));
    let caught = match (scenario, seed) {
        (Some((_, text)), _) => scenario::wrong(text).is_some(),
        (None, Some(seed)) => broken(seed).is_some(),
        (None, None) => about.place == Place::Sql,
    };
    take_out(None);
    (!caught).then(|| format!("{name}: its row's scenario or seed does not catch it"))
}
