//! What an administrator's machine does to the roles on it: loops that hang, a journal that stands still, starts that
//! cannot work. Each is a step of the installation's story and leaves the machine as it was.

use std::time::Duration;

use crate::machine::Machine;
use crate::traffic;

/// Restart by the watchdog, when much else runs.
const LATE: Duration = Duration::from_secs(120);
/// The journal reads nothing for this long.
const FROZEN: Duration = Duration::from_secs(20);

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

/// Goal: a journal that reads nothing fails nobody over and no request, and every page counts what was dropped. Method:
/// journald stands still for 20 s under traffic. That a full queue drops and counts is a test of `log/journal.rs`: so few
/// lines are said here that all of them wait.
pub fn journal_frozen(machine: &Machine) {
    let state = || machine.run("wa-agent status --json | grep -oE '\"(term|epoch)\":[0-9]+'");
    let before = state();
    machine.run("kill -STOP $(pidof systemd-journald)");
    let answered = traffic::sent(machine).len();
    let until = wa_agent::sys::clock::now() + FROZEN;
    machine.wait(
        LATE,
        &format!("test $(wc -l </run/traffic.log) -gt {answered}"),
    );
    while wa_agent::sys::clock::now() < until {
        machine.run("curl -s http://127.0.0.1:6253/metrics | grep -q '^wa_log_lines_dropped '");
        std::thread::sleep(Duration::from_millis(500));
    }
    let after = state();
    machine.run("kill -CONT $(pidof systemd-journald)");
    assert_eq!(before, after, "a frozen journal moved something");
    assert_eq!(traffic::failed(machine), [], "requests failed");
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
    says("Type as root: wa-agent setup");
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
