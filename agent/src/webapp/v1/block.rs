//! `/v1/contacts/{wa_id}/block` and `/unblock`.

use crate::api::error::ApiError;
use crate::webapp::answer::unknown_path;

/// Block a customer.
#[utoipa::path(post, path = "/v1/contacts/{wa_id}/block", tag = "contacts",
    params(("wa_id" = String, Path)),
    responses((status = 200)))]
pub async fn block() -> ApiError {
    unknown_path().await
}

/// Unblock a customer.
#[utoipa::path(post, path = "/v1/contacts/{wa_id}/unblock", tag = "contacts",
    params(("wa_id" = String, Path)),
    responses((status = 200)))]
pub async fn unblock() -> ApiError {
    unknown_path().await
}
