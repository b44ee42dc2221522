//! What a takeover takes on booted machines, as the packages are shipped: `cargo xtask bench takeover`.
//! Judges no figure, but that nothing is lost or sent by two.

use std::path::Path;
use std::time::Duration;

use crate::gate::stop;
use crate::install::{CONFIGURE, KILL, owner, started_as, struck};
use crate::machine::{Machine, impossible, wall_ns};
use crate::network::{self, Cluster, cable_pulled, machine_killed};
use crate::{packages, program, skipped, traffic};

/// For anything that takes seconds when nothing else runs.
const LATE: Duration = Duration::from_secs(120);
/// Between a machine's boot and the next strike.
const REST: Duration = Duration::from_secs(4);
/// Kills, unless `WA_BENCH_TIMES` says another number; everything else is done a fifth as often.
const TIMES: usize = 50;

/// More of them in a short time meet the masters' limit, and are waited for until the lease ends.
const FROZEN_MAX: usize = 4;

/// Kinds of takeovers, and milliseconds.
#[derive(Default)]
struct Figures(Vec<(&'static str, u64)>);

impl Figures {
    /// So many of one kind; shown as they come.
    fn of(&mut self, kind: &'static str, times: usize, mut one: impl FnMut() -> u64) {
        for _ in 0..times {
            let ms = one();
            println!("{kind}: {ms} ms");
            self.0.push((kind, ms));
        }
    }
}

/// The longest time without an answer while the shard was handed over.
fn handed_over(machine: &Machine) -> u64 {
    let before = owner(machine);
    let from = wall_ns();
    // It waits for the new owner.
    machine.run("wa-agent switchover --shard 0 --reason bench");
    let outage = traffic::outage_ms(machine, from, wall_ns());
    machine.wait(
        LATE,
        &format!("systemctl is-active {before} && ! wa-agent status | grep -q 'no standby'"),
    );
    outage
}

/// How far apart answers are when nothing happens: part of every figure here.
fn undisturbed(machine: &Machine) -> u64 {
    let all = traffic::latest(machine);
    let answers = all.windows(2).map(|two| two[1].answered - two[0].answered);
    let mut apart: Vec<u64> = answers.collect();
    apart.sort_unstable();
    apart[apart.len() / 2] / 1_000_000
}

fn on_one_machine(deb: &Path, times: usize, figures: &mut Figures) {
    let machine = Machine::boot("core1").expect("it boots");
    std::fs::copy(deb, machine.tree().join("srv/wa-agent.deb")).expect("copied");
    machine.run("apt-get install -y -q /srv/wa-agent.deb");
    started_as(&machine, &CONFIGURE.replace("standard", "fast"));
    // One alone gets no second opinion: a coreapp that stands still has to lapse first.
    machine.run("systemctl start wa-master@2");
    machine.all_active("wa-master@1 wa-master@2");
    traffic::start(&machine);
    figures.of("an answer without a fault", 1, || undisturbed(&machine));
    let few = times.div_ceil(5);
    figures.of("coreapp killed", times, || struck(&machine, KILL));
    figures.of("coreapp frozen", few.min(FROZEN_MAX), || {
        struck(&machine, &stop(false))
    });
    figures.of("switchover", few, || handed_over(&machine));
    assert_eq!(traffic::failed(&machine), [], "requests failed");
}

/// A network that has served; judged when the figures are written down.
fn in_a_network(deb: &Path, times: usize, figures: &mut Figures) -> Cluster {
    let mut cluster = Cluster::boot(deb, "fast", "required").expect("it boots");
    cluster.started();
    let few = times.div_ceil(5);
    figures.of("machine killed", few, || {
        cluster.at_rest(REST);
        machine_killed(&mut cluster)
    });
    figures.of("cable pulled", few, || {
        cluster.at_rest(REST);
        cable_pulled(&cluster)
    });
    cluster.web().run("systemctl stop traffic");
    cluster
}

/// Goal: the figures. Method: real faults on booted machines behind the kernel gate, profile `fast`, a client that sends
/// message after message. Writes them as JSON to the file that `WA_BENCH_OUT` names.
#[test]
#[ignore = "a measurement: cargo xtask bench takeover"]
fn table() {
    let what = "takeovers on booted machines";
    if let Some(why) = impossible() {
        return skipped(what, &why);
    }
    if let Some(needed) = network::missing() {
        return skipped(what, &format!("{needed} is not installed"));
    }
    if !wa_bpf::COMPILED || program("clang").is_none() {
        return skipped(what, "clang is not installed");
    }
    let times = std::env::var("WA_BENCH_TIMES").map_or(TIMES, |n| n.parse().expect("a number"));
    let deb = packages::optimised_deb();
    let mut figures = Figures::default();
    on_one_machine(&deb, times, &mut figures);
    let cluster = in_a_network(&deb, times, &mut figures);
    let text = serde_json::to_string(&figures.0).expect("JSON");
    match std::env::var_os("WA_BENCH_OUT") {
        Some(file) => std::fs::write(file, text).expect("written"),
        None => println!("{text}"),
    }
    cluster.nothing_lost_or_doubled();
}
