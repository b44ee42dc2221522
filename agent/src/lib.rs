//! wa-agent: the high-availability agent for WhatsApp messaging on a business's own machines.
//! Each module is one room of the house; ARCHITECTURE.md says which floor may use which.

/// `print!` and its kin, which end quietly when nobody reads any more. First: the rooms below use its macros.
#[macro_use]
pub mod say;

/// HTTP types of the public API, the Cloud API and the internal calls; no IO.
pub mod api;
/// The command line.
pub mod cli;
/// Configuration: TOML and environment in, validated settings out.
pub mod config;
/// Role coreapp: holds one shard's upstream connection.
pub mod coreapp;
/// Operator verbs.
pub mod ctl;
/// The database: the only place with SQL.
pub mod db;
/// A whole cluster on one machine, the Cloud API simulator, the drills.
pub mod dev;
/// From the command line to a role or a verb.
pub mod dispatch;
/// Error class to exit code.
pub mod exit;
/// Role host: one per machine.
pub mod host;
/// Log set-up.
pub mod log;
/// Role master: watches coreapps, decides failover.
pub mod master;
/// The shared media directory: whether it works.
pub mod media;
/// Membership: register, beat, masters, keys, settings; one mechanism for every role.
pub mod member;
/// Every metric, in one struct per role.
pub mod metrics;
/// Bytes in, bytes out: UDP, HTTP server and client, TLS.
pub mod net;
/// Runtime, signals, drain.
pub mod runtime;
/// The kernel and systemd.
pub mod sys;
/// Role webapp: the public API.
pub mod webapp;
