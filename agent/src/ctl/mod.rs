//! Operator verbs: they ask the masters through their control ports and print what they hear.
//! They work from any machine that has the configuration, and explain themselves when no master answers.

pub mod audit;
pub mod check_config;
pub mod debug;
pub mod doctor;
mod draft;
pub mod events;
pub mod explain;
pub mod gate;
pub mod generate;
pub mod history;
pub mod import;
pub mod keygen;
pub mod keys;
pub mod lay;
pub mod local;
mod masked;
pub mod monitoring;
pub mod operate;
pub mod plan;
pub mod raise;
pub mod reach;
pub mod render;
pub mod reset;
pub mod settings;
pub mod setup;
pub mod status;
pub mod switchover;
pub mod users;
pub mod view;
#[cfg(feature = "watch")]
mod watch;
pub mod webhooks;
