//! `/v1/settings/business`: the profile of the business, and what the law of India wants to know.
//! `api/v1/business.rs` judges; the owner of shard 0 asks the upstream.

use std::sync::Arc;

use axum::extract::State;

use crate::api::error::{ApiError, ErrorBody};
use crate::api::owner::{OwnerCall, Told};
use crate::api::v1::MetaOnly;
use crate::api::v1::business::{
    BusinessProfile, BusinessProfileAnswer, Compliance, ComplianceAnswer, Profile, ProfileChange,
};
use crate::api::v1::code::Code;
use crate::api::v1::fields::Fields;
use crate::webapp::answer::{Answer, Body, ok};
use crate::webapp::state::Webapp;

/// An owner that answers something else than it was asked for.
pub fn other_answer() -> ApiError {
    ApiError::with(
        Code::NotReady,
        "The owner of the number gave no answer to this; try again",
    )
}

/// The profile as the owner knows it.
pub async fn read_profile(webapp: &Webapp) -> Result<Profile, ApiError> {
    match webapp.owners.told(OwnerCall::ReadProfile).await? {
        Told::Profile(profile) => Ok(profile),
        Told::Compliance(_) | Told::Photo(_) => Err(other_answer()),
    }
}

/// Read the business profile. What another tool changed at WhatsApp is seen after a minute at most.
/// Differs from the reference: `vertical` is the word of the Cloud API (`RETAIL`), because that is what the upstream keeps.
#[utoipa::path(get, path = "/v1/settings/business/profile", tag = "settings",
    responses((status = 200, body = BusinessProfileAnswer), (status = 503, body = ErrorBody)))]
pub async fn profile(State(webapp): State<Arc<Webapp>>) -> Answer {
    Ok(ok(&read_profile(&webapp).await?.business()))
}

/// Change the business profile: what is named changes, an empty text is taken away.
/// Differs from the reference: `vertical` takes its documented texts and the words of the Cloud API; any other text is refused with
/// 1009, because the Cloud API knows no others.
#[utoipa::path(post, path = "/v1/settings/business/profile", tag = "settings", request_body = BusinessProfile,
    responses((status = 200, body = MetaOnly), (status = 400, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn change_profile(State(webapp): State<Arc<Webapp>>, Body(body): Body) -> Answer {
    let change = ProfileChange::of_business(&mut Fields::parse(&body)?)?;
    let call = OwnerCall::ChangeProfile { change };
    webapp.owners.ask(call).await?;
    Ok(ok(&MetaOnly::default()))
}

async fn read_compliance(webapp: &Webapp, below_profile: bool) -> Answer {
    match webapp.owners.told(OwnerCall::ReadCompliance).await? {
        Told::Compliance(info) => Ok(ok(&info.answer(below_profile))),
        Told::Profile(_) | Told::Photo(_) => Err(other_answer()),
    }
}

async fn store_compliance(webapp: &Webapp, body: &[u8]) -> Answer {
    let info = Compliance::of_client(&mut Fields::parse(body)?)?;
    let call = OwnerCall::ChangeCompliance { info };
    webapp.owners.ask(call).await?;
    Ok(ok(&MetaOnly::default()))
}

/// Read the compliance information. A business that never set any gets an empty object.
#[utoipa::path(get, path = "/v1/settings/business/compliance_info", tag = "settings",
    responses((status = 200, body = ComplianceAnswer), (status = 503, body = ErrorBody)))]
pub async fn compliance(State(webapp): State<Arc<Webapp>>) -> Answer {
    read_compliance(&webapp, false).await
}

/// Change the compliance information. Which of its fields must be there, WhatsApp decides.
#[utoipa::path(post, path = "/v1/settings/business/compliance_info", tag = "settings", request_body = Compliance,
    responses((status = 200, body = MetaOnly), (status = 400, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn change_compliance(State(webapp): State<Arc<Webapp>>, Body(body): Body) -> Answer {
    store_compliance(&webapp, &body).await
}

/// Read the compliance information, below the path of the profile: the answer has it there, too.
#[utoipa::path(get, path = "/v1/settings/business/profile/compliance_info", tag = "settings",
    responses((status = 200, body = ComplianceAnswer), (status = 503, body = ErrorBody)))]
pub async fn compliance_beside_the_profile(State(webapp): State<Arc<Webapp>>) -> Answer {
    read_compliance(&webapp, true).await
}

/// Change the compliance information, below the path of the profile.
#[utoipa::path(post, path = "/v1/settings/business/profile/compliance_info", tag = "settings", request_body = Compliance,
    responses((status = 200, body = MetaOnly), (status = 400, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn change_compliance_beside_the_profile(
    State(webapp): State<Arc<Webapp>>,
    Body(body): Body,
) -> Answer {
    store_compliance(&webapp, &body).await
}
