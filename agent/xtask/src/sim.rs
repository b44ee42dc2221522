//! `cargo xtask sim`: plays seeds of the simulator, built for speed. Simulates nothing itself: `tests/sim` does.

/// Runs it with the words as typed; `Ok(false)` when a seed broke a promise or a kind of fault never happened.
pub fn run(words: &[&str]) -> Result<bool, String> {
    let status = crate::cargo()
        .args([
            "run",
            "--locked",
            "--release",
            "--quiet",
            "--package",
            "wa-sim",
            "--",
        ])
        .args(words)
        .current_dir(crate::root())
        .status()
        .map_err(|e| format!("cargo does not start: {e}"))?;
    Ok(status.success())
}
