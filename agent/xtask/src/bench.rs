//! `cargo xtask bench`: `intake` builds the release binary and lets it measure itself on a private MariaDB; `gate` measures
//! what the kernel gate costs.

use std::process::Command;

/// Runs one measurement; what follows its name is handed on.
///
/// # Errors
/// When the name is unknown, or something that the measurement needs cannot be had.
pub fn run(words: &[&str]) -> Result<bool, String> {
    let options = match words.split_first() {
        Some((&"gate", [])) => return gate(),
        Some((&"intake", options)) => options,
        _ => return Err("cargo xtask bench: there is: intake, gate".into()),
    };
    crate::install::needed()?;
    std::env::set_current_dir(crate::root()).map_err(|e| e.to_string())?;
    let failed = |what: &str, why: std::io::Error| format!("{what} does not start: {why}");
    let built = crate::cargo()
        .args(["build", "--release", "--locked"])
        .status();
    if !built.map_err(|e| failed("cargo", e))?.success() {
        return Ok(false);
    }
    // Below the build directory: the disk that is measured is that of the checkout, not a file system in memory.
    let done = Command::new("target/release/wa-agent")
        .args(["dev", "--port", "19090", "--seconds", "60", "--reset"])
        .args(["--state", "target/bench-intake", "--database", "mariadb"])
        .arg("--bench-intake")
        .args(options)
        .status();
    Ok(done.map_err(|e| failed("wa-agent", e))?.success())
}

/// Nanoseconds per packet by verdict, and throughput with and without the gate (root).
fn gate() -> Result<bool, String> {
    crate::install::needed()?;
    let done = crate::cargo()
        .args(["test", "--locked", "--package", "wa-bpf", "--test", "gate"])
        .args(["--", "--exact", "bench::table", "--ignored"])
        .current_dir(crate::root())
        .status();
    Ok(done
        .map_err(|e| format!("cargo does not start: {e}"))?
        .success())
}
