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
use super::operate;
use crate::api::control::{ControlError, OperatorRequest, ShardsRequest, SwitchoverRequest, path};
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
}

/// Serves the control port in a task of its own.
///
/// # Errors
/// When the port is taken.
pub async fn start(
    address: SocketAddr,
    keys: Keys,
    requests: mpsc::Sender<Request>,
    db: Db,
    shutdown: CancellationToken,
) -> Result<(), NetError> {
    let listener = server::listen("control", address).await?;
    let router = Router::new()
        .route(path::STATUS, get(status))
        .route(path::SWITCHOVER, post(switchover))
        .route(path::SHARDS, post(shards))
        .route(path::OPERATE, post(operate))
        .route(path::EXPLAIN, get(explain))
        .route(path::SETTINGS_CHANGED, post(settings_changed))
        .route(path::STATS_DB, get(stats_db))
        .with_state(Control { keys, requests, db });
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
    let answer = control
        .ask(|sender| Request::Switchover(wish, sender))
        .await
        .map_err(|r| *r)?;
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
