//! A whole cluster on one machine: real processes, a simulated upstream, and drills that break it.
//! No root, no system state: everything lies in one directory.

mod args;
mod bench;
pub mod cluster;
mod cost;
mod drill;
pub mod galera;
mod gap;
mod healthy;
mod hogs;
mod host;
pub mod hostile;
mod limit;
mod mariadb;
mod narrate;
mod rows;
pub mod simulator;
mod soak;
mod traffic;

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

pub use args::DevArgs;

use crate::exit::Exit;
use cluster::{Cluster, Plan};

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
        if args.bench_rows {
            return rows::run(&args, &state).await;
        }
        let mut plan = Plan::new(&args, state);
        if args.bench_send {
            limit::arrange(&mut plan, &args);
        }
        if args.reset || args.drill.is_some() {
            plan.wipe()?;
        }
        let cluster = Cluster::start(plan, stop.clone()).await?;
        let exit = match &args.drill {
            _ if args.bench_intake => bench::intake(&cluster, &args).await,
            _ if args.bench_send => limit::run(&cluster, &args, &stop).await,
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
