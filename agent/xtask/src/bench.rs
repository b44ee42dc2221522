//! `cargo xtask bench NAME`: builds the release binary, makes the conditions, and writes down what is measured.
//! Judges no figure: on a machine with other work they say nothing.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::chart::{self, Row};
use crate::lab::Lab;
use crate::{install, keepalived};

/// Namespaces that the processes of `wa-agent dev --lab` expect.
const NODES: [(&str, &str); 4] = [
    ("master-1", "10.77.0.11"),
    ("master-2", "10.77.0.12"),
    ("coreapp-1", "10.77.0.21"),
    ("coreapp-2", "10.77.0.22"),
];
const PROFILES: [&str; 2] = ["fast", "standard"];
/// VRRP's intervals, in seconds.
const ADVERTS: [&str; 2] = ["1", "0.1"];
/// Takeovers of each kind.
const TIMES: usize = 10;
/// Killed coreapps on a booted machine.
const KILLS: usize = 50;

/// Runs one measurement; what follows its name is handed on.
///
/// # Errors
/// When the name is unknown, or something that the measurement needs cannot be had.
pub fn run(words: &[&str]) -> Result<bool, String> {
    std::env::set_current_dir(crate::root()).map_err(|e| e.to_string())?;
    match words.split_first() {
        Some((&"intake", options)) => intake(options),
        Some((&"send", options)) => send(options),
        Some((&"detection", options)) => detection(options),
        Some((&"keepalived", options)) => against_keepalived(options),
        Some((&"takeover", options)) => takeover(options),
        Some((&"gate", [])) => gate(),
        Some((&"pending", [])) => pending(),
        Some((&"rows", options)) => rows(options),
        Some((&"console", options)) => console(options),
        // Runs in a namespace, started by the one above.
        Some((&"keepalived-inside", [prefix, advert, times])) => inside(prefix, advert, times),
        _ => Err(
            "cargo xtask bench: there are: intake, send, pending, rows, console, gate, takeover, detection, keepalived"
                .into(),
        ),
    }
}

/// The clock of measurements here; the agent's own is `sys/clock.rs`.
#[allow(clippy::disallowed_methods)]
pub fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// Builds the program; where it is.
///
/// # Errors
/// When it does not build.
pub fn binary(release: bool) -> Result<String, String> {
    let mut cargo = crate::cargo();
    cargo
        .args(["build", "--locked", "--package", "wa-agent"])
        .current_dir(crate::root());
    // The build that is there already: of the tests, or of `cargo run --release -- dev`.
    match release {
        true => cargo.arg("--release"),
        false => cargo.args(["--features", crate::FEATURES]),
    };
    let status = cargo
        .status()
        .map_err(|e| format!("cargo does not start: {e}"))?;
    if !status.success() {
        return Err("wa-agent does not build".into());
    }
    let folder = if release { "release" } else { "debug" };
    Ok(crate::root()
        .join("target")
        .join(folder)
        .join("wa-agent")
        .display()
        .to_string())
}

fn intake(options: &[&str]) -> Result<bool, String> {
    install::needed()?;
    let binary = binary(true)?;
    // Below the build directory: the disk that is measured is that of the checkout, not a file system in memory.
    let done = Command::new(binary)
        .args(["dev", "--port", "19090", "--seconds", "60", "--reset"])
        .args(["--state", "target/bench-intake", "--database", "mariadb"])
        .arg("--bench-intake")
        .args(options)
        .status();
    Ok(done
        .map_err(|e| format!("wa-agent does not start: {e}"))?
        .success())
}

const SEND_USAGE: &str = "\
cargo xtask bench send [--rate N] [--seconds N] [--kill-every N]
  Two webapps, four shards, a private MariaDB, the load, the upstream and the business on this machine.
  --rate N         messages a second; without it, the highest rate up to 1,000 is searched for in runs of a minute
  --seconds N      length of the run that counts (600)
  --kill-every N   seconds between two owners that are killed; 0 kills none (60)
Exit code 0: the rate was held, nothing was refused, failed, lost, sent twice or not told.";

/// What is handed to `wa-agent dev`.
fn send_words(options: &[&str]) -> Result<Vec<String>, String> {
    let mut words: Vec<String> = Vec::new();
    let mut pairs = options.chunks(2);
    let usual = ["--search", "--rate", "1000", "--seconds", "600"];
    let search = !options.contains(&"--rate");
    words.extend(
        usual
            .iter()
            .skip(usize::from(!search))
            .map(|w| (*w).to_owned()),
    );
    pairs.try_for_each(|pair| match pair {
        [name @ ("--rate" | "--seconds" | "--kill-every"), n] if n.parse::<u32>().is_ok() => {
            words.extend([(*name).to_owned(), (*n).to_owned()]);
            Ok(())
        }
        _ => Err(SEND_USAGE.to_owned()),
    })?;
    Ok(words)
}

/// The highest rate whose queues stay flat, from the request to the last status that the business is told.
fn send(options: &[&str]) -> Result<bool, String> {
    if options == ["--help"] {
        println!("{SEND_USAGE}");
        return Ok(true);
    }
    let words = send_words(options)?;
    install::needed()?;
    let binary = binary(true)?;
    let mut command = Command::new(binary);
    command
        .args(["dev", "--bench-send", "--port", "19090", "--reset"])
        .args(["--state", "target/bench-send", "--database", "mariadb"])
        // As in production: a receipt that is late because the machine is busy is not one that is missing.
        .args(["--profile", "standard", "--ambiguity-ms", "5000"])
        .args(&words);
    let outcome = last_line(&mut command)?;
    let path = folder()?.join("send.json");
    let text = serde_json::to_string_pretty(&outcome).map_err(|e| e.to_string())?;
    fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    println!("written: target/bench/send.json");
    Ok(outcome["passed"] == true)
}

/// A million webhooks that wait: memory of the coreapp, and sending beside them, on a private MariaDB.
fn pending() -> Result<bool, String> {
    install::needed()?;
    let done = crate::cargo()
        .args(["test", "--locked", "--release", "--test", "integration"])
        .args([
            "--",
            "--exact",
            "dev::pending::figures",
            "--ignored",
            "--nocapture",
        ])
        .current_dir(crate::root())
        .status();
    Ok(done
        .map_err(|e| format!("cargo does not start: {e}"))?
        .success())
}

const CONSOLE_USAGE: &str = "\
cargo xtask bench console [--rounds N]
  What ten open consoles cost: memory of their webapp, and messages accepted, beside none in the same run (private MariaDB).
  --rounds N    pairs of parts with and without, of which the median counts (6)";

/// What open consoles cost.
fn console(options: &[&str]) -> Result<bool, String> {
    let mut test = crate::cargo();
    match *options {
        [] => {}
        ["--rounds", n] if n.parse::<u32>().is_ok() => {
            test.env("WA_BENCH_ROUNDS", n);
        }
        _ => return Err(CONSOLE_USAGE.to_owned()),
    }
    install::needed()?;
    let done = test
        .args(["test", "--locked", "--release", "--test", "browser", "--"])
        .args(["--exact", "figures::figures", "--ignored", "--nocapture"])
        .status();
    let done = done.map_err(|e| format!("cargo does not start: {e}"))?;
    Ok(done.success())
}

const ROWS_USAGE: &str = "\
cargo xtask bench rows [--rows N] [--database mariadb|sqlite] [--rounds N]
  Intake, claim, outcomes and statuses on a store full of finished messages, beside an empty one, in turn in one run; and what
  a takeover and every tenure asks, beside a store without finished messages.
  --rows N      messages of the full store (10,000,000; embedded 1,000,000)
  --database D  mariadb, a private one, or sqlite, the embedded store (mariadb)
  --rounds N    how often, of which the median counts (5)
Exit code 0: intake and claim keep four fifths, and no scan depends on what is finished.";

/// What is handed to `wa-agent dev`.
fn rows_words(options: &[&str]) -> Result<Vec<String>, String> {
    let (mut rows, mut database, mut rounds) = (None, "mariadb", 5);
    for pair in options.chunks(2) {
        let number = |text: &str| text.parse::<u64>().map_err(|_| ROWS_USAGE.to_owned());
        match *pair {
            ["--rows", n] => rows = Some(number(n)?),
            ["--rounds", n] => rounds = number(n)?,
            ["--database", name @ ("mariadb" | "sqlite")] => database = name,
            _ => return Err(ROWS_USAGE.to_owned()),
        }
    }
    let usual = match database {
        "mariadb" => 10_000_000,
        _ => 1_000_000,
    };
    let rows = rows.unwrap_or(usual);
    let mut words = vec!["--rows".into(), rows.to_string()];
    words.extend(["--rounds".into(), rounds.to_string()]);
    if database == "mariadb" {
        words.extend(["--database".into(), "mariadb".into()]);
    }
    Ok(words)
}

/// What many rows cost.
fn rows(options: &[&str]) -> Result<bool, String> {
    if options == ["--help"] {
        println!("{ROWS_USAGE}");
        return Ok(true);
    }
    let words = rows_words(options)?;
    if words.iter().any(|word| word == "mariadb") {
        install::needed()?;
    }
    let binary = binary(true)?;
    let mut command = Command::new(binary);
    command
        .args(["dev", "--bench-rows", "--port", "19090"])
        .args(["--state", "target/bench-rows"])
        .args(&words);
    let outcome = last_line(&mut command)?;
    let path = folder()?.join("rows.json");
    let text = serde_json::to_string_pretty(&outcome).map_err(|e| e.to_string())?;
    fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    println!(
        "written: target/bench/rows.json; plans of statements that look at many rows: target/bench/rows-plans.txt"
    );
    Ok(outcome["held"] == true)
}

/// Nanoseconds per packet by verdict, and throughput with and without the gate (root).
fn gate() -> Result<bool, String> {
    install::needed()?;
    let done = crate::cargo()
        .args(["test", "--locked", "--package", "wa-bpf", "--test", "gate"])
        .args(["--", "--exact", "bench::table", "--ignored"])
        .current_dir(crate::root())
        .status();
    Ok(done
        .map_err(|e| format!("cargo does not start: {e}"))?
        .success())
}

/// Takeovers on booted machines, from the packages as they are shipped (root).
fn takeover(options: &[&str]) -> Result<bool, String> {
    let times = number(
        options,
        KILLS,
        "cargo xtask bench takeover [--times N]: N kills; everything else a fifth as often",
    )?;
    install::needed()?;
    root_and(&[("debootstrap", "debootstrap"), ("clang", "clang")])?;
    let out = folder()?.join("takeover.json");
    let _ = fs::remove_file(&out);
    let done = crate::cargo()
        .args(["test", "--locked", "--release", "--test", "e2e", "--"])
        .args(["--exact", "takeover::table", "--ignored", "--nocapture"])
        .env("WA_BENCH_TIMES", times.to_string())
        .env("WA_BENCH_OUT", &out)
        .current_dir(crate::root())
        .status();
    let text = fs::read_to_string(&out)
        .map_err(|_| "nothing was measured; the reason is above".to_owned())?;
    let found: Vec<(String, f64)> = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let mut kinds: Vec<&str> = Vec::new();
    for (kind, _) in &found {
        if !kinds.contains(&kind.as_str()) {
            kinds.push(kind);
        }
    }
    let rows: Vec<Row> = kinds
        .iter()
        .flat_map(|kind| summed_up(&found, kind, kind))
        .collect();
    chart::write(
        "takeover",
        "Booted machines, profile fast: longest time without an answer",
        &rows,
    )?;
    // Figures of a run in which something was lost or sent by two are shown all the same.
    Ok(done.is_ok_and(|status| status.success()))
}

fn number(options: &[&str], usual: usize, usage: &str) -> Result<usize, String> {
    match options {
        [] => Ok(usual),
        ["--times", n] => n.parse().map_err(|_| usage.to_owned()),
        _ => Err(usage.to_owned()),
    }
}

fn root_and(programs: &[(&str, &str)]) -> Result<(), String> {
    if !install::is_root() {
        return Err("network namespaces need root".into());
    }
    let missing: Vec<&str> = programs
        .iter()
        .filter(|(p, _)| !install::found(p))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "first: apt-get install --no-install-recommends {}",
        missing.join(" ")
    ))
}

/// Reply gaps with and without hogs, at normal priority and under SCHED_FIFO; detection and takeover by profile and fault.
fn detection(options: &[&str]) -> Result<bool, String> {
    let times = number(options, TIMES, "cargo xtask bench detection [--times N]")?;
    install::needed()?;
    root_and(&[("ip", "iproute2"), ("nsenter", "util-linux")])?;
    let binary = binary(true)?;
    let hogs = std::thread::available_parallelism().map_or(2, usize::from) * 4;
    let gaps = last_line(Command::new(&binary).args([
        "dev",
        "--bench-gap",
        "--seconds",
        "20",
        "--hogs",
        &hogs.to_string(),
    ]))?;
    let mut rows = Vec::new();
    for measured in gaps.as_array().into_iter().flatten() {
        let label = format!(
            "{}, {} hogs",
            measured["priority"].as_str().unwrap_or("?"),
            measured["hogs"]
        );
        for column in ["p50", "p99", "p999", "worst"] {
            let us = measured["gap_us"][column].as_f64().unwrap_or(0.0);
            rows.push(Row::new(&label, column, us / 1000.0));
        }
    }
    chart::write(
        "reply-gap",
        "Reply gap of the heartbeat thread, a ping each 10 ms",
        &rows,
    )?;
    let lab = Lab::new(&NODES)?;
    let mut rows = Vec::new();
    for profile in PROFILES {
        let outcome = strikes(&lab, &binary, profile, times)?;
        for (what, figure) in [
            ("detected", "detected_ms"),
            ("answered again", "takeover_ms"),
        ] {
            rows.extend(by_fault(&outcome, &format!("{profile}: {what}"), figure));
        }
    }
    chart::write(
        "detection",
        "Detection and takeover by profile and fault",
        &rows,
    )?;
    Ok(true)
}

/// Takeovers by wa-agent and by keepalived on the same namespaces.
fn against_keepalived(options: &[&str]) -> Result<bool, String> {
    let times = number(options, TIMES, "cargo xtask bench keepalived [--times N]")?;
    install::needed()?;
    root_and(&[
        ("ip", "iproute2"),
        ("nsenter", "util-linux"),
        ("keepalived", "keepalived"),
    ])?;
    let binary = binary(true)?;
    let lab = Lab::new(&NODES)?;
    let mut rows = Vec::new();
    for profile in PROFILES {
        let outcome = strikes(&lab, &binary, profile, times)?;
        rows.extend(by_fault(
            &outcome,
            &format!("wa-agent {profile}"),
            "takeover_ms",
        ));
    }
    let own = std::env::current_exe()
        .map_err(|e| e.to_string())?
        .display()
        .to_string();
    for advert in ADVERTS {
        let mut command = lab.command(&own);
        command.args([
            "bench",
            "keepalived-inside",
            lab.prefix(),
            advert,
            &times.to_string(),
        ]);
        let value = last_line(&mut command)?;
        let found: Vec<(String, f64)> = value
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| {
                (
                    one[0].as_str().unwrap_or("?").to_owned(),
                    one[1].as_f64().unwrap_or(0.0),
                )
            })
            .collect();
        rows.extend(medians(&found, &format!("keepalived {advert} s")));
    }
    chart::write(
        "keepalived",
        "From the fault to an answer by another node",
        &rows,
    )?;
    Ok(true)
}

fn inside(prefix: &str, advert: &str, times: &str) -> Result<bool, String> {
    let times = times.parse().map_err(|_| "a number of times")?;
    let found = keepalived::takeovers(prefix, advert, times)?;
    println!("{}", serde_json::json!(found));
    Ok(true)
}

/// Kills, freezes and cuts off the owner, so many times each, under traffic.
fn strikes(lab: &Lab, binary: &str, profile: &str, times: usize) -> Result<Value, String> {
    println!("wa-agent, profile {profile}");
    let state = crate::soak::state_directory("bench");
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
            profile,
        ])
        .args([
            "--lab",
            lab.prefix(),
            "--strikes",
            "kill,freeze,cable",
            "--seconds",
            "1",
            "--rate",
            "200",
        ])
        .args([
            "--ambiguity-ms",
            "5000",
            "--failovers",
            &(times * 3).to_string(),
        ])
        .arg("--state")
        .arg(&state);
    let outcome = last_line(&mut command);
    match &outcome {
        Ok(_) => drop(fs::remove_dir_all(&state)),
        Err(_) => println!("the logs are in {}", state.display()),
    }
    outcome
}

fn last_line(command: &mut Command) -> Result<Value, String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = output.map_err(|e| format!("{command:?} does not start: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last)
        .map_err(|e| format!("{command:?} did not come to its end ({e}), last line: {last}"))
}

fn by_fault(outcome: &Value, label: &str, figure: &str) -> Vec<Row> {
    let found: Vec<(String, f64)> = outcome["strikes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|s| Some((s["strike"].as_str()?.to_owned(), s[figure].as_f64()?)))
        .collect();
    medians(&found, label)
}

/// Median and worst for each fault, with their number.
fn medians(found: &[(String, f64)], label: &str) -> Vec<Row> {
    ["kill", "freeze", "cable"]
        .into_iter()
        .flat_map(|fault| summed_up(found, fault, &format!("{label}, {fault}")))
        .collect()
}

/// Median and worst of one kind; nothing when there is none of it.
fn summed_up(found: &[(String, f64)], kind: &str, label: &str) -> Vec<Row> {
    let mut times: Vec<f64> = found
        .iter()
        .filter(|(k, _)| k == kind)
        .map(|(_, ms)| *ms)
        .collect();
    times.sort_by(f64::total_cmp);
    let (Some(median), Some(worst)) = (times.get(times.len() / 2), times.last()) else {
        return Vec::new();
    };
    let label = format!("{label} (n={})", times.len());
    vec![
        Row::new(&label, "median", *median),
        Row::new(&label, "worst", *worst),
    ]
}

/// Where results go.
pub fn folder() -> Result<std::path::PathBuf, String> {
    let folder = crate::root().join("target/bench");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(folder)
}

/// For people: milliseconds with as many digits as they mean.
pub fn shown(ms: f64) -> String {
    let span = Duration::from_secs_f64(ms.max(0.0) / 1000.0);
    if span < Duration::from_millis(100) {
        format!("{ms:.1} ms")
    } else {
        format!("{ms:.0} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a rate that is named is held, else the highest is searched for; what is no option is refused with the usage.
    #[test]
    fn options_of_send_are_handed_on() {
        let words = |options: &[&str]| send_words(options).map(|words| words.join(" "));
        let usual = "--search --rate 1000 --seconds 600";
        assert_eq!(words(&[]).as_deref(), Ok(usual));
        let named = words(&["--rate", "500", "--kill-every", "0"]);
        let wanted = "--rate 1000 --seconds 600 --rate 500 --kill-every 0";
        assert_eq!(named.as_deref(), Ok(wanted));
        for bad in [
            &["--help"][..],
            &["--rate"],
            &["--rate", "x"],
            &["--port", "1"],
        ] {
            assert_eq!(words(bad), Err(SEND_USAGE.to_owned()), "{bad:?}");
        }
    }

    #[test]
    fn medians_are_by_fault() {
        let found = [("kill", 3.0), ("kill", 1.0), ("kill", 2.0), ("cable", 9.0)]
            .map(|(f, ms)| (f.to_owned(), ms));
        let rows = medians(&found, "x");
        let told: Vec<(&str, &str, f64)> =
            rows.iter().map(|r| (&*r.label, &*r.column, r.ms)).collect();
        assert_eq!(
            told,
            [
                ("x, kill (n=3)", "median", 2.0),
                ("x, kill (n=3)", "worst", 3.0),
                ("x, cable (n=1)", "median", 9.0),
                ("x, cable (n=1)", "worst", 9.0)
            ]
        );
    }
}
