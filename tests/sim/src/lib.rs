//! Seeded simulator of the whole protocol: the core's own objects, several masters, coreapps and their host agents, one
//! database and an unkind network in one thread. `cargo xtask sim` runs seeds; the scenarios of `agent/core` play in it.

pub mod database;
pub mod fault;
pub mod node;
pub mod world;
