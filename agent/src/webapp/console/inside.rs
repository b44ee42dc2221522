//! Who may open the pages: whoever is logged in. Others are led to the form.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::html;

use super::frame::alone;
use super::guard;
use super::words::{Tongue, Word};
use crate::api::error::ApiError;
use crate::net::door::Entry;
use crate::webapp::state::Webapp;

/// Lets users in who are logged in; sends others to the form, or says so where a script asked.
pub async fn users(
    State(webapp): State<Arc<Webapp>>,
    mut request: Request,
    next: Next,
) -> Response {
    let script = request.uri().path().ends_with("/live");
    let visitor = match guard::visitor(&webapp, request.headers()).await {
        Ok(Some(visitor)) => visitor,
        Ok(None) if script => return StatusCode::UNAUTHORIZED.into_response(),
        Ok(None) => return Redirect::to("/console/login").into_response(),
        // The session may be good: whoever is logged in is told what is wrong, and not sent away.
        Err(error) => return failed(guard::tongue(request.headers()), &error),
    };
    if let Some(entry) = request.extensions().get::<Entry>() {
        entry.known();
    }
    request.extensions_mut().insert(visitor);
    next.run(request).await
}

/// Nobody can say whether the session is good.
fn failed(tongue: Tongue, error: &ApiError) -> Response {
    let body = html! {
        p.bad role="alert" lang="en" dir="auto" { (error) }
        p lang="en" dir="auto" { "Your session is kept. Reload this page in a moment; wa-agent doctor on this machine says more." }
    };
    let status = StatusCode::from_u16(error.http_status());
    let status = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    (status, alone(tongue, Word::WhatIsWrong, &body)).into_response()
}
