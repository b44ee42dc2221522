//! The only place that reads clocks.
//! Protocol times are CLOCK_BOOTTIME (rule 5.1); the wall clock is for people and tokens.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use wa_core::time::Instant;

/// Now, in nanoseconds since boot, suspend included.
pub fn now() -> Instant {
    let time =
        clock_gettime(ClockId::CLOCK_BOOTTIME).expect("CLOCK_BOOTTIME exists since Linux 2.6.39");
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
    Instant(seconds * 1_000_000_000 + nanos)
}

/// Wall clock in milliseconds since 1970: for records that people read.
#[allow(clippy::disallowed_methods)]
pub fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Waits until a boot-time instant; at once when it has passed.
pub async fn sleep_until(at: Instant) {
    tokio::time::sleep(at.since(now())).await;
}

/// Waits for a span.
pub async fn sleep(span: Duration) {
    tokio::time::sleep(span).await;
}

/// By how much the kernel makes its clocks run wrong on purpose, in parts per million; read only. The ticks bound it to ±10 %.
///
/// # Errors
/// When the kernel refuses to say (a container's system call filter).
pub fn rate_ppm() -> std::io::Result<i64> {
    // SAFETY: all zeros is a valid timex; modes 0 only reads.
    let mut timex: nix::libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is valid for the call.
    if unsafe { nix::libc::adjtimex(&raw mut timex) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // A tick is 10,000 µs; `freq` counts 2^-16 ppm.
    Ok((timex.tick - 10_000) * 100 + (timex.freq >> 16))
}

/// A stamp older than this says nothing of a datagram: the wall clock was stepped.
const WAITED_MAX: Duration = Duration::from_millis(500);

/// How long ago the kernel stamped a datagram with its wall clock: zero when that makes no sense. Right only when asked at
/// once, and good only to move an arrival back on the boot clock.
#[allow(clippy::disallowed_methods)]
pub fn waited_since(stamp: Duration) -> Duration {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    now.checked_sub(stamp)
        .filter(|waited| *waited <= WAITED_MAX)
        .unwrap_or_default()
}
