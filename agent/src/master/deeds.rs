//! What operators ask of a master: each call is a deed (`net/deed.rs`), done by who has the cluster key and never twice.
//! Decides nothing: the driver's loop does.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::control::{
    ANSWER_WITHIN, Control, FRESH_WITHIN, NOT_YET, SERVED_WITHIN, refuse, unread,
};
use super::request::Request as Wanted;
use super::{audit, keys, operate as operating, parked, planned, record};
use crate::api::control::{KeysAnswer, KeysStep, OperatorRequest, SwitchoverRequest};
use crate::api::parked::Wish;
use crate::api::v1::code::Code;
use crate::net::deed::Refused;

/// What a call turned out to be.
enum Meant<T> {
    Deed(T),
    /// One of a release before: this is what its command shows the operator.
    Older(Response),
}

/// What an operator means, if it was one.
async fn meant<T: DeserializeOwned>(
    control: &Control,
    request: Request,
) -> Result<Meant<T>, Response> {
    let body = match control.taker.operator(request).await {
        Ok(body) => body,
        Err(why @ Refused::Older) => return Ok(Meant::Older(older(&why.to_string()))),
        Err(why) => return Err(refused(why)),
    };
    let read = serde_json::from_slice(&body);
    read.map(Meant::Deed).map_err(|error| {
        let why = format!("this release does not know this call: {error}; upgrade the masters");
        *refuse(StatusCode::BAD_REQUEST, Code::InvalidRequest, &why)
    })
}

/// Commands of the releases before show the message of an answer, and of a refusal only its status. This has the fields of each answer.
fn older(message: &str) -> Response {
    Json(json!({
        "accepted": false, "elsewhere": false, "message": message,
        "from": null, "to": null, "epoch_before": 0,
        "done": 0, "more": false, "upto": null,
        "status": {"rotation": null, "nodes": [], "waiting": []},
    }))
    .into_response()
}

/// A deed that is not done.
pub(super) fn refused(why: Refused) -> Response {
    let (status, code) = match why {
        Refused::Older | Refused::WebappKey => (StatusCode::FORBIDDEN, Code::AccessDenied),
        Refused::Stranger => (StatusCode::UNAUTHORIZED, Code::AccessDenied),
        Refused::Stale | Refused::Repeated | Refused::Changed | Refused::Body => {
            (StatusCode::CONFLICT, Code::InvalidRequest)
        }
        Refused::Full => (StatusCode::SERVICE_UNAVAILABLE, Code::Overloaded),
    };
    *refuse(status, code, &why.to_string())
}

pub(super) async fn switchover(
    State(control): State<Control>,
    request: Request,
) -> Result<Response, Response> {
    let wish: SwitchoverRequest = match meant(&control, request).await? {
        Meant::Deed(wish) => wish,
        Meant::Older(answer) => return Ok(answer),
    };
    let _turn = control.turn().await.map_err(|r| *r)?;
    control.read_map(FRESH_WITHIN).await;
    let asked = wish.clone();
    let mut answer = control
        .ask(|sender| Wanted::Switchover(asked, sender))
        .await
        .map_err(|r| *r)?;
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
    audit::verb(&control.db, &wish, &answer);
    Ok(Json(answer).into_response())
}

pub(super) async fn operate(
    State(control): State<Control>,
    request: Request,
) -> Result<Response, Response> {
    let wish: OperatorRequest = match meant(&control, request).await? {
        Meant::Deed(wish) => wish,
        Meant::Older(answer) => return Ok(answer),
    };
    let _turn = control.turn().await.map_err(|r| *r)?;
    control.read_for(&wish.verb, FRESH_WITHIN).await;
    let asked = wish.clone();
    let mut answer = control
        .ask(|sender| Wanted::Operate(asked, sender))
        .await
        .map_err(|r| *r)?;
    if answer.accepted && !wish.dry_run {
        let written = tokio::time::timeout(
            ANSWER_WITHIN,
            operating::write(&control.db, &control.directory, &wish, &answer.message),
        )
        .await;
        if let Some(why) = match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.brief()),
            Err(_) => Some("the database did not answer in time".into()),
        } {
            answer.accepted = false;
            answer.message = format!("nothing was written: {why}; try again");
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
    audit::verb(&control.db, &wish, &answer);
    Ok(Json(answer).into_response())
}

pub(super) async fn webhooks(
    State(control): State<Control>,
    request: Request,
) -> Result<Response, Response> {
    let wish: Wish = match meant(&control, request).await? {
        Meant::Deed(wish) => wish,
        Meant::Older(answer) => return Ok(answer),
    };
    let _turn = control.turn().await.map_err(|r| *r)?;
    if !control.ask(Wanted::Status).await.map_err(|r| *r)?.primary {
        return Ok(Json(parked::elsewhere()).into_response());
    }
    let done = tokio::time::timeout(SERVED_WITHIN, parked::carry_out(&control.db, &wish));
    match done.await {
        Ok(Ok(answer)) => {
            audit::verb(&control.db, &wish, &answer);
            Ok(Json(answer).into_response())
        }
        Ok(Err(error)) => Err(*unread(&error.brief())),
        Err(_) => Err(*unread("the database did not answer in time")),
    }
}

pub(super) async fn keys_step(
    State(control): State<Control>,
    request: Request,
) -> Result<Response, Response> {
    let step: KeysStep = match meant(&control, request).await? {
        Meant::Deed(step) => step,
        Meant::Older(answer) => return Ok(answer),
    };
    let _turn = control.turn().await.map_err(|r| *r)?;
    let status = control.ask(Wanted::Status).await.map_err(|r| *r)?;
    if !status.primary {
        let answer = KeysAnswer {
            elsewhere: true,
            message: "this master is not primary (1017); ask the primary master".into(),
            ..KeysAnswer::default()
        };
        return Ok(Json(answer).into_response());
    }
    let done = tokio::time::timeout(
        ANSWER_WITHIN,
        keys::step(&control.db, control.live(), &control.keys, &step),
    );
    match done.await {
        Ok(Ok(answer)) => {
            audit::verb(&control.db, &step, &answer);
            Ok(Json(answer).into_response())
        }
        Ok(Err(error)) => Err(*unread(&error.brief())),
        Err(_) => Err(*unread("the database did not answer in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::control::{OperatorAnswer, SwitchoverAnswer};
    use crate::api::parked::Answer;

    /// Goal: whoever types a verb of a release before learns what to do, whatever the verb. Method: what such a command reads.
    #[tokio::test]
    async fn every_older_verb_is_told_what_to_do() {
        let said = older(&Refused::Older.to_string());
        assert_eq!(
            said.status(),
            StatusCode::OK,
            "of others it shows the status only"
        );
        let body = axum::body::to_bytes(said.into_body(), 1 << 16)
            .await
            .expect("whole");
        let operator: OperatorAnswer = serde_json::from_slice(&body).expect("read");
        let moved: SwitchoverAnswer = serde_json::from_slice(&body).expect("read");
        let keys: KeysAnswer = serde_json::from_slice(&body).expect("read");
        let webhooks: Answer = serde_json::from_slice(&body).expect("read");
        for (accepted, elsewhere, message) in [
            (operator.accepted, operator.elsewhere, operator.message),
            (moved.accepted, moved.elsewhere, moved.message),
            (keys.accepted, keys.elsewhere, keys.message),
            (webhooks.accepted, webhooks.elsewhere, webhooks.message),
        ] {
            assert!(!accepted && !elsewhere);
            assert!(message.contains("Upgrade wa-agent") && message.contains("Nothing was done"));
        }
    }
}
