//! Points in time as the protocol sees them: nanoseconds of one machine's CLOCK_BOOTTIME.
//! Reads no clock: `sys/clock.rs` does. Two machines' instants are never compared (rule 5.1).

pub use core::time::Duration;

use crate::guard::{self, Guard};

/// A point on this machine's boot-time clock, in nanoseconds since boot. Never stored on disk or in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// The boot of the machine.
    pub const ZERO: Self = Self(0);

    /// `ms` milliseconds after boot.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * 1_000_000)
    }

    /// Whole milliseconds since boot.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl core::ops::Add<Duration> for Instant {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl core::ops::Sub<Duration> for Instant {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

/// Clock-rate error that the protocol assumes, in parts per thousand (design 4: drift ρ, default 0.1 = 100).
/// An integer, so that the core stays free of floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Drift(pub u16);

impl Drift {
    /// The kernel's own slew limit: ±10 %.
    pub const KERNEL_LIMIT: Self = Self(100);

    /// `span · (1 − ρ)`: what a holder may count on, rounded down.
    pub fn shorten(self, span: Duration) -> Duration {
        if !guard::on(Guard::HolderDrift) {
            return span;
        }
        span.saturating_sub(self.part_of(span))
    }

    /// `span · (1 + ρ)`: what a challenger must wait, rounded up.
    pub fn lengthen(self, span: Duration) -> Duration {
        if !guard::on(Guard::ChallengerDrift) {
            return span;
        }
        span + self.part_of(span)
    }

    fn part_of(self, span: Duration) -> Duration {
        let nanos = (span.as_nanos() * u128::from(self.0)).div_ceil(1000);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_shortens_and_lengthens_by_its_part() {
        let ttl = Duration::from_millis(3000);
        assert_eq!(Drift(100).shorten(ttl), Duration::from_millis(2700));
        assert_eq!(Drift(100).lengthen(ttl), Duration::from_millis(3300));
        assert_eq!(Drift(0).lengthen(ttl), ttl);
    }
}
