//! `cargo xtask model`: explores the bounded model of the protocol to its end and prints how many states that were.
//! Explores nothing itself: `tests/model` does.

/// Runs it; `Ok(false)` when a promise was broken, a bound was not exhausted, or there were too few states.
pub fn run(words: &[&str]) -> Result<bool, String> {
    if !words.is_empty() {
        return Err("usage: cargo xtask model".to_owned());
    }
    let status = crate::cargo()
        .args(["test", "--locked", "--release", "--package", "wa-model"])
        .args(["--lib", "--", "--nocapture", "--test-threads=1"])
        .current_dir(crate::root())
        .status()
        .map_err(|e| format!("cargo does not start: {e}"))?;
    Ok(status.success())
}
