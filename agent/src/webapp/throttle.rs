//! Failed logins: guessing is slow, and a guesser locks nobody else out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::sync::Cache;

use crate::api::error::ApiError;
use crate::api::v1::code::Code;

/// Failed logins in a minute that a user from one source, and a source with any users, may have.
const FAILURES_USER_MAX: u32 = 5;
const FAILURES_SOURCE_MAX: u32 = 30;
const FAILURE_WINDOW: Duration = Duration::from_secs(60);
const THROTTLED_MAX: u64 = 20_000;

/// Failed logins of the last minute. Counted per user *and* source first, so that nobody can lock a user out from elsewhere.
pub struct Throttle {
    failures: Cache<String, Arc<AtomicU32>>,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            failures: Cache::builder()
                .max_capacity(THROTTLED_MAX)
                .time_to_live(FAILURE_WINDOW)
                .build(),
        }
    }
}

impl Throttle {
    fn keys(username: &str, source: &str) -> [(String, u32); 2] {
        // Names are cut: a made-up one must not fill memory.
        let name: String = username.chars().take(32).collect();
        [
            (format!("{source} {name}"), FAILURES_USER_MAX),
            (source.to_owned(), FAILURES_SOURCE_MAX),
        ]
    }

    /// Counts one attempt, before the password is looked at, so that many at once do not slip through.
    ///
    /// # Errors
    /// 1015 when there were too many.
    pub fn attempt(&self, username: &str, source: &str) -> Result<(), ApiError> {
        for (key, limit) in Self::keys(username, source) {
            let count = self.failures.get_with(key, Arc::default);
            if count.fetch_add(1, Ordering::Relaxed) >= limit {
                return Err(
                    ApiError::with(Code::TooManyRequests, "Too many failed logins").retry_after(60),
                );
            }
        }
        Ok(())
    }

    /// The attempt was good after all: it does not count.
    pub fn succeeded(&self, username: &str, source: &str) {
        let [(user, _), (source, _)] = Self::keys(username, source);
        self.failures.invalidate(&user);
        if let Some(count) = self.failures.get(&source) {
            let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: guessing is slow, and a guesser locks nobody else out. Method: count answers.
    #[test]
    fn failed_logins_are_throttled_per_user_and_source() {
        let throttle = Throttle::default();
        for _ in 0..FAILURES_USER_MAX {
            assert!(throttle.attempt("admin", "192.0.2.1").is_ok());
        }
        let refused = throttle
            .attempt("admin", "192.0.2.1")
            .expect_err("too many");
        assert_eq!(
            (
                refused.code.number(),
                refused.http_status(),
                refused.retry_after_s
            ),
            (1015, 429, Some(60))
        );
        assert!(throttle.attempt("admin", "192.0.2.2").is_ok());
        assert!(throttle.attempt("other", "192.0.2.1").is_ok());
    }

    #[test]
    fn good_logins_do_not_count() {
        let throttle = Throttle::default();
        for _ in 0..200 {
            assert!(throttle.attempt("bot1", "192.0.2.1").is_ok());
            throttle.succeeded("bot1", "192.0.2.1");
        }
    }

    #[test]
    fn a_source_that_tries_many_names_is_throttled() {
        let throttle = Throttle::default();
        let refused = (0..100)
            .filter(|n| throttle.attempt(&format!("user{n}"), "192.0.2.1").is_err())
            .count();
        assert_eq!(refused, 70);
    }
}
