//! A booted Debian 12 whose kernel takes no programs from it, as in most containers: `fence = "best-effort"`, and nftables in
//! the place of the kernel gate. One machine, two coreapps, a simulated upstream at an address that is not exempt.

use std::time::Duration;

use crate::gate::{settled, shut_for_strangers};
use crate::install::{CONFIGURE, started_as};
use crate::machine::{MARK, Machine, impossible, said};
use crate::{packages, program, skipped, traffic};

/// For anything that takes seconds when nothing else runs.
const LATE: Duration = Duration::from_secs(120);

/// What people are shown: the level, why it is no better one, and who is let through.
fn named(machine: &Machine) {
    machine.wait(
        LATE,
        "systemctl show -p StatusText wa-coreapp@1 | grep -q 'fence=nftables ('",
    );
    let (stands, status) = machine.try_run("wa-agent gate status --json");
    assert!(!stands, "it says that a gate stands: {status}");
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["fence"], "nftables", "{status}");
    let admitted = status["admitted"].as_object().map(serde_json::Map::len);
    assert_eq!(admitted, Some(1), "one primary is let through: {status}");
    machine.run("wa-agent doctor | grep -q 'nftables stands in place of the kernel gate'");
}

/// Somebody empties the table by hand: it is put back, and nobody moves.
fn emptied(machine: &Machine) {
    machine.run(&format!("{MARK}; nft flush ruleset"));
    machine.wait(LATE, &said("wa-host", "putting it back"));
    shut_for_strangers(machine);
}

/// Without the package nothing of it stands.
fn taken_away(machine: &Machine) {
    machine.run("apt-get remove -y -q wa-agent");
    assert_eq!(machine.run("nft list tables"), "", "a table is left");
}

/// Goal: where the kernel takes no gate, nftables shuts off everybody without a tenure, deaths and freezes are settled
/// all the same, and everything says what stands. Method: a booted machine without the right to load programs, real faults.
#[test]
fn nftables_stands_in() {
    let what = "nftables in the place of the gate on a booted Debian 12";
    if let Some(why) = impossible() {
        return skipped(what, &why);
    }
    if program("dpkg-shlibdeps").is_none() {
        return skipped(what, "dpkg-dev is not installed");
    }
    let machine = Machine::boot_without_bpf("core1").expect("it boots");
    std::fs::copy(packages::deb(), machine.tree().join("srv/wa-agent.deb")).expect("copied");
    machine.run("apt-get install -y -q /srv/wa-agent.deb");
    started_as(
        &machine,
        &CONFIGURE.replace(
            "development = true\\n",
            "development = true\\nfence = \"best-effort\"\\n",
        ),
    );
    named(&machine);
    shut_for_strangers(&machine);
    traffic::start(&machine);
    settled(&machine);
    emptied(&machine);
    named(&machine);
    assert_eq!(traffic::failed(&machine), [], "requests failed");
    machine.run("systemctl stop traffic");
    taken_away(&machine);
}
