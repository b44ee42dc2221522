//! `/v1/groups`: calls that the Cloud API has no counterpart for. Each answers 404 to whoever is logged in.
//! Reads nothing of a request.

use crate::api::error::{ApiError, ErrorBody};
use crate::api::v1::code::Code;

/// What every call is answered.
fn gone() -> ApiError {
    ApiError::with(
        Code::GroupUnknown,
        "WhatsApp has no groups for this API any more; send a message to each customer instead",
    )
}

/// Groups of the reference client are gone.
#[utoipa::path(get, path = "/v1/groups", tag = "groups",
    responses((status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn list() -> ApiError {
    gone()
}

/// Groups of the reference client are gone.
#[utoipa::path(post, path = "/v1/groups", tag = "groups",
    responses((status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn create() -> ApiError {
    gone()
}

/// Groups of the reference client are gone.
#[utoipa::path(get, path = "/v1/groups/{id}", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn read() -> ApiError {
    gone()
}

/// Groups of the reference client are gone.
#[utoipa::path(put, path = "/v1/groups/{id}", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn change() -> ApiError {
    gone()
}

/// Groups of the reference client are gone.
#[utoipa::path(patch, path = "/v1/groups/{id}/admins", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn add_admins() -> ApiError {
    gone()
}

/// Groups of the reference client are gone.
#[utoipa::path(delete, path = "/v1/groups/{id}/admins", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn delete_admins() -> ApiError {
    gone()
}

/// Groups of the reference client are gone.
#[utoipa::path(delete, path = "/v1/groups/{id}/participants", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn delete_participants() -> ApiError {
    gone()
}

/// Groups of the reference client are gone.
#[utoipa::path(get, path = "/v1/groups/{id}/icon", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn icon() -> ApiError {
    gone()
}

/// Groups of the reference client are gone.
#[utoipa::path(post, path = "/v1/groups/{id}/icon", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn change_icon() -> ApiError {
    gone()
}

/// Groups of the reference client are gone.
#[utoipa::path(delete, path = "/v1/groups/{id}/icon", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn delete_icon() -> ApiError {
    gone()
}

/// Groups of the reference client are gone.
#[utoipa::path(get, path = "/v1/groups/{id}/invite", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn invite() -> ApiError {
    gone()
}

/// Groups of the reference client are gone.
#[utoipa::path(delete, path = "/v1/groups/{id}/invite", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn delete_invite() -> ApiError {
    gone()
}

/// Groups of the reference client are gone.
#[utoipa::path(post, path = "/v1/groups/{id}/leave", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn leave() -> ApiError {
    gone()
}
