//! Types of the public `/v1` API: what clients send and what they get, field by field as documented.
//! Checks values; touches no database, no socket and no clock.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Shards of the account.
pub mod account;
/// Numbers of ours for customers who show none.
pub mod alias;
/// Backup and restore.
pub mod backup;
/// Whom to block.
pub mod block;
/// The business profile, its about text, and its compliance information.
pub mod business;
/// What the business is POSTed.
pub mod callback;
/// Error codes: number, title, HTTP status.
pub mod code;
/// Garbage collection by hand.
pub mod collection;
/// Contacts: numbers in, WhatsApp ids out.
pub mod contact;
/// The reader of client JSON.
pub mod fields;
/// Health of the cluster.
pub mod health;
/// Identity keys of customers.
pub mod identity;
/// Intervals of the heartbeats: which pair is in force.
pub mod interval;
/// Media: files, and the objects of media messages.
pub mod media;
/// Types of files, cleaned.
pub mod media_type;
/// Messages: the one place that decides whether a message is well-formed.
pub mod message;
/// Phone numbers as people paste them.
pub mod number;
/// Photos of the profile.
pub mod photo;
/// Media providers.
pub mod provider;
/// Application settings, their defaults and their merging.
pub mod setting;
/// Database statistics.
pub mod stats;
/// Sticker packs.
pub mod stickerpack;
/// For support engineers.
pub mod support;
/// Users and logins.
pub mod user;
/// Lines of business.
pub mod vertical;
/// Who a message is for.
pub mod who;

/// What `meta.version` says where nothing is configured: the last version of the reference client, which integrations compare
/// theirs with.
pub const REPORTED_VERSION: &str = "v2.57.2";

/// What is configured instead. A constant of the process, as every answer carries it.
static REPORTED: OnceLock<String> = OnceLock::new();

/// Says once, at the start, what `meta.version` says from then on; later words change nothing.
pub fn report_version(version: &str) {
    let _ = REPORTED.set(version.to_owned());
}

/// Part of every JSON answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Meta {
    #[schema(example = "stable")]
    pub api_status: String,
    #[schema(example = "v2.57.2")]
    pub version: String,
}

impl Default for Meta {
    fn default() -> Self {
        Self {
            api_status: "stable".to_owned(),
            version: REPORTED
                .get()
                .map_or(REPORTED_VERSION, String::as_str)
                .to_owned(),
        }
    }
}

/// An answer that carries only `meta`: settings calls, verification.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct MetaOnly {
    pub meta: Meta,
}
