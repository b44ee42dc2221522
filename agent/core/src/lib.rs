//! The deciding code of wa-agent: time and messages in, actions out.
//! No IO, no clock, no async, no randomness, no floats, no maps with random order: every value comes in by an event.

pub mod address;
pub mod alarm;
pub mod backoff;
pub mod delivery;
pub mod detector;
pub mod disk;
pub mod guard;
pub mod hold;
pub mod id;
pub mod identity;
pub mod judgement;
pub mod lease;
pub mod master;
pub mod message;
pub mod naming;
pub mod opinion;
pub mod outcome;
pub mod pace;
pub mod plausible;
pub mod reason;
pub mod receipt;
pub mod registration;
pub mod rewind;
pub mod roll;
pub mod shard_map;
pub mod starts;
pub mod tenure;
pub mod time;
pub mod told;
pub mod turn;
pub mod wire;
pub mod worst_case;
