//! `wa-agent audit`: who logged in, changed something or typed a verb, from where, and what came of it.
//! Reads the database itself: works with no master up.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::view::View;
use crate::cli::AuditArgs;
use crate::db::audit::Line;
use crate::exit::Exit;

/// Reads and prints, newest last.
///
/// # Errors
/// When there is no usable configuration.
pub fn run(args: &AuditArgs) -> anyhow::Result<Exit> {
    let AuditArgs { reach, limit, who } = args;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let view = View::find(reach.config.as_deref()).await?;
        let lines = match view.audit(who.as_deref(), *limit).await {
            Ok(lines) => lines,
            Err(nothing) => return Ok(nothing.told()),
        };
        for one in &lines {
            match reach.json {
                true => println!("{}", value(one)),
                false => println!("{}", line(one)),
            }
        }
        Ok(Exit::Ok)
    })
}

fn at(line: &Line) -> String {
    let ms = u64::try_from(line.at_ms).unwrap_or(0);
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
    humantime::format_rfc3339_millis(at).to_string()
}

fn line(line: &Line) -> String {
    let at = at(line);
    format!(
        "{at} {} from {} ({}): {}: {}",
        line.who, line.source, line.node, line.what, line.outcome
    )
}

fn value(line: &Line) -> Value {
    json!({
        "id": line.id,
        "at": at(line),
        "node": line.node,
        "who": line.who,
        "source": line.source,
        "what": line.what,
        "outcome": line.outcome,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_who_from_where_what_and_the_outcome() {
        let one = Line {
            id: 7,
            at_ms: 1_893_456_000_000,
            node: "a:webapp-1".into(),
            who: "bot1".into(),
            source: "192.0.2.1".into(),
            what: "login".into(),
            outcome: "refused (401, 1005)".into(),
        };
        assert_eq!(
            line(&one),
            "2030-01-01T00:00:00.000Z bot1 from 192.0.2.1 (a:webapp-1): login: refused (401, 1005)"
        );
        assert_eq!(value(&one)["outcome"], "refused (401, 1005)");
    }
}
