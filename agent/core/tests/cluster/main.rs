//! A whole cluster in one thread: 2–3 masters, 3 coreapps, their host agents, one database, an unkind network.
//! Goal: promise S1 (no two live gates for a shard) at every moment, and a takeover once the faults stop. Method: seeds.
//! A seed that ever failed is kept in `REGRESSIONS`. Knows nothing of messages: that is the drills' work.

#[cfg(feature = "mutants")]
mod mutants;
mod scenario;

use wa_sim::world::Sim;

/// Seeds that found a bug once.
/// 302: a coreapp read its grant only after a database failover that had lost its replacement, and began under it.
/// 10965, 19347: a handover that was late overwrote what a change of the shard count had written into a free row.
const REGRESSIONS: &[u64] = &[302, 10965, 19347];

fn run(seed: u64, lying_hosts: bool) -> Result<(), String> {
    let mut sim = world(seed);
    sim.lying_hosts = lying_hosts;
    sim.run()
}

/// Every second seed is a hostile one.
fn world(seed: u64) -> Sim {
    if seed.is_multiple_of(2) {
        Sim::new(seed / 2)
    } else {
        Sim::hostile(seed / 2)
    }
}

fn run_range(from: u64, to: u64) -> Vec<String> {
    (from..to)
        .filter_map(|seed| {
            run(seed, false)
                .err()
                .map(|why| format!("seed {seed}: {why}"))
        })
        .collect()
}

/// S1, S2 and takeover over many seeds. `CLUSTER_SEEDS=from..to` runs others.
#[test]
fn no_two_live_gates_and_a_takeover_in_the_end() {
    let range = std::env::var("CLUSTER_SEEDS").unwrap_or_default();
    let (from, to) = range.split_once("..").map_or((0, 600), |(a, b)| {
        (a.parse().unwrap_or(0), b.parse().unwrap_or(600))
    });
    let middle = (from + to) / 2;
    let other = std::thread::spawn(move || run_range(middle, to));
    let mut failed = run_range(from, middle);
    failed.extend(other.join().expect("the other half does not panic"));
    assert!(
        failed.is_empty(),
        "{} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

#[test]
fn seeds_that_failed_once() {
    for seed in REGRESSIONS {
        run(*seed, false).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

/// The test can fail: host agents that sign without sealing (attack 2) must break S1 in some seed.
#[test]
fn receipts_without_a_seal_break_s1() {
    let broken = (0..200).any(|seed| run(seed, true).is_err_and(|why| why.contains("S1")));
    assert!(broken, "no seed noticed that the guard is gone");
}

/// Prints one seed's story: `CLUSTER_SEED=7 cargo test -p wa-core --test cluster one_seed -- --ignored --nocapture`.
#[test]
#[ignore = "for looking at one seed by hand"]
fn one_seed() {
    let seed = std::env::var("CLUSTER_SEED").map_or(0, |s| s.parse().unwrap_or(0));
    let mut sim = world(seed);
    let end = sim.run();
    println!("{}\n{end:?}", sim.story.join("\n"));
}
