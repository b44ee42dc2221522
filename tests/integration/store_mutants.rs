//! Guards in the statements that change lease rows. Goal: without any one of them a test of the store turns red. Method:
//! take out each in turn (feature `mutants`), run `store_lease` on the embedded store. Alone: `cargo xtask mutants`.

use wa_core::guard::{ALL, About, Place, take_out};

use crate::store_lease;

/// They have no switch in the statements themselves: the simulator's store takes them out, and a seed of theirs is in the
/// table. In the real store `store_message` and `store_faults` hold what they promise.
const BY_SEEDS: [&str; 4] = [
    "OneWriter",
    "OwnerWriteNamesGrant",
    "IdStoredOnce",
    "ToldInTheSameCommit",
];

#[test]
#[ignore = "takes guards out of the whole process: cargo xtask mutants"]
fn every_guard_in_sql_is_caught() {
    // What a mutant says as it panics is of no use.
    std::panic::set_hook(Box::new(|_| {}));
    take_out(None);
    let red = first_red();
    assert!(red.is_none(), "red with all guards in place: {red:?}");
    let mut idle = Vec::new();
    let here = |about: &&About| about.place == Place::Sql && !BY_SEEDS.contains(&about.name);
    for about in ALL.iter().filter(here) {
        take_out(Some(about.guard));
        let red = first_red();
        take_out(None);
        match red {
            Some(test) => println!("store-mutant: {} | store test `{test}`", about.name),
            None => idle.push(about.name),
        }
    }
    let _ = std::panic::take_hook();
    assert!(idle.is_empty(), "nothing catches: {}", idle.join(", "));
}

fn first_red() -> Option<&'static str> {
    let tests = store_lease::on_sqlite();
    let red = tests
        .into_iter()
        .find(|(_, test)| std::panic::catch_unwind(test).is_err());
    red.map(|(name, _)| name)
}
