//! The control port: operator verbs and requests of webapps, behind the internal credential.
//! Decides nothing: it asks the driver's loop, with a deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use wa_core::roll::Roll;

use super::directory::Directory;
use super::figures::Source;
use super::fresh::Reading;
use super::request::Request;
use super::{
    asker, audit, backup, intervals, keys, operate, parked, pauses, planned, provider, record,
    registration,
};
use crate::api::control::{
    ControlError, KeysAnswer, KeysStep, OperatorRequest, RegistrationAnswer, RegistrationRequest,
    ShardsRequest, SwitchoverRequest, Verb, path,
};
use crate::api::served::{self, BackupRequest, ProvidersRequest, RestoreRequest, Served};
use crate::api::v1::code::Code;
use crate::config::Timers;
use crate::db::{Db, DbError};
use crate::net::keys::Keys;
use crate::net::{NetError, server};

/// How long the loop may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long counting may take: large tables are read as a whole.
const COUNTED_WITHIN: Duration = Duration::from_secs(10);
/// What a call of the public API may wait for the database.
const SERVED_WITHIN: Duration = Duration::from_secs(6);
/// How long a verb waits for what it is judged by to be read again; then it is judged by what is known.
const FRESH_WITHIN: Duration = Duration::from_millis(500);
/// A verb is stored, and its answer must not claim more.
const NOT_YET: &str = ". It is stored, but this master could not read it back yet: it acts by it within half a second of the \
     database's next answer";

#[derive(Clone)]
struct Control {
    keys: Keys,
    requests: mpsc::Sender<Request>,
    db: Db,
    /// What this master remembers of the node table.
    roll: Arc<std::sync::Mutex<Roll>>,
    figures: Source,
    timers: Arc<Timers>,
    directory: Arc<Directory>,
    /// Verbs that write, one after the other: each is judged by what the one before has written.
    turn: Arc<Mutex<()>>,
}

/// Serves the control port in a task of its own.
///
/// # Errors
/// When the port is taken.
pub async fn start(
    address: SocketAddr,
    (keys, timers): (Keys, &Timers),
    (requests, directory): (mpsc::Sender<Request>, Arc<Directory>),
    (db, roll, figures): (Db, Arc<std::sync::Mutex<Roll>>, Source),
    shutdown: CancellationToken,
) -> Result<(), NetError> {
    let listener = server::listen("control", address).await?;
    let router = Router::new()
        .route(path::STATUS, get(status))
        .route(path::SWITCHOVER, post(switchover))
        .route(path::SHARDS, post(shards))
        .route(path::REGISTRATION, post(admit_registration))
        .route(path::OPERATE, post(operate))
        .route(crate::api::parked::PATH, post(webhooks))
        .route(path::EXPLAIN, get(explain))
        .route(path::KEYS, get(keys_now).post(keys_step))
        .route(path::SETTINGS_CHANGED, post(settings_changed))
        .route(served::path::PROVIDERS, post(providers))
        .route(served::path::BACKUP, post(make_backup))
        .route(served::path::RESTORE, post(restore_backup))
        .route(path::STATS_DB, get(stats_db))
        .route(path::FIGURES_DB, get(figures_db))
        .route(path::FIGURES, get(measured))
        .with_state(Control {
            keys,
            requests,
            db,
            roll,
            figures,
            timers: Arc::new(timers.clone()),
            directory,
            turn: Arc::default(),
        });
    tokio::spawn(server::serve(listener, router, shutdown));
    Ok(())
}

type Refusal = Box<Response>;

fn refuse(status: StatusCode, code: Code, message: &str) -> Refusal {
    Box::new(
        (
            status,
            Json(ControlError {
                code: code.number(),
                message: message.into(),
                primary: None,
            }),
        )
            .into_response(),
    )
}

impl Control {
    /// Whom a rotation of keys waits for.
    fn live(&self) -> keys::Live<'_> {
        (&self.roll, self.timers.db_unhealthy_interval)
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let header = headers
            .get("authorization")
            .map_or(&b""[..], |value| value.as_bytes());
        if self.keys.internal_ok(header) || self.keys.operator_ok(header) {
            Ok(())
        } else {
            Err(refuse(
                StatusCode::UNAUTHORIZED,
                Code::AccessDenied,
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
                Code::AccessDenied,
                "a webapp's key may not do this; use a machine with the cluster key",
            ))
        }
    }

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Refusal> {
        let (sender, answer) = oneshot::channel();
        let busy = || {
            refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                Code::Overloaded,
                "the master's main loop does not answer; try again",
            )
        };
        self.requests.try_send(make(sender)).map_err(|_| busy())?;
        match tokio::time::timeout(ANSWER_WITHIN, answer).await {
            Ok(Ok(value)) => Ok(value),
            _ => Err(busy()),
        }
    }

    /// Waits for the verbs before.
    async fn turn(&self) -> Result<MutexGuard<'_, ()>, Refusal> {
        let turn = tokio::time::timeout(ANSWER_WITHIN, self.turn.lock()).await;
        turn.map_err(|_| {
            refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                Code::Overloaded,
                "another verb is being written; try again",
            )
        })
    }

    /// The same for what touches secrets: only where the administrator asked, whose token the database knows. `work` is told
    /// the user.
    async fn serve_administrator<F>(
        &self,
        token: &str,
        work: impl FnOnce(String) -> F,
    ) -> Result<Response, Refusal>
    where
        F: Future<Output = Result<Served, DbError>>,
    {
        let asked = async {
            match asker::administrator(&self.db, token).await? {
                Ok(username) => work(username).await,
                Err(refused) => Ok(refused),
            }
        };
        self.serve(asked).await
    }

    /// Does what a call of the public API asks of the primary master, behind those before it, and tells every node.
    async fn serve(
        &self,
        work: impl Future<Output = Result<Served, DbError>>,
    ) -> Result<Response, Refusal> {
        let _turn = self.turn().await?;
        if !self.ask(Request::Status).await?.primary {
            return Err(refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                Code::NotPrimaryMaster,
                "this master is not primary",
            ));
        }
        let served = match tokio::time::timeout(SERVED_WITHIN, work).await {
            Ok(Ok(served)) => served,
            Ok(Err(error)) => return Err(unread(&error.brief())),
            Err(_) => return Err(unread("the database did not answer in time")),
        };
        if !matches!(served, Served::Refused { .. }) {
            // The application settings may be among what was changed: they are in force here first.
            let reading = intervals::read(&self.db, &self.timers);
            self.read_row(FRESH_WITHIN, reading).await;
        }
        Ok(Json(served).into_response())
    }

    /// The loop takes over what a row says now. Without an answer in time it goes on with what it knows, and reads again by
    /// itself; then this is false.
    async fn read_row(
        &self,
        within: Duration,
        reading: impl Future<Output = Result<Reading, DbError>>,
    ) -> bool {
        match tokio::time::timeout(within, reading).await {
            Ok(Ok(reading)) => self
                .ask(|told| Request::Written(reading, told))
                .await
                .is_ok(),
            Ok(Err(error)) => {
                tracing::warn!(error = %error.brief(), "a stored row could not be read again; trying again within 0.5 s");
                false
            }
            Err(_) => {
                tracing::warn!(
                    "the database did not answer in time; reading the row again within 0.5 s"
                );
                false
            }
        }
    }

    /// The loop's shard map and node table are as new as this call; false as above.
    async fn read_map(&self, within: Duration) -> bool {
        let read = self.ask(Request::ReadMap);
        let read = matches!(tokio::time::timeout(within, read).await, Ok(Ok(true)));
        if !read {
            tracing::warn!(
                "the shard map could not be read again in time; going on with the last one"
            );
        }
        read
    }

    /// The table of nodes that this master shows is as new as this call; false as above.
    async fn read_table(&self, within: Duration) -> bool {
        let read = tokio::time::timeout(within, self.directory.fresh()).await;
        let read = matches!(read, Ok(true));
        if !read {
            tracing::warn!(
                "the node table could not be read again in time; going on with the last one"
            );
        }
        read
    }

    /// What the loop judges a verb by, and knows it by afterwards; false as above.
    async fn read_for(&self, verb: &Verb, within: Duration) -> bool {
        match verb {
            Verb::Pause { .. } => self.read_row(within, pauses::read(&self.db)).await,
            Verb::Drain { .. } | Verb::Failover { .. } | Verb::AckServer | Verb::Adopt => {
                self.read_map(within).await
            }
            // Whoever asks for the cluster's state is shown the table, beside what the map says.
            Verb::Forget { .. } => {
                let (map, table) = tokio::join!(self.read_map(within), self.read_table(within));
                map && table
            }
            // In the loop alone.
            Verb::Ack { .. } | Verb::RetryEvents { .. } | Verb::RevokeTokens { .. } => true,
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
    let _turn = control.turn().await.map_err(|r| *r)?;
    control.read_map(FRESH_WITHIN).await;
    let asked = wish.clone();
    let mut answer = control
        .ask(|sender| Request::Switchover(asked, sender))
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

async fn operate(
    State(control): State<Control>,
    headers: HeaderMap,
    Json(wish): Json<OperatorRequest>,
) -> Result<Response, Response> {
    control.check_operator(&headers).map_err(|r| *r)?;
    let _turn = control.turn().await.map_err(|r| *r)?;
    control.read_for(&wish.verb, FRESH_WITHIN).await;
    let asked = wish.clone();
    let mut answer = control
        .ask(|sender| Request::Operate(asked, sender))
        .await
        .map_err(|r| *r)?;
    if answer.accepted && !wish.dry_run {
        let written = tokio::time::timeout(
            ANSWER_WITHIN,
            operate::write(&control.db, &control.directory, &wish, &answer.message),
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

async fn webhooks(
    State(control): State<Control>,
    headers: HeaderMap,
    Json(wish): Json<crate::api::parked::Wish>,
) -> Result<Response, Response> {
    control.check_operator(&headers).map_err(|r| *r)?;
    let _turn = control.turn().await.map_err(|r| *r)?;
    if !control.ask(Request::Status).await.map_err(|r| *r)?.primary {
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

async fn keys_now(
    State(control): State<Control>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    let read = tokio::time::timeout(ANSWER_WITHIN, keys::read(&control.db, control.live()));
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
    let _turn = control.turn().await.map_err(|r| *r)?;
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

fn unread(why: &str) -> Refusal {
    refuse(StatusCode::SERVICE_UNAVAILABLE, Code::NotReady, why)
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
    let _turn = control.turn().await.map_err(|r| *r)?;
    control.read_map(FRESH_WITHIN).await;
    let answer = control
        .ask(|sender| Request::ShardCount(wish, sender))
        .await
        .map_err(|r| *r)?;
    Ok(Json(answer).into_response())
}

async fn admit_registration(
    State(control): State<Control>,
    headers: HeaderMap,
    Json(wish): Json<RegistrationRequest>,
) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    let _turn = control.turn().await.map_err(|r| *r)?;
    let status = control.ask(Request::Status).await.map_err(|r| *r)?;
    if !status.primary {
        let answer = RegistrationAnswer {
            attempt: None,
            elsewhere: true,
            message: "this master is not primary (1017); ask the primary master".into(),
        };
        return Ok(Json(answer).into_response());
    }
    let admitted = registration::admit(&control.db, &status.node, wish);
    let answer = match tokio::time::timeout(ANSWER_WITHIN, admitted).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(*unread(&error.brief())),
        Err(_) => return Err(*unread("the database did not answer in time")),
    };
    let reading = registration::reading(&control.db);
    control.read_row(FRESH_WITHIN, reading).await;
    Ok(Json(answer).into_response())
}

async fn providers(
    State(control): State<Control>,
    headers: HeaderMap,
    Json(wish): Json<ProvidersRequest>,
) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    let work = |_| provider::change(&control.db, &control.keys, &wish);
    let served = control.serve_administrator(&wish.token, work);
    served.await.map_err(|r| *r)
}

async fn make_backup(
    State(control): State<Control>,
    headers: HeaderMap,
    Json(wish): Json<BackupRequest>,
) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    let work = async |by: String| backup::make(&control.db, &control.keys, (&wish, &by)).await;
    let served = control.serve_administrator(&wish.token, work);
    served.await.map_err(|r| *r)
}

async fn restore_backup(
    State(control): State<Control>,
    headers: HeaderMap,
    Json(wish): Json<RestoreRequest>,
) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    let work = async |by: String| backup::restore(&control.db, &control.keys, (&wish, &by)).await;
    let served = control.serve_administrator(&wish.token, work);
    served.await.map_err(|r| *r)
}

async fn settings_changed(
    State(control): State<Control>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    let reading = intervals::read(&control.db, &control.timers);
    control.read_row(FRESH_WITHIN, reading).await;
    if control
        .ask(Request::SettingsChanged)
        .await
        .map_err(|r| *r)?
    {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(*refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            Code::NotPrimaryMaster,
            "this master is not primary",
        ))
    }
}

async fn measured(
    State(control): State<Control>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    Ok(Json(control.figures.measured()).into_response())
}

async fn figures_db(
    State(control): State<Control>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    counted(control.figures.counted(&control.db)).await
}

/// As webapps of the release before ask for it.
async fn stats_db(
    State(control): State<Control>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    counted(control.db.counts()).await
}

async fn counted<T: serde::Serialize>(
    counting: impl Future<Output = Result<T, DbError>>,
) -> Result<Response, Response> {
    match tokio::time::timeout(COUNTED_WITHIN, counting).await {
        Ok(Ok(counts)) => Ok(Json(counts).into_response()),
        Ok(Err(error)) => Err(*refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            Code::Database,
            &error.brief(),
        )),
        Err(_) => Err(*refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            Code::Database,
            "the database did not answer in time",
        )),
    }
}
