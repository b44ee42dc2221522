//! Disks that are not what they were, under living masters: a new one, an older state of it, and a copy of a machine beside the
//! original (attack 39). Real processes; nothing is waited for but what they say.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Dev, owner, status_until, verb};
use crate::drill::{TURN, port};

/// What a coreapp keeps on its disk.
const FILES: [&str; 3] = ["incarnation", "running", "epoch"];

/// The process of a coreapp, by its name in the cluster.
pub fn pid_of(dev: &Dev, node: &str) -> Option<i32> {
    let instance = node.rsplit_once('-').expect("a number").1;
    dev.processes_of("coreapp").into_iter().find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
        let at = words.iter().position(|word| *word == b"--instance");
        at.is_some_and(|at| words.get(at + 1) == Some(&instance.as_bytes()))
    })
}

fn node_in<'a>(status: &'a Value, node: &str) -> Option<&'a Value> {
    let nodes = status["nodes"].as_array()?;
    nodes.iter().find(|n| n["node"] == node)
}

fn healthy(status: &Value, node: &str) -> bool {
    node_in(status, node).is_some_and(|n| n["healthy"] == true)
}

pub fn has(status: &Value, kind: &str) -> bool {
    let judged = status["judged"].as_array();
    let mut all = judged.into_iter().flatten();
    all.any(|judged| judged["kind"] == kind)
}

/// A healthy cluster: who owns the shard, and who could take it.
pub fn settled(dev: &Dev) -> (String, String) {
    let both = ["dev:coreapp-1", "dev:coreapp-2"];
    let well = |s: &Value| {
        let active = s["shards"][0]["phase"] == "active";
        s["primary"] == true
            && active
            && both.iter().all(|n| healthy(s, n))
            && !has(s, "no_standby")
    };
    let owner = owner(&status_until(dev, "settled", well)).expect("an owner");
    let other = both.into_iter().find(|n| *n != owner).expect("two");
    (owner, other.to_owned())
}

/// Kills a coreapp and waits until another process of it runs.
fn restart(dev: &Dev, node: &str) {
    let before = pid_of(dev, node).expect("it runs");
    kill(Pid::from_raw(before), Signal::SIGKILL).expect("it runs");
    let end = std::time::Instant::now() + super::PATIENCE;
    while pid_of(dev, node).is_none_or(|pid| pid == before) {
        assert!(std::time::Instant::now() < end, "{node} is not started");
    }
}

fn own_directory(dev: &Dev, node: &str) -> PathBuf {
    dev.directory()
        .join(node.rsplit_once(':').expect("a name").1)
}

/// How many starts a disk counts.
fn counted(directory: &Path) -> u64 {
    let text = std::fs::read_to_string(directory.join("incarnation")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for name in FILES {
        if from.join(name).exists() {
            std::fs::copy(from.join(name), to.join(name)).expect("copied");
        }
    }
}

/// The standby whose disk has changed takes the shard when it is asked, and gives it back.
fn takes_the_shard(dev: &Dev, node: &str) {
    status_until(dev, "heard", |s| healthy(s, node));
    let (before, standby) = settled(dev);
    assert_eq!(standby, node);
    for to in [node, &before] {
        // On a loaded machine the master lease may change hands meanwhile: then it is asked again.
        let end = std::time::Instant::now() + super::PATIENCE;
        while settled(dev).0 != to {
            assert!(std::time::Instant::now() < end, "{to} does not take it");
            verb(dev, &["switchover", "--shard", "0", "--to", to]);
        }
    }
}

/// Goal: a coreapp with a new disk, and one with an older state of its disk, is heard and eligible again while the same masters
/// live, and it is told why. So is the owner. Method: starts enough for a high number; then the files are removed, and put back
/// from before, each under a kill; a switchover to the node; the masters' processes are the same in the end.
#[test]
fn a_new_or_older_disk_is_heard_by_living_masters() {
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let first = port();
    let mut dev = Dev::with(first, &["--profile", "standard"]);
    dev.until("ready: primary");
    let (_, standby) = settled(&dev);
    let masters = dev.processes_of("master");
    let (disk, kept) = (own_directory(&dev, &standby), dev.state.path().join("kept"));
    copy_files(&disk, &kept);
    for _ in 0..3 {
        restart(&dev, &standby);
        settled(&dev);
    }
    let high = counted(&disk);
    assert!(high >= 4, "{high}");

    // An older state.
    copy_files(&kept, &disk);
    restart(&dev, &standby);
    takes_the_shard(&dev, &standby);
    let low = counted(&disk);
    assert!(low < high, "{low} of {high}");

    // A new one.
    for name in FILES {
        let _ = std::fs::remove_file(disk.join(name));
    }
    restart(&dev, &standby);
    takes_the_shard(&dev, &standby);
    assert_eq!(counted(&disk), 1);

    // The owner's.
    let (owns, _) = settled(&dev);
    for name in FILES {
        let _ = std::fs::remove_file(own_directory(&dev, &owns).join(name));
    }
    restart(&dev, &owns);
    settled(&dev);

    let (_, history) = verb(&dev, &["history", "--limit", "100"]);
    assert!(history.contains("OtherDisk"), "{history}");
    assert_eq!(
        dev.processes_of("master"),
        masters,
        "no master was started again"
    );
}

/// A process that is ended with the test.
struct Copy(Child);

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A coreapp of the same name at another address, with a copy of that one's disk.
fn copy_of(dev: &Dev, node: &str) -> Copy {
    let place = dev.state.path().join("copy");
    let name = node.rsplit_once(':').expect("a name").1;
    copy_files(&own_directory(dev, node), &place.join(name));
    let own = dev.directory().display().to_string();
    let text = std::fs::read_to_string(dev.directory().join("wa-agent.toml")).expect("there");
    let directory = format!("state_directory = \"{own}\"");
    assert!(text.contains(&directory), "{text}");
    let text = text.replace(
        &directory,
        &format!("state_directory = \"{}\"", place.display()),
    );
    let text = text
        .replace("advertise = \"127.0.0.1\"", "advertise = \"127.0.0.9\"")
        .replace("bind = \"127.0.0.1\"", "bind = \"127.0.0.9\"");
    let file = place.join("wa-agent.toml");
    std::fs::write(&file, text).expect("written");
    let instance = node.rsplit_once('-').expect("a number").1;
    let child = Command::new(env!("CARGO_BIN_EXE_wa-agent"))
        .args(["coreapp", "--instance", instance, "--config"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    Copy(child)
}

/// Both answer, and everybody who is asked says so with what to type.
fn told_as_two(dev: &Dev, node: &str) {
    let twice = status_until(dev, "known as two", |s| has(s, "node_twice"));
    let where_ = node_in(&twice, node).expect("listed")["twice"].to_string();
    assert!(
        where_.contains("127.0.0.1:") && where_.contains("127.0.0.9:"),
        "{where_}"
    );
    let (code, said) = verb(dev, &["status"]);
    assert!(code == 3 && said.contains("runs twice"), "{said}");
    assert!(said.contains("systemctl stop 'wa-*'"), "{said}");
    let (_, said) = verb(dev, &["doctor"]);
    assert!(said.contains("runs twice"), "{said}");
}

/// Goal: a copy of a machine at another address is named, gets no shard, and nor does its original while it lives; a copy of
/// the owner replaces nothing; when the copy is gone all is as before. Method: a process of the same name with the copied
/// files, beside the standby and then beside the owner.
#[test]
fn a_copy_beside_its_original_gets_nothing_and_is_named() {
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let first = port();
    let mut dev = Dev::with(first, &["--profile", "standard"]);
    dev.until("ready: primary");
    let (_, standby) = settled(&dev);
    let copy = copy_of(&dev, &standby);
    told_as_two(&dev, &standby);
    let (code, said) = verb(&dev, &["switchover", "--shard", "0", "--to", &standby]);
    assert!(code == 1 && said.contains("NodeTwice"), "{said}");
    drop(copy);
    status_until(&dev, "one again", |s| !has(s, "node_twice"));
    takes_the_shard(&dev, &standby);

    let (owns, _) = settled(&dev);
    let copy = copy_of(&dev, &owns);
    told_as_two(&dev, &owns);
    drop(copy);
    status_until(&dev, "one again", |s| {
        !has(s, "node_twice") && healthy(s, &owns)
    });
    let (_, history) = verb(&dev, &["history", "--limit", "100"]);
    for reason in ["RestartedCoreapp", "UnreachableCoreapp"] {
        assert!(!history.contains(reason), "{history}");
    }
}
