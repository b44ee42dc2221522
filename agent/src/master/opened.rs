//! Opens each deed before its handler sees it, and seals the answer (`net/deed.rs`). A caller who hangs up stops nothing: what was begun
//! goes on to its end. Whoever is refused here leaves a line in the audit, of which there are few in a minute.
//! Carries nothing out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::control::{Control, refuse};
use crate::api::control::{RegistrationAnswer, ShardsAnswer, path};
use crate::api::served::Served;
use crate::api::v1::code::Code;
use crate::member::audit::Entry;
use crate::net::deed::{self, Denied, Refused};
use crate::net::keys::Caller;
use crate::net::source;

/// For webapps of a release before, whose calls prove nothing or can be read on the way.
const OLDER: &str = "This webapp is of an older release than the primary master; upgrade it";

/// Where a deed came from: the other end of its connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub IpAddr);

fn peer(request: &Request) -> IpAddr {
    let info = request.extensions().get::<ConnectInfo<SocketAddr>>();
    info.map_or(Ipv4Addr::UNSPECIFIED.into(), |info| {
        info.0.ip().to_canonical()
    })
}

/// This refusal has its line.
#[derive(Debug, Clone, Copy)]
struct Told;

/// The same request without its body, for the handler.
fn empty(request: &Request) -> Request {
    let mut empty = Request::new(Body::empty());
    empty.method_mut().clone_from(request.method());
    empty.uri_mut().clone_from(request.uri());
    empty.extensions_mut().clone_from(request.extensions());
    empty.extensions_mut().insert(Peer(peer(request)));
    empty
}

/// Runs the handler in a task of its own: it ends also when the caller hangs up.
async fn carried_out(next: Next, request: Request) -> Response {
    let done = tokio::spawn(next.run(request)).await;
    done.unwrap_or_else(|error| {
        tracing::error!(%error, "a call that changes something ended in the middle; what was done of it is not known");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}

/// What operators ask.
pub(super) async fn of_operators(
    State(control): State<Control>,
    request: Request,
    next: Next,
) -> Response {
    let mut inner = empty(&request);
    match control.taker.operator(request).await {
        Ok((body, answering)) => {
            *inner.body_mut() = Body::from(body);
            answering.seal(carried_out(next, inner).await).await
        }
        Err(denied) => {
            let what = format!("a verb at {}", inner.uri().path());
            let why = denied.why;
            let response = if why == Refused::Older {
                older(&why.to_string())
            } else {
                refused(why)
            };
            refusal(&control, (peer(&inner), what), denied, response).await
        }
    }
}

/// What administrators ask by a webapp. The token comes as an extension.
pub(super) async fn of_administrators(
    State(control): State<Control>,
    request: Request,
    next: Next,
) -> Response {
    let mut inner = empty(&request);
    match control.taker.administrator(request).await {
        Ok(((token, body), answering)) => {
            *inner.body_mut() = Body::from(body);
            inner.extensions_mut().insert(token);
            answering.seal(carried_out(next, inner).await).await
        }
        Err(denied) => {
            let what = format!("an administrator's call at {}", inner.uri().path());
            let response = match denied.why {
                Refused::Older => older_webapp(inner.uri().path()),
                why => refused(why),
            };
            refusal(&control, (peer(&inner), what), denied, response).await
        }
    }
}

/// What operators ask, and administrators by the console of a webapp. Whose call it is stands in its head; the token of an
/// administrator comes as an extension.
pub(super) async fn of_both(control: State<Control>, request: Request, next: Next) -> Response {
    match deed::caller(request.headers()) {
        Caller::Operator => of_operators(control, request, next).await,
        Caller::Administrator => of_administrators(control, request, next).await,
    }
}

/// Writes the line of a call that is not even read, and proves the refusal where that is possible.
async fn refusal(
    control: &Control,
    (peer, what): (IpAddr, String),
    denied: Denied,
    mut response: Response,
) -> Response {
    tell(control, peer, &what, &denied.why.to_string());
    response.extensions_mut().insert(Told);
    match denied.answering {
        Some(answering) => answering.seal(response).await,
        None => response,
    }
}

/// Writes the line of a call of which nobody knows who made it. There are few in a minute.
pub(super) fn tell(control: &Control, peer: IpAddr, what: &str, why: &str) {
    let entry = Entry::new("-", &peer.to_string(), what, &format!("refused: {why}"));
    let whose = source::network(peer).to_string();
    control.audit.write_stranger(entry, &whose);
}

/// Writes the line of a call that shows nothing of this cluster, which the door turns away.
pub(super) async fn strangers(
    State(control): State<Control>,
    request: Request,
    next: Next,
) -> Response {
    let (peer, changes) = (peer(&request), request.method() != Method::GET);
    let response = next.run(request).await;
    let told = response.extensions().get::<Told>().is_some();
    if changes && !told && response.status() == StatusCode::UNAUTHORIZED {
        tell(
            &control,
            peer,
            "a call that changes something",
            "the cluster key differs",
        );
    }
    response
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

/// The same for a webapp of a release before.
fn older_webapp(path: &str) -> Response {
    match path {
        path::SHARDS => Json(ShardsAnswer {
            accepted: false,
            before: 0,
            message: OLDER.into(),
        })
        .into_response(),
        path::REGISTRATION => Json(RegistrationAnswer {
            attempt: None,
            elsewhere: false,
            message: OLDER.into(),
        })
        .into_response(),
        _ => Json(Served::refused(Code::AccessDenied, OLDER)).into_response(),
    }
}

/// A deed that is not done.
fn refused(why: Refused) -> Response {
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

#[cfg(test)]
#[path = "opened_tests.rs"]
mod tests;
