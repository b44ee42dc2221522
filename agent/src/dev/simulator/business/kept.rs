//! What the simulator keeps of the business: profile, photo, uploads, and whom it blocked.
//! Answers no call.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};

use super::super::refusal::Refusal;

/// Uploads and photos that are known at once.
const KNOWN_MAX: usize = 64;
/// The business.
#[derive(Debug, Default)]
pub struct Business {
    pub profile: Map<String, Value>,
    pub compliance: Option<Map<String, Value>>,
    pub photos: Photos,
    /// Digits of numbers, and user ids.
    pub blocked: BTreeSet<String>,
    /// When customers wrote last, in seconds since 1970, by number and by user id.
    pub wrote_s: BTreeMap<String, u64>,
}

/// Customers whose last message is remembered.
const WROTE_MAX: usize = 100_000;

impl Business {
    /// A customer writes.
    pub fn wrote(&mut self, who: &str, now_s: u64) {
        if self.wrote_s.len() >= WROTE_MAX {
            self.wrote_s.pop_first();
        }
        self.wrote_s.insert(who.to_owned(), now_s);
    }
}

/// One that runs.
#[derive(Debug)]
pub struct Upload {
    pub mime: String,
    pub length: usize,
    pub sig: String,
    pub bytes: BytesMut,
}

/// A file that came whole.
#[derive(Debug, Clone)]
pub struct Picture {
    pub mime: String,
    pub bytes: Bytes,
}

/// Uploads that run, finished ones by their handles, and pictures by their numbers.
#[derive(Debug, Default)]
pub struct Photos {
    pub uploads: BTreeMap<String, Upload>,
    pub handles: BTreeMap<String, Picture>,
    pub pictures: BTreeMap<u64, Picture>,
    made: u64,
}

/// Puts one in; the first one goes when there are too many.
pub fn bounded<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V) {
    if map.len() >= KNOWN_MAX {
        map.pop_first();
    }
    map.insert(key, value);
}

impl Photos {
    /// The number of the picture that is shown.
    pub fn shown(&self) -> Option<u64> {
        self.pictures.keys().next_back().copied()
    }

    /// Shows a finished upload.
    ///
    /// # Errors
    /// 100 for a handle that stands for none.
    pub fn show(&mut self, handle: &str) -> Result<(), Refusal> {
        let picture = self.handles.get(handle).cloned();
        let picture = picture.ok_or_else(|| {
            Refusal::bad("Param profile_picture_handle is not the handle of an upload")
        })?;
        self.made += 1;
        // The one before is gone, and so is its address.
        self.pictures.clear();
        self.pictures.insert(self.made, picture);
        Ok(())
    }
}
