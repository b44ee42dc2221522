//! `wa-agent events list`: events of the upstream that are kept for people, from the database itself.
//! Shows no text of anybody: keys, times and reasons only.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::view::View;
use crate::cli::Reach;
use crate::db::event::{Kept, State};
use crate::exit::Exit;

/// Longest reason that is shown, in characters.
const WHY_LEN_MAX: usize = 120;

/// Reads and prints.
///
/// # Errors
/// When there is no usable configuration.
pub fn list(reach: &Reach, limit: u32) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let view = View::find(reach.config.as_deref()).await?;
        let (kept, counts) = match view.events(limit).await {
            Ok(found) => found,
            Err(nothing) => return Ok(nothing.told()),
        };
        if reach.json {
            for one in &kept {
                println!("{}", value(one));
            }
            return Ok(Exit::Ok);
        }
        for one in &kept {
            println!("{}", line(one));
        }
        println!(
            "{} that nobody can read (try again: wa-agent events retry), {} whose message is not known yet, {} of messages that are \
             not ours (tell them: [webhooks] foreign_statuses = \"tell\")",
            counts.unread, counts.unplaced, counts.foreign
        );
        Ok(Exit::Ok)
    })
}

fn word(state: State) -> &'static str {
    match state {
        State::Pending => "pending",
        State::Done => "done",
        State::Unread => "unread",
        State::Unplaced => "unplaced",
        State::Foreign => "foreign",
        State::Blank => "blank",
    }
}

/// What a row says of an event that nobody could read.
#[derive(Deserialize)]
struct Row {
    content: BTreeMap<String, Value>,
}

/// Why it is kept, in words.
fn why(kept: &Kept) -> String {
    match kept.state {
        State::Pending | State::Done | State::Blank => String::new(),
        State::Unplaced => "nobody knows yet whose message it is about".to_owned(),
        State::Foreign => "a status of a message that is not ours".to_owned(),
        State::Unread => {
            let row: Option<Row> = serde_json::from_str(&kept.payload).ok();
            let unread = row.and_then(|row| row.content.get("unread").cloned());
            let why = unread.and_then(|unread| Some(unread.get("why")?.as_str()?.to_owned()));
            let why = why.unwrap_or_else(|| "this release cannot read its row".to_owned());
            why.chars()
                .filter(|c| !c.is_control())
                .take(WHY_LEN_MAX)
                .collect()
        }
    }
}

fn at(kept: &Kept) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(kept.received_ms);
    humantime::format_rfc3339_millis(at).to_string()
}

fn line(kept: &Kept) -> String {
    let (at, word, key) = (at(kept), word(kept.state), kept.key.escape_debug());
    format!("{at} {word:<8} {key}  {}", why(kept))
}

fn value(kept: &Kept) -> Value {
    json!({"key": kept.key, "at": at(kept), "state": word(kept.state), "why": why(kept)})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: who looks learns which event, when, and why; no text of a customer. Method: a row of each kind.
    #[test]
    fn kept_events_are_shown_without_their_texts() {
        let kept = |state, payload: &str| Kept {
            key: "unread:ab".into(),
            state,
            received_ms: 1_893_456_000_000,
            payload: payload.into(),
        };
        let row = r#"{"customer":"","content":{"unread":{"call":"secret words","why":"an item of `messages` is no object"}}}"#;
        let shown = line(&kept(State::Unread, row));
        assert_eq!(
            shown,
            "2030-01-01T00:00:00.000Z unread   unread:ab  an item of `messages` is no object"
        );
        assert!(
            !value(&kept(State::Unread, row))
                .to_string()
                .contains("secret")
        );
        assert!(line(&kept(State::Unread, "{")).contains("cannot read its row"));
        let status = r#"{"customer":"1","content":{"status":{"id":"w"}}}"#;
        assert!(line(&kept(State::Foreign, status)).contains("not ours"));
    }
}
