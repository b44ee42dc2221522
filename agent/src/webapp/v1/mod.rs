//! The calls of the public API: their table, and a file for each family, with the names of `api/v1`.
//! Judges no body itself: `api/v1` does.

/// Shards of the account.
pub mod account;
/// The table of them all.
pub mod calls;
/// Numbers in, WhatsApp ids out.
pub mod contact;
/// Health of the cluster.
pub mod health;
/// Files in and out.
pub mod media;
/// Sending, and marking as read.
pub mod message;
/// Application settings.
pub mod setting;
/// Statistics and metrics.
pub mod stats;
/// Templates before they are sent.
mod template;
/// Logins and accounts.
pub mod user;

#[cfg(test)]
mod media_tests;
