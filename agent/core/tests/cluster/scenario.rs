//! Scenario files: an operator reads what goes wrong in a calm cluster, and what the core then does.
//! `UPDATE_SCENARIOS=1 cargo test -p wa-core` writes the second half of every file anew: read the difference.
//!
//! A file: `#` lines say what it shows; `cluster M masters, A coreapps …`; `at MS verb words`; `from MS` (what came
//! before is left out); `end MS`; then `----` and the story.

use std::collections::BTreeMap;
use std::path::PathBuf;

use wa_core::detector::Intervals;
use wa_core::id::{Epoch, Grant, NodeId, Nonce, ShardId};
use wa_core::master::{Command, Event, Fence};
use wa_core::time::Duration;
use wa_core::wire::{Health, Receipt};

use wa_sim::fault::{Cell, Fault};
use wa_sim::world::Sim;

fn number<T: std::str::FromStr>(word: Option<&&str>) -> T {
    word.and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("a number is missing or wrong: {word:?}"))
}

fn cluster(words: &[&str]) -> Sim {
    let value = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1).copied()
    };
    let count =
        |name: &str, default: usize| value(name).map_or(default, |v| v.parse().expect("a number"));
    let mut sim = Sim::calm(count("masters", 1), count("coreapps", 2));
    sim.shards = u16::try_from(count("shards", 1)).expect("few shards");
    sim.hosts = value("hosts") != Some("none");
    sim.flap_max = u32::try_from(count("flaps", 3)).expect("few flaps");
    if value("fence") == Some("best-effort") {
        sim.fence = Fence::BestEffort;
    }
    sim.lossy = value("replication").map(|word| word == "asynchronous");
    sim
}

fn bit(word: &str) -> Health {
    match word {
        "database" => Health::DATABASE_OK,
        "upstream" => Health::UPSTREAM_OK,
        "media" => Health::MEDIA_OK,
        "disk" => Health::HIGH_WATER_OK,
        "gate" => Health::GATE_ATTESTED,
        other => panic!("no such health: {other}"),
    }
}

fn faults(sim: &mut Sim, verb: &str, words: &[&str], all: &[usize]) -> bool {
    let both = |a: usize, b: usize| [(a, b), (b, a)];
    match verb {
        "pause" => sim.fault(Fault::Pause(all[0])),
        "resume" => sim.fault(Fault::Resume(all[0])),
        "cut" => sim.fault(Fault::Cut(all[0], all[1])),
        "mend" => sim.fault(Fault::Mend(all[0], all[1])),
        "isolate" | "join" => {
            let others = (0..sim.nodes.len()).filter(|other| *other != all[0]);
            for (a, b) in others
                .flat_map(|other| both(all[0], other))
                .collect::<Vec<_>>()
            {
                sim.fault(if verb == "isolate" {
                    Fault::Cut(a, b)
                } else {
                    Fault::Mend(a, b)
                });
            }
            sim.fault(if verb == "isolate" {
                Fault::CutDatabase(all[0])
            } else {
                Fault::MendDatabase(all[0])
            });
        }
        "database-cut" => all
            .iter()
            .for_each(|node| sim.fault(Fault::CutDatabase(*node))),
        "database-mend" => all
            .iter()
            .for_each(|node| sim.fault(Fault::MendDatabase(*node))),
        "rewind" => sim.fault(Fault::Rewind(number(words.first()))),
        "restore" => sim.fault(Fault::Restore(number(words.first()))),
        "rewind-unseen" => sim.rewind_unseen(number(words.first())),
        "switchover" => {
            let to = all.first().map(|node| sim.nodes[*node].name.clone());
            let shard = ShardId(number(words.first()));
            sim.command(&Command::Switchover { shard, to });
        }
        "failover" => {
            let to = all.first().map(|node| sim.nodes[*node].name.clone());
            let shard = ShardId(number(words.first()));
            sim.command(&Command::Failover { shard, to });
        }
        "hold-failover" => sim.pause_failover(number(words.first())),
        "ack" => sim.command(&Command::Ack {
            shard: ShardId(number(words.first())),
        }),
        "ack-server" => sim.command(&Command::AckServer),
        "adopt" => sim.command(&Command::Adopt),
        "shards" => sim.fault(Fault::Reshard(number(words.first()))),
        "term" => sim.fault(Fault::Terminate(all[0])),
        "rot-file" => sim.fault(Fault::RotFile(all[0], number(words.get(1)))),
        "mend-file" => sim.fault(Fault::MendFile(all[0])),
        "boast" => sim.fault(Fault::Boast(all[0], number(words.get(1)))),
        "humble" => sim.fault(Fault::Humble(all[0])),
        "rot-counter" => sim.fault(Fault::RotRow(Cell::Counter, number(words.first()))),
        "rot-term" => sim.fault(Fault::RotRow(Cell::Term, number(words.first()))),
        "rot-epoch" => {
            let shard = number(words.first());
            sim.fault(Fault::RotRow(Cell::Epoch(shard), number(words.get(1))));
        }
        "rot-ttl" => {
            let shard = number(words.first());
            sim.fault(Fault::RotRow(Cell::Ttl(shard), number(words.get(1))));
        }
        _ => return disks(sim, verb, words, all),
    }
    true
}

/// What becomes of disks and machines.
fn disks(sim: &mut Sim, verb: &str, words: &[&str], all: &[usize]) -> bool {
    match verb {
        "keep-disk" => sim.fault(Fault::KeepDisk(all[0])),
        "new-disk" => sim.fault(Fault::NewDisk(all[0], number(words.get(1)))),
        "older-disk" => sim.fault(Fault::OldDisk(all[0], number(words.get(1)))),
        "copy" => {
            let copy = sim.spare();
            sim.fault(Fault::Copy(all[0], copy));
        }
        "double" => {
            let copy = sim.spare();
            sim.fault(Fault::Double(all[0], copy));
        }
        "copy-gone" => {
            let copy = sim.spare();
            sim.fault(Fault::CopyGone(copy));
        }
        "restart-host" => {
            let (down, late) = (number(words.get(1)), number(words.get(2)));
            sim.fault(Fault::RestartHost(all[0], down, late));
        }
        "freeze" => sim.fault(Fault::Freeze(all[0])),
        "thaw" => sim.fault(Fault::Thaw(all[0])),
        _ => return false,
    }
    true
}

fn knobs(sim: &mut Sim, verb: &str, words: &[&str], all: &[usize]) {
    let on = words.last() != Some(&"off");
    match verb {
        "start" => all.iter().for_each(|node| sim.begin(*node)),
        "kill" => sim.kill(all[0], words.get(1).and_then(|ms| ms.parse().ok())),
        "ill" | "well" => {
            let node = &mut sim.nodes[all[0]];
            node.ill = node.ill.with(bit(words[1]), verb == "ill");
        }
        "stuck" => sim.nodes[all[0]].progress_age_ms = number(words.get(1)),
        "late" => sim.nodes[all[0]].late = on,
        "deaf" => sim.nodes[all[0]].deaf = on,
        "drain" => sim.nodes[all[0]].draining = on,
        "lose-answer" => sim.nodes[all[0]].lose_answer = true,
        "late-answer" => sim.nodes[all[0]].answer_after_ms = Some(number(words.get(1))),
        "slow-handover" => sim.nodes[all[0]].handover_after_ms = Some(number(words.get(1))),
        "slow-reshard" => sim.nodes[all[0]].reshard_after_ms = Some(number(words.get(1))),
        "slow-read" => sim.nodes[all[0]].read_after_ms = Some(number(words.get(1))),
        "replay" => sim.replay(all[0]),
        "fence" => sim.fence_late(all[0], number(words.get(1)), number(words.get(2))),
        "ttl" => sim.nodes[all[0]].ttl = Duration::from_millis(number(words.get(1))),
        "restarts" => sim.nodes[all[0]].restart_ms = Some(number(words.get(1))),
        "hosts" => sim.hosts = on,
        "intervals" => {
            let span = |word| Duration::from_millis(number(word));
            let intervals = Intervals {
                heartbeat: span(words.first()),
                unhealthy: span(words.get(1)),
            };
            sim.intervals = intervals;
            for master in 0..sim.masters {
                sim.tell_master(master, Event::Intervals(intervals));
            }
        }
        "receipt" => receipt(sim, words, all[0]),
        "ended" => ended(sim, words, all[0]),
        other => panic!("no such verb: {other}"),
    }
}

/// `receipt c1 start 1 epoch 2 sealed|unsealed|alive`: whatever the host agent of a machine might send; `by c2`: of another one.
fn receipt(sim: &mut Sim, words: &[&str], node: usize) {
    let (start, epoch): (u64, u64) = (number(words.get(2)), number(words.get(4)));
    let incarnation = sim.start_of(node, start);
    let epoch = Epoch(epoch);
    let grant = sim.db.grant_of(epoch).unwrap_or(Grant(99));
    let receipt = Receipt {
        machine_id: 0,
        boot_id: 0,
        invocation: 1,
        node: sim.nodes[node].name.clone(),
        incarnation,
        shard: ShardId(0),
        epoch,
        grant,
        seal: epoch,
        nonce: Nonce(0),
        sealed: words.get(5) != Some(&"unsealed"),
        cgroup_empty: words.get(5) != Some(&"alive"),
    };
    // A true receipt is signed after the seal; one for an epoch that was never given out is just a lie.
    if receipt.sealed && receipt.grant != Grant(99) {
        let gate = &mut sim.nodes[node].gate;
        gate.seal = gate.seal.max(receipt.epoch);
    }
    if sim.fence == Fence::BestEffort {
        // There is no kernel gate at all: what is left of a dead process is not looked at (promise S1).
        let dead = sim.incarnation(node);
        sim.nodes[node].gate.remove(dead);
    }
    let by = words.iter().position(|word| *word == "by");
    let by = by.and_then(|at| named(sim, words.get(at + 1)?));
    for master in 0..sim.masters {
        let event = sim.signed(by.unwrap_or(node), receipt.clone());
        sim.tell_master(master, event);
    }
}

/// `ended c1 epoch 2`: somebody says that an epoch has ended.
fn ended(sim: &mut Sim, words: &[&str], node: usize) {
    let epoch = Epoch(number(words.get(2)));
    let grant = sim.db.grant_of(epoch).unwrap_or(Grant(99));
    let (from, incarnation) = (sim.nodes[node].name.clone(), sim.incarnation(node));
    for master in 0..sim.masters {
        let (from, shard) = (from.clone(), ShardId(0));
        sim.tell_master(
            master,
            Event::Ended {
                from,
                incarnation,
                shard,
                epoch,
                grant,
            },
        );
    }
}

fn play(script: &str) -> Result<Vec<String>, String> {
    let mut sim = Sim::calm(1, 1);
    for line in script
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "cluster" => sim = cluster(&words[1..]),
            "at" => {
                sim.run_until(number(words.get(1)))?;
                let rest = &words[3..];
                let all: Vec<usize> = rest.iter().filter_map(|word| named(&sim, word)).collect();
                sim.note(&words[2..].join(" "));
                if !faults(&mut sim, words[2], rest, &all) {
                    knobs(&mut sim, words[2], rest, &all);
                }
            }
            "from" => {
                sim.run_until(number(words.get(1)))?;
                sim.story.clear();
            }
            "end" => sim.run_until(number(words.get(1)))?,
            other => panic!("no such line: {other}"),
        }
    }
    sim.suspicion(u64::MAX)?;
    let mut story = sim.story.clone();
    story.extend(
        sim.standing()
            .iter()
            .map(|line| format!("       end {line}")),
    );
    Ok(story)
}

fn named(sim: &Sim, word: &str) -> Option<usize> {
    sim.nodes.iter().position(|node| host(&node.name) == word)
}

fn host(name: &NodeId) -> &str {
    name.host()
}

fn files() -> Vec<(String, PathBuf, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("testdata is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .map(|path| {
            let name = path
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            let text = std::fs::read_to_string(&path).expect("readable");
            (name, path, text)
        })
        .collect();
    files.sort();
    files
}

fn halves(text: &str) -> (&str, &str) {
    text.split_once("\n----\n").unwrap_or((text.trim_end(), ""))
}

fn as_written(text: &str) -> Result<(), String> {
    let (script, expected) = halves(text);
    let story = play(script)?.join("\n") + "\n";
    if story == expected {
        return Ok(());
    }
    let line = story.lines().zip(expected.lines()).find(|(a, b)| a != b);
    Err(format!("first difference (is, should be): {line:?}"))
}

/// How a scenario does not go as written, a panic included: `None` when it does.
#[cfg(feature = "mutants")]
pub fn wrong(text: &str) -> Option<String> {
    match std::panic::catch_unwind(|| as_written(text)) {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(why),
        Err(_) => Some("a panic".into()),
    }
}

/// Name and text of every scenario.
#[cfg(feature = "mutants")]
pub fn all() -> Vec<(String, String)> {
    let files = files().into_iter();
    files.map(|(name, _, text)| (name, text)).collect()
}

/// Goal: every decision of the core in a known situation is known, and a change of it is seen. Method: compare stories.
#[test]
fn scenarios_go_as_written() {
    let update = std::env::var_os("UPDATE_SCENARIOS").is_some();
    let mut wrong = Vec::new();
    for (name, path, text) in files() {
        if update {
            let (script, _) = halves(&text);
            let story = play(script).unwrap_or_else(|why| panic!("{name}: {why}"));
            let story = story.join("\n") + "\n";
            std::fs::write(&path, format!("{script}\n----\n{story}")).expect("writable");
        } else if let Err(why) = as_written(&text) {
            wrong.push(format!("{name}: {why}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nIf right: UPDATE_SCENARIOS=1",
        wrong.join("\n")
    );
}

/// What the core did, without times, epochs and the operator's own words: two scenarios alike would be one too many.
#[test]
fn there_are_forty_and_no_two_are_alike() {
    let mut seen: BTreeMap<Vec<String>, String> = BTreeMap::new();
    let files = files();
    assert!(files.len() >= 40, "{} scenarios", files.len());
    for (name, _, text) in files {
        let story = text.split_once("\n----\n").map_or("", |(_, story)| story);
        let actions: Vec<String> = story
            .lines()
            .filter(|line| !line.contains(" ms > ") && !line.contains("   end "))
            .map(|line| {
                let line = line.split_once(" ms ").map_or(line, |(_, rest)| rest);
                line.split_whitespace()
                    .filter(|word| word.parse::<u64>().is_err())
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        if let Some(other) = seen.insert(actions, name.clone()) {
            panic!("{name} does the same as {other}");
        }
    }
}
