//! How the upstream spells numbers that clients type otherwise, as one tenure has looked it up.
//! Guesses none: the table of `db/route.rs` has them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wa_core::time::Instant;

use crate::sys::clock;

/// Numbers that are kept; then all are forgotten, and looked up again.
const LEN_MAX: usize = 32_768;
/// A number without another spelling may get one, at whichever owner. One that has it keeps it.
const NONE_FOR: Duration = Duration::from_secs(60);

/// Spellings of numbers.
#[derive(Debug, Default)]
pub struct Spellings(Mutex<HashMap<String, (Option<String>, Instant)>>);

impl Spellings {
    fn all(&self) -> MutexGuard<'_, HashMap<String, (Option<String>, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The other spelling of a number, or that it has none; `None`: it must be looked up.
    pub fn get(&self, typed: &str) -> Option<Option<String>> {
        let all = self.all();
        let (spelling, at) = all.get(typed)?;
        let holds = spelling.is_some() || clock::now().since(*at) < NONE_FOR;
        holds.then(|| spelling.clone())
    }

    /// It was looked up.
    pub fn put(&self, typed: &str, spelling: Option<String>) {
        let mut all = self.all();
        if all.len() >= LEN_MAX {
            all.clear();
        }
        all.insert(typed.to_owned(), (spelling, clock::now()));
    }
}
