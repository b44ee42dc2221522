//! Answers: how a result becomes an HTTP response, and how a request body is read within limits.
//! Knows no route.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::api::error::ApiError;
use crate::api::v1::code::Code;
use crate::db::DbError;
use crate::net::door::{Entry, Refused};

/// A client must have sent its whole body within this time.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What every handler returns.
pub type Answer = Result<Response, ApiError>;

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.body())).into_response();
        response.extensions_mut().insert(self.code);
        let waits = matches!(
            status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        );
        if let Some(seconds) = self.retry_after_s.or(waits.then_some(1)) {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            // No Basic challenge: a browser would ask its user for the administrator's password.
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A database that does not answer: 1023, to be tried again. The cause goes to the log, not to the client.
pub fn database(error: &DbError) -> ApiError {
    tracing::warn!(error = %error.brief(), "the database failed; the request is answered 1023");
    ApiError::with(Code::Database, "The database does not answer; try again").status(503)
}

/// 200 with JSON.
pub fn ok(body: &impl Serialize) -> Response {
    Json(body).into_response()
}

/// 201 with JSON.
pub fn created(body: &impl Serialize) -> Response {
    (StatusCode::CREATED, Json(body)).into_response()
}

/// A request body, whole, within the route's limit and [`BODY_TIMEOUT`]. Of a sender who is not known yet, as far as there is room.
pub struct Body(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let entry = request.extensions().get::<Entry>().cloned();
        let reading = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, state));
        let read = reading.await;
        let refused = entry.and_then(|entry| entry.refused());
        match read {
            Ok(Err(_)) if refused == Some(Refused::NoRoom) => Err(no_room()),
            Ok(Err(_)) if refused == Some(Refused::Late) => Err(too_slow()),
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(too_large())
            }
            Ok(Err(_)) => Err(ApiError::with(Code::InvalidRequest, "The body broke off")),
            Err(_) => Err(too_slow()),
        }
    }
}

/// A body that did not come in time.
fn too_slow() -> ApiError {
    ApiError::with(Code::InvalidRequest, "The body took too long").status(408)
}

/// Bodies of others, whose senders are not known yet either, take all the room there is for such.
fn no_room() -> ApiError {
    let why = "Too many bodies of unknown senders are on their way; try again";
    ApiError::with(Code::Overloaded, why)
}

/// A body that is longer than it may be.
pub fn too_large() -> ApiError {
    ApiError::with(Code::InvalidRequest, "The body is too large").status(413)
}

/// Every path that does not exist.
pub async fn unknown_path() -> ApiError {
    ApiError::with(Code::Internal, "Unknown endpoint").status(404)
}

/// A path that exists, with a method that it does not have.
pub async fn wrong_method() -> ApiError {
    ApiError::with(Code::Internal, "The endpoint does not have this method").status(405)
}
