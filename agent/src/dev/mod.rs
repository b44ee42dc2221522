//! A whole cluster on one machine: real processes, a simulated upstream, and drills that break it.
//! No root, no system state: everything lies in one directory.

mod bench;
pub mod cluster;
mod drill;
pub mod galera;
mod gap;
mod hogs;
mod host;
pub mod hostile;
mod mariadb;
mod narrate;
pub mod simulator;
mod soak;
mod traffic;

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use cluster::{Cluster, Plan};

/// A whole cluster on this machine.
#[derive(Debug, Clone, clap::Args)]
pub struct DevArgs {
    /// Port of the first webapp; every other port follows from it by rule.
    #[arg(long, default_value_t = 9090, value_parser = clap::value_parser!(u16).range(9090..=60000))]
    pub port: u16,
    /// Database URL, for example mysql://root@127.0.0.1:3306/wa (several: with commas), or the word "mariadb" for a private
    /// server that is started and ended with the cluster, or "galera" for three of them; the embedded one when absent.
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// Forget everything that an earlier run left: the state directory with the embedded database or private server.
    #[arg(long)]
    pub reset: bool,
    /// Timers: fast, standard or compat.
    #[arg(long, default_value = "fast", value_parser = ["fast", "standard", "compat"])]
    pub profile: String,
    /// Where keys, configuration and the embedded database lie.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Run drills instead of waiting; without names, all of them.
    #[arg(long, value_name = "NAME", num_args = 0.., value_delimiter = ',')]
    pub drill: Option<Vec<String>>,
    /// Run each drill so many times.
    #[arg(long, default_value_t = 1)]
    pub repeat: u32,
    /// Measure the intake with so many connections instead of waiting; see `cargo xtask bench intake`.
    #[arg(long)]
    pub bench_intake: bool,
    /// Strike again and again under traffic, and watch every term and epoch in between; see `cargo xtask soak`.
    #[arg(long)]
    pub soak: bool,
    /// Strikes of a soak.
    #[arg(long, default_value_t = 20)]
    pub failovers: u32,
    /// What a soak does, in turn: kill, freeze, cable (its network goes), master.
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        default_value = "kill,freeze,master"
    )]
    pub strikes: Vec<String>,
    /// Processes that do nothing but compute, beside the cluster.
    #[arg(long, default_value_t = 0)]
    pub hogs: u16,
    /// Coreapps of the cluster.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(2..=4))]
    pub coreapps: u16,
    /// Heartbeat threads stay at normal priority: shows what SCHED_FIFO is for.
    #[arg(long, hide = true)]
    pub plain_heartbeats: bool,
    /// Each master and coreapp in a network namespace of its own, named PREFIX-NAME and made before.
    #[arg(long, hide = true, value_name = "PREFIX")]
    pub lab: Option<String>,
    /// Measure the reply gap of heartbeat threads instead; see `cargo xtask bench detection`.
    #[arg(long, hide = true)]
    pub bench_gap: bool,
    /// The other end of that measurement.
    #[arg(long, hide = true)]
    pub gap_responder: bool,
    /// Connections of the benchmark.
    #[arg(long, default_value_t = 64)]
    pub connections: u32,
    /// Print one JSON object as the last line.
    #[arg(long)]
    pub json: bool,
    /// Messages a second while a drill runs.
    #[arg(long, default_value_t = 200)]
    pub rate: u32,
    /// Seconds of traffic before and after each fault.
    #[arg(long, default_value_t = 3, overrides_with = "seconds")]
    pub seconds: u64,
    /// Milliseconds that a message of unknown fate waits for its receipt before it is sent again.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub ambiguity_ms: u64,
    /// The longest that it waits while receipts of other messages are late too.
    #[arg(long, value_name = "MS", default_value_t = 600_000)]
    pub ambiguity_max_ms: u64,
    /// Milliseconds between a send and its webhooks.
    #[arg(long, value_name = "MS", default_value_t = 20)]
    pub webhook_delay_ms: u64,
    /// Milliseconds that the simulated upstream takes for each send.
    #[arg(long, value_name = "MS", default_value_t = 2)]
    pub upstream_latency_ms: u64,
}

/// Where `dev` keeps its things: the directory named, else below the user's state directory. Absolute where the working
/// directory is known: the roles refuse a relative one.
pub fn state_directory(named: Option<&Path>) -> PathBuf {
    if let Some(named) = named {
        return std::path::absolute(named).unwrap_or_else(|_| named.to_path_buf());
    }
    let base = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| {
            let home = std::env::var_os("HOME")?;
            Some(Path::new(&home).join(".local/state"))
        });
    base.unwrap_or_else(std::env::temp_dir).join("wa-agent-dev")
}

/// Starts the cluster, then waits or drills.
///
/// # Errors
/// When something does not start: a taken port, a database that does not answer.
pub fn run(args: DevArgs) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let exit = runtime.block_on(async {
        let stop = CancellationToken::new();
        let on_signal = stop.clone();
        tokio::spawn(async move {
            let _ = tokio::signal::ctrl_c().await;
            on_signal.cancel();
        });
        // Its children must not outlive it.
        crate::say::end_gently();
        if args.gap_responder {
            return gap::respond().await;
        }
        if args.bench_gap {
            return gap::run(&args).await;
        }
        let state = state_directory(args.state.as_deref());
        let plan = Plan::new(&args, state);
        if args.reset || args.drill.is_some() {
            plan.wipe()?;
        }
        let cluster = Cluster::start(plan, stop.clone()).await?;
        let exit = match &args.drill {
            _ if args.bench_intake => bench::intake(&cluster, &args).await,
            _ if args.soak => soak::run(&cluster, &args, &stop).await,
            Some(names) => drill::run(&cluster, names, &args, &stop).await,
            None => {
                narrate::welcome(&cluster, &args);
                narrate::follow(&cluster, &stop).await;
                Ok(Exit::Ok)
            }
        };
        cluster.stop().await;
        exit
    });
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    exit
}
