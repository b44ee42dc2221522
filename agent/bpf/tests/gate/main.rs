//! The gate on this kernel: its verdicts one by one, the holes of a naive gate, attachment and attestation.
//! Goal: each guard of the programs carries weight. Method: real cgroups, sockets and packets in a network of the test's
//! own; where a guard can be taken out, the hole must be there without it and closed with it.

#[path = "../../src/clang.rs"]
mod clang;

use std::io::Write as _;

mod actor;
mod bench;
mod failover;
mod hole;
mod rig;
mod sender;
mod stand;
mod verdict;
mod wire;

/// Runs a test in a thread of its own, whose namespaces end with it; prints why not where it cannot run.
fn on_a_rig(test: impl FnOnce() + Send + 'static) {
    if let Some(why) = rig::unfit() {
        // Past libtest, which shows only what failed.
        let _ = writeln!(std::io::stdout(), "SKIPPED: the gate on this kernel: {why}");
        return;
    }
    if let Err(panic) = std::thread::spawn(test).join() {
        std::panic::resume_unwind(panic);
    }
}
