//! Numbers that were typed without `+` and are known to begin with their country code: the upstream told them. They go out with `+`,
//! for without it the upstream may put the business's own country code in front.
//! Guesses none: the tables of `db/customer.rs` and `db/route.rs` have what the upstream told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wa_core::time::Instant;

use crate::api::v1::who::is_user_id;
use crate::db::Db;
use crate::log::seldom;
use crate::sys::clock;

/// Numbers that are kept; then all are forgotten, and looked up again.
const LEN_MAX: usize = 32_768;
/// The upstream may tell a number that it has not told yet. One that it told stays told.
const UNTOLD_FOR: Duration = Duration::from_secs(60);
/// For one look; without an answer numbers go out as they were typed.
const WITHIN: Duration = Duration::from_millis(500);

/// What is known of numbers, as one tenure has looked them up.
#[derive(Debug, Default)]
pub struct International(Mutex<HashMap<String, (bool, Instant)>>);

impl International {
    fn all(&self) -> MutexGuard<'_, HashMap<String, (bool, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The upstream told this number.
    pub fn told(&self, number: &str) -> bool {
        self.all().get(number).is_some_and(|(told, _)| *told)
    }

    /// It must be looked up.
    fn unknown(&self, number: &str) -> bool {
        let now = clock::now();
        let all = self.all();
        let holds = |(told, at): &(bool, Instant)| *told || now.since(*at) < UNTOLD_FOR;
        !all.get(number).is_some_and(holds)
    }

    fn put(&self, number: &str, told: bool) {
        let mut all = self.all();
        if all.len() >= LEN_MAX {
            all.clear();
        }
        all.insert(number.to_owned(), (told, clock::now()));
    }
}

/// Looks up the numbers of messages that are about to be sent, all with one statement.
pub async fn look<'a>(
    db: Option<Arc<Db>>,
    known: &International,
    recipients: impl Iterator<Item = &'a str>,
) {
    let mut numbers: Vec<&str> = recipients
        .filter(|to| !is_user_id(to) && known.unknown(to))
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    let Some(db) = db.filter(|_| !numbers.is_empty()) else {
        return;
    };
    match tokio::time::timeout(WITHIN, db.told_numbers(&numbers)).await {
        Ok(Ok(told)) => {
            for number in numbers {
                known.put(number, told.contains(number));
            }
        }
        Ok(Err(error)) => {
            seldom!(
                tracing::warn!(error = %error.brief(), "the database did not say which numbers WhatsApp has told; they go out as they were typed")
            );
        }
        Err(_) => {
            seldom!(tracing::warn!(
                "the database did not say in {WITHIN:?} which numbers WhatsApp has told; they go out as they were typed"
            ));
        }
    }
}
