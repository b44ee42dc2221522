//! The calls of the public API: their table, and a file for each family, with the names of `api/v1`.
//! Judges no body itself: `api/v1` does.

/// Shards of the account.
pub mod account;
/// Backup and restore.
pub mod backup;
/// Blocked customers.
pub mod block;
/// The business profile.
pub mod business;
/// What a row of the table says.
pub mod call;
/// The table of them all.
pub mod calls;
/// Certificates.
pub mod certificate;
/// Numbers in, WhatsApp ids out.
pub mod contact;
/// The description of the API.
mod description;
/// Garbage collection by hand.
pub mod gc;
/// Groups of the reference client.
pub mod group;
/// Health of the cluster.
pub mod health;
/// Identities of customers.
pub mod identity;
/// Files in and out.
pub mod media;
/// Sending, and marking as read.
pub mod message;
/// About text and photo.
pub mod profile;
/// Media providers.
pub mod provider;
/// Registering the number.
pub mod registration;
/// The root.
pub mod root;
/// Application settings.
pub mod setting;
/// Statistics and metrics.
pub mod stats;
/// Sticker packs.
pub mod stickerpack;
/// For support engineers.
pub mod support;
/// Templates before they are sent.
mod template;
/// The pin of the number.
pub mod two_step;
/// Logins and accounts.
pub mod user;

#[cfg(test)]
mod calls_examples;
#[cfg(test)]
mod description_tests;
#[cfg(test)]
mod matrix_door_tests;
#[cfg(test)]
mod matrix_tests;
#[cfg(test)]
mod media_tests;
