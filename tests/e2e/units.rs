//! Units by systemd's own judgement: every directive known, and little left open.
//! Starts none of them.

use std::path::PathBuf;
use std::process::Command;

use crate::{program, root, skipped};

/// Exposure by `systemd-analyze security`, in tenths: for roles, and for the host agent, which is root.
const EXPOSURE_ROLE_MAX: u32 = 15;
const EXPOSURE_HOST_MAX: u32 = 21;
/// All directives are known to this version, and nothing newer is asked for.
const SYSTEMD_MIN: u32 = 252;

fn units() -> Vec<PathBuf> {
    let folder = root().join("units/system");
    let mut units: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("there are units")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    units.sort();
    assert!(units.len() >= 7, "units are missing: {units:?}");
    units
}

/// systemd's major version here.
fn version() -> Option<u32> {
    let output = Command::new(program("systemd-analyze")?)
        .arg("--version")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().nth(1)?.parse().ok()
}

/// A folder with the units, whose programs are replaced by one that exists on every machine.
fn copied(change: impl Fn(&str) -> String) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary directory");
    for unit in units() {
        let text = std::fs::read_to_string(&unit).expect("text");
        let text = text.replace("/usr/bin/wa-agent", "/bin/true");
        let name = unit.file_name().expect("a file");
        std::fs::write(folder.path().join(name), change(&text)).expect("written");
    }
    folder
}

/// What `systemd-analyze verify` complains about in units of the folder.
fn complaints(folder: &std::path::Path) -> String {
    let mut command = Command::new(program("systemd-analyze").expect("looked for before"));
    command.args(["verify", "--man=no", "--recursive-errors=no"]);
    for unit in units() {
        let name = unit
            .file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned();
        command.arg(folder.join(name));
    }
    let output = command.output().expect("it runs");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Goal: no directive that systemd 252 does not know, no slip of the pen. Method: systemd's own check, which must
/// complain about a unit with a directive of a later version.
#[test]
fn systemd_finds_nothing_wrong() {
    let Some(version) = version() else {
        return skipped("units are verified", "systemd-analyze is not installed");
    };
    assert!(
        version >= SYSTEMD_MIN,
        "systemd {version} is too old to judge"
    );
    let good = copied(str::to_owned);
    assert_eq!(complaints(good.path()), "");
    let bad = copied(|text| text.replace("[Service]\n", "[Service]\nRestartStepz=5\n"));
    assert!(complaints(bad.path()).contains("RestartStepz"));
    if version > SYSTEMD_MIN {
        skipped(
            "no directive newer than systemd 252",
            &format!("systemd {version} here knows more"),
        );
    }
}

/// Goal: nobody opens a role further without noticing. Method: exposure as systemd counts it, against a threshold that
/// a unit without its hardening does not pass.
#[test]
fn little_is_left_open() {
    if version().is_none() {
        return skipped("exposure of units", "systemd-analyze is not installed");
    }
    let judge = |file: &std::path::Path, max: u32| {
        let output = Command::new(program("systemd-analyze").expect("looked for before"))
            .args(["security", "--offline=true", "--no-pager"])
            .arg(format!("--threshold={max}"))
            .arg(file)
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = text.lines().last().unwrap_or_default().to_owned();
        (output.status.success(), last)
    };
    let good = copied(str::to_owned);
    for (unit, max) in [
        ("wa-master@.service", EXPOSURE_ROLE_MAX),
        ("wa-coreapp@.service", EXPOSURE_ROLE_MAX),
        ("wa-webapp@.service", EXPOSURE_ROLE_MAX),
        ("wa-host.service", EXPOSURE_HOST_MAX),
        ("wa-simulator.service", EXPOSURE_ROLE_MAX),
    ] {
        let (passed, says) = judge(&good.path().join(unit), max);
        assert!(passed, "{says}");
    }
    let open = copied(|text| {
        text.replace("CapabilityBoundingSet=\n", "")
            .replace("SystemCallFilter", "#")
    });
    let (passed, says) = judge(&open.path().join("wa-coreapp@.service"), EXPOSURE_ROLE_MAX);
    assert!(!passed, "a unit without its hardening passed: {says}");
}
