//! The exploration itself, and that it can fail.

use super::*;

/// Goal: S1, S2 and a takeover in every run within the bounds. Method: all of them, breadth first.
#[test]
fn no_run_within_the_bounds_breaks_a_promise() {
    let mut all = 0;
    for bounds in BOUNDS {
        let explored = explore(*bounds);
        println!(
            "model: {}: {} unique states, depth {}, exhausted {}",
            bounds.name, explored.states, explored.depth, explored.exhausted
        );
        assert!(
            explored.found.is_empty(),
            "{}:\n{}",
            bounds.name,
            explored.found.join("\n")
        );
        assert!(explored.exhausted, "{}: not exhausted", bounds.name);
        assert!(
            explored.states >= STATES_MIN,
            "{}: only {} states",
            bounds.name,
            explored.states
        );
        all += explored.states;
    }
    println!("model: {all} unique states in all, 0 violations");
}

/// Which guards the model misses, for the table of guards. `MUTANT` names one of them.
#[cfg(feature = "mutants")]
#[test]
#[ignore = "takes guards out of the whole process: cargo xtask mutants"]
fn mutants() {
    use wa_core::guard::{ALL, take_out};
    let only = std::env::var("MUTANT").ok();
    for about in ALL {
        if only
            .as_ref()
            .is_some_and(|names| !names.split(',').any(|name| name == about.name))
        {
            continue;
        }
        take_out(Some(about.guard));
        let found = BOUNDS
            .iter()
            .map(|bounds| explore(*bounds))
            .find_map(|explored| explored.found.first().cloned());
        take_out(None);
        println!(
            "model-mutant: {} | {}",
            about.name,
            found.unwrap_or_default()
        );
    }
}
