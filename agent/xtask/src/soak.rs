//! `cargo xtask soak`: a cluster under strikes on processors that others keep busy, with lost heartbeats, in a network
//! namespace of its own. The binary judges itself (`wa-agent dev --soak`); this makes the conditions and sees that they held.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use crate::lab::Lab;

/// On two cores this is four times what they can do.
const HOGS_PER_CORE: usize = 4;
/// UDP ports of heartbeats: host agent, two masters, three coreapps. The namespace is ours, so they are the usual ones.
const PORTS: &str = "6248, 6250, 6254, 6260, 6264, 6270";

struct Wish {
    minutes: u64,
    failovers: u64,
    /// The build of the other tests, and no run at normal priority.
    short: bool,
}

fn read(words: &[&str]) -> Result<Wish, String> {
    let mut wish = Wish {
        minutes: 10,
        failovers: 100,
        short: false,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().and_then(|w| w.parse().ok());
            value.ok_or(format!("{word} takes a number"))
        };
        match *word {
            "--minutes" => wish.minutes = number()?,
            "--failovers" => wish.failovers = number()?,
            "--short" => {
                wish = Wish {
                    minutes: 1,
                    failovers: 20,
                    short: true,
                }
            }
            _ => return Err("cargo xtask soak [--minutes M] [--failovers N] [--short]".into()),
        }
    }
    Ok(wish)
}

/// Runs it. `Ok(false)` when a failover came that no strike caused, or a message was lost or sent by two.
pub fn run(words: &[&str]) -> Result<bool, String> {
    let wish = read(words)?;
    if let Err(why) = possible() {
        println!("SKIPPED: soak: {why}");
        return Ok(true);
    }
    let binary = crate::bench::binary(!wish.short)?;
    let good = one(&wish, &binary, false)?;
    if !wish.short {
        println!("the same at normal priority, to show the difference; it judges nothing:");
        one(&wish, &binary, true)?;
    }
    Ok(good)
}

/// What the conditions need.
fn possible() -> Result<(), String> {
    crate::install::needed()?;
    if !crate::install::is_root() {
        return Err("network namespaces need root".into());
    }
    for program in ["ip", "nft", "nsenter", "mariadbd"] {
        if !crate::install::found(program) {
            return Err(format!("{program} is not installed"));
        }
    }
    Ok(())
}

fn one(wish: &Wish, binary: &str, plain: bool) -> Result<bool, String> {
    let lab = Lab::alone()?;
    let rules = format!(
        "table inet wa {{ chain in {{ type filter hook input priority 0; \
         udp dport {{ {PORTS} }} numgen random mod 100 < 1 counter drop; }}; }}"
    );
    nft(&lab, &rules)?;
    let hogs = std::thread::available_parallelism().map_or(2, usize::from) * HOGS_PER_CORE;
    let state = state_directory("soak");
    let mut command = lab.command(binary);
    command
        .args([
            "dev",
            "--soak",
            "--reset",
            "--json",
            "--database",
            "mariadb",
            "--profile",
            "fast",
        ])
        .args(["--coreapps", "3", "--rate", "50", "--ambiguity-ms", "5000"])
        .arg("--state")
        .arg(&state)
        .args(["--hogs", &hogs.to_string()])
        .args(["--failovers", &wish.failovers.to_string()])
        .args(["--seconds", &(wish.minutes * 60).to_string()]);
    if plain {
        command.arg("--plain-heartbeats");
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = output.map_err(|e| format!("{binary} does not start: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let value: Value =
        serde_json::from_str(text.lines().last().unwrap_or_default()).map_err(|e| {
            format!(
                "the soak did not come to its end ({e}); the logs are in {}",
                state.display()
            )
        })?;
    let lost = dropped(&lab)?;
    tell(&value, lost);
    if !plain && value["realtime"] == false {
        println!(
            "SKIPPED: soak: SCHED_FIFO is not allowed here, so its promise cannot be shown; the figures are above"
        );
        return Ok(true);
    }
    if lost == 0 {
        return Err("no heartbeat was dropped: the conditions were not those of a soak".into());
    }
    if output.status.success() {
        let _ = std::fs::remove_dir_all(&state);
    } else {
        println!("the logs are in {}", state.display());
    }
    Ok(output.status.success())
}

/// One line with the figures.
fn tell(value: &Value, lost: u64) {
    println!(
        "{} hogs, {} s, {} strikes, {lost} heartbeats dropped, heartbeat threads under SCHED_FIFO: {}; false failovers {}, \
         missed {}, lost {}, double primaries {}",
        value["hogs"],
        value["seconds"],
        value["strikes"].as_array().map_or(0, Vec::len),
        value["realtime"],
        value["false_failovers"],
        value["missed"],
        value["traffic"]["lost"],
        value["traffic"]["double_primary"],
    );
}

/// In memory where there is room for that: a soak is about processors and networks, and the disk of a test machine may be
/// slower than any database server's.
pub fn state_directory(what: &str) -> std::path::PathBuf {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() {
        memory.join(format!("wa-{what}-{}", std::process::id()))
    } else {
        crate::root().join("target").join(what)
    }
}

fn nft(lab: &Lab, rules: &str) -> Result<(), String> {
    let child = lab
        .command("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|e| format!("nft does not start: {e}"))?;
    let mut to = child.stdin.take().ok_or("nft takes no rules")?;
    to.write_all(rules.as_bytes()).map_err(|e| e.to_string())?;
    drop(to);
    let status = child.wait().map_err(|e| e.to_string())?;
    if status.success() {
        Ok(())
    } else {
        Err("nft refuses the rule that drops one of a hundred".into())
    }
}

/// Datagrams that the rule dropped.
fn dropped(lab: &Lab) -> Result<u64, String> {
    let output = lab
        .command("nft")
        .args(["list", "ruleset"])
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(packets(&text))
}

fn packets(ruleset: &str) -> u64 {
    let mut words = ruleset
        .split_whitespace()
        .skip_while(|w| *w != "packets")
        .skip(1);
    words.next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_read() {
        let rules =
            "udp dport { 6248, 6250 } numgen random mod 100 < 1 counter packets 31 bytes 4000 drop";
        assert_eq!(packets(rules), 31);
        assert_eq!(packets(""), 0);
    }

    #[test]
    fn numbers_are_read() {
        let wish = read(&["--failovers", "7", "--minutes", "2"]).expect("good words");
        assert_eq!((wish.failovers, wish.minutes, wish.short), (7, 2, false));
        assert!(read(&["--minutes"]).is_err() && read(&["--what"]).is_err());
    }
}
