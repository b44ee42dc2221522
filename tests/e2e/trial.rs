//! A trial of the installed package without a number: one booted machine, by what `setup --simulator` prints.

use std::time::Duration;

use serde_json::Value;

use crate::lan::Lan;
use crate::machine::{Layer, Machine, impossible, until};
use crate::{packages, program, skipped};

/// For anything that takes seconds when nothing else runs.
const LATE: Duration = Duration::from_secs(120);

/// The first login as it was printed, with a password in the place of the dots. Leaves the token.
const LOG_IN: &str = r#"cd /run
grep -o 'curl .*/v1/users/login.*' setup.log | head -1 | sed 's/"\.\.\."/"Try-it-0ut!"/' >login.sh
sh login.sh | sed -n 's/.*"token":"\([^"]*\)".*/\1/p' >token; test -s token"#;

const SEND: &str = "curl -sSf -H \"Authorization: Bearer $(cat /run/token)\" -H 'content-type: application/json' \
    http://localhost:9090/v1/messages -d '{\"to\":\"447700900123\",\"type\":\"text\",\"text\":{\"body\":\"hello\"}}'";

/// What the simulated upstream saw.
fn report(machine: &Machine) -> Value {
    let (_, text) = machine.try_run("curl -sS http://127.0.0.2:9280/admin/report");
    serde_json::from_str(&text).unwrap_or_default()
}

/// Goal: whoever has no number tries the installed package with one flag: what is printed starts it, a message goes to the
/// simulator and nowhere else, and the printed lines end the trial. Method: each printed line is typed on a booted machine.
#[test]
fn a_trial_without_a_number() {
    let what = "a trial on a booted machine";
    if let Some(why) = impossible() {
        return skipped(what, &why);
    }
    if program("dpkg-shlibdeps").is_none() {
        return skipped(what, "dpkg-dev is not installed");
    }
    let lan = Lan::new().expect("a network");
    let layer = Layer::with_package(packages::deb()).expect("it installs");
    let machine = Machine::boot_in(&lan, &layer, "trial1", 31).expect("it boots");
    machine.run(
        "wa-agent setup --single --simulator --no-input --behind-proxy 192.0.2.7 >/run/setup.log 2>&1 || { cat /run/setup.log; exit 1; }",
    );
    machine.run("$(grep -o 'systemctl enable --now wa-simulator .*' /run/setup.log)");
    machine.all_active("wa-simulator wa-host wa-master@1 wa-coreapp@1 wa-webapp@1");
    machine.wait(LATE, LOG_IN);
    machine.wait(LATE, SEND);
    let mut seen = Value::Null;
    let arrived = until(LATE, || {
        seen = report(&machine);
        seen["unique"].as_u64() >= Some(1)
    });
    assert!(arrived, "nothing came to the simulator: {seen}");
    // It is known for what it is, and reaches nobody but this machine.
    machine.run("wa-agent doctor | grep -q 'the simulator of this package: a trial'");
    machine.run("! ss -ltn | grep 9280 | grep -v 127.0.0.2:9280 | grep .");
    ended(&machine);
}

/// After the trial nothing of it runs or is left, and a real setup asks for a number.
fn ended(machine: &Machine) {
    let line = "systemctl disable --now wa-simulator; systemctl stop 'wa-*'; wa-agent reset --state --database";
    machine.run(&format!("grep -qF \"{line}\" /run/setup.log"));
    machine.run(&format!("{line} --yes-i-mean wa"));
    machine.run("! systemctl is-active -q wa-simulator && ! systemctl is-enabled -q wa-simulator");
    machine.run("! systemctl list-units --failed --plain --no-legend 'wa-*' | grep .");
    let (done, says) = machine.try_run("wa-agent setup --single --replace --no-input");
    assert!(!done && says.contains("--phone-number-id"), "{says}");
}
