//! `/v1/settings/application/media/providers`: what links are fetched with.

use crate::api::error::ApiError;
use crate::webapp::answer::unknown_path;

/// The media providers, without their secrets.
#[utoipa::path(get, path = "/v1/settings/application/media/providers", tag = "settings",
    responses((status = 200)))]
pub async fn list() -> ApiError {
    unknown_path().await
}

/// Store media providers by name; the others stay.
#[utoipa::path(post, path = "/v1/settings/application/media/providers", tag = "settings",
    responses((status = 200)))]
pub async fn store() -> ApiError {
    unknown_path().await
}

/// Delete a media provider.
#[utoipa::path(delete, path = "/v1/settings/application/media/providers/{name}", tag = "settings",
    params(("name" = String, Path)),
    responses((status = 200)))]
pub async fn delete() -> ApiError {
    unknown_path().await
}
