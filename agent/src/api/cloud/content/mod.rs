//! The objects of the upstream's requests, a file for each type of ours.

/// Cards of contacts.
pub mod contacts;
/// Messages in the form that templates had first.
pub mod hsm;
/// Interactive messages.
pub mod interactive;
/// Locations.
pub mod location;
/// Files.
pub mod media;
/// Reactions.
pub mod reaction;
/// Template messages.
pub mod template;
/// Texts.
pub mod text;
