//! The control port: looks, behind the credential of calls between nodes, and what is common to the calls that change something
//! (`deeds.rs`, `asked.rs`); `port.rs` serves all of them. Decides nothing: it asks the driver's loop, with a deadline.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};

use arc_swap::ArcSwapOption;
use wa_core::roll::Roll;

use super::directory::Directory;
use super::figures::Source;
use super::fresh::Reading;
use super::request::Request;
use super::{intervals, keys, pauses};
use crate::api::act::Acts;
use crate::api::control::{ControlError, Verb};
use crate::api::served::Served;
use crate::api::v1::code::Code;
use crate::config::{Settings, Timers};
use crate::db::{Db, DbError};
use crate::member::audit::Audit;
use crate::net::deed::{CHALLENGE_LEN_MAX, Taker};
use crate::net::keys::Keys;
use crate::net::udp;

/// How long the loop may take to answer.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// What a call of the public API may wait for the database.
pub(super) const SERVED_WITHIN: Duration = Duration::from_secs(6);
/// How long a verb waits for what it is judged by to be read again; then it is judged by what is known.
pub(super) const FRESH_WITHIN: Duration = Duration::from_millis(500);
/// A verb is stored, and its answer must not claim more.
pub(super) const NOT_YET: &str = ". It is stored, but this master could not read it back yet: it acts by it within half a second of the \
     database's next answer";

#[derive(Clone)]
pub(super) struct Control {
    pub keys: Keys,
    /// Lets calls in that change something.
    pub taker: Arc<Taker>,
    requests: mpsc::Sender<Request>,
    pub db: Db,
    /// What this master remembers of the node table.
    roll: Arc<std::sync::Mutex<Roll>>,
    figures: Source,
    timers: Arc<Timers>,
    pub directory: Arc<Directory>,
    /// Who had something changed, or tried to.
    pub audit: Arc<Audit>,
    /// Verbs that write, one after the other: each is judged by what the one before has written.
    turn: Arc<Mutex<()>>,
    /// What administrators may have done by a console.
    pub acts: Acts,
}

pub(super) type Refusal = Box<Response>;

/// Why a call came to nothing, for the audit: it goes along with the answer as an extension.
#[derive(Debug, Clone)]
pub(super) struct Why {
    pub message: String,
    /// Nothing was done; else nobody knows.
    pub nothing_done: bool,
}

fn answer(status: StatusCode, code: Code, why: Why) -> Refusal {
    let error = ControlError {
        code: code.number(),
        message: why.message.clone(),
        primary: None,
        unknown: !why.nothing_done,
    };
    let mut response = (status, Json(error)).into_response();
    response.extensions_mut().insert(why);
    Box::new(response)
}

/// Nothing was done.
pub(super) fn refuse(status: StatusCode, code: Code, message: &str) -> Refusal {
    let why = Why {
        message: message.into(),
        nothing_done: true,
    };
    answer(status, code, why)
}

/// What was begun, and perhaps done.
pub(super) fn unknown(what: &str) -> Refusal {
    let why = Why {
        message: format!(
            "whether it was done is not known: {what}; look with wa-agent status, then try again"
        ),
        nothing_done: false,
    };
    answer(StatusCode::SERVICE_UNAVAILABLE, Code::NotReady, why)
}

impl Control {
    /// Of one start of a master.
    pub fn new(
        (own, settings): (&udp::Identity, &Settings),
        (requests, directory): (mpsc::Sender<Request>, Arc<Directory>),
        (db, roll, figures): (Db, Arc<std::sync::Mutex<Roll>>, Source),
    ) -> Self {
        let of_audit = Arc::new(ArcSwapOption::from_pointee(db.clone()));
        Self {
            keys: own.keys.clone(),
            audit: Audit::start(own.node.as_str(), of_audit),
            taker: Arc::new(Taker::new(&own.keys, &own.node, own.incarnation)),
            requests,
            db,
            roll,
            figures,
            timers: Arc::new(settings.timers.clone()),
            directory,
            turn: Arc::default(),
            acts: settings.console.acts,
        }
    }

    /// Whom a rotation of keys waits for.
    pub fn live(&self) -> keys::Live<'_> {
        (&self.roll, self.timers.db_unhealthy_interval)
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let header = headers
            .get("authorization")
            .map_or(&b""[..], |value| value.as_bytes());
        if self.keys.look_ok(header) {
            Ok(())
        } else {
            Err(refuse(
                StatusCode::UNAUTHORIZED,
                Code::AccessDenied,
                "the cluster key differs",
            ))
        }
    }

    pub async fn ask<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Refusal> {
        let (sender, answer) = oneshot::channel();
        self.requests.try_send(make(sender)).map_err(|_| {
            refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                Code::Overloaded,
                "the master's main loop does not answer; try again",
            )
        })?;
        match tokio::time::timeout(ANSWER_WITHIN, answer).await {
            Ok(Ok(value)) => Ok(value),
            _ => Err(unknown("the master's main loop does not answer")),
        }
    }

    /// Whether this master is primary, before anything is done.
    pub async fn primary(&self) -> Result<bool, Refusal> {
        let status = self.ask(Request::Status).await;
        let status = status.map_err(|_| {
            refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                Code::Overloaded,
                "the master's main loop does not answer, and nothing was done; try again",
            )
        })?;
        Ok(status.primary)
    }

    /// Waits for the verbs before.
    pub async fn turn(&self) -> Result<MutexGuard<'_, ()>, Refusal> {
        let turn = tokio::time::timeout(ANSWER_WITHIN, self.turn.lock()).await;
        turn.map_err(|_| {
            refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                Code::Overloaded,
                "another verb is being written; try again",
            )
        })
    }

    /// Does what a call of the public API asks of the primary master, behind those before it, and tells every node.
    pub async fn serve(
        &self,
        work: impl Future<Output = Result<Served, DbError>>,
    ) -> Result<Served, Refusal> {
        let _turn = self.turn().await?;
        if !self.primary().await? {
            return Err(refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                Code::NotPrimaryMaster,
                "this master is not primary",
            ));
        }
        let served = match tokio::time::timeout(SERVED_WITHIN, work).await {
            Ok(Ok(served)) => served,
            Ok(Err(error)) => return Err(unknown(&error.brief())),
            Err(_) => return Err(unknown("the database did not answer in time")),
        };
        if !matches!(served, Served::Refused { .. }) {
            // The application settings may be among what was changed: they are in force here first.
            let reading = intervals::read(&self.db, &self.timers);
            self.read_row(FRESH_WITHIN, reading).await;
        }
        Ok(served)
    }

    /// The loop takes over what a row says now. Without an answer in time it goes on with what it knows, and reads again by
    /// itself; then this is false.
    pub async fn read_row(
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
    pub async fn read_map(&self, within: Duration) -> bool {
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
    pub async fn read_for(&self, verb: &Verb, within: Duration) -> bool {
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

/// What a node shows that wants a nonce answered.
#[derive(serde::Deserialize)]
pub(super) struct Asking {
    challenge: String,
}

/// For everybody: it takes no room here, and says no more than who answers.
pub(super) async fn nonce(
    State(control): State<Control>,
    Query(Asking { challenge }): Query<Asking>,
) -> Result<Response, StatusCode> {
    match challenge.len() <= CHALLENGE_LEN_MAX {
        true => Ok(Json(control.taker.nonce(&challenge)).into_response()),
        false => Err(StatusCode::BAD_REQUEST),
    }
}

pub(super) async fn status(
    State(control): State<Control>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    Ok(Json(control.ask(Request::Status).await.map_err(|r| *r)?).into_response())
}

pub(super) async fn keys_now(
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

pub(super) fn unread(why: &str) -> Refusal {
    refuse(StatusCode::SERVICE_UNAVAILABLE, Code::NotReady, why)
}

pub(super) async fn explain(
    State(control): State<Control>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    let answer = control.ask(Request::Explain).await.map_err(|r| *r)?;
    Ok(Json(answer).into_response())
}

pub(super) async fn settings_changed(
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

pub(super) async fn measured(
    State(control): State<Control>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    Ok(Json(control.figures.measured()).into_response())
}

pub(super) async fn figures_db(
    State(control): State<Control>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    counted(control.figures.counted(&control.db)).await
}

/// As webapps of the release before ask for it.
pub(super) async fn stats_db(
    State(control): State<Control>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    control.check(&headers).map_err(|r| *r)?;
    counted(control.figures.summed(&control.db)).await
}

async fn counted<T: serde::Serialize>(
    counting: impl Future<Output = Result<T, String>>,
) -> Result<Response, Response> {
    match counting.await {
        Ok(counts) => Ok(Json(counts).into_response()),
        Err(why) => Err(*refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            Code::Database,
            &why,
        )),
    }
}
