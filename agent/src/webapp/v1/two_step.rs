//! `/v1/settings/account/two-step`: the pin of the number. The owner sets it at the upstream.
//! Keeps no pin.

use std::sync::Arc;

use axum::extract::State;

use crate::api::error::{ApiError, ErrorBody};
use crate::api::owner::OwnerCall;
use crate::api::v1::MetaOnly;
use crate::api::v1::account::{TwoStepRequest, wanted_pin};
use crate::api::v1::code::Code;
use crate::api::v1::fields::Fields;
use crate::webapp::answer::{Answer, Body, ok};
use crate::webapp::state::Webapp;

/// Set the pin of the two-step verification.
#[utoipa::path(post, path = "/v1/settings/account/two-step", tag = "settings", request_body = TwoStepRequest,
    responses((status = 200, body = MetaOnly), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn set(State(webapp): State<Arc<Webapp>>, Body(body): Body) -> Answer {
    let pin = wanted_pin(&mut Fields::parse(&body)?)?;
    webapp
        .owners
        .ask(OwnerCall::TwoStep { pin })
        .await
        .map_err(refused)?;
    Ok(ok(&MetaOnly::default()))
}

/// A refusal that has no code of an answer is no failure of ours.
fn refused(error: ApiError) -> ApiError {
    match error.code {
        Code::GenericError | Code::Generic => ApiError {
            code: Code::AccessDenied,
            ..error
        },
        _ => error,
    }
}

/// Clear the pin: the Cloud API has no call for it.
///
/// Differs from the reference: always 403 with 1005, because the Cloud API has no call that switches the two-step verification
/// off.
#[utoipa::path(delete, path = "/v1/settings/account/two-step", tag = "settings",
    responses((status = 401, body = ErrorBody), (status = 403, body = ErrorBody)))]
pub async fn clear() -> ApiError {
    ApiError::with(
        Code::AccessDenied,
        "WhatsApp's Cloud API cannot switch the pin off: switch it off in WhatsApp Manager, or set another one with POST",
    )
}
