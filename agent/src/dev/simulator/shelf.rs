//! Files that were uploaded, or that customers sent: what they are, and until when they are there.
//! Keeps no large file: a test of streaming must not need its memory twice.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use super::reader::sent::Kind;

/// Files up to this length are kept, in bytes.
pub const KEEP_LEN_MAX: usize = 1 << 20;
/// Files that are known at once.
const FILES_MAX: usize = 1000;
/// How long an upload lives, and a file of a customer, in seconds.
pub const UPLOAD_S: u64 = 30 * 24 * 3600;
pub const INBOUND_S: u64 = 7 * 24 * 3600;

/// One file.
#[derive(Debug, Clone, Serialize)]
pub struct Kept {
    pub mime: String,
    pub bytes: u64,
    pub sha256: String,
    #[serde(skip)]
    pub content: Option<Bytes>,
    /// Seconds since 1970.
    #[serde(skip)]
    pub until_s: u64,
    /// How often its bytes were fetched.
    pub fetched: u64,
}

/// The files by their ids.
#[derive(Debug, Default)]
pub struct Shelf(BTreeMap<String, Kept>);

impl Shelf {
    pub fn add(&mut self, id: String, kept: Kept) {
        if self.0.len() >= FILES_MAX {
            self.0.pop_first();
        }
        self.0.insert(id, kept);
    }

    /// A file that is still there.
    pub fn get(&self, id: &str, now_s: u64) -> Option<&Kept> {
        self.0.get(id).filter(|kept| now_s < kept.until_s)
    }

    /// The bytes of a file that is still there are fetched.
    pub fn fetch(&mut self, id: &str, now_s: u64) -> Option<Kept> {
        let kept = self.0.get_mut(id).filter(|kept| now_s < kept.until_s)?;
        kept.fetched += 1;
        Some(kept.clone())
    }

    /// Whether it was there.
    pub fn forget(&mut self, id: &str) -> bool {
        self.0.remove(id).is_some()
    }

    pub fn forget_all(&mut self) {
        self.0.clear();
    }

    /// Those that are still there.
    pub fn all(&self, now_s: u64) -> BTreeMap<String, Kept> {
        let alive = self.0.iter().filter(|(_, kept)| now_s < kept.until_s);
        alive.map(|(id, kept)| (id.clone(), kept.clone())).collect()
    }

    /// Why a message cannot use a file so; `None`: it can.
    pub fn unfit(&self, id: &str, kind: Kind, now_s: u64) -> Option<String> {
        match self.get(id, now_s) {
            None => Some(format!("There is no media with the id {id}")),
            Some(kept) if !kind.takes(&kept.mime) => {
                Some(format!("Media {id} is {}, which does not fit", kept.mime))
            }
            Some(_) => None,
        }
    }
}

/// Types that the vendor takes, and the most bytes of each.
#[rustfmt::skip]
const TYPES: &[(&str, u64)] = &[
    ("audio/aac", 16 << 20), ("audio/amr", 16 << 20), ("audio/mp4", 16 << 20), ("audio/mpeg", 16 << 20),
    ("audio/ogg", 16 << 20), ("audio/opus", 16 << 20),
    ("image/jpeg", 5 << 20), ("image/png", 5 << 20), ("image/webp", 500 << 10),
    ("video/3gpp", 16 << 20), ("video/mp4", 16 << 20),
    ("application/msword", 100 << 20), ("application/pdf", 100 << 20), ("application/vnd.ms-excel", 100 << 20),
    ("application/vnd.ms-powerpoint", 100 << 20), ("text/plain", 100 << 20),
    ("application/vnd.openxmlformats-officedocument.presentationml.presentation", 100 << 20),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", 100 << 20),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", 100 << 20),
];

/// Why a file is not taken. Of parameters only `codecs` of audio and video, and `charset` of texts, mean something.
pub fn unwanted(mime: &str, bytes: u64) -> Option<String> {
    let (essence, parameters) = mime.split_once(';').unwrap_or((mime, ""));
    let Some((_, most)) = TYPES.iter().find(|(name, _)| *name == essence) else {
        let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
        return Some(format!(
            "Param file must be a file with one of the following types: {}. Received file of type '{essence}'.",
            names.join(", ")
        ));
    };
    let parameters = parameters.trim();
    let meaningful = match essence.split('/').next() {
        Some("audio" | "video") => parameters.starts_with("codecs="),
        Some("text") => parameters.starts_with("charset="),
        Some(_) | None => false,
    };
    let single = meaningful && !parameters.contains(';');
    if !parameters.is_empty() && !single {
        return Some(format!(
            "The type '{mime}' has parameters that mean nothing"
        ));
    }
    (bytes > *most).then(|| format!("The file has {bytes} bytes; {essence} may have {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what the vendor refuses is refused here. Method: good and bad types, and lengths around the limits.
    #[test]
    fn types_and_lengths_are_those_of_the_facts() {
        for (mime, bytes, good) in [
            ("image/jpeg", 5 << 20, true),
            ("image/jpeg", (5 << 20) + 1, false),
            ("application/pdf", 100 << 20, true),
            ("audio/ogg; codecs=opus", 9, true),
            ("image/jpeg; charset=UTF-8", 9, false),
            ("text/plain; charset=utf-8", 9, true),
            ("image/gif", 9, false),
            ("IMAGE/JPEG", 9, false),
            ("", 9, false),
        ] {
            assert_eq!(unwanted(mime, bytes).is_none(), good, "{mime} {bytes}");
        }
    }

    #[test]
    fn files_grow_old() {
        let mut shelf = Shelf::default();
        let kept = |mime: &str, until_s| Kept {
            mime: mime.into(),
            bytes: 1,
            sha256: String::new(),
            content: None,
            until_s,
            fetched: 0,
        };
        shelf.add("7".into(), kept("image/png", 100));
        assert_eq!(shelf.unfit("7", Kind::Image, 99), None);
        for (kind, now_s) in [(Kind::Image, 100), (Kind::Sticker, 9), (Kind::Voice, 9)] {
            assert!(shelf.unfit("7", kind, now_s).is_some(), "{kind:?}");
        }
        assert_eq!(shelf.unfit("7", Kind::Document, 9), None);
        assert!(shelf.forget("7") && shelf.unfit("7", Kind::Image, 9).is_some());
        (0..2000).for_each(|n| shelf.add(n.to_string(), kept("image/png", 100)));
        assert_eq!(shelf.all(9).len(), FILES_MAX);
    }
}
