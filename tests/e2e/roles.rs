//! One role per machine: three booted machines, a database and an upstream in one network, set up by what is printed.

use std::time::Duration;

use crate::lan::Lan;
use crate::machine::{Layer, Machine, impossible};
use crate::network::{self, Services};
use crate::{packages, skipped, traffic};

/// For anything that takes seconds when nothing else runs.
const LATE: Duration = Duration::from_secs(120);
const CREDENTIALS: &str = "etc/wa-agent/credentials";

/// The cluster's own answers, and an upstream without TLS.
const BROUGHT: &str = "mkdir -m 700 /run/brought; cd /run/brought
printf simulator-token >token; printf simulator-app-secret >secret; printf simulator-verify >verify
printf '[cluster]\\ndevelopment = true\\n' >/etc/wa-agent/conf.d/20-here.toml";

/// What is typed on the machine with this role.
fn setup(role: &str) -> String {
    let words = match role {
        "master" => "--single --database mysql://wa@10.77.0.41:3306/wa --phone-number-id 100200300",
        "coreapp" => "--join mysql://wa@10.77.0.41:3306/wa --token-file token",
        _ => {
            "--join mysql://wa@10.77.0.41:3306/wa --app-secret-file secret --verify-token-file verify"
        }
    };
    format!(
        "cd /run/brought && wa-agent setup {words} --roles {role} --base-url http://10.77.0.42:9280 --profile standard \
         --behind-proxy 192.0.2.7 --no-input >/run/setup.log 2>&1 || {{ cat /run/setup.log; exit 1; }}"
    )
}

/// Types the line that setup has printed last.
fn start(machine: &Machine, units: &str) {
    machine.run("$(grep -o 'systemctl enable --now .*' /run/setup.log)");
    machine.all_active(units);
}

/// The key of this name comes from the first machine, as the refusal of `setup` says.
fn bring(from: &Machine, to: &Machine, role: &str, key: &str) {
    let (done, says) = to.try_run(&setup(role));
    let wanted = format!("scp 'root@10.77.0.11:/{CREDENTIALS}/{key}'");
    assert!(!done && says.contains(&wanted), "{says}");
    let name = format!("{CREDENTIALS}/{key}");
    std::fs::copy(from.tree().join(&name), to.tree().join(&name)).expect("copied");
}

/// Goal: one role per machine works as printed: keys are brought as each refusal says, the printed line starts what can run
/// there and no more, each machine is examined for what it is, and the cluster serves. Method: three booted machines.
#[test]
fn one_role_per_machine() {
    let what = "one role on each of three booted machines";
    if let Some(why) = impossible() {
        return skipped(what, &why);
    }
    if let Some(needed) = network::missing() {
        return skipped(what, &format!("{needed} is not installed"));
    }
    let lan = Lan::new().expect("a network");
    let layer = Layer::with_package(packages::deb()).expect("it installs");
    let services = Services::start(&lan).expect("they start");
    let [master, core, web] =
        [("master1", 11), ("core1", 21), ("web1", 31)].map(|(host, address)| {
            let machine = Machine::boot_in(&lan, &layer, host, address).expect("it boots");
            machine.run(BROUGHT);
            machine
        });
    master.run(&setup("master"));
    start(&master, "wa-host wa-master@1");
    // Until its master has run there is no cluster to join, and until it is registered nobody whose key could be named.
    let named = "grep -q 'scp .root@10.77.0.11:'";
    core.wait(LATE, &format!("{{ {}; }} | {named}", setup("coreapp")));
    bring(&master, &core, "coreapp", "cluster-key");
    core.run(&setup("coreapp"));
    start(&core, "wa-host wa-coreapp@1");

    bring(&master, &web, "webapp", "webapp-key");
    web.run(&setup("webapp"));
    start(&web, "wa-webapp@1");
    looked_at_from(&web);
    traffic::start(&web);
    web.run("systemctl stop traffic");
    assert_eq!(traffic::failed(&web), [], "requests failed");
    drop(services);
}

/// The machine with a webapp only runs no more, is examined for what it is, and says where to type what changes something.
fn looked_at_from(web: &Machine) {
    web.run("! systemctl is-active -q wa-host && ! systemctl list-units --failed --plain --no-legend 'wa-*' | grep .");
    web.run("test ! -e /etc/wa-agent/credentials/cluster-key");
    web.run("! grep -hE 'fence|wa-host|realtime|^bad' /run/setup.log");
    // The gate of the coreapp's machine lets a new machine through within seconds.
    web.wait(
        LATE,
        "wa-agent doctor >/run/doctor.log; ! grep -hE 'fence|wa-host|realtime|^bad' /run/doctor.log",
    );
    web.run("wa-agent pause --for 1m 2>&1 | grep -q \"only the webapps' part of the cluster key\"");
    web.wait(LATE, "wa-agent status | grep -q 'active *core1:coreapp-1'");
}
