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

/// Goal: the model can fail. Method: without each of these guards it finds two open gates.
#[cfg(feature = "mutants")]
#[test]
#[ignore = "takes guards out of the whole process: cargo xtask mutants --check"]
fn without_a_guard_the_model_turns_red() {
    use wa_core::guard::{Guard, take_out};
    let guards = [
        Guard::TtlFromSend,
        Guard::HolderDrift,
        Guard::NonceCounts,
        Guard::RenewalHeldOnly,
    ];
    for guard in guards {
        take_out(Some(guard));
        let found = BOUNDS
            .iter()
            .find_map(|bounds| explore(*bounds).found.into_iter().next());
        take_out(None);
        println!("model without {guard:?}: {found:?}");
        assert!(
            found.is_some_and(|found| found.starts_with("S1")),
            "without {guard:?} the model finds nothing"
        );
    }
}
