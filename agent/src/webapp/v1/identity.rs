//! `/v1/contacts/{wa_id}/identity`.

use crate::api::error::ApiError;
use crate::webapp::answer::unknown_path;

/// The identity of a customer, as the upstream told it last.
#[utoipa::path(get, path = "/v1/contacts/{wa_id}/identity", tag = "contacts",
    params(("wa_id" = String, Path)),
    responses((status = 200)))]
pub async fn read() -> ApiError {
    unknown_path().await
}

/// Acknowledge the changed identity of a customer.
#[utoipa::path(put, path = "/v1/contacts/{wa_id}/identity", tag = "contacts",
    params(("wa_id" = String, Path)),
    responses((status = 200)))]
pub async fn acknowledge() -> ApiError {
    unknown_path().await
}
