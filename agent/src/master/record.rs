//! Operators' wishes in the journal and in the history.
//! Carries none of them out.

use crate::api::control::StoredEvidence;
use crate::db::history::Record;
use crate::db::{Db, DbError};
use crate::log::message_id;

/// An operator's wish in the journal: in whose words, typed by whom, what was answered.
pub fn journal((reason, by): (Option<&str>, Option<&str>), said: &str) {
    tracing::warn!(
        MESSAGE_ID = message_id::OPERATOR_ASKED,
        REASON = reason.unwrap_or("-"),
        OPERATOR = by.unwrap_or("-"),
        "an operator asked: {said}"
    );
}

/// An operator's wish in the history: what, about whom, in whose words, and what was answered.
///
/// # Errors
/// When the database does not answer.
pub async fn record(
    db: &Db,
    what: &str,
    (shard, subject): (Option<u16>, &str),
    (reason, by): (Option<&str>, Option<&str>),
    said: &str,
) -> Result<(), DbError> {
    let evidence = StoredEvidence {
        sentence: said.into(),
        reason: reason.map(Into::into),
        by: by.map(Into::into),
        ..StoredEvidence::default()
    };
    db.record(&Record {
        node: "operator".into(),
        shard: shard.map_or(-1, i64::from),
        what: what.into(),
        subject: subject.into(),
        reason: reason.unwrap_or("OperatorAsked").into(),
        evidence: serde_json::to_string(&evidence).unwrap_or_default(),
    })
    .await
    .map(|_| ())
}
