//! Looks at single templates, for one tenure: which were made just now, and how many more may be.
//! Looks at none: `template.rs` does.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use wa_core::time::Instant;

/// A look at one name counts for so long: whoever asks again meanwhile is served from the table.
const COUNTS_FOR: Duration = Duration::from_secs(10);
/// One look in so long, and so many at once: an account may have as few as 200 such calls an hour.
const LOOK_EVERY: Duration = Duration::from_secs(20);
const LOOKS_AT_ONCE: NonZeroU32 = NonZeroU32::new(10).expect("it is not 0");
/// Names that are remembered.
const NAMES_MAX: usize = 1000;

/// Looks at single templates.
pub struct Looks {
    recent: Mutex<HashMap<String, Instant>>,
    limit: DefaultDirectRateLimiter,
}

impl Default for Looks {
    fn default() -> Self {
        let quota = Quota::with_period(LOOK_EVERY).expect("it is not 0");
        let quota = quota.allow_burst(LOOKS_AT_ONCE);
        Self {
            recent: Mutex::default(),
            limit: RateLimiter::direct(quota),
        }
    }
}

impl Looks {
    fn recent(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody looked just now.
    pub fn counts(&self, name: &str, now: Instant) -> bool {
        let recent = self.recent();
        let at = recent.get(name);
        at.is_some_and(|at| now.since(*at) < COUNTS_FOR)
    }

    /// One more may be made; it is counted.
    pub fn allowed(&self) -> bool {
        self.limit.check().is_ok()
    }

    /// It was made.
    pub fn done(&self, name: &str, now: Instant) {
        let mut recent = self.recent();
        recent.retain(|_, at| now.since(*at) < COUNTS_FOR);
        if recent.len() < NAMES_MAX {
            recent.insert(name.to_owned(), now);
        }
    }
}
