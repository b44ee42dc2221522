//! HTTP types of everything that is spoken: the public `/v1`, the vendor's Cloud API, calls between nodes.
//! No IO here, and no decisions.

/// What administrators may have done by a console.
pub mod act;
/// An alarm that rings.
pub mod alarm;
/// The vendor's Cloud API, and its mapping to the reference shapes.
pub mod cloud;
/// Operator verbs and other requests to a master's control port.
pub mod control;
/// The error object of the public API.
pub mod error;
/// What nodes tell each other, whoever owns a shard.
pub mod internal;
/// What is wrong with the cluster.
pub mod judged;
/// What people without a key look at.
pub mod look;
/// What webapps ask of the owner of a shard.
pub mod owner;
/// Callbacks that were put aside.
pub mod parked;
/// What every picture of the cluster shows.
pub mod picture;
/// Media providers.
pub mod provider;
/// The registration of the number.
pub mod registration;
/// What webapps ask of the primary master for calls of the public API.
pub mod served;
/// The public `/v1` API.
pub mod v1;

#[cfg(test)]
mod golden_business_tests;
#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod hostile_around_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod missing_tests;
#[cfg(test)]
mod sequence_tests;
