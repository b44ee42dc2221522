//! What every form that changes something goes through: it comes from a page of this session, and leaves a line in the audit.
//! Changes nothing itself: the handlers of the API do.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Form;
use axum::extract::{FromRequest as _, Request};
use axum::http::{Method, StatusCode};
use axum::response::IntoResponse as _;

use super::guard::{self, Visitor};
use crate::api::error::ApiError;
use crate::api::v1::code::Code;
use crate::webapp::audited::Open;
use crate::webapp::auth::source_of;
use crate::webapp::state::Webapp;

/// What a form sent.
#[derive(Debug, Default)]
pub struct Sent(Vec<(String, String)>);

impl Sent {
    /// A field; `None`: the form does not have it.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A field without blanks around it; empty where there is none.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default().trim()
    }

    /// Everything that is ticked under a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(key, _)| key == name);
        named.map(|(_, value)| value.as_str())
    }

    /// For tests.
    #[cfg(test)]
    pub fn of(fields: &[(&str, &str)]) -> Self {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Self(fields.iter().map(owned).collect())
    }
}

/// Reads a form, and says where it comes from.
pub async fn sent(
    webapp: &Webapp,
    visitor: &Visitor,
    request: Request,
) -> (IpAddr, Result<Sent, ApiError>) {
    let source = source_of(&webapp.settings, request.headers(), request.extensions());
    let foreign = guard::is_foreign(request.headers());
    let fields = Form::<Vec<(String, String)>>::from_request(request, &()).await;
    let sent = match fields {
        Ok(Form(fields)) if !foreign => Ok(Sent(fields)),
        Ok(_) => Err(not_ours()),
        Err(_) => Err(ApiError::with(
            Code::InvalidRequest,
            "The form was not whole, or too long. Reload the page and try again",
        )),
    };
    let ours = |sent: Sent| match visitor.sent(sent.get("form").unwrap_or_default()) {
        true => Ok(sent),
        false => Err(not_ours()),
    };
    (source, sent.and_then(ours))
}

fn not_ours() -> ApiError {
    ApiError::with(
        Code::AccessDenied,
        "The form was not sent by a page of this session, and nothing was changed. Reload the page and try again",
    )
}

/// Refuses who is no administrator.
///
/// # Errors
/// 1005 with 403.
pub fn administrator(visitor: &Visitor) -> Result<(), ApiError> {
    match visitor.caller.admin {
        true => Ok(()),
        false => Err(ApiError::with(
            Code::AccessDenied,
            "Only the administrator may do this",
        )),
    }
}

/// Begins the line in the audit, in the words of the call of the API that does the same.
pub fn begin(
    webapp: &Arc<Webapp>,
    visitor: &Visitor,
    (call, method, path): (&str, &Method, &str),
    source: IpAddr,
) -> Open {
    let line = Open::begin(webapp, (call, method, path), source);
    line.trace().shown(&visitor.caller.username);
    line
}

/// Ends it.
pub fn end<T>(line: Open, outcome: &Result<T, ApiError>) {
    line.trace().add("(in the console)");
    match outcome {
        Ok(_) => line.answered(&StatusCode::OK.into_response()),
        Err(error) => line.answered(&error.clone().into_response()),
    }
}
