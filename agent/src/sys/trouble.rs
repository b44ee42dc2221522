//! Remembers what fails: since when, when last, and in whose words. The evidence of a judgement, by CLOCK_BOOTTIME.
//! Judges nothing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use wa_core::judgement::Failing;
use wa_core::time::Instant;

use super::clock;

/// One thing that works, or fails since some moment.
#[derive(Debug, Default)]
pub struct Trouble(Mutex<Option<Fault>>);

#[derive(Debug, Clone)]
struct Fault {
    since: Instant,
    last: Instant,
    error: String,
}

impl Trouble {
    /// It worked just now: whatever failed before is over.
    pub fn over(&self) {
        self.fault().take();
    }

    /// It failed just now.
    pub fn failed(&self, error: &str) {
        let now = clock::now();
        let mut fault = self.fault();
        let since = fault.as_ref().map_or(now, |fault| fault.since);
        *fault = Some(Fault {
            since,
            last: now,
            error: error.into(),
        });
    }

    /// What fails, if it was tried within this time and failed: an old failure says nothing about now.
    pub fn standing(&self, within: Duration) -> Option<Failing> {
        let now = clock::now();
        let fault = self.fault().clone()?;
        (now.since(fault.last) <= within).then(|| Failing {
            since: now.since(fault.since),
            error: fault.error,
        })
    }

    fn fault(&self) -> std::sync::MutexGuard<'_, Option<Fault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a failure stands until a success, is as old as its first try, and is forgotten when nobody tries any more.
    #[test]
    fn a_failure_stands_until_a_success() {
        let trouble = Trouble::default();
        assert_eq!(trouble.standing(Duration::MAX), None);
        trouble.failed("full");
        trouble.failed("still full");
        let standing = trouble.standing(Duration::from_secs(60)).expect("it fails");
        assert_eq!(standing.error, "still full");
        while clock::now()
            .since(trouble.fault().as_ref().expect("it fails").last)
            .is_zero()
        {}
        assert_eq!(trouble.standing(Duration::ZERO), None);
        trouble.over();
        assert_eq!(trouble.standing(Duration::MAX), None);
    }
}
