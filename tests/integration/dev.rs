//! The development cluster as a newcomer uses it: what it prints is typed, word by word.

// A test waits for a process by the clock of its own; nothing decides by it.
#![allow(clippy::disallowed_methods)]

mod abstain;
mod acts;
mod adopt;
mod alarm;
mod answered;
mod business;
mod calm;
mod disks;
mod documented;
mod edge;
mod every_call;
mod kinds;
mod monitoring;
mod newer;
mod observe;
mod order;
mod parked;
mod pending;
mod registration;
mod remote;
mod secrets;
mod who;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::drill::{TURN, port, request};

/// The longest that any line is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test: this build, or for measurements by hand the one that `WA_AGENT_BINARY` names.
pub fn program() -> std::path::PathBuf {
    let named = std::env::var_os("WA_AGENT_BINARY");
    named.map_or_else(|| env!("CARGO_BIN_EXE_wa-agent").into(), Into::into)
}

pub struct Dev {
    child: Child,
    lines: Receiver<String>,
    pub seen: Vec<String>,
    pub state: tempfile::TempDir,
}

impl Dev {
    pub fn start(port: u16) -> Self {
        Self::with(port, &[])
    }

    /// With more words on the command line.
    pub fn with(port: u16, more: &[&str]) -> Self {
        Self::within(tempfile::tempdir().expect("a directory"), port, more)
    }

    /// In a directory that is there.
    pub fn within(state: tempfile::TempDir, port: u16, more: &[&str]) -> Self {
        let mut child = Command::new(program())
            .args(["dev", "--port", &port.to_string()])
            // Relative, as people type it: the roles run elsewhere and must find it all the same.
            .args(["--state", "dev"])
            .args(more)
            .current_dir(state.path())
            .env("WA_LOG", "debug")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (to, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if to.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
            state,
        }
    }

    /// Reads until a line that contains the words.
    pub fn until(&mut self, words: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(words) {
                        return line;
                    }
                }
                Err(error) => panic!("{error} while waiting for {words:?}: {:#?}", self.seen),
            }
        }
    }

    /// Where keys and state are.
    pub fn directory(&self) -> std::path::PathBuf {
        self.state.path().join("dev")
    }

    /// The commands that it prints, to log in and to send a message.
    fn commands(&mut self) -> String {
        self.until("Ctrl-C");
        let at = |words: &str| self.seen.iter().position(|l| l.contains(words));
        let from = at("TOKEN=$(").expect("commands");
        let to = at("Break something").expect("the end of them");
        self.seen[from..to].join("\n")
    }

    /// The children that run this role.
    fn processes_of(&self, role: &str) -> Vec<i32> {
        let runs = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|b| *b == 0).nth(1) == Some(role.as_bytes())
        };
        self.processes().into_iter().filter(runs).collect()
    }

    /// The children: what the cluster consists of.
    pub fn processes(&self) -> Vec<i32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        tasks
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
            .flat_map(|list| {
                list.split_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .filter_map(|pid| pid.parse().ok())
            .collect()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Goal: a newcomer's first minute works: log in, send, ask the upstream to verify the webhooks, stop by Ctrl-C.
/// Method: the printed commands go to bash as they are; afterwards no process is left.
#[test]
fn what_dev_prints_can_be_typed() {
    if Command::new("curl").arg("--version").output().is_err() {
        return crate::skipped("the commands that dev prints", "curl is not installed");
    }
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let first = port();
    let mut dev = Dev::start(first);
    let script = dev.commands();
    dev.until("ready: primary");
    let output = Command::new("bash")
        .arg("-c")
        .arg(&script)
        .output()
        .expect("bash runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let answer: Value = serde_json::from_str(text.trim())
        .unwrap_or_else(|error| panic!("{error}: {text:?} of\n{script}"));
    assert!(answer["messages"][0]["id"].is_string(), "{answer}");

    let simulator = dev
        .seen
        .iter()
        .find_map(|l| l.split("upstream   http://127.0.0.1:").nth(1));
    let simulator: u16 = simulator
        .and_then(|l| l.split(' ').next()?.parse().ok())
        .expect("the upstream's port");
    let verified = request(
        [127, 0, 0, 1],
        simulator,
        "POST /admin/challenge HTTP/1.1",
        "",
    );
    assert_eq!(verified.matches(":true").count(), 2, "{verified}");
    assert!(!verified.contains(":false"), "{verified}");

    let processes = dev.processes();
    assert!(processes.len() >= 6, "{processes:?}");
    let pid = i32::try_from(dev.child.id()).expect("a pid");
    kill(Pid::from_raw(pid), Signal::SIGINT).expect("a signal");
    let status = dev.child.wait().expect("it ends");
    assert!(status.success(), "{status}");
    for process in processes {
        let alive = kill(Pid::from_raw(process), None).is_ok();
        assert!(!alive, "{process} outlived the cluster");
    }
    no_secret_was_logged(&dev);
}

/// Runs an operator's verb against the cluster; exit code, and what it printed.
pub fn verb(dev: &Dev, words: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_wa-agent"))
        .args(words)
        .arg("--config")
        .arg(dev.state.path().join("dev/wa-agent.toml"))
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap_or(-1), said)
}

pub fn status(dev: &Dev) -> Value {
    let (_, said) = verb(dev, &["status", "--json"]);
    serde_json::from_str(said.trim()).unwrap_or_default()
}

/// Asks for the status until it is as wanted.
pub fn status_until(dev: &Dev, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        let status = status(dev);
        if wanted(&status) {
            return status;
        }
        assert!(std::time::Instant::now() < until, "not {what}: {status}");
    }
}

pub fn owner(status: &Value) -> Option<String> {
    status["shards"][0]["owner"].as_str().map(str::to_owned)
}

fn done(dev: &Dev, words: &[&str], wanted: &str) {
    let (code, said) = verb(dev, words);
    assert_eq!(code, 0, "{words:?}: {said}");
    assert!(said.contains(wanted), "{words:?}: {said}");
}

fn refused(dev: &Dev, words: &[&str], wanted: &str) {
    let (code, said) = verb(dev, words);
    assert_eq!(code, 1, "{words:?}: {said}");
    assert!(said.contains(wanted), "{words:?}: {said}");
}

fn pause_and_resume(dev: &Dev, first: &String) {
    let done = |words: &[&str], wanted: &str| done(dev, words, wanted);
    done(&["pause", "--for", "5m", "--dry-run"], "(dry run)");
    done(
        &["pause", "--for", "5m", "--reason", "the switch"],
        "no owner of any shard",
    );
    let paused = status(dev);
    assert!(
        paused["problems"].to_string().contains("paused"),
        "{paused}"
    );
    assert_eq!(owner(&paused).as_ref(), Some(first));
    done(&["explain"], "failover is paused");
    done(&["resume"], "goes on");
    assert_eq!(status(dev)["problems"], serde_json::json!([]));
    refused(dev, &["resume"], "is not paused");
}

/// Goal: a verb that has answered is in force for the next call, whoever reads a copy of what it wrote.
/// Method: one verb right after the other, and the status in between, five times: the copies are half a second old.
fn in_force_once_answered(dev: &Dev) {
    let first = status(dev);
    let standby = first["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|n| n["role"] == "coreapp" && n["node"].as_str() != owner(&first).as_deref());
    let standby = standby.and_then(|n| n["node"].as_str()).expect("a standby");
    let at = ["switchover", "--shard", "0"];
    for _ in 0..5 {
        done(dev, &["pause", "--for", "5m", "--shard", "0"], "no owner");
        done(dev, &["resume", "--shard", "0"], "goes on");
        refused(dev, &["resume", "--shard", "0"], "is not paused");
        done(dev, &["drain", standby], "owns no shard");
        refused(
            dev,
            &["failover", "--force", "--yes", "--shard", "0"],
            "Draining",
        );
        done(dev, &["undrain", standby], "may take shards again");
        refused(dev, &["undrain", standby], "is not drained");
        done(dev, &[&at[..], &["--at", "+1h"]].concat(), "will be moved");
        assert_eq!(status(dev)["planned"].as_array().map(Vec::len), Some(1));
        done(dev, &[&at[..], &["--cancel"]].concat(), "is cancelled");
        let now = status(dev);
        assert_eq!(now["planned"], serde_json::json!([]), "{now}");
        assert_eq!(now["problems"], serde_json::json!([]), "{now}");
    }
}

/// A switchover waits for its time, is shown, can be forgotten, and comes.
fn planned_switchover(dev: &Dev) {
    let before = status(dev)["shards"][0]["epoch"].as_u64();
    let at = ["switchover", "--shard", "0", "--at"];
    let with = |more: &[&'static str]| [&at[..], more].concat();
    refused(dev, &with(&["2020-01-01T00:00:00Z"]), "is past");
    refused(dev, &with(&["+30days"]), "a week");
    refused(
        dev,
        &["switchover", "--shard", "0", "--cancel"],
        "is planned",
    );
    done(dev, &with(&["+1h", "--dry-run"]), "will be moved");
    assert_eq!(status(dev)["planned"], serde_json::json!([]));
    done(dev, &with(&["+1h", "--reason", "night"]), "will be moved");
    assert_eq!(status(dev)["planned"].as_array().map(Vec::len), Some(1));
    done(dev, &["status"], "--cancel");
    done(
        dev,
        &["switchover", "--shard", "0", "--cancel"],
        "is cancelled",
    );
    assert_eq!(status(dev)["planned"], serde_json::json!([]));
    done(
        dev,
        &with(&["+1s", "--reason", "night shift"]),
        "will be moved",
    );
    status_until(dev, "moved at its time", |s| {
        s["shards"][0]["phase"] == "active" && s["shards"][0]["epoch"].as_u64() > before
    });
    let (_, said) = verb(dev, &["history"]);
    for recorded in [
        "switchover-at shard 0",
        "switchover-cancel shard 0",
        "night shift",
        "OperatorAsked",
    ] {
        assert!(said.contains(recorded), "{recorded}: {said}");
    }
}

/// Every node says which keys it uses; nothing is changed by a dry run, and no phase may be skipped.
fn keys_are_reported(dev: &Dev) {
    let (code, said) = verb(dev, &["keys", "rotate", "--status", "--json"]);
    let value: Value = serde_json::from_str(said.trim()).unwrap_or_default();
    let nodes = value["nodes"].as_array().expect("nodes");
    assert!(code == 0 && nodes.len() >= 7, "{said}");
    let sends: std::collections::BTreeSet<String> =
        nodes.iter().map(|n| n["sends"].to_string()).collect();
    assert_eq!(sends.len(), 1, "{said}");
    let file = dev.state.path().join("dev/cluster-key");
    let before = std::fs::read(&file).expect("a key");
    done(dev, &["keys", "rotate", "--dry-run"], "(dry run)");
    assert_eq!(std::fs::read(&file).expect("a key"), before);
}

/// The upstream is asked what token, number and subscription are good for, and how long its version lasts.
fn the_upstream_is_examined(dev: &Dev) {
    let (code, said) = verb(dev, &["doctor"]);
    assert_eq!(code, 0, "{said}");
    for line in [
        "the access token is good, and does not expire",
        "the number is CONNECTED, quality GREEN",
        "events of the account 100200400 go to the app 100200500",
        "version v25.0 is served until 2028-07-29",
    ] {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
}

/// Goal: a verb whose reader has gone ends quietly, as a shell expects of it. Method: a pipe that is closed already.
fn nobody_reads(dev: &Dev, owner: &str) {
    let file = dev.state.path().join("dev/wa-agent.toml");
    for words in [
        &["status"][..],
        &["status", "--json"],
        &["history"],
        &["history", "--json"],
        &["explain"],
        &["explain", "--json"],
        &["settings"],
        &["plan", owner],
        &["keys", "rotate", "--status"],
        &["check-config"],
        &["doctor", "--json"],
    ] {
        let (read, write) = std::io::pipe().expect("a pipe");
        drop(read);
        let output = Command::new(env!("CARGO_BIN_EXE_wa-agent"))
            .args(words)
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(write)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{words:?}: {said}");
        assert_eq!(output.status.code(), Some(141), "{words:?}: {said}");
    }
}

/// Who still beats, or owns a shard, is not forgotten; nor is who was never there.
fn only_the_gone_are_forgotten(dev: &Dev, owner: &str) {
    refused(dev, &["forget", owner], "answers heartbeats");
    refused(dev, &["forget", "nobody:coreapp-9"], "is not registered");
}

/// A drain that is undone before there was anywhere to go has moved nothing, and says so.
fn undone_before_it_moved(dev: &Dev, owner: &str) {
    let nodes = status(dev);
    let nodes = nodes["nodes"].as_array().into_iter().flatten();
    let standbys = nodes.filter(|n| n["role"] == "coreapp" && n["node"] != owner);
    let standbys: Vec<String> = standbys
        .filter_map(|n| n["node"].as_str().map(Into::into))
        .collect();
    for standby in &standbys {
        done(dev, &["drain", standby], "owns no shard");
    }
    done(dev, &["drain", owner], "moves off");
    done(dev, &["undrain", owner], "has moved nothing: shard 0");
    for standby in &standbys {
        done(dev, &["undrain", standby], "may take shards again");
    }
}

/// Goal: each verb does what it says, says why not, and is recorded. Method: the binary against a whole cluster.
#[test]
fn operators_steer_a_cluster() {
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut dev = Dev::start(port());
    dev.until("ready: primary");
    let first = owner(&status(&dev)).expect("an owner");
    let done = |words: &[&str], wanted: &str| done(&dev, words, wanted);
    let refused = |words: &[&str], wanted: &str| refused(&dev, words, wanted);
    done(&["plan", &first], "takes over");
    done(&["explain"], "rule       Healthy");
    done(&["settings"], "webhooks.message.delivered");
    nobody_reads(&dev, &first);
    the_upstream_is_examined(&dev);
    only_the_gone_are_forgotten(&dev, &first);

    pause_and_resume(&dev, &first);
    in_force_once_answered(&dev);
    refused(&["ack", "--shard", "0"], "is not blocked");
    refused(&["ack", "--server", "--yes"], "the one that is known");
    planned_switchover(&dev);
    keys_are_reported(&dev);
    let first = owner(&status(&dev)).expect("an owner");

    done(&["drain", &first, "--reason", "new disk"], "moves off");
    let drained = status_until(&dev, "drained", |s| {
        s["shards"][0]["phase"] == "active" && owner(s).is_some_and(|o| o != first)
    });
    let second = owner(&drained).expect("an owner");
    refused(
        &["failover", "--force", "--yes", "--shard", "0"],
        "Draining: an operator drains the node",
    );
    refused(&["drain", "nobody:coreapp-9"], "is no coreapp");
    done(&["undrain", &first], "may take shards again");
    status_until(&dev, "calm", |s| s["problems"] == serde_json::json!([]));
    undone_before_it_moved(&dev, &second);

    #[cfg(feature = "watch")]
    let mut page = crate::watch::beside(&dev.directory().join("wa-agent.toml"), &second);
    refused(&["failover", "--force", "--shard", "0"], "add --yes");
    done(
        &["failover", "--force", "--yes", "--shard", "0"],
        "is replaced by",
    );
    let third = status_until(&dev, "failed over", |s| {
        s["shards"][0]["phase"] == "active" && owner(s).is_some_and(|o| o != second)
    });
    let third = owner(&third).expect("an owner");
    assert_ne!(third, second);
    #[cfg(feature = "watch")]
    crate::watch::follows(&mut page, &third);
    let (code, said) = verb(&dev, &["history", "--limit", "500"]);
    assert_eq!(code, 0, "{said}");
    for recorded in [
        "pause 5m  the switch",
        "new disk",
        "undrain",
        "failover shard 0",
        "OperatorForced",
    ] {
        assert!(said.contains(recorded), "{recorded}: {said}");
    }
}

/// No secret, no password, no message body in any log, however much is logged.
fn no_secret_was_logged(dev: &Dev) {
    let directory = dev.state.path().join("dev");
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    let files = std::fs::read_dir(&directory).expect("the state directory");
    let (mut logs, mut secrets) = (
        String::new(),
        vec!["Try-it-0ut!".to_owned(), "hello".into()],
    );
    for path in files.flatten().map(|entry| entry.path()) {
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        match name {
            "api-key" | "app-secret" | "cluster-key" | "token" | "verify-token" => {
                secrets.push(read(&path).trim().to_owned());
            }
            _ if name.ends_with(".log") => logs.push_str(&read(&path)),
            _ => {}
        }
    }
    assert_eq!(secrets.len(), 7, "the secrets lie where they lay");
    assert!(logs.contains("DEBUG"), "the logs are full");
    for secret in secrets {
        assert!(!logs.contains(&secret), "{secret:?} is in a log");
    }
}
