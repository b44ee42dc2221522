//! The command line: what can be typed, and which room of the house answers.
//! Does nothing itself.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::log::Format;

/// High-availability agent for WhatsApp messaging on your own machines.
#[derive(Debug, Parser)]
#[command(
    name = "wa-agent",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub log_format: Format,
}

/// Which instance, configured where.
#[derive(Debug, Clone, Args)]
pub struct Instance {
    /// Number of this instance on its machine; ports follow from it by rule.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub instance: u16,
    /// Configuration file instead of /etc/wa-agent/wa-agent.toml.
    #[arg(long, value_name = "FILE", env = "WA_CONFIG")]
    pub config: Option<PathBuf>,
}

/// How to find the cluster.
#[derive(Debug, Clone, Args)]
pub struct Reach {
    /// Configuration file; without it /etc/wa-agent/wa-agent.toml, and where that is missing, the cluster of `wa-agent dev`.
    #[arg(long, value_name = "FILE", env = "WA_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a master: watches coreapps, decides failover.
    Master(Instance),
    /// Run a coreapp: holds one shard's upstream connection, accepts messages, delivers webhooks.
    Coreapp(Instance),
    /// Run a webapp: the public /v1 API.
    Webapp(Instance),
    /// Run the host agent: follows the units of this machine, fences on request. Needs root.
    Host(Instance),
    /// Run a whole cluster on this machine, with a simulated upstream. Add --drill to break it on purpose.
    Dev(crate::dev::DevArgs),
    /// Run the simulated Cloud API alone.
    Simulator(crate::dev::simulator::SimulatorArgs),
    /// Show nodes, shards, leases, and what is wrong. Exit code 69 when no master answers.
    Status {
        #[command(flatten)]
        reach: Reach,
        /// Show again and again until Ctrl-C.
        #[arg(long)]
        watch: bool,
    },
    /// Move a shard to another coreapp, without losing a request.
    Switchover {
        #[command(flatten)]
        reach: Reach,
        #[arg(long)]
        shard: u16,
        /// Node to move to, for example core2.example:coreapp-1; the primary master chooses when absent.
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
        /// Say what would happen, do nothing.
        #[arg(long)]
        dry_run: bool,
        /// Written to the record.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Print every effective value with its origin, and the worst-case takeover times. Exit code 78 when a rule is broken.
    CheckConfig {
        #[command(flatten)]
        instance: Instance,
        /// For which role.
        #[arg(long, default_value = "coreapp", value_parser = ["master", "coreapp", "webapp"])]
        role: String,
        #[arg(long)]
        json: bool,
    },
    /// Write man pages and shell completions, as the packages install them.
    #[command(hide = true)]
    Generate {
        /// Folder to write into.
        #[arg(long, value_name = "DIRECTORY")]
        out: PathBuf,
    },
    /// Make a cluster key: one for the whole cluster, copied to every machine.
    Keygen {
        /// File to write (mode 0600, never overwritten); standard output when absent.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Write the part of this cluster key that machines with webapps only need: it can sign nothing that decides.
        #[arg(long, value_name = "FILE")]
        webapp_of: Option<PathBuf>,
    },
}
