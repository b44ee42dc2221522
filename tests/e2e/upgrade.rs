//! From a package of a release that shipped to this one, under traffic: its store, as that release filled it, is this one's.
//! By hand, because the package is built from an older commit: `WA_DEB_BEFORE=FILE cargo test --test e2e upgrade:: -- --ignored`.

use std::time::Duration;

use crate::install::{CONFIGURE, owner, started_as};
use crate::machine::{Machine, impossible};
use crate::mixed::nothing_lost_or_doubled;
use crate::{packages, program, skipped, traffic};

/// For a hundred messages, when much else runs.
const LATE: Duration = Duration::from_secs(120);
const MORE: &str = "before=$(wc -l </run/traffic.log); until test $(wc -l </run/traffic.log) -gt $((before + 100)); do sleep 0.1; done";

/// Goal: no message is refused, lost or sent twice while the package of a release before is replaced by this one's, nor when the
/// owner dies right before and right after; nothing in its store is unreadable. Method: a client that sends all the time; the
/// owner is killed under the old release, the package is replaced, the owner is killed again.
#[test]
#[ignore = "by hand: needs a package of a release before, WA_DEB_BEFORE"]
fn from_a_release_that_shipped() {
    let what = "an upgrade of a release that shipped";
    let Some(before) = std::env::var_os("WA_DEB_BEFORE") else {
        return skipped(what, "WA_DEB_BEFORE names no package");
    };
    if let Some(why) = impossible() {
        return skipped(what, &why);
    }
    if program("dpkg-shlibdeps").is_none() {
        return skipped(what, "dpkg-dev is not installed");
    }
    let machine = Machine::boot("core1").expect("it boots");
    let arguments = ["deb", "--version", "0.1.1"];
    let newer = packages::xtask(&arguments, &packages::folder("newer"), None);
    for (package, name) in [(std::path::PathBuf::from(before), "old"), (newer, "new")] {
        std::fs::copy(package, machine.tree().join(format!("srv/{name}.deb"))).expect("copied");
    }
    machine.run("apt-get install -y -q /srv/old.deb");
    let help = machine.run("wa-agent setup --help");
    started_as(&machine, &known_to(&help, CONFIGURE));
    traffic::start(&machine);
    kill_owner(&machine);
    machine.wait(LATE, MORE);

    let says = machine.run("apt-get install -y -q /srv/new.deb");
    assert!(says.contains("restarting wa-coreapp@2.service"), "{says}");
    machine.run("dpkg-query -W -f '${Version}' wa-agent | grep -qx 0.1.1-1");
    machine.all_active("wa-master@1 wa-coreapp@1 wa-coreapp@2 wa-webapp@1 wa-webapp@2 wa-host");
    machine.wait(LATE, "! wa-agent status | grep -q 'no standby'");
    machine.wait(LATE, MORE);
    kill_owner(&machine);
    machine.wait(LATE, MORE);

    machine.run("systemctl stop traffic");
    assert_eq!(traffic::failed(&machine), [], "requests failed");
    nothing_lost_or_doubled(&machine);
    let unread = machine.run("wa-agent events list");
    println!(
        "{} tries; events kept: {unread}",
        traffic::sent(&machine).len()
    );
}

/// Flags of `setup` that a release before may not know, each with its value in [`CONFIGURE`].
const NEWER: [&str; 2] = ["--first-password secret", "--behind-proxy 192.0.2.7"];

/// What an administrator writes, without the flags that this `setup --help` does not name.
fn known_to(help: &str, configure: &str) -> String {
    let named = |flag: &&str| {
        let name = flag.split(' ').next();
        help.split_whitespace().any(|word| Some(word) == name)
    };
    let unknown = NEWER.iter().filter(|flag| !named(flag));
    unknown.fold(configure.to_owned(), |text, flag| {
        text.replace(&format!(" {flag}"), "")
    })
}

/// Goal: a release that does not know a flag is not given it, and one that does is. Method: help texts with none, one and both.
#[test]
fn flags_that_are_not_known_are_left_out() {
    let both = "      --first-password <secret>\n      --behind-proxy <ADDRESS>\n";
    assert_eq!(known_to(both, CONFIGURE), CONFIGURE);
    for (help, left) in [
        ("--first-password-file <FILE>", [false, false]),
        ("  --behind-proxy <ADDRESS>", [false, true]),
    ] {
        let text = known_to(help, CONFIGURE);
        assert_eq!(NEWER.map(|flag| text.contains(flag)), left, "{help}");
        assert!(text.contains(" >/run/setup.log"), "{text}");
    }
}

fn kill_owner(machine: &Machine) {
    let unit = owner(machine);
    machine.run(&format!(
        "kill -KILL $(systemctl show -p MainPID --value {unit})"
    ));
    machine.all_active(&unit);
    machine.wait(LATE, "! wa-agent status | grep -q 'no standby'");
}
