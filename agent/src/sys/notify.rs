//! Word to systemd, where there is one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use wa_core::time::Instant;

use super::clock;
use crate::log::message_id;

/// When the watchdog was fed last, in nanoseconds since boot.
static FED_AT: AtomicU64 = AtomicU64::new(0);

/// The role said that it is ready.
static READY: AtomicBool = AtomicBool::new(false);

/// READY=1, and no error any more.
pub fn ready() {
    READY.store(true, Ordering::Relaxed);
    send(&[NotifyState::Ready, NotifyState::Errno(0)]);
}

/// A role that waits for others, a database that is away, is started as far as this machine goes: a start job that waits
/// would keep the whole machine in the state "starting". `StatusErrno=` of the unit says that it is not ready, and what
/// restarts units one after the other waits for it to be 0.
pub fn started_though_not_ready() {
    if !READY.swap(true, Ordering::Relaxed) {
        let waiting = u32::try_from(nix::libc::ETIMEDOUT).unwrap_or(1);
        send(&[NotifyState::Ready, NotifyState::Errno(waiting)]);
    }
}

/// STATUS=...
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// STOPPING=1, and time to hand over: systemd waits so long from now on.
pub fn stopping(at_most: Duration) {
    let micros = u32::try_from(at_most.as_micros()).unwrap_or(u32::MAX);
    send(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(micros),
    ]);
}

/// RELOADING=1 with the time that systemd asks for; [`reloaded`] ends it. Before the role is ready it says nothing:
/// the end of the reload would be taken for the end of the start.
pub fn reloading() {
    if !READY.load(Ordering::Relaxed) {
        return;
    }
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the clock cannot be read; the reload is not told"),
    }
}

/// The reload is over.
pub fn reloaded() {
    if READY.load(Ordering::Relaxed) {
        send(&[NotifyState::Ready]);
    }
}

/// WATCHDOG=1: only the decision loop calls this, after its invariants hold.
pub fn watchdog() {
    super::debug::stand_still_if_told();
    let Some(limit) = limit() else {
        return;
    };
    let now = clock::now();
    let fed = Instant(FED_AT.load(Ordering::Relaxed));
    let since = now.since(fed);
    // Each turn of a busy loop would be a system call of its own.
    if fed != Instant::ZERO && since < limit / 8 {
        return;
    }
    FED_AT.store(now.0, Ordering::Relaxed);
    if fed != Instant::ZERO && since > limit / 2 {
        tracing::warn!(
            MESSAGE_ID = message_id::WATCHDOG_LATE,
            "the decision loop was away for {since:?}; systemd ends the process after {limit:?}"
        );
    }
    send(&[NotifyState::Watchdog]);
}

/// `WatchdogSec=` of the unit, if it has one.
fn limit() -> Option<Duration> {
    static LIMIT: OnceLock<Option<Duration>> = OnceLock::new();
    *LIMIT.get_or_init(sd_notify::watchdog_enabled)
}

fn send(states: &[NotifyState<'_>]) {
    // Without systemd there is no socket, and nothing to say.
    let _ = sd_notify::notify(states);
}
