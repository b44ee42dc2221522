//! Where the files of inbound messages stand, for one tenure.
//! Fetches nothing: `fetch.rs` does.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Where the file of one message stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    Running,
    /// Our id of it.
    There(String),
    Failed,
}

/// The files of one tenure's inbound messages, by event key, until their events are processed.
#[derive(Default)]
pub struct Fetches(Mutex<HashMap<String, Fetched>>);

impl Fetches {
    /// By event key.
    pub fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Fetched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events that are processed need not be remembered.
    pub fn forget<'a>(&self, keys: impl Iterator<Item = &'a str>) {
        let mut files = self.lock();
        for key in keys {
            files.remove(key);
        }
    }
}
