//! The objects of the upstream's requests, a file for each type of ours.

/// Locations.
pub mod location;
/// Files.
pub mod media;
/// Texts.
pub mod text;
