//! `/v1/account` and `/v1/account/verify`: the registration of the number.

use crate::api::error::ApiError;
use crate::webapp::answer::unknown_path;

/// Register the number: told that it is registered, or ask for a code.
#[utoipa::path(post, path = "/v1/account", tag = "account",
    responses((status = 200)))]
pub async fn ask() -> ApiError {
    unknown_path().await
}

/// Register with the code that came.
#[utoipa::path(post, path = "/v1/account/verify", tag = "account",
    responses((status = 200)))]
pub async fn verify() -> ApiError {
    unknown_path().await
}
