//! `/v1/certificates`: of the public port, and of webhook servers. What is stored is in force on every node within two seconds.
//! What a certificate must be is in `net/certificate.rs`; who serves it in `webapp/certificate.rs`.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use crate::api::error::{ApiError, ErrorBody};
use crate::api::v1::MetaOnly;
use crate::api::v1::code::Code;
use crate::db::DbError;
use crate::db::setting::Change;
use crate::member::certificate::{Unsent, WebhookCa, send};
use crate::member::settings::{self, Row, Stored};
use crate::net::certificate::{self, Wrong};
use crate::sys::clock;
use crate::webapp::answer::{Answer, Body, database, ok};
use crate::webapp::certificate::{Certificates, Keeper};
use crate::webapp::state::Webapp;

fn now_s() -> i64 {
    i64::try_from(clock::wall_ms() / 1000).unwrap_or(i64::MAX)
}

fn not_valid(wrong: Wrong) -> ApiError {
    ApiError::invalid(wrong.to_string())
}

fn nothing(what: &str) -> ApiError {
    ApiError::with(Code::NotFound, what)
}

/// PEM, as it is.
fn text(pem: String) -> Response {
    ([(header::CONTENT_TYPE, "application/x-pem-file")], pem).into_response()
}

/// Who keeps the certificate of the public port; a refusal where the configuration has the say.
fn keeper(webapp: &Webapp) -> Result<&Arc<Keeper>, ApiError> {
    let denied = |why: &str| Err(ApiError::with(Code::AccessDenied, why));
    match &webapp.certificates {
        Certificates::Kept(keeper) => Ok(keeper),
        Certificates::Files(_) => denied(
            "The certificate comes from the files that [webapp] tls_cert and tls_key name; write the new one there",
        ),
        Certificates::Off => denied(
            "The public port speaks no TLS ([webapp] tls = \"off\"): send the certificate to what ends TLS in front of it, or set \
             tls = \"self-signed\" and restart the webapps",
        ),
    }
}

/// Replaces a row, whatever it holds.
async fn replace<S: Row + Clone>(webapp: &Webapp, row: S) -> Result<(), ApiError> {
    let db = webapp.db()?;
    let write = |_: Stored<S>| Ok::<_, Infallible>(Change::Write(row.clone(), ()));
    match settings::change(&db, write).await {
        Ok(Ok(())) => Ok(()),
        Err(error) => Err(stored(&error)),
    }
}

/// What is said of a row that could not be written.
fn stored(error: &DbError) -> ApiError {
    match error {
        DbError::Crowded(_) => ApiError::with(Code::Overloaded, "Too many changes at once"),
        error => database(error),
    }
}

/// Replace the certificate of the public port: PEM, the server's certificate first, then its chain, and the private key.
///
/// Differs from the reference: where the configuration has the say (`tls = "off"`, or files) it is refused with 403 and 1005,
/// because it would not be in force.
#[utoipa::path(post, path = "/v1/certificates/external", tag = "certificates",
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, body = MetaOnly), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 413, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn store(State(webapp): State<Arc<Webapp>>, Body(body): Body) -> Answer {
    let keeper = keeper(&webapp)?;
    let served = certificate::served(&body, now_s()).map_err(not_valid)?;
    let db = webapp.db()?;
    let sent = send(&db, keeper.keys(), &served.chain, &served.key).await;
    sent.map_err(|unsent| match unsent {
        Unsent::Seal(error) => ApiError::with(Code::NotReady, error.to_string()),
        Unsent::Database(error) => stored(&error),
    })?;
    // In force here with the answer; the others look often.
    keeper.look().await;
    Ok(ok(&MetaOnly::default()))
}

/// The certificate authority of the public port, or its self-signed certificate: what clients have to trust.
#[utoipa::path(get, path = "/v1/certificates/external/ca", tag = "certificates",
    responses((status = 200, body = String, content_type = "application/x-pem-file"), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn ca(State(webapp): State<Arc<Webapp>>) -> Answer {
    let Some(shown) = webapp.certificates.shown() else {
        return Err(nothing("The public port speaks no TLS"));
    };
    let authority = certificate::authority_of(&shown.chain());
    authority.map(text).ok_or_else(|| {
        nothing("The chain of the public port ends below its certificate authority, which is not known here")
    })
}

/// The certificate authorities that webhook servers are checked with, beside those of the system.
#[utoipa::path(get, path = "/v1/certificates/webhooks/ca", tag = "certificates",
    responses((status = 200, body = String, content_type = "application/x-pem-file"), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn webhook_ca(State(webapp): State<Arc<Webapp>>) -> Answer {
    let stored = settings::read::<WebhookCa>(&*webapp.db()?).await;
    let stored = stored.map_err(|e| database(&e))?.or_default();
    match stored.certificates.is_empty() {
        true => Err(nothing(
            "No certificate authority of webhook servers is stored",
        )),
        false => Ok(text(stored.certificates)),
    }
}

/// Replace the certificate authorities that webhook servers are checked with: PEM, one or more.
#[utoipa::path(post, path = "/v1/certificates/webhooks/ca", tag = "certificates",
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, body = MetaOnly), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 413, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn store_webhook_ca(State(webapp): State<Arc<Webapp>>, Body(body): Body) -> Answer {
    let certificates = certificate::authorities(&body, now_s()).map_err(not_valid)?;
    replace(&webapp, WebhookCa { certificates }).await?;
    Ok(ok(&MetaOnly::default()))
}

/// Delete the certificate authorities that webhook servers are checked with; those of the system stay.
#[utoipa::path(delete, path = "/v1/certificates/webhooks/ca", tag = "certificates",
    responses((status = 200, body = MetaOnly), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub async fn delete_webhook_ca(State(webapp): State<Arc<Webapp>>) -> Answer {
    replace(&webapp, WebhookCa::default()).await?;
    Ok(ok(&MetaOnly::default()))
}
