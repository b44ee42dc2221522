//! `wa-agent switchover`: asks the primary master to move a shard, and waits until it has.

use std::time::Duration;

use super::reach::Cluster;
use crate::api::control::{ClusterStatus, SwitchoverAnswer, SwitchoverRequest, path};
use crate::cli::Reach;
use crate::exit::Exit;
use crate::sys::clock;

/// Asks, waits for the new owner, prints.
///
/// # Errors
/// When there is no usable configuration.
pub fn run(reach: &Reach, wish: SwitchoverRequest) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let cluster = Cluster::find(reach.config.as_deref()).await?;
        let Some((master, answer)) = ask(&cluster, &wish).await? else {
            eprintln!("wa-agent: {}", cluster.nobody());
            return Ok(Exit::Unavailable);
        };
        if reach.json {
            println!("{}", serde_json::to_string(&answer)?);
        } else {
            println!("{}", answer.message);
        }
        if !answer.accepted {
            return Ok(Exit::Failure);
        }
        if wish.dry_run {
            return Ok(Exit::Ok);
        }
        Ok(
            if wait(&cluster, &master, &wish, answer.epoch_before, reach.json).await {
                Exit::Ok
            } else {
                Exit::Failure
            },
        )
    })
}

/// Asks one master after the other until the primary is found.
async fn ask(
    cluster: &Cluster,
    wish: &SwitchoverRequest,
) -> anyhow::Result<Option<(String, SwitchoverAnswer)>> {
    let mut last = None;
    for master in &cluster.masters {
        if let Ok(answer) = cluster
            .post::<_, SwitchoverAnswer>(master, path::SWITCHOVER, wish)
            .await
        {
            let primary = !answer.message.contains("not primary");
            last = Some((master.clone(), answer));
            if primary {
                break;
            }
        }
    }
    Ok(last)
}

/// Polls until the shard is active under a higher epoch; at most 30 s.
async fn wait(
    cluster: &Cluster,
    master: &str,
    wish: &SwitchoverRequest,
    before: u64,
    quiet: bool,
) -> bool {
    for _ in 0..600 {
        if let Ok(status) = cluster.get::<ClusterStatus>(master, path::STATUS).await
            && let Some(shard) = status.shards.iter().find(|s| s.shard == wish.shard)
            && shard.epoch > before
            && shard.phase == "active"
        {
            if !quiet {
                println!(
                    "done: {} owns shard {} under epoch {}",
                    shard.owner.as_deref().unwrap_or("-"),
                    shard.shard,
                    shard.epoch
                );
            }
            return true;
        }
        clock::sleep(Duration::from_millis(50)).await;
    }
    eprintln!("wa-agent: the shard was not moved within 30 s; type: wa-agent status");
    false
}
