//! What operators ask of a master, and administrators by a console (`acts.rs`). Each call was opened and is answered under seal
//! (`opened.rs`); each leaves one line in the audit.
//! Decides nothing: the driver's loop does.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use secrecy::SecretString;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::audit::{self, Line};
use super::control::{
    ANSWER_WITHIN, Control, FRESH_WITHIN, NOT_YET, Refusal, SERVED_WITHIN, refuse, unknown,
};
use super::opened::Peer;
use super::request::Request as Wanted;
use super::{acts, keys, operate as operating, parked, planned, record};
use crate::api::act::Act;
use crate::api::control::{
    KeysAnswer, KeysStep, OperatorAnswer, OperatorRequest, SwitchoverAnswer, SwitchoverRequest,
};
use crate::api::parked::{Answer, Wish};
use crate::api::v1::code::Code;
use crate::db::DbError;
use crate::member::audit::Entry;

/// Whose call it is: where it came from, and for an administrator's, his token.
type Whose = (Extension<Peer>, Option<Extension<SecretString>>);

/// What was meant, if this release knows it.
fn read<T: DeserializeOwned>(control: &Control, peer: Peer, body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        let why = format!("this release does not know this call: {error}; upgrade the masters");
        let source = peer.0.to_string();
        let entry = Entry::new("-", &source, "a verb", &format!("refused: {why}"));
        control.audit.write(entry);
        refuse(StatusCode::BAD_REQUEST, Code::InvalidRequest, &why)
    })
}

/// What an operator means, or an administrator who may, and the line of it.
async fn begin<T: DeserializeOwned + audit::Asked + Act>(
    control: &Control,
    (Extension(peer), token): Whose,
    body: &Bytes,
) -> Result<(T, Line), Response> {
    let mut wish: T = read(control, peer, body).map_err(|refusal| *refusal)?;
    let line = match token {
        None => Line::begin(&control.audit, &wish, peer.0),
        Some(Extension(token)) => {
            let signed = acts::sign(control, (peer.0, &token), &mut wish).await;
            Line::of(&control.audit, &wish, signed.map_err(|refusal| *refusal)?)
        }
    };
    Ok((wish, line))
}

/// The answer, once its line is written.
pub(super) fn end<A: audit::Said + Serialize>(line: Line, done: Result<A, Refusal>) -> Response {
    match done {
        Ok(answer) => {
            line.answered(&answer);
            Json(answer).into_response()
        }
        Err(refusal) => {
            line.failed(&refusal);
            *refusal
        }
    }
}

pub(super) async fn switchover(
    State(control): State<Control>,
    whose: Whose,
    body: Bytes,
) -> Result<Response, Response> {
    let (wish, line) = begin::<SwitchoverRequest>(&control, whose, &body).await?;
    let done = moved(&control, wish).await;
    Ok(end(line, done))
}

async fn moved(control: &Control, wish: SwitchoverRequest) -> Result<SwitchoverAnswer, Refusal> {
    let _turn = control.turn().await?;
    control.read_map(FRESH_WITHIN).await;
    let asked = wish.clone();
    let mut answer = control
        .ask(|sender| Wanted::Switchover(asked, sender))
        .await?;
    let later = wish.at_ms.is_some() || wish.in_ms.is_some();
    // A plan may be cancelled whatever the shard does now; only the primary master has a say.
    if !answer.elsewhere && (wish.cancel || later && answer.accepted) {
        answer = planned::answer(&control.db, &wish, answer).await;
        let reading = planned::reading(&control.db);
        if answer.accepted && !control.read_row(ANSWER_WITHIN, reading).await {
            answer.message.push_str(NOT_YET);
        }
    } else if answer.accepted && !wish.dry_run {
        let words = (wish.reason.as_deref(), wish.by.as_deref());
        let to = answer.to.clone().unwrap_or_default();
        let about = (Some(wish.shard), to.as_str());
        let record = record::record(&control.db, "switchover", about, words, &answer.message);
        if let Ok(Err(error)) = tokio::time::timeout(ANSWER_WITHIN, record).await {
            tracing::warn!(error = %error.brief(), "the switchover was not recorded");
        }
    }
    Ok(answer)
}

pub(super) async fn operate(
    State(control): State<Control>,
    whose: Whose,
    body: Bytes,
) -> Result<Response, Response> {
    let (wish, mut line) = begin::<OperatorRequest>(&control, whose, &body).await?;
    let done = operated(&control, wish, &mut line).await;
    Ok(end(line, done))
}

/// What is said where nobody knows whether a write is in force.
fn unconfirmed(line: &mut Line, why: &str) -> String {
    line.unsure();
    format!(
        "the database did not confirm that it was written ({why}); look with wa-agent status, then try again"
    )
}

/// Writes what a verb needs, and the record of it. Why the verb is not in force, or may not be, in words: not for want of the record.
async fn written(
    control: &Control,
    wish: &OperatorRequest,
    said: &str,
    line: &mut Line,
) -> Option<String> {
    // Those that the core alone carries out are in force already.
    let mut in_force = false;
    let write = async {
        let about = operating::write(&control.db, &control.directory, wish).await?;
        in_force = true;
        operating::note(&control.db, wish, about, said).await
    };
    let (error, why) = match tokio::time::timeout(ANSWER_WITHIN, write).await {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => {
            let why = error.brief();
            (Some(error), why)
        }
        Err(_) => (None, "it did not answer in time".to_owned()),
    };
    match error {
        _ if in_force => {
            tracing::warn!(error = why, "a verb is in force, and is not in the history");
            None
        }
        // What stands in the rows does not fit.
        Some(DbError::Value(why)) => Some(format!("nothing was written: {why}; try again")),
        Some(_) | None => Some(unconfirmed(line, &why)),
    }
}

async fn operated(
    control: &Control,
    wish: OperatorRequest,
    line: &mut Line,
) -> Result<OperatorAnswer, Refusal> {
    let _turn = control.turn().await?;
    control.read_for(&wish.verb, FRESH_WITHIN).await;
    let asked = wish.clone();
    let mut answer = control.ask(|sender| Wanted::Operate(asked, sender)).await?;
    if answer.accepted && !wish.dry_run {
        if let Some(message) = written(control, &wish, &answer.message, line).await {
            (answer.accepted, answer.message) = (false, message);
        }
        // Also after a write that perhaps failed: what is in force is what is stored.
        let within = if answer.accepted {
            ANSWER_WITHIN
        } else {
            FRESH_WITHIN
        };
        let known = control.read_for(&wish.verb, within).await;
        if answer.accepted && !known {
            answer.message.push_str(NOT_YET);
        }
    }
    Ok(answer)
}

pub(super) async fn webhooks(
    State(control): State<Control>,
    whose: Whose,
    body: Bytes,
) -> Result<Response, Response> {
    let (wish, line) = begin::<Wish>(&control, whose, &body).await?;
    let done = parked_done(&control, &wish).await;
    Ok(end(line, done))
}

async fn parked_done(control: &Control, wish: &Wish) -> Result<Answer, Refusal> {
    let _turn = control.turn().await?;
    if !control.primary().await? {
        return Ok(parked::elsewhere());
    }
    let done = tokio::time::timeout(SERVED_WITHIN, parked::carry_out(&control.db, wish));
    match done.await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(unknown(&error.brief())),
        Err(_) => Err(unknown("the database did not answer in time")),
    }
}

pub(super) async fn keys_step(
    State(control): State<Control>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Result<Response, Response> {
    let step: KeysStep = read(&control, peer, &body).map_err(|refusal| *refusal)?;
    let line = Line::begin(&control.audit, &step, peer.0);
    let done = stepped(&control, &step).await;
    Ok(end(line, done))
}

async fn stepped(control: &Control, step: &KeysStep) -> Result<KeysAnswer, Refusal> {
    let _turn = control.turn().await?;
    if !control.primary().await? {
        return Ok(KeysAnswer {
            elsewhere: true,
            message: "this master is not primary (1017); ask the primary master".into(),
            ..KeysAnswer::default()
        });
    }
    let done = tokio::time::timeout(
        ANSWER_WITHIN,
        keys::step(&control.db, control.live(), &control.keys, step),
    );
    match done.await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(unknown(&error.brief())),
        Err(_) => Err(unknown("the database did not answer in time")),
    }
}
