//! What an administrator's machine does to the roles on it: loops that hang, a journal that stands still, starts that
//! cannot work. Each is a step of the installation's story and leaves the machine as it was.

use std::time::Duration;

use crate::machine::Machine;
use crate::traffic;

/// Restart by the watchdog, when much else runs.
const LATE: Duration = Duration::from_secs(120);
/// The journal reads nothing for this long.
const FROZEN: Duration = Duration::from_secs(20);
/// More lines than the queue to the journal holds (`log/journal.rs`), so that some must be dropped.
const LINES_MIN: usize = 8192;

/// Goal: a decision loop that hangs is noticed although heartbeats and HTTP go on. Method: the debug signal, to the
/// standby; its page still answers, and systemd restarts it.
pub fn loop_hung(machine: &Machine, standby: &str, number: u16) {
    machine.run(&format!(
        "mkdir -p /run/systemd/system/{standby}.service.d
         printf '[Service]\\nEnvironment=WA_DEBUG_SIGNALS=1\\n' >/run/systemd/system/{standby}.service.d/debug.conf
         systemctl daemon-reload && systemctl restart {standby}"
    ));
    let before = machine.run(&format!("systemctl show -p NRestarts --value {standby}"));
    let page = 6253 + 10 * (number - 1);
    machine.run(&format!(
        "systemctl kill --kill-whom=main -s USR2 {standby}"
    ));
    machine.wait(
        LATE,
        &format!("journalctl -u {standby} -o cat | grep -q 'the decision loop stands still'"),
    );
    machine.run(&format!(
        "curl -s -o /dev/null http://127.0.0.1:{page}/metrics && systemctl is-active {standby}"
    ));
    machine.wait(
        LATE,
        &format!(
            "test $(systemctl show -p NRestarts --value {standby}) -gt {} && systemctl is-active {standby}",
            before.trim()
        ),
    );
    machine.run(&format!(
        "journalctl -u {standby} -o cat | grep -q 'Watchdog timeout'
         rm -r /run/systemd/system/{standby}.service.d && systemctl daemon-reload && systemctl restart {standby}"
    ));
    machine.wait(LATE, "! wa-agent status | grep -q 'no standby'");
}

/// Goal: a journal that reads nothing fails nobody over and no request, and what was dropped is counted. Method:
/// journald stands still for 20 s under traffic, a webapp says more than the queue holds.
pub fn journal_frozen(machine: &Machine) {
    let unit = "wa-webapp@2";
    machine.run(&format!(
        "mkdir -p /run/systemd/system/{unit}.service.d
         printf '[Service]\\nEnvironment=WA_LOG=trace\\n' >/run/systemd/system/{unit}.service.d/log.conf
         systemctl daemon-reload && systemctl restart {unit}"
    ));
    let terms = machine.run("wa-agent status --json | grep -E '\"(term|epoch)\":'");
    machine.run("kill -STOP $(pidof systemd-journald)");
    // Requests that are refused say several lines each; more than fit into the queue come about by themselves.
    let (_, dropped) = machine.try_run(&format!(
        "END=$(( $(date +%s) + {} ))
         while [ $(date +%s) -lt $END ] || [ $N -lt {LINES_MIN} ]; do
             curl -s -o /dev/null 'http://127.0.0.1:9091/v1/nothing?[1-200]'; N=$((N + 200))
         done
         curl -s http://127.0.0.1:9191/metrics | sed -n 's/^wa_log_lines_dropped //p'",
        FROZEN.as_secs()
    ));
    machine.run("kill -CONT $(pidof systemd-journald)");
    let after = machine.run("wa-agent status --json | grep -E '\"(term|epoch)\":'");
    assert_eq!(terms, after, "a frozen journal moved something");
    assert_eq!(traffic::failed(machine), [], "requests failed");
    let dropped: u64 = dropped.trim().parse().unwrap_or(0);
    assert!(dropped > 0, "nothing was dropped, so nothing was shown");
    machine.wait(
        LATE,
        &format!("journalctl -u {unit} -o cat | grep -q 'the journal did not keep up'"),
    );
    machine.run(&format!(
        "rm -r /run/systemd/system/{unit}.service.d && systemctl daemon-reload && systemctl restart {unit}"
    ));
}

/// Goal: whoever is in the group `wa` looks at the cluster without being root. Method: a new user, two verbs.
pub fn looked_at_by_a_member(machine: &Machine) {
    machine.run("useradd --groups wa looker");
    let as_member = |verb: &str| machine.run(&format!("runuser -u looker -- {verb}"));
    assert!(as_member("wa-agent status").contains("primary"));
    as_member("wa-agent check-config --role webapp >/dev/null || [ $? = 78 ]");
    let (read, _) =
        machine.try_run("runuser -u looker -- cat /etc/wa-agent/credentials/cluster-key");
    assert!(!read, "a member of the group read the key");
    machine.run("userdel looker");
}

/// Goal: a start that cannot work fails or waits as documented, with a sentence in `systemctl status`. Method: a third
/// instance without a key, with a taken port, with a database that is not there.
pub fn starts_refused(machine: &Machine) {
    let says = |sentence: &str| {
        machine.wait(
            LATE,
            &format!("systemctl status --no-pager -n 20 wa-coreapp@3 | grep -q '{sentence}'"),
        );
        machine.run("systemctl stop wa-coreapp@3; systemctl reset-failed wa-coreapp@3 || :");
    };
    machine.run("mv /etc/wa-agent/credentials/cluster-key /srv/kept");
    machine.try_run("systemctl start --no-block wa-coreapp@3");
    says("wa-agent keygen");
    machine.run("mv /srv/kept /etc/wa-agent/credentials/cluster-key");

    // The third instance's page.
    machine.run(
        "systemd-run --quiet --unit=taker /usr/bin/wa-agent simulator --listen 127.0.0.1:6273",
    );
    machine.wait(LATE, "curl -s -o /dev/null http://127.0.0.1:6273/");
    machine.try_run("systemctl start --no-block wa-coreapp@3");
    says("port 6273");
    machine.run("systemctl stop taker");

    machine.run(
        "printf '[database]\\nurls = [\"mysql://wa@127.0.0.1:1/wa\"]\\n' >/etc/wa-agent/instances/coreapp-3.toml",
    );
    machine.try_run("systemctl start --no-block wa-coreapp@3");
    says("database");
    machine.run("rm /etc/wa-agent/instances/coreapp-3.toml");
}
