//! The story of an installation on a booted Debian 12: install, start, break, reload, upgrade, remove, purge.
//! One machine with the embedded database and a simulated upstream; every step goes through apt and systemctl.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::machine::{Machine, impossible, until, wall_ns};
use crate::{faults, packages, people, program, skipped, traffic};

/// For anything that takes a second or two when nothing else runs.
const SOON: Duration = Duration::from_secs(60);
/// Deaths of an owner.
const KILLS: usize = 20;
/// For a takeover and the start of the next standby, when much else runs.
const LATE: Duration = Duration::from_secs(120);

/// What an administrator writes. The upstream is at an address that is not exempt from the kernel gate.
pub const CONFIGURE: &str = r#"set -e
mkdir -p -m 700 /run/brought
cd /run/brought
printf simulator-token >token
printf simulator-app-secret >secret
printf simulator-verify >verify
printf twelve-and-more >api
printf '[cluster]\ndevelopment = true\n[node]\nbind = "127.0.0.1"\n' >/etc/wa-agent/conf.d/20-here.toml
wa-agent setup --single --no-input --phone-number-id 100200300 --token-file token --app-secret-file secret \
    --verify-token-file verify --api-key-file api --profile standard --base-url http://10.78.0.9:9280 --advertise 127.0.0.1 --first-password secret --behind-proxy 192.0.2.7 >/run/setup.log
ip address add 10.78.0.9/32 dev lo
systemd-run --quiet --unit=simulator /usr/bin/wa-agent simulator --listen 10.78.0.9:9280"#;

/// One file, and none of the secrets in it.
const DEBUG: &str = r#"set -e
cd /run
wa-agent debug --output /run/debug.tar.gz
mkdir -p unpacked && tar -xzf debug.tar.gz -C unpacked
for part in journal.jsonl status.json units.txt history.jsonl database.json; do test -s unpacked/*/$part; done
for secret in $(cat /etc/wa-agent/credentials/*); do
    case $secret in webapp-key|secret|??) continue;; esac
    if grep -rqF -e "$secret" unpacked; then echo "a secret is in the file"; exit 1; fi
done"#;

/// Warnings that belong to this story; anything else in the journal at that level fails it.
const EXPECTED: &[&str] = &[
    // Roles that start together with the master that makes the schema.
    "waiting for a master to",
    "reading the shard map failed; retrying",
    "the database does not answer; going on with the masters that are known",
    // What the story does to them.
    "fenced: the epoch is sealed in the kernel",
    "it was frozen while it held the write lock of the embedded database",
    "configuration read again; restart this instance",
    "configuration read again: it cannot be used",
    "the decision loop stands still",
    "the journal did not keep up",
    "does not answer",
    // The business of the story is away for a moment, too.
    "a webhook was not taken",
    "the business cannot be reached",
    "install the newer wa-agent",
    // The release before does not know the wire version in which it is asked as well, until it is replaced.
    "ignoring heartbeats that do not verify",
];

/// Everything in the file system that an installation could leave, with kind, mode and owner.
fn files(machine: &Machine) -> BTreeSet<String> {
    installed(&machine.run(FIND))
}

/// Lists the file system, without what belongs to the moment or to the package manager.
pub const FIND: &str = "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /srv \
    -o -path /root -o -path /var/log -o -path /var/cache -o -path /var/tmp -o -path /var/lib/dpkg -o -path /var/lib/apt \
    -o -path /var/lib/systemd \\) -prune -o -printf '%y %m %u %p\\n'";

/// What `FIND` said, line by line.
pub fn installed(text: &str) -> BTreeSet<String> {
    // The files that hold users are rewritten when one is made.
    let users = [
        "/etc/passwd",
        "/etc/group",
        "/etc/shadow",
        "/etc/gshadow",
        "/etc/subuid",
        "/etc/subgid",
    ];
    let other = |line: &&str| {
        !users.iter().any(|file| line.contains(file)) && !line.contains("/etc/.pwd.lock")
    };
    text.lines().filter(other).map(str::to_owned).collect()
}

/// The unit that owns the shard, as soon as there is one.
pub fn owner(machine: &Machine) -> String {
    let mut unit = None;
    let found = until(LATE, || {
        let text = machine.try_run("wa-agent status --json").1;
        let text = text.replace(": ", ":");
        unit = ["1", "2"]
            .into_iter()
            .find(|n| text.contains(&format!("\"owner\":\"core1:coreapp-{n}\"")));
        unit.is_some()
    });
    assert!(found, "nobody owns the shard");
    format!("wa-coreapp@{}", unit.unwrap_or_default())
}

/// Kills the owner some times; says how long clients were without an answer each time.
fn kill_owners(machine: &Machine) -> Vec<u64> {
    let mut outages: Vec<u64> = (0..KILLS).map(|_| struck(machine, KILL)).collect();
    outages.sort_unstable();
    outages
}

/// A shell line that kills the main process of UNIT.
pub const KILL: &str = "kill -KILL $(systemctl show -p MainPID --value UNIT)";

/// Strikes the owner with a shell line about UNIT; says for how many milliseconds nothing was accepted. Ends when there are two coreapps again.
pub fn struck(machine: &Machine, strike: &str) -> u64 {
    let unit = owner(machine);
    let other = other(&unit);
    let from = wall_ns();
    machine.run(&strike.replace("UNIT", &unit));
    machine.wait(
        LATE,
        &format!("systemctl show -p StatusText {other} | grep -q 'primary of shard 0'"),
    );
    let outage = traffic::outage_ms(machine, from, wall_ns());
    machine.wait(
        LATE,
        &format!("systemctl is-active {unit} && ! wa-agent status | grep -q 'no standby'"),
    );
    outage
}

/// The other one of the two coreapps.
pub fn other(unit: &str) -> &'static str {
    match unit {
        "wa-coreapp@1" => "wa-coreapp@2",
        _ => "wa-coreapp@1",
    }
}

/// The unit that does not own the shard, and its number.
fn standby(machine: &Machine) -> (&'static str, u16) {
    let unit = other(&owner(machine));
    (unit, if unit.ends_with('1') { 1 } else { 2 })
}

/// A hung coreapp is restarted by systemd. The standby hangs: an owner would be fenced long before its watchdog.
fn watchdog(machine: &Machine) {
    let (standby, number) = standby(machine);
    machine.run(&format!(
        "kill -STOP $(systemctl show -p MainPID --value {standby})"
    ));
    machine.wait(
        LATE,
        &format!(
            "(journalctl -u {standby} -o cat | grep -q 'Watchdog timeout' || journalctl -u wa-host -o cat | grep -q 'killed {standby}.*: it was frozen') && systemctl is-active {standby}"
        ),
    );
    machine.wait(SOON, "! wa-agent status | grep -q 'no standby'");
    faults::loop_hung(machine, standby, number);
}

fn reload(machine: &Machine) {
    let journal = |text: &str| {
        machine.wait(
            SOON,
            &format!("journalctl -o cat -u wa-coreapp@1 | grep -q '{text}'"),
        )
    };
    machine.run("systemctl reload wa-master@1 wa-coreapp@1 wa-webapp@1 wa-host");
    journal("configuration read again: unchanged");
    machine.run("printf '[node]\\nweight = 3\\n' >/etc/wa-agent/conf.d/20.toml; systemctl reload wa-coreapp@1");
    journal("restart this instance to use the new node.weight");
    machine.run("printf '[node]\\nweigt = 3\\n' >/etc/wa-agent/conf.d/20.toml; systemctl reload wa-coreapp@1");
    journal("it cannot be used");
    machine.run("rm /etc/wa-agent/conf.d/20.toml; systemctl is-active wa-coreapp@1");
}

/// A broken configuration fails the unit for good, with one sentence that says what is wrong.
fn broken(machine: &Machine) {
    machine.run("echo '[timer]' >/etc/wa-agent/instances/coreapp-3.toml");
    let (started, _) = machine.try_run("systemctl start wa-coreapp@3");
    assert!(!started, "a broken configuration was used");
    let status = machine
        .try_run("systemctl status --no-pager wa-coreapp@3")
        .1;
    assert!(status.contains("did you mean `timers`?"), "{status}");
    machine.run("rm /etc/wa-agent/instances/coreapp-3.toml; systemctl reset-failed wa-coreapp@3");
}

fn quiet_journal(machine: &Machine) {
    let journal = machine.run("journalctl -o short-precise -t wa-agent -p warning");
    let unexpected: Vec<&str> = journal
        .lines()
        .filter(|line| !EXPECTED.iter().any(|known| line.contains(known)))
        .collect();
    if let Some(first) = unexpected.first() {
        let at = first.get(..15).unwrap_or_default();
        let around = format!("journalctl -o short-precise | grep -F -B 25 -A 45 -m 1 '{at}'");
        println!("{}", machine.try_run(&around).1);
    }
    assert!(unexpected.is_empty(), "in the journal: {unexpected:#?}");
}

/// Two commands after the configuration, everything is ready and says so; a second instance needs no file.
pub fn started(machine: &Machine) {
    started_as(machine, CONFIGURE);
}

/// The same with another configuration.
pub fn started_as(machine: &Machine, configure: &str) {
    machine.run(configure);
    // The line that setup printed, as it is.
    machine.run("$(grep -o 'systemctl enable --now .*' /run/setup.log)");
    machine.all_active("wa-master@1 wa-coreapp@1 wa-webapp@1 wa-host");
    machine.wait(
        SOON,
        "systemctl show -p StatusText wa-master@1 | grep -q 'primary master, term 1'",
    );
    machine.wait(
        SOON,
        "systemctl show -p StatusText wa-coreapp@1 | grep -q 'primary of shard 0'",
    );
    machine.run("systemctl start wa-coreapp@2 wa-webapp@2");
    machine.wait(SOON, "! wa-agent status | grep -q 'no standby'");
    // Nothing is bad: exit code 0.
    machine.run("wa-agent doctor");
    machine.run(DEBUG);
}

/// State goes when the cluster's name was said and nothing runs any more, and not before.
fn reset(machine: &Machine) {
    let (done, says) = machine.try_run("wa-agent reset --state --yes-i-mean wa");
    assert!(!done && says.contains("still run here"), "{says}");
    machine.run("systemctl stop 'wa-*'");
    let (done, says) = machine.try_run("wa-agent reset --state --yes-i-mean other");
    assert!(!done && says.contains("is called \"wa\""), "{says}");
    machine.run("test -d /var/lib/wa-agent/coreapp-1 && wa-agent reset --state --yes-i-mean wa");
    machine.run("test ! -e /var/lib/wa-agent/coreapp-1 -a -e /var/lib/wa-agent/store/wa.db -a -e /etc/wa-agent/conf.d/10-setup.toml");
}

/// The heartbeat thread of every role is where load does not reach it: SCHED_FIFO 10 with a bound, memory that stays. Read
/// from the kernel (proc_pid_stat(5): 41 is the policy, 40 the priority). Where the machine's manager may not raise limits, as
/// in a container that is not given that right, the role says so and goes on; `guest.rs` looks where it may.
fn realtime(machine: &Machine) {
    for unit in ["wa-master@1", "wa-coreapp@1", "wa-webapp@1", "wa-host"] {
        let said = machine.run(&format!(
            "pid=$(systemctl show -P MainPID {unit})
             awk '/^Max realtime priority/ {{print $4}}' /proc/$pid/limits
             for task in /proc/$pid/task/*; do
                 if grep -qx heartbeats $task/comm; then awk '{{print $41, $40}}' $task/stat; fi
             done
             awk '/^Max realtime timeout/ {{print $4, $5}}' /proc/$pid/limits
             awk '/^VmLck/ {{print ($2 > 0)}}' /proc/$pid/status"
        ));
        let said: Vec<&str> = said.lines().map(str::trim).collect();
        // The host agent's threads are raised by its unit, from outside: what it may do itself says nothing.
        let raised = unit == "wa-host" && said[1] == "1 10";
        let allowed = said[0] != "0" || raised;
        if !allowed {
            machine.run(&format!(
                "journalctl -o cat -u {unit} | grep -E '(runs|stay) at normal priority'"
            ));
        }
        let policy = if allowed { "1 10" } else { "0 0" };
        assert_eq!(said[1..], [policy, "1000000 2000000", "1"], "{unit}");
    }
}

/// Goal: the package manager's upgrade fails no request, although schema and wire version change under way. Method: a
/// newer package from a signed repository, under traffic.
fn upgraded(machine: &Machine, signed: &str) {
    machine.run(&format!(
        "echo 'deb [{signed}] file:/srv/repository/apt ./' >/etc/apt/sources.list"
    ));
    machine.run("apt-get update -q && ! apt-get update -q | grep '^[WE]:'");
    let says = machine.run("apt-get install -y -q wa-agent");
    assert!(says.contains("restarting wa-coreapp@2.service"), "{says}");
    machine.run("dpkg-query -W -f '${Version}' wa-agent | grep -qx 0.1.1-1");
    machine.all_active("wa-master@1 wa-coreapp@1 wa-coreapp@2 wa-webapp@1 wa-webapp@2 wa-host");
    assert_eq!(
        traffic::failed(machine),
        [],
        "requests failed during the upgrade"
    );
}

/// Goal: a release that is too old for the schema says so and touches nothing. Method: the standby, started from the
/// old package's program.
fn too_old(machine: &Machine) {
    machine.run(
        "dpkg-deb -x /srv/old.deb /srv/old
         mkdir -p /run/systemd/system/wa-coreapp@2.service.d
         printf '[Service]\\nExecStart=\\nExecStart=/srv/old/usr/bin/wa-agent coreapp --instance 2\\n' \
            >/run/systemd/system/wa-coreapp@2.service.d/old.conf
         systemctl daemon-reload && systemctl restart --no-block wa-coreapp@2",
    );
    machine.wait(
        LATE,
        "systemctl status --no-pager -n 20 wa-coreapp@2 | grep -q 'install the newer wa-agent'",
    );
    machine.run(
        "rm -r /run/systemd/system/wa-coreapp@2.service.d /srv/old
         systemctl daemon-reload && systemctl restart wa-coreapp@2",
    );
    machine.wait(LATE, "! wa-agent status | grep -q 'no standby'");
}

/// Removal leaves configuration and data; purge leaves nothing but the embedded database.
fn removed(machine: &Machine, before: &BTreeSet<String>) {
    let says = machine.run("apt-get remove -y -q wa-agent");
    assert!(says.contains("the kernel gate is taken away"), "{says}");
    assert_eq!(
        machine.run("systemctl list-units --no-legend --state=active 'wa-*.service'"),
        ""
    );
    let (there, _) = machine.try_run("test -e /usr/share/doc/wa-agent/README.md");
    assert!(!there, "removed with the package");
    machine.run("test -e /etc/wa-agent/wa-agent.toml -a -e /etc/wa-agent/credentials/cluster-key");
    let says = machine.run("apt-get purge -y -q wa-agent");
    assert!(
        says.contains("the groups wa, wa-media and wa-store are left"),
        "{says}"
    );
    machine.run("test ! -e /run/wa-agent-keys");
    let after = files(machine);
    let left: Vec<&String> = after
        .difference(before)
        .filter(|line| !line.contains("/var/lib/wa-agent"))
        .collect();
    assert!(left.is_empty(), "purge leaves {left:#?}");
    // A database is never removed, an embedded one neither.
    let kept: Vec<&String> = after
        .difference(before)
        .filter(|line| !line.contains("/var/lib/wa-agent/store/wa.db"))
        .collect();
    assert!(kept.len() == 2, "purge leaves {kept:#?}");
    assert!(
        before.is_subset(&after),
        "purge removes {:#?}",
        before.difference(&after)
    );
}

/// Goal: what the README promises to an administrator. Method: one machine from nothing to nothing.
#[test]
fn from_nothing_to_nothing() {
    let what = "installation on a booted Debian 12";
    if let Some(why) = impossible() {
        return skipped(what, &why);
    }
    if program("dpkg-shlibdeps").is_none() {
        return skipped(what, "dpkg-dev is not installed");
    }
    let machine = Machine::boot("core1").expect("it boots");
    let before = files(&machine);
    // The release before: the same sources without the newest migration, which speaks the wire version before.
    let older = packages::xtask(
        &["deb", "--version", "0.0.1", "--features", "previous"],
        &packages::folder("older"),
        None,
    );
    let newer = packages::xtask(
        &["deb", "--version", "0.1.1"],
        &packages::folder("newer"),
        None,
    );
    let signed = packages::repository(&newer, &machine.tree().join("srv/repository"));
    std::fs::copy(older, machine.tree().join("srv/old.deb")).expect("copied");
    let says = machine.run("apt-get install -y -q /srv/old.deb");
    assert!(says.contains("The next two steps"), "{says}");
    machine.run("test -s /usr/share/doc/wa-agent/README.md");
    machine.run("test -s /usr/share/wa-agent/monitoring/rules.yml");
    let running = machine.run("systemctl list-units --no-legend 'wa-*'");
    assert_eq!(running, "", "the package started something");

    started(&machine);
    realtime(&machine);
    people::look(&machine);
    broken(&machine);

    traffic::start(&machine);
    let outages = kill_owners(&machine);
    println!(
        "coreapp killed, longest time without an answer: median {} ms of {outages:?}",
        outages[outages.len() / 2]
    );
    machine.run("journalctl -o cat -u wa-host | grep -q 'obituary: nobody is left'");
    machine.run("journalctl -x -o short -u wa-host | grep -q 'What you should do:'");
    watchdog(&machine);
    reload(&machine);
    faults::starts_refused(&machine);
    faults::journal_frozen(&machine);
    assert_eq!(traffic::failed(&machine), [], "requests failed");

    upgraded(&machine, signed);
    too_old(&machine);
    assert_eq!(traffic::failed(&machine), [], "requests failed");
    machine.run("systemctl stop traffic");

    quiet_journal(&machine);
    machine.run("systemctl stop simulator");
    reset(&machine);
    removed(&machine, &before);
}
