//! `/v1/support`.

use crate::api::error::ApiError;
use crate::webapp::answer::unknown_path;

/// What a support engineer asks for.
#[utoipa::path(get, path = "/v1/support", tag = "monitoring",
    responses((status = 200)))]
pub async fn support() -> ApiError {
    unknown_path().await
}
