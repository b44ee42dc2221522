//! Until when nothing is deleted for its age: the database's clock leapt ahead.
//! `wall_clock.rs` notices that.

use std::sync::atomic::{AtomicU64, Ordering};

use wa_core::time::Instant;

/// Until when nothing is deleted for its age; of the process, whatever tenures come and go.
#[derive(Debug, Default)]
pub struct Spared(AtomicU64);

impl Spared {
    /// The clock can be trusted with what is old.
    pub fn over(&self, now: Instant) -> bool {
        now.0 >= self.0.load(Ordering::Acquire)
    }

    /// Not before this.
    pub fn until(&self, at: Instant) {
        self.0.fetch_max(at.0, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: after a leap ahead nothing is deleted for a while, and a later, shorter one does not end it.
    #[test]
    fn old_rows_are_spared_after_a_leap() {
        let spared = Spared::default();
        assert!(spared.over(Instant::from_millis(0)));
        spared.until(Instant::from_millis(100));
        spared.until(Instant::from_millis(50));
        assert!(!spared.over(Instant::from_millis(99)));
        assert!(spared.over(Instant::from_millis(100)));
    }
}
