//! Puts the threads of a host agent under realtime scheduling: its unit calls this at each start.
//! The host agent may not do it itself; that keeps sched_setscheduler(2) out of its reach.

use crate::exit::Exit;
use crate::sys::sched;

/// Says in the unit's journal when it cannot be done; the host agent goes on at normal priority.
///
/// # Errors
/// None: a start does not fail for it.
pub fn run(pid: i32) -> anyhow::Result<Exit> {
    if let Err(error) = sched::raise_threads_of(pid) {
        println!(
            "the host agent's threads stay at normal priority ({error}): under load its answers may be late; `wa-agent doctor` \
             says what this machine can sustain"
        );
    }
    Ok(Exit::Ok)
}
