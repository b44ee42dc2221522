//! What one tenure heard of the upstream about the number and the account, and when it was asked last.
//! Asks nobody: `account.rs` does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use wa_core::time::Instant;

use crate::api::internal::AccountWord;

/// What was asked counts for so long.
const ASKED_EVERY: Duration = Duration::from_secs(60);

/// What one tenure has heard.
#[derive(Default)]
pub struct Account {
    /// When it was asked last, whether or not the answer has come.
    begun: Mutex<Option<Instant>>,
    pub heard: watch::Sender<Option<Arc<AccountWord>>>,
}

impl Account {
    /// The newest word.
    pub fn last(&self) -> Option<AccountWord> {
        let word = self.heard.borrow().clone();
        word.map(Arc::unwrap_or_clone)
    }

    /// It is time to ask again; whoever is told so asks.
    pub fn due(&self, now: Instant) -> bool {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let due = begun.is_none_or(|begun| now.since(begun) >= ASKED_EVERY);
        if due {
            *begun = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: however many look, WhatsApp is asked once a minute. Method: a clock of the test's.
    #[test]
    fn it_is_asked_once_a_minute() {
        let account = Account::default();
        let at = |s: u64| Instant::ZERO + Duration::from_secs(s);
        assert!(account.due(at(10)));
        assert!(!account.due(at(10)) && !account.due(at(69)));
        assert!(account.due(at(70)) && !account.due(at(71)));
    }
}
