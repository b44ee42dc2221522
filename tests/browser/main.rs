//! The console in a real headless Chromium: a cluster of the real binary, a browser by chromedriver, and stories told in it.
//! Knows the pages by what their navigation shows, so that a new page is looked at without a word here.
//!
//! One cluster for all stories, and a browser for each. Skipped where chromium, chromedriver or (for axe-core) npm is missing.

// A test waits for a process by the clock of its own; nothing decides by it.
#![allow(clippy::disallowed_methods)]

mod acts;
mod axe;
mod browser;
mod cluster;
mod driver;
mod figures;
mod keyboard;
mod look;
mod stories;

/// Says why a test did not run, past the capture of the test runner, so that it can be counted.
fn skipped(what: &str, why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "SKIPPED: {what}: {why}");
}
