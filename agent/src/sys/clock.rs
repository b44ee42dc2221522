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
