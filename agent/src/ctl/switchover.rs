//! `wa-agent switchover`: asks the primary master to move a shard, and waits until it has.

use std::time::Duration;

use super::reach::Cluster;
use crate::api::control::{ClusterStatus, SwitchoverAnswer, SwitchoverRequest, path};
use crate::cli::Reach;
use crate::exit::Exit;
use crate::sys::clock;

/// A time as people type it: `+30m` from now, or RFC 3339. The first number counts from now, the second since 1970.
///
/// # Errors
/// What to write instead.
pub fn parse_at(text: &str) -> Result<(Option<u64>, Option<u64>), String> {
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    if let Some(span) = text.strip_prefix('+') {
        let span = humantime::parse_duration(span).map_err(|e| format!("+{span}: {e}"))?;
        return Ok((Some(ms(span)), None));
    }
    let at = humantime::parse_rfc3339_weak(text)
        .map_err(|e| format!("{e}: write +30m, or 2026-12-01T03:00:00Z (UTC)"))?;
    let since = at.duration_since(std::time::SystemTime::UNIX_EPOCH);
    Ok((None, Some(since.map_or(0, ms))))
}

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
        cluster.may_change()?;
        let elsewhere = |answer: &SwitchoverAnswer| answer.elsewhere;
        let asked = cluster.ask(path::SWITCHOVER, &wish, elsewhere).await;
        let Some((master, answer)) = asked else {
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
        if wish.dry_run || wish.cancel || wish.at_ms.or(wish.in_ms).is_some() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(parse_at("+30m"), Ok((Some(1_800_000), None)));
        assert_eq!(
            parse_at("2027-01-15T08:00:00Z"),
            Ok((None, Some(1_800_000_000_000)))
        );
        for wrong in ["", "30m", "+", "+soon", "tomorrow", "2027-13-01T00:00:00Z"] {
            let why = parse_at(wrong).expect_err(wrong);
            assert!(!why.is_empty());
        }
    }
}
