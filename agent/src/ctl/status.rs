//! `wa-agent status`: the primary master's view, or that of any master that answers.

use std::time::Duration;

use super::reach::Cluster;
use crate::api::control::{ClusterStatus, path};
use crate::cli::Reach;
use crate::exit::Exit;
use crate::sys::clock;

/// Asks and prints; with `watch` again each second.
///
/// # Errors
/// When there is no usable configuration.
pub fn run(reach: &Reach, watch: bool) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        loop {
            let cluster = Cluster::find(reach.config.as_deref()).await?;
            let exit = match ask(&cluster).await {
                Some(status) if reach.json => {
                    println!("{}", serde_json::to_string(&status)?);
                    Exit::Ok
                }
                Some(status) => {
                    if watch {
                        anstream::print!("\x1b[2J\x1b[H");
                    }
                    anstream::print!("{}", super::render::cluster(&status));
                    Exit::Ok
                }
                None => {
                    eprintln!("wa-agent: {}", cluster.nobody());
                    Exit::Unavailable
                }
            };
            if !watch {
                return Ok(exit);
            }
            clock::sleep(Duration::from_secs(1)).await;
        }
    })
}

/// The primary's answer, else any.
pub async fn ask(cluster: &Cluster) -> Option<ClusterStatus> {
    let mut any = None;
    for master in &cluster.masters {
        if let Ok(status) = cluster.get::<ClusterStatus>(master, path::STATUS).await {
            if status.primary {
                return Some(status);
            }
            any = Some(status);
        }
    }
    any
}
