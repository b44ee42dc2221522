//! Word to systemd, where there is one.

use sd_notify::NotifyState;

/// READY=1.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// STATUS=...
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// STOPPING=1.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// WATCHDOG=1: only the decision loop calls this, after its invariants hold.
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

fn send(states: &[NotifyState<'_>]) {
    // Without systemd there is no socket, and nothing to say.
    let _ = sd_notify::notify(states);
}
