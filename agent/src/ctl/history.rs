//! `wa-agent history`: what was decided and what operators asked, from the database itself.

use std::time::{Duration, SystemTime};

use super::reach::Cluster;
use crate::cli::Reach;
use crate::db::history::Decision;
use crate::db::{Db, DbError};
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
        let Some(mut decisions) = in_time(read).await else {
            return Ok(Exit::Unavailable);
        };
        decisions.retain(|d| shard.is_none_or(|shard| d.shard == i64::from(shard)));
        for decision in &decisions {
            println!(
                "{}",
                if reach.json {
                    value(decision).to_string()
                } else {
                    line(decision)
                }
            );
        }
        Ok(Exit::Ok)
    })
}

/// What the database says; without an answer the error is told, and that is all.
pub(super) async fn in_time<T>(read: impl Future<Output = Result<T, DbError>>) -> Option<T> {
    match tokio::time::timeout(ANSWER_WITHIN, read).await {
        Ok(Ok(value)) => return Some(value),
        Ok(Err(error)) => eprintln!("wa-agent: {}", error.brief()),
        Err(_) => eprintln!("wa-agent: the database did not answer within {ANSWER_WITHIN:?}"),
    }
    None
}

pub(super) fn at(decision: &Decision) -> String {
    let ms = u64::try_from(decision.at_ms).unwrap_or(0);
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

pub(super) fn line(d: &Decision) -> String {
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
        "{:>6} {} {:<24} {}{shard}{subject}  {}",
        d.id,
        at(d),
        d.node,
        d.what,
        d.reason
    )
}

/// One decision as a JSON document.
pub fn value(d: &Decision) -> serde_json::Value {
    serde_json::json!({
        "id": d.id,
        "at": at(d),
        "node": d.node,
        "shard": (d.shard >= 0).then_some(d.shard),
        "what": d.what,
        "subject": d.subject,
        "reason": d.reason,
    })
}
