//! One line for each verb, whatever its end.

use arc_swap::ArcSwapOption;
use axum::http::StatusCode;

use super::super::control::{refuse, unknown};
use super::*;
use crate::api::v1::code::Code;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn drain(by: Option<&str>) -> OperatorRequest {
    OperatorRequest {
        verb: Verb::Drain {
            node: "a:coreapp-1".into(),
            on: true,
        },
        dry_run: false,
        reason: None,
        by: by.map(str::to_owned),
    }
}

fn answer(accepted: bool, message: &str) -> OperatorAnswer {
    OperatorAnswer {
        accepted,
        elsewhere: false,
        message: message.into(),
    }
}

/// Goal: the line of a verb says who, from where by his word and by his address, what, and what came of it; a dry run and another
/// master's verb leave none; one that nobody answered says so. Method: one verb with each end.
#[tokio::test]
async fn a_verb_leaves_one_line() {
    let audit = Audit::start("a:master-1", Arc::new(ArcSwapOption::empty()));
    let begin = |asked: &OperatorRequest| Line::begin(&audit, asked, PEER);
    let ann = drain(Some("ann@core1.example"));
    begin(&ann).answered(&answer(true, "it moves"));
    begin(&drain(None)).answered(&answer(false, "no such node"));
    let mut line = begin(&ann);
    line.unsure();
    line.answered(&answer(false, "the database did not confirm"));
    begin(&ann).failed(&refuse(
        StatusCode::SERVICE_UNAVAILABLE,
        Code::Overloaded,
        "busy",
    ));
    begin(&ann).failed(&unknown("no answer"));
    drop(begin(&ann));
    // None of these.
    let mut elsewhere = answer(false, "");
    elsewhere.elsewhere = true;
    begin(&ann).answered(&elsewhere);
    let mut dry = drain(None);
    dry.dry_run = true;
    begin(&dry).answered(&answer(true, ""));
    drop(begin(&dry));
    let lines = audit.written();
    let of = |entry: &Entry| {
        format!(
            "{} {} {} {}",
            entry.who, entry.source, entry.what, entry.outcome
        )
    };
    let lines: Vec<String> = lines.iter().map(of).collect();
    let who = "ann@core1.example core1.example (192.0.2.7) drain a:coreapp-1";
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert_eq!(lines[0], format!("{who} done"));
    assert_eq!(
        lines[1],
        "- 192.0.2.7 drain a:coreapp-1 refused: no such node"
    );
    assert_eq!(
        lines[2],
        format!("{who} not known: the database did not confirm")
    );
    assert_eq!(lines[3], format!("{who} refused: busy"));
    assert!(
        lines[4].starts_with(&format!("{who} not known: ")),
        "{}",
        lines[4]
    );
    assert_eq!(
        lines[5],
        format!("{who} not known: this master stopped before it was answered")
    );
}
