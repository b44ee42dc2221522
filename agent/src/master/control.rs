//! The control port: operator verbs and requests of webapps, behind the internal credential.
//! Decides nothing: it asks the driver's loop, with a deadline.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::driver::Request;
use super::{keys, operate, planned};
use crate::api::control::{
    ControlError, KeysAnswer, KeysStep, OperatorRequest, ShardsRequest, SwitchoverRequest, path,
};
use crate::db::Db;
use crate::net::keys::Keys;
use crate::net::{NetError, server};

/// How long the loop may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct Control {
    keys: Keys,
    requests: mpsc::Sender<Request>,
    db: Db,
    /// A node whose beat is older is not waited for.
    live_ms: u64,
}

/// Serves the control port in a task of its own.
///
/// # Errors
/// When the port is taken.
pub async fn start(
    address: SocketAddr,
    (keys, live): (Keys, Duration),
    requests: mpsc::Sender<Request>,
    db: Db,
    shutdown: CancellationToken,
) -> Result<(), NetError> {
    let live_ms = u64::try_from(live.as_millis()).unwrap_or(u64::MAX);
    let listener = server::listen("control", address).await?;
    let router = Router::new()
        .route(path::STATUS, get(status))
        .route(path::SWITCHOVER, post(switchover))
        .route(path::SHARDS, post(shards))
        .route(path::OPERATE, post(operate))
        .route(path::EXPLAIN, get(explain))
        .route(path::KEYS, get(keys_now).post(keys_step))
        .route(path::SETTINGS_CHANGED, post(settings_changed))
        .route(path::STATS_DB, get(stats_db))
        .with_state(Control {
            keys,
            requests,
            db,
            live_ms,
        });
    tokio::spawn(server::serve(listener, router, shutdown));
    Ok(())
}

type Refusal = Box<Response>;

fn refuse(status: StatusCode, code: u16, message: &str) -> Refusal {
    Box::new(
        (
            status,
            Json(ControlError {
                code,
                message: message.into(),
                primary: None,
            }),
        )
            .into_response(),
    )
}

impl Control {
    fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let header = headers
            .get("authorization")
            .map_or(&b""[..], |value| value.as_bytes());
        if self.keys.internal_ok(header) || self.keys.operator_ok(header) {
            Ok(())
        } else {
            Err(refuse(
                StatusCode::UNAUTHORIZED,
                1005,
                "the cluster key differs",
            ))
        }
    }

    /// What only an operator with the cluster key may ask for.
    fn check_operator(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        self.check(headers)?;
        let header = headers.get("authorization");
        if header.is_some_and(|value| self.keys.operator_ok(value.as_bytes())) {
            Ok(())
        } else {
            Err(refuse(
                StatusCode::FORBIDDEN,
                1005,
                "a webapp's key may not do this; use a machine with the cluster key",
            ))
        }
    }

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Refusal> {
        let (sender, answer) = oneshot::channel();
        let busy = || {
            refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                1016,
                "the master's main loop does not answer; try again",
            )
        };
        self.requests.try_send(make(sender)).map_err(|_| busy())?;
        match tokio::time::timeout(ANSWER_WITHIN, answer).await {
            Ok(Ok(value)) => Ok(value),
            _ => Err(busy()),
        }
    }
}

async fn status(State(control): State<Control>, headers: HeaderMap) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    Ok(Json(control.ask(Request::Status).await.map_err(|r| *r)?).into_response())
}

async fn switchover(
    State(control): State<Control>,
    headers: HeaderMap,
    Json(wish): Json<SwitchoverRequest>,
) -> Result<Response, Response> {
    control.check_operator(&headers).map_err(|r| *r)?;
    let asked = wish.clone();
    let mut answer = control
        .ask(|sender| Request::Switchover(asked, sender))
        .await
        .map_err(|r| *r)?;
    let later = wish.at_ms.is_some() || wish.in_ms.is_some();
    // A plan may be cancelled whatever the shard does now; only the primary master has a say.
    if !answer.elsewhere && (wish.cancel || later && answer.accepted) {
        answer = planned::answer(&control.db, &wish, answer).await;
    } else if answer.accepted && !wish.dry_run {
        let words = (wish.reason.as_deref(), wish.by.as_deref());
        let to = answer.to.clone().unwrap_or_default();
        let about = (Some(wish.shard), to.as_str());
        let record = operate::record(&control.db, "switchover", about, words, &answer.message);
        if let Ok(Err(error)) = tokio::time::timeout(ANSWER_WITHIN, record).await {
            tracing::warn!(error = %error.brief(), "the switchover was not recorded");
        }
    }
    Ok(Json(answer).into_response())
}

async fn operate(
    State(control): State<Control>,
    headers: HeaderMap,
    Json(wish): Json<OperatorRequest>,
) -> Result<Response, Response> {
    control.check_operator(&headers).map_err(|r| *r)?;
    let asked = wish.clone();
    let mut answer = control
        .ask(|sender| Request::Operate(asked, sender))
        .await
        .map_err(|r| *r)?;
    if answer.accepted && !wish.dry_run {
        let written = tokio::time::timeout(
            ANSWER_WITHIN,
            operate::write(&control.db, &wish, &answer.message),
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
    }
    Ok(Json(answer).into_response())
}

async fn keys_now(
    State(control): State<Control>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    let read = tokio::time::timeout(ANSWER_WITHIN, keys::read(&control.db, control.live_ms));
    match read.await {
        Ok(Ok((_, status))) => Ok(Json(status).into_response()),
        Ok(Err(error)) => Err(*unread(&error.brief())),
        Err(_) => Err(*unread("the database did not answer in time")),
    }
}

async fn keys_step(
    State(control): State<Control>,
    headers: HeaderMap,
    Json(step): Json<KeysStep>,
) -> Result<Response, Response> {
    control.check_operator(&headers).map_err(|r| *r)?;
    let status = control.ask(Request::Status).await.map_err(|r| *r)?;
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
        keys::step(&control.db, control.live_ms, &step),
    );
    match done.await {
        Ok(Ok(answer)) => Ok(Json(answer).into_response()),
        Ok(Err(error)) => Err(*unread(&error.brief())),
        Err(_) => Err(*unread("the database did not answer in time")),
    }
}

fn unread(why: &str) -> Refusal {
    refuse(StatusCode::SERVICE_UNAVAILABLE, 1011, why)
}

async fn explain(State(control): State<Control>, headers: HeaderMap) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    let answer = control.ask(Request::Explain).await.map_err(|r| *r)?;
    Ok(Json(answer).into_response())
}

async fn shards(
    State(control): State<Control>,
    headers: HeaderMap,
    Json(wish): Json<ShardsRequest>,
) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    let answer = control
        .ask(|sender| Request::ShardCount(wish, sender))
        .await
        .map_err(|r| *r)?;
    Ok(Json(answer).into_response())
}

async fn settings_changed(
    State(control): State<Control>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    if control
        .ask(Request::SettingsChanged)
        .await
        .map_err(|r| *r)?
    {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(*refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            1017,
            "this master is not primary",
        ))
    }
}

async fn stats_db(
    State(control): State<Control>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    match tokio::time::timeout(ANSWER_WITHIN, control.db.counts()).await {
        Ok(Ok(counts)) => Ok(Json(counts).into_response()),
        Ok(Err(error)) => Err(*refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            1023,
            &error.brief(),
        )),
        Err(_) => Err(*refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            1023,
            "the database did not answer in time",
        )),
    }
}
