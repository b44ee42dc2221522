//! A decision loop that stands still on purpose, to show that the watchdog ends such a process: SIGUSR2 where the
//! environment has `WA_DEBUG_SIGNALS=1`. Without it nothing here does anything.

use std::sync::atomic::{AtomicBool, Ordering};

/// Somebody asked for it.
static HANG: AtomicBool = AtomicBool::new(false);

/// The environment allows it.
pub fn signals_wanted() -> bool {
    std::env::var_os("WA_DEBUG_SIGNALS").is_some_and(|value| value == "1")
}

/// From now on the decision loop stands still at its next turn.
pub fn hang() {
    HANG.store(true, Ordering::Relaxed);
}

/// Called by decision loops only. Never returns once [`hang`] was called.
pub fn stand_still_if_told() {
    while HANG.load(Ordering::Relaxed) {
        std::thread::park();
    }
}
