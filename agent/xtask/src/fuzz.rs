//! `cargo xtask fuzz`: the targets of `tests/fuzz`, built with libFuzzer's instrumentation and run for a while.
//! Knows no target: they are the files of `tests/fuzz/targets`. The stable toolchain and a C++ compiler suffice.

use std::path::Path;
use std::process::{Command, Stdio};

const USAGE: &str = "usage: cargo xtask fuzz [TARGET] [--seconds N]   (60 seconds each)";
/// What `cargo fuzz` passes with `--sanitizer none`: the program has no unsafe code of its own to watch.
const INSTRUMENTED: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";
/// Longest input: most of what is interesting is short, and short inputs are quick.
const LEN_MAX: &str = "4096";

/// Builds all targets, runs the one that is named, or each in turn. `Ok(false)` when one found something.
pub fn run(words: &[&str]) -> Result<bool, String> {
    let (named, seconds) = arguments(words)?;
    let root = crate::root();
    let home = root.join("tests/fuzz");
    let mut targets = targets(&home.join("targets"))?;
    if let Some(named) = named {
        if !targets.contains(&named) {
            return Err(format!(
                "no target {named}; there are: {}",
                targets.join(", ")
            ));
        }
        targets = vec![named];
    }
    let triple = host()?;
    build(&root, &home, &triple)?;
    let mut good = true;
    for target in &targets {
        println!("== {target}: {seconds} s");
        good &= fuzz(&root, &home, &triple, target, seconds)?;
    }
    println!(
        "fuzz: {} targets, {}",
        targets.len(),
        if good {
            "nothing found"
        } else {
            "something found: see tests/fuzz/README.md"
        }
    );
    Ok(good)
}

fn arguments(words: &[&str]) -> Result<(Option<String>, u64), String> {
    let (mut named, mut seconds) = (None, 60);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--seconds" => {
                let number = words.next().and_then(|n| n.parse().ok());
                seconds = number.filter(|n| *n > 0).ok_or(USAGE)?;
            }
            word if word.starts_with('-') || named.is_some() => return Err(USAGE.into()),
            word => named = Some(word.to_owned()),
        }
    }
    Ok((named, seconds))
}

fn targets(folder: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some(name.strip_suffix(".rs")?.to_owned())
        })
        .collect();
    names.sort();
    Ok(names)
}

/// With a target named, cargo leaves build scripts and macros without the instrumentation.
fn host() -> Result<String, String> {
    let said = Command::new("rustc").arg("-vV").output();
    let said = said.map_err(|e| format!("rustc does not start: {e}"))?;
    String::from_utf8_lossy(&said.stdout)
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .ok_or_else(|| "rustc -vV names no host".into())
}

fn build(root: &Path, home: &Path, triple: &str) -> Result<(), String> {
    let compiler = Command::new(std::env::var("CXX").unwrap_or_else(|_| "c++".into()))
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !compiler.is_ok_and(|status| status.success()) {
        return Err(
            "libFuzzer needs a C++ compiler: apt-get install g++ (or name one with CXX)".into(),
        );
    }
    // The versions that the workspace is built and tested with.
    std::fs::copy(root.join("Cargo.lock"), home.join("Cargo.lock"))
        .map_err(|e| format!("tests/fuzz/Cargo.lock: {e}"))?;
    let built = crate::cargo()
        .args(["build", "--release", "--manifest-path"])
        .arg(home.join("Cargo.toml"))
        .args(["--target", triple, "--target-dir"])
        .arg(root.join("target/fuzz"))
        .env("RUSTFLAGS", INSTRUMENTED)
        .status()
        .map_err(|e| format!("cargo does not start: {e}"))?;
    if built.success() {
        Ok(())
    } else {
        Err("the targets cannot be built with this toolchain; the reason is above".into())
    }
}

fn fuzz(
    root: &Path,
    home: &Path,
    triple: &str,
    target: &str,
    seconds: u64,
) -> Result<bool, String> {
    let grown = root.join("target/fuzz/corpus").join(target);
    let artifacts = home.join("artifacts");
    for folder in [&grown, &artifacts] {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let mut command = Command::new(
        root.join("target/fuzz")
            .join(triple)
            .join("release")
            .join(target),
    );
    // What it finds out on the way goes to the first folder; the committed seeds are only read.
    command
        .arg(&grown)
        .arg(home.join("corpus").join(target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={LEN_MAX}"))
        .arg(format!(
            "-artifact_prefix={}/{target}-",
            artifacts.display()
        ))
        .args([
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-print_final_stats=1",
            "-verbosity=0",
        ]);
    let dictionary = home.join("dictionary").join(target);
    if dictionary.exists() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    let status = command.stdin(Stdio::null()).status();
    status
        .map(|status| status.success())
        .map_err(|e| format!("{target} does not start: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_understood_or_refused() {
        assert_eq!(arguments(&[]), Ok((None, 60)));
        assert_eq!(
            arguments(&["wire", "--seconds", "5"]),
            Ok((Some("wire".into()), 5))
        );
        for wrong in [
            &["a", "b"][..],
            &["--seconds"],
            &["--seconds", "0"],
            &["--fast"],
        ] {
            assert!(arguments(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn every_target_is_declared_and_has_seeds() {
        let home = crate::root().join("tests/fuzz");
        let manifest = std::fs::read_to_string(home.join("Cargo.toml")).expect("a manifest");
        let targets = targets(&home.join("targets")).expect("a folder");
        assert!(targets.len() >= 4, "{targets:?}");
        for target in targets {
            assert!(
                manifest.contains(&format!("name = \"{target}\"")),
                "{target}"
            );
            let seeds = std::fs::read_dir(home.join("corpus").join(&target)).expect("seeds");
            assert!(seeds.count() > 0, "{target}");
        }
    }
}
