//! A client of the cluster under test: one message after the other, each with a key of its own, and what came of it.
//! Judges nothing.

use std::time::Duration;

use crate::machine::{Machine, until_every};
use crate::root;

/// For the first twenty answers.
const FIRST_MAX: Duration = Duration::from_secs(60);
/// Between two looks for it.
const LOOK: Duration = Duration::from_millis(250);
/// For the next one after a fault.
const ANSWER_MAX: Duration = Duration::from_secs(120);

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
    read(&machine.run("cat /run/traffic.log"))
}

/// The last hundreds of tries: seconds at least, and cheap to look at.
pub fn latest(machine: &Machine) -> Vec<Request> {
    read(&machine.run("tail -n 800 /run/traffic.log"))
}

fn read(log: &str) -> Vec<Request> {
    let request = |line: &str| {
        let mut words = line.split(' ');
        Some(Request {
            sent: words.next()?.parse().ok()?,
            answered: words.next()?.parse().ok()?,
            status: words.next()?.parse().ok()?,
        })
    };
    log.lines().filter_map(request).collect()
}

/// The longest time without an accepted message between two moments (nanoseconds), in milliseconds; waits for one that was
/// sent after the second. What a dying process still answers, and when exactly it is gone, makes no difference.
pub fn outage_ms(machine: &Machine, from: u64, over: u64) -> u64 {
    let mut all = Vec::new();
    let answered = until_every(LOOK, ANSWER_MAX, || {
        all = latest(machine);
        all.iter().any(|r| r.sent > over && r.good())
    });
    assert!(answered, "no answer within {ANSWER_MAX:?}");
    longest_ms(&all, from, over)
}

fn longest_ms(all: &[Request], from: u64, over: u64) -> u64 {
    let mut good = all.iter().filter(|r| r.good() && r.answered > from);
    let (mut last, mut longest) = (from, 0);
    // Up to the first that was sent after the end, and with it.
    while let Some(request) = good.next().filter(|_| last <= over) {
        longest = longest.max(request.answered - last);
        last = request.answered;
    }
    longest / 1_000_000
}

/// Requests that a client of two webapps would call failed: anything but an answer 2xx or a refused connection.
pub fn failed(machine: &Machine) -> Vec<Request> {
    let all = sent(machine);
    assert!(all.len() > 20, "there was no traffic");
    all.into_iter()
        .filter(|request| request.status != 0 && !request.good())
        .collect()
}

/// Goal: a figure tells the whole outage. Method: a request that is held, one that a dying owner answers, one that is refused.
#[test]
fn the_longest_silence_is_found() {
    const MS: u64 = 1_000_000;
    let all: Vec<Request> = [
        (0, 10, 201),
        (12, 22, 201),
        (24, 80, 503),
        (82, 324, 201),
        (326, 336, 201),
        (338, 900, 201),
    ]
    .map(|(sent, answered, status)| Request {
        sent: sent * MS,
        answered: answered * MS,
        status,
    })
    .into();
    assert_eq!(longest_ms(&all, 5 * MS, 320 * MS), 302);
    assert_eq!(longest_ms(&all, 30 * MS, 320 * MS), 294);
    assert_eq!(longest_ms(&all, 325 * MS, 326 * MS), 11);
}
