//! The kernel gate on a booted Debian 12, as the packages install it: `fence = "required"`, which is the default.
//! One machine, two coreapps, a simulated upstream at an address that is not exempt.

use std::time::Duration;

use wa_agent::log::message_id;

use crate::install::{KILL, other, owner, started};
use crate::machine::{MARK, Machine, impossible, said, until, wall_ns};
use crate::{packages, program, skipped, traffic};

/// For a takeover and the start of the next standby, when much else runs.
const LATE: Duration = Duration::from_secs(120);

/// A shell line that reaches the upstream when run by a stranger within the coreapps' slice: it must not.
const STRANGER: &str = "systemd-run --quiet --wait --collect --slice=wa-coreapp.slice curl -s -m 3 -o /dev/null http://10.78.0.9:9280/";
/// The same from anywhere else: it must, or the first proves nothing.
const ANYBODY: &str =
    "systemd-run --quiet --wait --collect curl -s -m 10 -o /dev/null http://10.78.0.9:9280/";

/// Shut for a stranger, open for everybody who is not behind the gate.
#[track_caller]
pub fn shut_for_strangers(machine: &Machine) {
    machine.run(ANYBODY);
    let (reached, says) = machine.try_run(STRANGER);
    assert!(
        !reached,
        "a stranger in the slice reached the upstream: {says}"
    );
}

/// Both coreapps say that they are behind the gate, and masters hear it.
fn attested(machine: &Machine) {
    machine.wait(
        LATE,
        "wa-agent status --json | tr -d ' ' | grep -o '\"node\":\"core1:coreapp-[12]\"[^}]*\"gate\"' | grep -c . | grep -qx 2",
    );
}

/// The gate as the kernel shows it.
fn stands(machine: &Machine) {
    let status = machine.run("wa-agent gate status --json");
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["stands"], true, "{status}");
    let open = status["units"]
        .as_array()
        .expect("units")
        .iter()
        .filter(|unit| {
            unit["left_ms"].as_u64() > Some(0) && unit["seal"].as_u64() <= unit["epoch"].as_u64()
        });
    assert_eq!(open.count(), 1, "one primary, one open unit: {status}");
}

/// What the host agent says when the masters ordered a fence.
const SEALED: &str = "the epoch is sealed in the kernel";
/// And when nobody could order one, because the frozen owner kept everybody from writing.
const KILLED: &str = "it was frozen while it held the write lock of the embedded database";

/// Stops the unit at a moment when it holds the database's write lock (WANTED 1), or does not (0), with all its threads. A
/// write takes a fraction of a millisecond on a fast disk: it is struck when the lock is seen, and looked at again.
const STOP_WHEN: &str = r#"(
cat >/run/stop.pl <<'END'
my ($pid, $inode, $wanted) = @ARGV;
sub held {
    open(my $locks, "<", "/proc/locks") or die;
    local $/;
    return <$locks> =~ /POSIX +ADVISORY +WRITE $pid [0-9a-f:]*:$inode / ? 1 : 0;
}
sub stopped {
    for my $thread (glob "/proc/$pid/task/*/stat") {
        open(my $stat, "<", $thread) or next;
        return 0 unless <$stat> =~ /\) T /;
    }
    return 1;
}
my $end = time + 100;
while (time < $end) {
    if ($wanted) { 1 until held() or time >= $end } else { select(undef, undef, undef, rand(0.01)) }
    kill STOP => $pid;
    1 until stopped() or time >= $end;
    exit 0 if held() == $wanted;
    kill CONT => $pid;
}
print "no such moment was seen\n";
exit 1;
END
perl /run/stop.pl $(systemctl show -p MainPID --value UNIT) $(stat -L -c %i /var/lib/wa-agent/store/wa.db-shm) WANTED
)"#;

/// A shell line that freezes the main process of UNIT, in a write to the embedded database or between two.
pub fn stop(in_a_write: bool) -> String {
    STOP_WHEN.replace("WANTED", if in_a_write { "1" } else { "0" })
}

/// What ends the owner, and what the host agent must have said about it since. Prints how long it took.
fn moves(machine: &Machine, what: &str, words: &str) {
    let before = owner(machine);
    let next = other(&before);
    let struck = machine.run(&format!(
        "{MARK}; {} && date +%s%N",
        what.replace("UNIT", &before)
    ));
    let struck: u64 = struck.trim().parse().expect("nanoseconds");
    machine.wait(
        LATE,
        &format!("systemctl show -p StatusText {next} | grep -q 'primary of shard 0'"),
    );
    let outage_ms = traffic::outage_ms(machine, struck, wall_ns());
    let promoted = machine.run(&format!(
        "journalctl -q -o short-unix -n 1 -u {next} MESSAGE_ID={} | tr -d . | cut -d ' ' -f 1",
        message_id::COREAPP_PROMOTED
    ));
    let promoted: u64 = promoted.trim().parse().expect("microseconds");
    let moved_ms = promoted.saturating_sub(struck / 1000) / 1000;
    machine.wait(LATE, &said("wa-host", words));
    println!("{words}: next owner after {moved_ms} ms, nothing accepted for {outage_ms} ms");
    machine.wait(
        LATE,
        &format!("systemctl is-active {before} && ! wa-agent status | grep -q 'no standby'"),
    );
}

/// A death is settled when nobody is left; a freeze by a seal, or by the frozen process' death where it holds the write
/// lock of the embedded database.
pub fn settled(machine: &Machine) {
    moves(machine, KILL, "nobody is left of this start");
    moves(machine, &stop(false), SEALED);
    moves(machine, &stop(true), KILLED);
}

/// Every other role can hold that lock as well: a master does at each renewal of its lease.
fn frozen_master(machine: &Machine) {
    let stop = stop(true).replace("UNIT", "wa-master@1");
    machine.run(&format!("{MARK}; {stop}"));
    let killed = format!("killed wa-master@1.service: {KILLED}");
    machine.wait(LATE, &said("wa-host", &killed));
    machine.wait(
        LATE,
        "systemctl show -p StatusText wa-master@1 | grep -q primary",
    );
}

/// The host agent dies while a primary serves: the same epoch goes on, and the gate stays.
fn host_agent_dies(machine: &Machine) {
    let epoch = |machine: &Machine| {
        let unit = owner(machine);
        machine.run(&format!(
            "systemctl show -p StatusText {unit} | grep -o 'epoch [0-9]*'"
        ))
    };
    let before = epoch(machine);
    machine.run("systemctl stop wa-host");
    shut_for_strangers(machine);
    machine.run("systemctl start wa-host && systemctl kill -s KILL wa-host");
    machine.wait(LATE, "systemctl is-active wa-host");
    shut_for_strangers(machine);
    attested(machine);
    assert_eq!(epoch(machine), before, "somebody moved");
}

/// A network device that comes later is judged without anybody's doing; a judge that is lost is missed and put back; a device
/// that goes is forgotten.
fn devices_come_and_go(machine: &Machine) {
    let listed = "wa-agent gate status --json | grep -q '\"late0\":true'";
    machine.run("ip link add late0 type veth peer name late1");
    machine.wait(LATE, listed);
    broken_and_healed(machine, "/sys/fs/bpf/wa-agent/v1/link/wa_wire-*");
    machine.wait(LATE, listed);
    machine.run("ip link del late0");
    machine.wait(
        LATE,
        "wa-agent gate status --json | grep -q '\"devices\":{}'",
    );
}

/// Pins are removed by hand while a primary serves: it gives up; the host agent puts the gate back, and all goes on.
fn broken_and_healed(machine: &Machine, pins: &str) {
    machine.run(&format!("{MARK}; rm -r {pins}"));
    machine.wait(LATE, &said("wa-host", "no kernel gate: "));
    machine.wait(LATE, &said("wa-host", "the kernel gate stands"));
    attested(machine);
    owner(machine);
    machine.wait(
        LATE,
        "systemctl show -p StatusText wa-coreapp@1 wa-coreapp@2 | grep -q 'primary of shard 0'",
    );
    stands(machine);
    shut_for_strangers(machine);
}

/// Goal: a slice that was stopped with all that is in it does not make the next start fail: the gate stands in front of the
/// new one before a coreapp begins. Method: stopped and started by hand, as an administrator would.
fn slice_stopped(machine: &Machine) {
    machine.run("systemctl stop wa-coreapp.slice");
    machine.run("systemctl start wa-coreapp@1 wa-coreapp@2");
    machine.run("systemctl is-active wa-gate.service");
    attested(machine);
    stands(machine);
    shut_for_strangers(machine);
}

/// A person shuts the owner off, and lifts it.
fn by_hand(machine: &Machine) {
    let before = owner(machine);
    let instance = before.rsplit_once('@').expect("a template").1;
    let says = machine.run(&format!(
        "wa-agent fence --node core1:coreapp-{instance} --reason smoke"
    ));
    assert!(says.contains("lets nothing of it out"), "{says}");
    machine.wait(
        LATE,
        &format!(
            "systemctl show -p StatusText {} | grep -q 'primary of shard 0'",
            other(&before)
        ),
    );
    machine.wait(
        LATE,
        &format!("systemctl show -p StatusText {before} | grep -q 'fenced by hand (smoke)'"),
    );
    machine.run("journalctl -o cat -t wa-agent | grep -q 'by hand: fence'");
    // A start does not get past it.
    machine.run(&format!("systemctl restart {before}"));
    machine.wait(
        LATE,
        &format!("systemctl show -p StatusText {before} | grep -q 'fenced by hand (smoke)'"),
    );
    machine.run(&format!(
        "wa-agent unfence --instance {instance} --json | grep -q '\"fenced\":false'"
    ));
    attested(machine);
}

/// Without a gate no coreapp starts, and it says why in one sentence.
fn none(machine: &Machine) {
    let (removed, says) = machine.try_run("wa-agent gate remove");
    assert!(!removed && says.contains("stop it first"), "{says}");
    machine.run("systemctl stop wa-coreapp@1 wa-coreapp@2 wa-host && wa-agent gate remove");
    left_in_queues(machine);
    machine.run("systemctl mask --runtime --quiet wa-host");
    let (started, _) = machine.try_run("systemctl start wa-coreapp@1");
    assert!(!started, "a coreapp started without a gate");
    let status = machine.run("journalctl -o cat -u wa-coreapp@1 -n 50");
    assert!(
        status.contains("no kernel gate, and fence = \"required\""),
        "{status}"
    );
    machine.run("systemctl unmask --runtime --quiet wa-host; systemctl start wa-host wa-coreapp@1 wa-coreapp@2");
    attested(machine);
}

/// Something in the slice that was connected before the gate stood, writes behind it, and is gone; its group stays.
const GHOST: &str = r#"set -e
rm -f /run/now /run/written /run/heard
cat >/srv/listener.pl <<'END'
use IO::Socket;
my $l = IO::Socket::INET->new(LocalAddr => "10.78.0.9:9998", Listen => 1, ReuseAddr => 1) or die;
open(my $out, ">", "/run/heard"); $out->autoflush(1); print $out "listening\n";
my $c = $l->accept; print $out "connected\n";
while (<$c>) { print $out "bytes: $_"; }
print $out "end\n";
END
cat >/srv/ghost.sh <<'END'
until exec 3<>/dev/tcp/10.78.0.9/9998; do sleep 0.1; done
until test -e /run/now; do sleep 0.1; done
echo late >&3; exec 3>&-; touch /run/written; exec sleep infinity
END
systemd-run --quiet --collect --unit=listener perl /srv/listener.pl
systemd-run --quiet --collect --unit=ghost --slice=wa-coreapp.slice bash /srv/ghost.sh"#;

/// Goal: what a dead process has left in a send queue does not leave when the gate is taken away. Method: such bytes,
/// and the gate taken away by hand, when they must arrive, or the rest proves nothing; and by the verb.
fn left_in_queues(machine: &Machine) {
    let queued = "ss -Htn state fin-wait-1 dst 10.78.0.9:9998 | awk '$2 > 0' | grep .";
    for by_verb in [false, true] {
        machine.run(GHOST);
        machine.wait(LATE, "grep -q connected /run/heard");
        machine.run("systemctl start wa-host && wa-agent gate status && touch /run/now");
        machine.wait(LATE, "test -e /run/written");
        machine.wait(LATE, queued);
        machine.run("systemctl stop wa-host && ! grep -q late /run/heard");
        if by_verb {
            let says = machine.run("wa-agent gate remove");
            assert!(says.contains(" 1 connections of "), "{says}");
            machine.wait(LATE, "grep -qx end /run/heard");
            machine.run("! grep -q late /run/heard");
        } else {
            machine.run("rm -r /sys/fs/bpf/wa-agent/*");
            machine.wait(LATE, "grep -q late /run/heard");
        }
        // The listener ends with its connection.
        machine.run("systemctl stop ghost; systemctl stop --quiet listener || true");
    }
    let says = machine.run("wa-agent gate remove");
    assert!(says.contains("nothing to take away"), "{says}");
}

/// Goal: with the installed packages the kernel lets out only the primary's packets, a death or a freeze is settled by a
/// receipt, and neither the host agent's end nor a broken gate opens anything. Method: one machine, real faults.
#[test]
fn the_kernel_enforces_it() {
    let what = "the kernel gate on a booted Debian 12";
    if let Some(why) = impossible() {
        return skipped(what, &why);
    }
    if !wa_bpf::COMPILED || program("dpkg-shlibdeps").is_none() {
        return skipped(what, "clang or dpkg-dev is not installed");
    }
    let machine = Machine::boot("core1").expect("it boots");
    std::fs::copy(packages::deb(), machine.tree().join("srv/wa-agent.deb")).expect("copied");
    machine.run("apt-get install -y -q /srv/wa-agent.deb");
    started(&machine);
    attested(&machine);
    stands(&machine);
    shut_for_strangers(&machine);
    traffic::start(&machine);

    settled(&machine);
    frozen_master(&machine);
    attested(&machine);
    host_agent_dies(&machine);
    assert_eq!(traffic::failed(&machine), [], "requests failed");
    by_hand(&machine);
    slice_stopped(&machine);
    broken_and_healed(&machine, "/sys/fs/bpf/wa-agent/*");
    devices_come_and_go(&machine);
    machine.run("systemctl stop traffic");
    none(&machine);
    // As the last word: the kernel dropped or refused what strangers tried.
    let counters = machine.run("curl -s http://127.0.0.1:6249/metrics");
    assert!(
        until(Duration::ZERO, || counters.contains("wa_gate_attested 1")),
        "{counters}"
    );
    assert!(counters.contains("wa_gate{what="), "{counters}");
}
