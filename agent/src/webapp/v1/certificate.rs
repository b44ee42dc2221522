//! `/v1/certificates`: of the public port, and of webhook servers.

use crate::api::error::ApiError;
use crate::webapp::answer::unknown_path;

/// Replace the certificate of the public port.
#[utoipa::path(post, path = "/v1/certificates/external", tag = "certificates",
    responses((status = 200)))]
pub async fn store() -> ApiError {
    unknown_path().await
}

/// The certificate authority of the public port.
#[utoipa::path(get, path = "/v1/certificates/external/ca", tag = "certificates",
    responses((status = 200)))]
pub async fn ca() -> ApiError {
    unknown_path().await
}

/// The certificate authorities that webhook servers are checked with.
#[utoipa::path(get, path = "/v1/certificates/webhooks/ca", tag = "certificates",
    responses((status = 200)))]
pub async fn webhook_ca() -> ApiError {
    unknown_path().await
}

/// Replace the certificate authorities that webhook servers are checked with.
#[utoipa::path(post, path = "/v1/certificates/webhooks/ca", tag = "certificates",
    responses((status = 200)))]
pub async fn store_webhook_ca() -> ApiError {
    unknown_path().await
}

/// Delete the certificate authorities that webhook servers are checked with.
#[utoipa::path(delete, path = "/v1/certificates/webhooks/ca", tag = "certificates",
    responses((status = 200)))]
pub async fn delete_webhook_ca() -> ApiError {
    unknown_path().await
}
