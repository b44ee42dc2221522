//! What a webapp asks for an administrator of the public API. Each call is a deed that carries the administrator's
//! own token (`net/deed.rs`), and the master looks it up in its own database: a webapp's key alone changes nothing here.
//! Decides nothing.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;

use super::control::{
    ANSWER_WITHIN, Control, FRESH_WITHIN, SERVED_WITHIN, refuse, unknown, unread,
};
use super::request::Request as Wanted;
use super::{asker, backup, provider, registration as registering};
use crate::api::control::{RegistrationAnswer, RegistrationRequest, ShardsAnswer, ShardsRequest};
use crate::api::served::{BackupRequest, ProvidersRequest, RestoreRequest, Served};
use crate::api::v1::code::Code;
use crate::db::DbError;

/// The administrator's token and what is asked for.
type Call = (Extension<SecretString>, Bytes);

/// Who asked, and for what.
enum Asked<T> {
    /// The user's name.
    By(String, T),
    /// Nobody who may: why, for the client.
    Nobody(Served),
}

/// What an administrator asked, whose token the database knows now.
async fn asked<T: DeserializeOwned>(
    control: &Control,
    (Extension(token), body): Call,
) -> Result<Asked<T>, Response> {
    let hash = asker::token_hash(token.expose_secret());
    let found = tokio::time::timeout(SERVED_WITHIN, asker::administrator(&control.db, &hash));
    let by = match found.await {
        Ok(Ok(Ok(by))) => by,
        Ok(Ok(Err(refused))) => return Ok(Asked::Nobody(refused)),
        Ok(Err(error)) => return Err(*unread(&error.brief())),
        Err(_) => return Err(*unread("the database did not answer in time")),
    };
    let wish = serde_json::from_slice(&body).map_err(|error| {
        let why = format!("this release does not know this call: {error}; upgrade the masters");
        *refuse(StatusCode::BAD_REQUEST, Code::InvalidRequest, &why)
    })?;
    Ok(Asked::By(by, wish))
}

/// Does what touches secrets.
async fn serve<T, F>(
    control: &Control,
    call: Call,
    work: impl FnOnce(String, T) -> F,
) -> Result<Response, Response>
where
    T: DeserializeOwned,
    F: Future<Output = Result<Served, DbError>>,
{
    match asked(control, call).await? {
        Asked::By(by, wish) => control.serve(work(by, wish)).await.map_err(|r| *r),
        Asked::Nobody(why) => Ok(Json(why).into_response()),
    }
}

/// The words of a refusal.
fn words(refused: Served) -> String {
    match refused {
        Served::Refused { details, .. } => details,
        Served::Done | Served::Text(_) => String::new(),
    }
}

pub(super) async fn shards(
    State(control): State<Control>,
    token: Extension<SecretString>,
    body: Bytes,
) -> Result<Response, Response> {
    let wish: ShardsRequest = match asked(&control, (token, body)).await? {
        Asked::By(by, wish) => {
            tracing::info!(by, "an administrator asks for another count of shards");
            wish
        }
        Asked::Nobody(why) => {
            let answer = ShardsAnswer {
                accepted: false,
                before: 0,
                message: words(why),
            };
            return Ok(Json(answer).into_response());
        }
    };
    let _turn = control.turn().await.map_err(|r| *r)?;
    control.read_map(FRESH_WITHIN).await;
    let answer = control
        .ask(|sender| Wanted::ShardCount(wish, sender))
        .await
        .map_err(|r| *r)?;
    Ok(Json(answer).into_response())
}

pub(super) async fn registration(
    State(control): State<Control>,
    token: Extension<SecretString>,
    body: Bytes,
) -> Result<Response, Response> {
    let wish: RegistrationRequest = match asked(&control, (token, body)).await? {
        Asked::By(_, wish) => wish,
        Asked::Nobody(why) => {
            let answer = RegistrationAnswer {
                attempt: None,
                elsewhere: false,
                message: words(why),
            };
            return Ok(Json(answer).into_response());
        }
    };
    let _turn = control.turn().await.map_err(|r| *r)?;
    let status = control.ask(Wanted::Status).await.map_err(|r| *r)?;
    if !status.primary {
        let answer = RegistrationAnswer {
            attempt: None,
            elsewhere: true,
            message: "this master is not primary (1017); ask the primary master".into(),
        };
        return Ok(Json(answer).into_response());
    }
    let admitted = registering::admit(&control.db, &status.node, wish);
    let answer = match tokio::time::timeout(ANSWER_WITHIN, admitted).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(*unknown(&error.brief())),
        Err(_) => return Err(*unknown("the database did not answer in time")),
    };
    let reading = registering::reading(&control.db);
    control.read_row(FRESH_WITHIN, reading).await;
    Ok(Json(answer).into_response())
}

pub(super) async fn providers(
    State(control): State<Control>,
    token: Extension<SecretString>,
    body: Bytes,
) -> Result<Response, Response> {
    let work =
        async |_, wish: ProvidersRequest| provider::change(&control.db, &control.keys, &wish).await;
    serve(&control, (token, body), work).await
}

pub(super) async fn make_backup(
    State(control): State<Control>,
    token: Extension<SecretString>,
    body: Bytes,
) -> Result<Response, Response> {
    let work = async |by: String, wish: BackupRequest| {
        backup::make(&control.db, &control.keys, (&wish, &by)).await
    };
    serve(&control, (token, body), work).await
}

pub(super) async fn restore_backup(
    State(control): State<Control>,
    token: Extension<SecretString>,
    body: Bytes,
) -> Result<Response, Response> {
    let work = async |by: String, wish: RestoreRequest| {
        backup::restore(&control.db, &control.keys, (&wish, &by)).await
    };
    serve(&control, (token, body), work).await
}
