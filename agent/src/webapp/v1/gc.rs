//! `/v1/services`: garbage collection by hand.

use crate::api::error::ApiError;
use crate::webapp::answer::unknown_path;

/// Delete messages that are finished; told by callbacks.
#[utoipa::path(put, path = "/v1/services/message/gc", tag = "services",
    responses((status = 200)))]
pub async fn messages() -> ApiError {
    unknown_path().await
}

/// Delete media that is not used any more; told by a callback.
#[utoipa::path(put, path = "/v1/services/media/gc", tag = "services",
    responses((status = 200)))]
pub async fn media() -> ApiError {
    unknown_path().await
}
