//! The client that was written from the documentation alone (`tests/client`), against a whole cluster. Goal: whoever knows only the
//! documents can use every call and every type of message, also while the owner is killed again and again: 0 failed, 0 lost.
//! Method: its steps once quiet, then the harmless ones under fire, on the embedded database and on a private MariaDB; afterwards
//! the calls that it made are compared with the table of calls.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::PoisonError;

use super::Dev;
use crate::drill::{TURN, port};
use crate::{mariadb, skipped};

/// Seconds of fire; the owner is killed every five.
const FIRE_SECONDS: &str = "16";

/// What the client needs and this machine has not.
fn missing() -> Option<String> {
    ["python3", "openssl"]
        .into_iter()
        .find(|name| Command::new(name).arg("version").output().is_err())
        .map(|name| format!("{name} is not installed (apt install {name})"))
}

/// The calls of the table: method and path.
fn table() -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1/calls.txt");
    let text = std::fs::read_to_string(file).expect("the table of calls");
    let call = |line: &str| {
        let mut words = line.split_whitespace();
        Some(format!("{} {}", words.next()?, words.next()?))
    };
    text.lines().filter_map(call).collect()
}

/// The cluster is new: the client makes its first login.
fn all_is_as_documented(more: &[&str]) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let first = port();
    let mut dev = Dev::with(first, more);
    dev.until("ready: primary");
    let upstream = dev
        .seen
        .iter()
        .find_map(|line| line.split("upstream   ").nth(1)?.split(' ').next())
        .expect("the upstream's address")
        .to_owned();
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/client");
    let program = env!("CARGO_BIN_EXE_wa-agent");
    let config = dev.directory().join("wa-agent.toml");
    let calls = dev.state.path().join("calls");
    let kill = format!(
        "python3 -B '{}' '{program}' '{}'",
        client.join("kill_owner.py").display(),
        config.display()
    );
    let output = Command::new("python3")
        .arg("-B")
        .arg(client.join("run.py"))
        .args(["--base", &format!("http://127.0.0.1:{first}")])
        .args(["--base", &format!("http://127.0.0.1:{}", first + 1)])
        .args(["--admin", &upstream])
        .arg("--key-file")
        .arg(dev.directory().join("api-key"))
        .arg("--calls")
        .arg(&calls)
        .args(["--seconds", FIRE_SECONDS, "--while-killing", &kill])
        .stdin(Stdio::null())
        .output()
        .expect("python3 runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    let made = std::fs::read_to_string(&calls).expect("the calls that were made");
    let made: BTreeSet<String> = made.lines().map(Into::into).collect();
    let unmade: Vec<_> = table().difference(&made).cloned().collect();
    assert_eq!(unmade, [""; 0], "no client ever calls these");
}

#[test]
fn a_client_of_the_documentation_is_served() {
    if let Some(why) = missing() {
        return skipped("the client of the documentation", &why);
    }
    all_is_as_documented(&[]);
}

#[test]
fn a_client_of_the_documentation_is_served_on_mariadb() {
    if let Some(why) = missing().or_else(mariadb::missing) {
        return skipped("the client of the documentation on MariaDB", &why);
    }
    all_is_as_documented(&["--database", "mariadb"]);
}
