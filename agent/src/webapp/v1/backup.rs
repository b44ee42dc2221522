//! `/v1/settings/backup` and `/v1/settings/restore`.

use crate::api::error::ApiError;
use crate::webapp::answer::unknown_path;

/// The settings and secrets, sealed with a password.
#[utoipa::path(post, path = "/v1/settings/backup", tag = "settings",
    responses((status = 200)))]
pub async fn backup() -> ApiError {
    unknown_path().await
}

/// Put the settings and secrets of a backup into force.
#[utoipa::path(post, path = "/v1/settings/restore", tag = "settings",
    responses((status = 200)))]
pub async fn restore() -> ApiError {
    unknown_path().await
}
