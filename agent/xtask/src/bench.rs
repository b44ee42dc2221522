//! `cargo xtask bench NAME`: builds the measurement for release and runs it.
//! The measurement itself is in tests/bench.

use std::process::Command;

const NAMES: &[&str] = &["intake"];

/// Runs one measurement; what follows its name is handed on.
pub fn run(words: &[&str]) -> Result<bool, String> {
    let Some((name, rest)) = words.split_first().filter(|(name, _)| NAMES.contains(name)) else {
        return Err(format!(
            "cargo xtask bench: name one of: {}",
            NAMES.join(", ")
        ));
    };
    crate::install::needed()?;
    // The bench profile has the settings of the release profile, so both share what is built.
    let status = Command::new(crate::cargo())
        .args([
            "bench",
            "--locked",
            "--package",
            "wa-agent",
            "--bench",
            name,
            "--",
        ])
        .args(rest)
        .current_dir(crate::root())
        .status()
        .map_err(|e| format!("cargo does not start: {e}"))?;
    Ok(status.success())
}
