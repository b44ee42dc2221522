//! Operator verbs: they ask the masters through their control ports and print what they hear.
//! They work from any machine that has the configuration, and explain themselves when no master answers.

pub mod check_config;
pub mod generate;
pub mod keygen;
pub mod reach;
pub mod render;
pub mod status;
pub mod switchover;
