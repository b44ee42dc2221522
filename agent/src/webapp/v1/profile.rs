//! `/v1/settings/profile`: the about text and the photo.

use crate::api::error::ApiError;
use crate::webapp::answer::unknown_path;

/// Read the about text of the profile.
#[utoipa::path(get, path = "/v1/settings/profile/about", tag = "settings",
    responses((status = 200)))]
pub async fn about() -> ApiError {
    unknown_path().await
}

/// Change the about text of the profile.
#[utoipa::path(patch, path = "/v1/settings/profile/about", tag = "settings",
    responses((status = 200)))]
pub async fn change_about() -> ApiError {
    unknown_path().await
}

/// The photo of the profile, or a link to it.
#[utoipa::path(get, path = "/v1/settings/profile/photo", tag = "settings",
    responses((status = 200)))]
pub async fn photo() -> ApiError {
    unknown_path().await
}

/// Replace the photo of the profile.
#[utoipa::path(post, path = "/v1/settings/profile/photo", tag = "settings",
    responses((status = 200)))]
pub async fn change_photo() -> ApiError {
    unknown_path().await
}

/// Delete the photo of the profile.
#[utoipa::path(delete, path = "/v1/settings/profile/photo", tag = "settings",
    responses((status = 200)))]
pub async fn delete_photo() -> ApiError {
    unknown_path().await
}
