//! A client of the cluster under test: one message after the other, each with a key of its own, and what came of it.
//! Judges nothing.

use std::time::Duration;

use crate::machine::Machine;
use crate::root;

/// For the first twenty answers.
const FIRST_MAX: Duration = Duration::from_secs(60);

/// One try of a message; times in nanoseconds of the client's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub sent: u64,
    pub answered: u64,
    /// 0: no connection.
    pub status: u16,
}

impl Request {
    /// Accepted.
    pub fn good(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The first login of an administrator; prints the token, or what was answered instead, and fails.
const LOG_IN: &str = r#"curl -sS -u admin:secret -X POST http://127.0.0.1:9090/v1/users/login -H 'content-type: application/json' \
    -d '{"new_password":"Try-it-0ut!"}' >/run/login; sed -n 's/.*"token":"\([^"]*\)".*/\1/p' /run/login | grep . || ! cat /run/login"#;

/// Logs in and starts the client inside a machine that has a webapp.
pub fn start(machine: &Machine) {
    let token = machine.run(LOG_IN);
    let token = token.trim();
    std::fs::copy(
        root().join("tests/e2e/traffic.sh"),
        machine.tree().join("srv/traffic.sh"),
    )
    .expect("copied");
    machine.run(&format!(
        "systemd-run --quiet --unit=traffic --setenv=TOKEN={token} sh /srv/traffic.sh"
    ));
    machine.wait(FIRST_MAX, "test $(wc -l </run/traffic.log) -gt 20");
}

/// Every try so far.
pub fn sent(machine: &Machine) -> Vec<Request> {
    let text = machine.run("cat /run/traffic.log");
    let read = |line: &str| {
        let mut words = line.split(' ');
        Some(Request {
            sent: words.next()?.parse().ok()?,
            answered: words.next()?.parse().ok()?,
            status: words.next()?.parse().ok()?,
        })
    };
    text.lines().filter_map(read).collect()
}

/// Requests that a client of two webapps would call failed: anything but an answer 2xx or a refused connection.
pub fn failed(machine: &Machine) -> Vec<Request> {
    let all = sent(machine);
    assert!(all.len() > 20, "there was no traffic");
    all.into_iter()
        .filter(|request| request.status != 0 && !request.good())
        .collect()
}
