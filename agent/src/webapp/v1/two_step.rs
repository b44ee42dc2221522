//! `/v1/settings/account/two-step`: the pin of the number.

use crate::api::error::ApiError;
use crate::webapp::answer::unknown_path;

/// Set the pin of the two-step verification.
#[utoipa::path(post, path = "/v1/settings/account/two-step", tag = "settings",
    responses((status = 200)))]
pub async fn set() -> ApiError {
    unknown_path().await
}

/// Clear the pin: the Cloud API has no call for it.
#[utoipa::path(delete, path = "/v1/settings/account/two-step", tag = "settings",
    responses((status = 200)))]
pub async fn clear() -> ApiError {
    unknown_path().await
}
