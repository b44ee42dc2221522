//! What wraps every call: counted, let in or not, ended at its deadline, closed while this node stops; and no refusal goes
//! out that is not an error object.
//! Knows no call: `v1/calls.rs` does.

use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::{Request, State};
use axum::http::{Extensions, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::audited::Open;
use super::auth::{self, Access};
use super::state::Webapp;
use super::tokens::Caller;
use crate::api::error::ApiError;
use crate::api::v1::code::Code;
use crate::metrics::calls::CallAnswers;
use crate::net::door::Entry;
use crate::sys::clock;

/// Our own version.
const SERVER: &str = concat!("wa-agent/", env!("CARGO_PKG_VERSION"));

/// The edge of one call.
pub struct Edge {
    pub webapp: Arc<Webapp>,
    pub access: Access,
    /// How long it may take, under the settings that are in force when it comes.
    pub within: fn(&Webapp) -> Duration,
    pub answers: CallAnswers,
    /// Method and path, where the audit tells of the call.
    pub audited: Option<String>,
}

/// Every request of the public port, whatever it asks for.
pub async fn every(State(webapp): State<Arc<Webapp>>, request: Request, next: Next) -> Response {
    webapp.metrics.requests.inc();
    let mut response = next.run(request).await;
    // `meta.version` is what integrations look for; this is what really answers.
    let ours = header::HeaderValue::from_static(SERVER);
    response.headers_mut().insert(header::SERVER, ours);
    if webapp.stopping.is_cancelled() {
        // The client learns it with an answer, instead of by a connection that closes under its next request.
        let close = header::HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// A request of one call. Who may not make it is answered while the body is still unread.
pub async fn call(State(edge): State<Arc<Edge>>, request: Request, next: Next) -> Response {
    let (began, _answering) = (clock::now(), edge.answers.begin());
    let (mut parts, body) = request.into_parts();
    let line = edge.audited.as_deref().map(|call| {
        let source = auth::source_of(&edge.webapp.settings, &parts.headers, &parts.extensions);
        let asked = (call, &parts.method, parts.uri.path());
        Open::begin(&edge.webapp, asked, source)
    });
    let trace = line.as_ref().map(Open::trace);
    let answered = async {
        let (headers, extensions) = (&parts.headers, &mut parts.extensions);
        let admitted = auth::admit(&edge.webapp, edge.access, headers, extensions).await;
        if let Some(trace) = trace {
            if let Some(caller) = extensions.get::<Caller>() {
                trace.shown(&caller.username);
            }
            extensions.insert(trace);
        }
        match admitted {
            Ok(()) => {
                known(edge.access, &parts.extensions);
                next.run(Request::from_parts(parts, body)).await
            }
            Err(error) => error.into_response(),
        }
    };
    let response = match tokio::time::timeout((edge.within)(&edge.webapp), answered).await {
        Ok(response) => in_our_words(response),
        Err(_) => ApiError::with(Code::Overloaded, "The request took too long").into_response(),
    };
    if let Some(line) = line {
        line.answered(&response);
    }
    let took = clock::now().since(began);
    let bytes = length(&response);
    edge.answers.count(response.status().as_u16(), took, bytes);
    response
}

/// Whose credential stands in the head, and was good, is known before the body is read. The others are once their handlers say so.
fn known(access: Access, extensions: &Extensions) {
    match access {
        Access::User | Access::Admin | Access::Monitor => {
            if let Some(entry) = extensions.get::<Entry>() {
                entry.known();
            }
        }
        Access::Open | Access::Basic | Access::Signed => {}
    }
}

/// Bytes of body that an answer announces.
fn length(response: &Response) -> u64 {
    let exact = response.body().size_hint().exact();
    let header = || {
        let value = response.headers().get(header::CONTENT_LENGTH)?;
        value.to_str().ok()?.parse().ok()
    };
    exact.or_else(header).unwrap_or(0)
}

/// The framework's own refusals are plain text.
fn in_our_words(response: Response) -> Response {
    let status = response.status();
    let refused = status.is_client_error() || status.is_server_error();
    let json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !refused || json {
        return response;
    }
    let code = if status.is_server_error() {
        Code::Internal
    } else {
        Code::InvalidRequest
    };
    ApiError::new(code).status(status.as_u16()).into_response()
}
