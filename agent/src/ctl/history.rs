//! `wa-agent history`: what was decided and what operators asked, from the database itself.

use std::time::{Duration, SystemTime};

use super::reach::Cluster;
use crate::cli::Reach;
use crate::db::Db;
use crate::db::history::Decision;
use crate::exit::Exit;

/// How long the database may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Reads and prints.
///
/// # Errors
/// When there is no usable configuration.
pub fn run(reach: &Reach, limit: u32, shard: Option<u16>) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let cluster = Cluster::find(reach.config.as_deref()).await?;
        let read = async {
            let db = Db::connect(&cluster.settings.database, 1).await?;
            db.decisions(limit).await
        };
        let mut decisions = match tokio::time::timeout(ANSWER_WITHIN, read).await {
            Ok(Ok(decisions)) => decisions,
            Ok(Err(error)) => {
                eprintln!("wa-agent: {}", error.brief());
                return Ok(Exit::Unavailable);
            }
            Err(_) => {
                eprintln!("wa-agent: the database did not answer within {ANSWER_WITHIN:?}");
                return Ok(Exit::Unavailable);
            }
        };
        decisions.retain(|d| shard.is_none_or(|shard| d.shard == i64::from(shard)));
        for decision in &decisions {
            println!(
                "{}",
                if reach.json {
                    json(decision)
                } else {
                    line(decision)
                }
            );
        }
        Ok(Exit::Ok)
    })
}

fn at(decision: &Decision) -> String {
    let ms = u64::try_from(decision.at_ms).unwrap_or(0);
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

fn line(d: &Decision) -> String {
    let shard = if d.shard < 0 {
        String::new()
    } else {
        format!(" shard {}", d.shard)
    };
    let subject = if d.subject.is_empty() {
        String::new()
    } else {
        format!(" {}", d.subject)
    };
    format!(
        "{} {:<24} {}{shard}{subject}  {}",
        at(d),
        d.node,
        d.what,
        d.reason
    )
}

/// One decision in one line.
pub fn json(d: &Decision) -> String {
    serde_json::json!({
        "at": at(d),
        "node": d.node,
        "shard": (d.shard >= 0).then_some(d.shard),
        "what": d.what,
        "subject": d.subject,
        "reason": d.reason,
    })
    .to_string()
}
