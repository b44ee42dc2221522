//! `/v1/settings/business`: the profile of the business, and what the law wants to know.

use crate::api::error::ApiError;
use crate::webapp::answer::unknown_path;

/// Read the business profile.
#[utoipa::path(get, path = "/v1/settings/business/profile", tag = "settings",
    responses((status = 200)))]
pub async fn profile() -> ApiError {
    unknown_path().await
}

/// Change the business profile.
#[utoipa::path(post, path = "/v1/settings/business/profile", tag = "settings",
    responses((status = 200)))]
pub async fn change_profile() -> ApiError {
    unknown_path().await
}

/// Read the compliance information.
#[utoipa::path(get, path = "/v1/settings/business/compliance_info", tag = "settings",
    responses((status = 200)))]
pub async fn compliance() -> ApiError {
    unknown_path().await
}

/// Change the compliance information.
#[utoipa::path(post, path = "/v1/settings/business/compliance_info", tag = "settings",
    responses((status = 200)))]
pub async fn change_compliance() -> ApiError {
    unknown_path().await
}

/// Read the compliance information.
#[utoipa::path(get, path = "/v1/settings/business/profile/compliance_info", tag = "settings",
    responses((status = 200)))]
pub async fn compliance_beside_the_profile() -> ApiError {
    unknown_path().await
}

/// Change the compliance information.
#[utoipa::path(post, path = "/v1/settings/business/profile/compliance_info", tag = "settings",
    responses((status = 200)))]
pub async fn change_compliance_beside_the_profile() -> ApiError {
    unknown_path().await
}
