//! `cargo xtask test`: the parts one after the other, seconds for each, and one honest line at the end.
//! A part that fails does not stop the ones after it.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::count::{self, Count};

/// How a part's outcome is read.
enum Kind {
    /// Good or bad by its exit code.
    Check,
    /// Counted by what libtest prints.
    Tests,
    /// One test by its exit code, skipped when it says so.
    Run,
}

struct Part {
    name: &'static str,
    what: &'static str,
    kind: Kind,
    arguments: &'static [&'static str],
}

/// Every part that builds the program builds it with the same features: another set would be another build, which takes minutes.
const PARTS: &[Part] = &[
    Part {
        name: "fmt",
        what: "formatting",
        kind: Kind::Check,
        arguments: &["fmt", "--all", "--check"],
    },
    Part {
        name: "clippy",
        what: "lints, warnings are errors",
        kind: Kind::Check,
        arguments: &[
            "clippy",
            "--locked",
            "--workspace",
            "--features",
            crate::FEATURES,
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    },
    Part {
        name: "xtask",
        what: "the test command itself",
        kind: Kind::Tests,
        arguments: &["test", "--locked", "--package", "xtask"],
    },
    Part {
        name: "core",
        what: "the deciding code: units, scenarios, wire format, seeded clusters",
        kind: Kind::Tests,
        arguments: &[
            "test",
            "--locked",
            "--no-fail-fast",
            "--package",
            "wa-core",
            "--package",
            "wa-sim",
        ],
    },
    Part {
        name: "mutants",
        what: "each guard taken out of the deciding code turns red what its row says",
        kind: Kind::Tests,
        arguments: &[
            "test",
            "--locked",
            "--release",
            "--package",
            "wa-core",
            "--features",
            "mutants",
            "--test",
            "cluster",
            "--",
            "--ignored",
            "--exact",
            "mutants::check",
        ],
    },
    Part {
        name: "sim",
        what: "2,000 simulated clusters, every kind of fault",
        kind: Kind::Check,
        arguments: &[
            "run",
            "--locked",
            "--release",
            "--package",
            "wa-sim",
            "--",
            "--seeds",
            "2000",
        ],
    },
    Part {
        name: "model-red",
        what: "the model finds two open gates where a guard is out",
        kind: Kind::Tests,
        arguments: &[
            "test",
            "--locked",
            "--release",
            "--package",
            "wa-model",
            "--features",
            "mutants",
            "--lib",
            "--",
            "--ignored",
        ],
    },
    Part {
        name: "model",
        what: "the deciding code in a small cluster, every placement of a few faults",
        kind: Kind::Tests,
        arguments: &[
            "test",
            "--locked",
            "--release",
            "--package",
            "wa-model",
            "--lib",
            "--",
            "--nocapture",
        ],
    },
    Part {
        name: "gate",
        what: "the kernel gate: verdicts, holes of a naive one, attachment (root)",
        kind: Kind::Tests,
        arguments: &[
            "test",
            "--locked",
            "--no-fail-fast",
            "--package",
            "wa-bpf",
            "--",
            "--skip",
            "actor::act",
            "--skip",
            "bench::table",
            "--test-threads=1",
        ],
    },
    Part {
        name: "unit",
        what: "tests beside the code of the binary",
        kind: Kind::Tests,
        arguments: &[
            "test",
            "--locked",
            "--no-fail-fast",
            "--package",
            "wa-agent",
            "--features",
            crate::FEATURES,
            "--lib",
            "--bins",
        ],
    },
    Part {
        name: "tidy",
        what: "the rules of the house",
        kind: Kind::Tests,
        arguments: &[
            "test",
            "--locked",
            "--package",
            "wa-agent",
            "--features",
            crate::FEATURES,
            "--test",
            "tidy",
        ],
    },
    Part {
        name: "store",
        what: "the store suite on real databases",
        kind: Kind::Tests,
        arguments: &[
            "test",
            "--locked",
            "--package",
            "wa-agent",
            "--features",
            crate::FEATURES,
            "--test",
            "integration",
            "--",
            "--skip",
            "drill::",
            "--skip",
            "dev::",
            "--skip",
            "media::",
            "--skip",
            "galera::",
            "--skip",
            "flood::",
            "--skip",
            "door::",
        ],
    },
    Part {
        name: "galera",
        what: "the store suite, faults and drills on a Galera cluster of three",
        kind: Kind::Tests,
        arguments: &[
            "test",
            "--locked",
            "--package",
            "wa-agent",
            "--features",
            crate::FEATURES,
            "--test",
            "integration",
            "--",
            "galera::",
        ],
    },
    // Apart from the rest: a drill judges what clients see, so nothing else may starve its cluster.
    Part {
        name: "drill",
        what: "the whole cluster from the real binary: drills and dev, one at a time",
        kind: Kind::Tests,
        arguments: &[
            "test",
            "--locked",
            "--package",
            "wa-agent",
            "--features",
            crate::FEATURES,
            "--test",
            "integration",
            "--",
            "drill::",
            "dev::",
            "media::",
            "flood::",
            "door::",
            "--test-threads=1",
        ],
    },
    Part {
        name: "browser",
        what: "the console in a real browser: stories, pictures, accessibility",
        kind: Kind::Tests,
        arguments: &[
            "test",
            "--locked",
            "--package",
            "wa-agent",
            "--features",
            crate::FEATURES,
            "--test",
            "browser",
            "--",
            "--skip",
            "figures::",
            // Two browsers beside each other; a story in which something breaks is told alone.
            "--test-threads=2",
        ],
    },
    Part {
        name: "soak",
        what: "20 failovers on busy processors with lost heartbeats, and none beside them",
        kind: Kind::Run,
        arguments: &[
            "run",
            "--locked",
            "--quiet",
            "--package",
            "xtask",
            "--",
            "soak",
            "--short",
        ],
    },
    Part {
        name: "e2e",
        what: "what is installed: units, packages, a booted system",
        kind: Kind::Tests,
        arguments: &[
            "test",
            "--locked",
            "--package",
            "wa-agent",
            "--features",
            crate::FEATURES,
            "--test",
            "e2e",
            "--",
            "--test-threads=1",
        ],
    },
    Part {
        name: "doc",
        what: "examples in the documentation",
        kind: Kind::Tests,
        arguments: &[
            "test",
            "--locked",
            "--package",
            "wa-agent",
            "--features",
            crate::FEATURES,
            "--doc",
        ],
    },
];

/// Runs all parts, or the named one. `Ok(false)` when anything failed.
pub fn run(words: &[&str]) -> Result<bool, String> {
    let names: Vec<&str> = words
        .iter()
        .copied()
        .filter(|w| !w.starts_with('-'))
        .collect();
    if words.contains(&"--list") {
        for part in PARTS {
            println!("{:12} {}", part.name, part.what);
        }
        return Ok(true);
    }
    if let Some(unknown) = names.iter().find(|n| PARTS.iter().all(|p| p.name != **n)) {
        return Err(format!(
            "no part {unknown}; `cargo xtask test --list` names them"
        ));
    }
    if let Some(flag) = words.iter().find(|w| w.starts_with('-')) {
        return Err(format!("no flag {flag}; there is --list"));
    }
    crate::install::needed()?;
    let mut whole = Count::default();
    let mut seconds = Vec::new();
    let begun = uptime();
    for part in PARTS
        .iter()
        .filter(|p| names.is_empty() || names.contains(&p.name))
    {
        println!("== {}: {}", part.name, part.what);
        let started = uptime();
        let count = one(part);
        seconds.push(format!(
            "{:12} {:5} s  {}",
            part.name,
            uptime().saturating_sub(started).as_secs(),
            count.summary()
        ));
        whole.add(count);
    }
    println!();
    for line in seconds {
        println!("{line}");
    }
    for reason in &whole.skipped {
        println!("skipped: {reason}");
    }
    for told in whole.failures_told() {
        println!("failed: {told}");
    }
    println!(
        "{:12} {:5} s",
        "all",
        uptime().saturating_sub(begun).as_secs()
    );
    println!("{}", whole.summary());
    let _ = std::io::stdout().flush();
    Ok(whole.failed == 0)
}

fn one(part: &Part) -> Count {
    let mut command = crate::cargo();
    command
        .args(part.arguments)
        .current_dir(crate::root())
        .stdin(Stdio::null());
    match part.kind {
        Kind::Check => {
            let good = command.status().is_ok_and(|status| status.success());
            Count::check(part.name, good)
        }
        Kind::Tests | Kind::Run => tests(part, command),
    }
}

fn tests(part: &Part, mut command: Command) -> Count {
    let mut child = match command.stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(e) => {
            eprintln!("cargo does not start: {e}");
            return Count::check(part.name, false);
        }
    };
    let mut count = Count::default();
    let mut ignored = 0;
    let output = child.stdout.take().expect("it was asked for");
    // Bytes, not text: a test may print anything.
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        count.line(line.trim_end());
        ignored += count::ignored(&line);
    }
    let good = child.wait().is_ok_and(|status| status.success());
    if matches!(part.kind, Kind::Run) && good {
        // One that skipped itself is taken back below, as with tests.
        count.passed += 1;
    }
    count.ended(part.name, good, ignored);
    count
}

/// Time since boot, as the kernel's file tells it: this command is no place for another clock.
fn uptime() -> Duration {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split_whitespace().next().and_then(|s| s.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the program is built once for all tests, with all that the packages have. Method: what each part says to cargo.
    #[test]
    fn every_part_builds_the_same_program() {
        let builds = |part: &&Part| {
            let words = part.arguments;
            words.contains(&"wa-agent") || words.contains(&"--workspace")
        };
        let parts: Vec<&Part> = PARTS.iter().filter(builds).collect();
        assert!(parts.len() > 8, "the parts were not found");
        for part in parts {
            let mut pairs = part.arguments.windows(2);
            assert!(
                pairs.any(|pair| pair == ["--features", crate::FEATURES]),
                "{}",
                part.name
            );
        }
    }
}
