//! `wa-agent history`: what was decided and what operators asked, from the database itself.

use std::time::{Duration, SystemTime};

use super::view::View;
use crate::cli::Reach;
use crate::db::history::Decision;
use crate::exit::Exit;

/// Reads and prints.
///
/// # Errors
/// When there is no usable configuration.
pub fn run(reach: &Reach, limit: u32, shard: Option<u16>) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let view = View::find(reach.config.as_deref()).await?;
        let mut decisions = match view.decisions(limit).await {
            Ok(decisions) => decisions,
            Err(nothing) => return Ok(nothing.told()),
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
