//! What a webapp asks for an administrator of the public API. Each call is a deed that carries the administrator's
//! own token (`net/deed.rs`), and the master looks it up in its own database: a webapp's key alone changes nothing here. Each call
//! leaves a line in the audit, beside that of the webapp: whoever calls a master without a webapp leaves this one.
//! Decides nothing.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;

use super::audit::{self, Line};
use super::control::{
    ANSWER_WITHIN, Control, FRESH_WITHIN, Refusal, SERVED_WITHIN, refuse, unknown, unread,
};
use super::deeds::end;
use super::opened::Peer;
use super::request::Request as Wanted;
use super::{asker, backup, opened, provider, registration as registering};
use crate::api::control::{RegistrationAnswer, RegistrationRequest, ShardsAnswer, ShardsRequest};
use crate::api::served::{BackupRequest, ProvidersRequest, RestoreRequest, Served};
use crate::api::v1::code::Code;
use crate::db::DbError;
use crate::member::audit::Entry;

/// Where it was sent to, the administrator's token, who called, and what is asked for.
type Call = (Uri, Extension<SecretString>, Extension<Peer>, Bytes);

/// Who asked, and for what.
enum Asked<T> {
    /// The user's name, and the line of the call.
    By(String, T, Line),
    /// Nobody who may: why, for the client.
    Nobody(Served),
}

/// What an administrator asked, whose token the database knows now. Whoever has none leaves the line of a stranger: a webapp's key is
/// not proof of an administrator.
async fn asked<T: DeserializeOwned + audit::Asked>(
    control: &Control,
    (uri, Extension(token), Extension(Peer(peer)), body): Call,
) -> Result<Asked<T>, Response> {
    let what = format!("an administrator's call at {}", uri.path());
    let hash = asker::token_hash(token.expose_secret());
    let found = tokio::time::timeout(SERVED_WITHIN, asker::administrator(&control.db, &hash));
    let unreadable = |why: &str| {
        opened::tell(control, peer, &what, why);
        *unread(why)
    };
    let by = match found.await {
        Ok(Ok(Ok(by))) => by,
        Ok(Ok(Err(refused))) => {
            opened::tell(control, peer, &what, audit::Said::message(&refused));
            return Ok(Asked::Nobody(refused));
        }
        Ok(Err(error)) => return Err(unreadable(&error.brief())),
        Err(_) => return Err(unreadable("the database did not answer in time")),
    };
    match serde_json::from_slice::<T>(&body) {
        Ok(wish) => {
            let line = Line::of_administrator(&control.audit, &wish, (&by, peer));
            Ok(Asked::By(by, wish, line))
        }
        Err(error) => {
            let why = format!("this release does not know this call: {error}; upgrade the masters");
            let entry = Entry::new(&by, &peer.to_string(), &what, &format!("refused: {why}"));
            control.audit.write(entry);
            Err(*refuse(StatusCode::BAD_REQUEST, Code::InvalidRequest, &why))
        }
    }
}

/// Does what touches secrets.
async fn serve<T, F>(
    control: &Control,
    call: Call,
    work: impl FnOnce(String, T) -> F,
) -> Result<Response, Response>
where
    T: DeserializeOwned + audit::Asked,
    F: Future<Output = Result<Served, DbError>>,
{
    match asked(control, call).await? {
        Asked::By(by, wish, line) => Ok(end(line, control.serve(work(by, wish)).await)),
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
    call: Call,
) -> Result<Response, Response> {
    match asked::<ShardsRequest>(&control, call).await? {
        Asked::By(by, wish, line) => {
            tracing::info!(by, "an administrator asks for another count of shards");
            Ok(end(line, counted(&control, wish).await))
        }
        Asked::Nobody(why) => {
            let answer = ShardsAnswer {
                accepted: false,
                before: 0,
                message: words(why),
            };
            Ok(Json(answer).into_response())
        }
    }
}

async fn counted(control: &Control, wish: ShardsRequest) -> Result<ShardsAnswer, Refusal> {
    let _turn = control.turn().await?;
    control.read_map(FRESH_WITHIN).await;
    control.ask(|sender| Wanted::ShardCount(wish, sender)).await
}

pub(super) async fn registration(
    State(control): State<Control>,
    call: Call,
) -> Result<Response, Response> {
    match asked::<RegistrationRequest>(&control, call).await? {
        Asked::By(_, wish, line) => Ok(end(line, let_in(&control, wish).await)),
        Asked::Nobody(why) => {
            let answer = RegistrationAnswer {
                attempt: None,
                elsewhere: false,
                message: words(why),
            };
            Ok(Json(answer).into_response())
        }
    }
}

async fn let_in(
    control: &Control,
    wish: RegistrationRequest,
) -> Result<RegistrationAnswer, Refusal> {
    let _turn = control.turn().await?;
    let status = control.ask(Wanted::Status).await?;
    if !status.primary {
        return Ok(RegistrationAnswer {
            attempt: None,
            elsewhere: true,
            message: "this master is not primary (1017); ask the primary master".into(),
        });
    }
    let admitted = registering::admit(&control.db, &status.node, wish);
    let answer = match tokio::time::timeout(ANSWER_WITHIN, admitted).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(unknown(&error.brief())),
        Err(_) => return Err(unknown("the database did not answer in time")),
    };
    let reading = registering::reading(&control.db);
    control.read_row(FRESH_WITHIN, reading).await;
    Ok(answer)
}

pub(super) async fn providers(
    State(control): State<Control>,
    call: Call,
) -> Result<Response, Response> {
    let work =
        async |_, wish: ProvidersRequest| provider::change(&control.db, &control.keys, &wish).await;
    serve(&control, call, work).await
}

pub(super) async fn make_backup(
    State(control): State<Control>,
    call: Call,
) -> Result<Response, Response> {
    let work = async |by: String, wish: BackupRequest| {
        backup::make(&control.db, &control.keys, (&wish, &by)).await
    };
    serve(&control, call, work).await
}

pub(super) async fn restore_backup(
    State(control): State<Control>,
    call: Call,
) -> Result<Response, Response> {
    let work = async |by: String, wish: RestoreRequest| {
        backup::restore(&control.db, &control.keys, (&wish, &by)).await
    };
    serve(&control, call, work).await
}
