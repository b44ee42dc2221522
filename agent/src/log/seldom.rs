//! Lines of loops that try again: the first one at once, then one in a while, however often the loop turns.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wa_core::time::Instant;

/// Between two lines of one place.
const EVERY: Duration = Duration::from_secs(10);

/// Lets one line through in a while.
#[derive(Debug, Default)]
pub struct Seldom(AtomicU64);

impl Seldom {
    /// Lets the first one through.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether a line may be written at `now`.
    pub fn may(&self, now: Instant) -> bool {
        let next = self.0.load(Ordering::Relaxed);
        let after = (now + EVERY).0;
        now.0 >= next
            && self
                .0
                .compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// Runs a log macro, at most once in ten seconds for this place in the source.
macro_rules! seldom {
    ($line:expr) => {{
        static TOLD: $crate::log::seldom::Seldom = $crate::log::seldom::Seldom::new();
        if TOLD.may($crate::sys::clock::now()) {
            $line;
        }
    }};
}
pub(crate) use seldom;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal (F20): a loop that fails a thousand times a second writes a line at once, and then one in ten seconds.
    #[test]
    fn f20_a_loop_writes_a_line_in_a_while() {
        let told = Seldom::new();
        let start = Instant::from_millis(5);
        let lines = (0..25_000u64).filter(|ms| told.may(start + Duration::from_millis(*ms)));
        assert_eq!(lines.collect::<Vec<_>>(), [0, 10_000, 20_000]);
    }
}
