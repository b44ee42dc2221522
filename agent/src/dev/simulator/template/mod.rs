//! Templates: those that are approved, what a send must fill in, and the calls that list and change them.
//! Reads no send: `reader/template.rs` does.

pub mod calls;
pub mod catalog;
pub mod check;
