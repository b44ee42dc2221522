//! HTTP types of everything that is spoken: the public `/v1`, the vendor's Cloud API, calls between nodes.
//! No IO here, and no decisions.

/// The vendor's Cloud API, and its mapping to the reference shapes.
pub mod cloud;
/// Operator verbs and other requests to a master's control port.
pub mod control;
/// Error codes of the public API: one table code → title → HTTP status.
pub mod error;
/// What webapps say to coreapps.
pub mod internal;
/// The public `/v1` API.
pub mod v1;

#[cfg(test)]
mod hostile_tests;
