//! What is installed: units judged by systemd's own tools, packages, and booted systems.
//! Needs programs of the machine; a test that misses one says `SKIPPED:` with the reason, and is counted as skipped.

mod fallback;
mod faults;
mod gate;
mod guest;
mod install;
mod journeys;
mod lan;
mod machine;
mod mixed;
mod network;
mod packages;
mod people;
mod roles;
mod rpm;
mod takeover;
mod traffic;
mod trial;
mod units;
mod upgrade;

use std::path::{Path, PathBuf};

/// Says why a test does not run here; the test command counts it as skipped.
pub fn skipped(what: &str, why: &str) {
    // Straight to the terminal: captured output of a passed test is never seen.
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "SKIPPED: {what}: {why}");
}

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A program of this machine, also of the folders that only root searches.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let fixed = ["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(fixed)
        .map(|folder| folder.join(name))
        .find(|file| file.exists())
}
