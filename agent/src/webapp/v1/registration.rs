//! `/v1/account` and `/v1/account/verify`: the registration of the number. The primary master lets one in at a time, the owner of
//! the first shard carries it out.
//! Keeps nothing of what it brings along: pins and codes go to the owner only.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::{Extension, Json};

use crate::api::control::{RegistrationAnswer, RegistrationRequest, path};
use crate::api::error::{ApiError, ErrorBody};
use crate::api::owner::OwnerCall;
use crate::api::registration::{Asked, Outcome, Verified};
use crate::api::v1::MetaOnly;
use crate::api::v1::account::{
    AccountRequest, CodeSentAnswer, VerifyRequest, proof, wanted_registration,
};
use crate::api::v1::code::Code;
use crate::api::v1::fields::Fields;
use crate::webapp::answer::{Answer, Body, created};
use crate::webapp::primary;
use crate::webapp::state::Webapp;
use crate::webapp::tokens::Token;

/// One call to the primary master.
const MASTER_DEADLINE: Duration = Duration::from_secs(3);
/// When another one may be let in, in seconds.
const BUSY_S: u32 = 10;

/// Register the number. 201: it is registered. 202: WhatsApp sent a code to it, which `POST /v1/account/verify` takes.
///
/// Differs from the reference: `cert` is not needed, because the Cloud API knows the name of a number by itself. A number that is
/// connected already is answered 201.
#[utoipa::path(post, path = "/v1/account", tag = "account", request_body = AccountRequest,
    responses((status = 201, body = MetaOnly), (status = 202, body = CodeSentAnswer), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 403, body = ErrorBody), (status = 429, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub async fn ask(
    State(webapp): State<Arc<Webapp>>,
    Extension(token): Extension<Token>,
    Body(body): Body,
) -> Answer {
    let own = webapp.settings.upstream.phone_number.as_deref();
    let wanted = wanted_registration(&mut Fields::parse(&body)?, own)?;
    let attempt = admitted(&webapp, &token, RegistrationRequest::Ask).await?;
    let call = OwnerCall::AskRegistration(Asked {
        attempt,
        method: wanted.method,
        number: own.is_none().then_some(wanted.number),
        pin: wanted.pin,
    });
    answer(webapp.owners.ask_first(call).await?)
}

/// Register the number with the code that came.
///
/// Differs from the reference: without a pin the answer is 1008 and the code is still good, because the Cloud API registers no number
/// without one. `backup` is additional: a backup of the reference client.
#[utoipa::path(post, path = "/v1/account/verify", tag = "account", request_body = VerifyRequest,
    responses((status = 201, body = MetaOnly), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn verify(
    State(webapp): State<Arc<Webapp>>,
    Extension(token): Extension<Token>,
    Body(body): Body,
) -> Answer {
    let proof = proof(&mut Fields::parse(&body)?)?;
    let attempt = admitted(&webapp, &token, RegistrationRequest::Verify).await?;
    let call = OwnerCall::VerifyRegistration(Verified {
        attempt,
        code: proof.code,
        pin: proof.pin,
        backup: proof.backup,
    });
    answer(webapp.owners.ask_first(call).await?)
}

/// The attempt that the primary master let in.
async fn admitted(
    webapp: &Webapp,
    token: &Token,
    wish: RegistrationRequest,
) -> Result<u64, ApiError> {
    let asked = (&wish, token);
    let said = primary::call(webapp, path::REGISTRATION, asked, MASTER_DEADLINE).await?;
    let answer: Option<RegistrationAnswer> =
        said.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(answer) = answer else {
        let why = "The primary master did not say whether it let the registration in; nothing was asked of WhatsApp. Try again: if it \
                   was let in, that is answered 429 until its time is over";
        return Err(ApiError::with(Code::NotReady, why).retry_after(1));
    };
    match answer.attempt {
        Some(attempt) => Ok(attempt),
        None if answer.elsewhere => Err(ApiError::with(Code::NotPrimaryMaster, answer.message)),
        None => Err(ApiError::with(Code::TooManyRequests, answer.message).retry_after(BUSY_S)),
    }
}

/// The documented answers.
fn answer(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Registered => Ok(created(&MetaOnly::default())),
        Outcome::CodeSent { vname } => {
            let body = Json(CodeSentAnswer::of(vname));
            Ok((StatusCode::ACCEPTED, body).into_response())
        }
        Outcome::Failed {
            code,
            details,
            retry_after_s,
        } => Err(ApiError {
            retry_after_s,
            ..ApiError::with(code, details)
        }),
    }
}

#[cfg(test)]
#[path = "registration_tests.rs"]
mod tests;
