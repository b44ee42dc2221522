//! Parked webhooks, between operators and masters: types only. They were refused for too long, and are not tried any more.

use serde::{Deserialize, Serialize};

/// Where the primary master takes [`Wish`].
pub const PATH: &str = "/control/webhooks";

/// One of them, without what it tells of whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    pub id: i64,
    /// The upstream's id of what it tells, or ours.
    pub event: String,
    /// `message`, `status`, `service` or `other`.
    pub tells: String,
    /// How often the business refused it.
    pub attempts: u64,
    /// When it was stored first and when it was parked: milliseconds since 1970 by the database's clock.
    pub since_ms: u64,
    pub parked_ms: u64,
    /// What the business said last.
    pub why: String,
}

/// The first of them, and how many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    pub parked: Vec<Parked>,
    pub count: u64,
}

/// What is to become of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// They are delivered as if they were new.
    Retry,
    /// They are deleted.
    Purge,
}

/// `1 webhook is parked`, `2 webhooks are parked`.
pub fn are(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 webhook is {what}"),
        _ => format!("{count} webhooks are {what}"),
    }
}

impl What {
    /// What happens to so many of them, or would.
    pub fn sentence(self, count: u64) -> String {
        match self {
            Self::Retry => {
                let later = "in the order in which they were parked; each customer's come behind those that wait already";
                format!("{}, {later}", are(count, "delivered again"))
            }
            Self::Purge => format!(
                "{}: the business is never told of them, and nothing else keeps them",
                are(count, "deleted for good")
            ),
        }
    }
}

/// What an operator asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    pub what: What,
    /// These; empty: all up to `upto`.
    pub ids: Vec<i64>,
    /// The last one that the operator was told of; `None`: whatever there is.
    pub upto: Option<i64>,
    /// Say what would happen, do nothing.
    pub dry_run: bool,
    pub reason: Option<String>,
    /// Who typed it where, for the record.
    pub by: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub accepted: bool,
    /// Not the primary master: ask another.
    pub elsewhere: bool,
    /// How many it was done with (in a dry run, would be).
    pub done: u64,
    /// There was no time for all of them: ask again.
    pub more: bool,
    /// The last one that it is about.
    pub upto: Option<i64>,
    /// Why not, in a sentence.
    pub message: String,
}

/// What a webhook tells, by the beginning of its body.
pub fn tells(beginning: &str) -> &'static str {
    match beginning.get(..5) {
        Some("{\"sta") => "status",
        Some("{\"con" | "{\"mes") => "message",
        Some("{\"ser") => "service",
        Some(_) | None => "other",
    }
}
