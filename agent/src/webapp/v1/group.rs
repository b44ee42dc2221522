//! `/v1/groups`: gone.

use crate::api::error::ApiError;
use crate::webapp::answer::unknown_path;

/// Groups of the reference client are gone.
#[utoipa::path(get, path = "/v1/groups", tag = "groups",
    responses((status = 200)))]
pub async fn list() -> ApiError {
    unknown_path().await
}

/// Groups of the reference client are gone.
#[utoipa::path(post, path = "/v1/groups", tag = "groups",
    responses((status = 200)))]
pub async fn create() -> ApiError {
    unknown_path().await
}

/// Groups of the reference client are gone.
#[utoipa::path(get, path = "/v1/groups/{id}", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 200)))]
pub async fn read() -> ApiError {
    unknown_path().await
}

/// Groups of the reference client are gone.
#[utoipa::path(put, path = "/v1/groups/{id}", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 200)))]
pub async fn change() -> ApiError {
    unknown_path().await
}

/// Groups of the reference client are gone.
#[utoipa::path(patch, path = "/v1/groups/{id}/admins", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 200)))]
pub async fn add_admins() -> ApiError {
    unknown_path().await
}

/// Groups of the reference client are gone.
#[utoipa::path(delete, path = "/v1/groups/{id}/admins", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 200)))]
pub async fn delete_admins() -> ApiError {
    unknown_path().await
}

/// Groups of the reference client are gone.
#[utoipa::path(delete, path = "/v1/groups/{id}/participants", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 200)))]
pub async fn delete_participants() -> ApiError {
    unknown_path().await
}

/// Groups of the reference client are gone.
#[utoipa::path(get, path = "/v1/groups/{id}/icon", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 200)))]
pub async fn icon() -> ApiError {
    unknown_path().await
}

/// Groups of the reference client are gone.
#[utoipa::path(post, path = "/v1/groups/{id}/icon", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 200)))]
pub async fn change_icon() -> ApiError {
    unknown_path().await
}

/// Groups of the reference client are gone.
#[utoipa::path(delete, path = "/v1/groups/{id}/icon", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 200)))]
pub async fn delete_icon() -> ApiError {
    unknown_path().await
}

/// Groups of the reference client are gone.
#[utoipa::path(get, path = "/v1/groups/{id}/invite", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 200)))]
pub async fn invite() -> ApiError {
    unknown_path().await
}

/// Groups of the reference client are gone.
#[utoipa::path(delete, path = "/v1/groups/{id}/invite", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 200)))]
pub async fn delete_invite() -> ApiError {
    unknown_path().await
}

/// Groups of the reference client are gone.
#[utoipa::path(post, path = "/v1/groups/{id}/leave", tag = "groups",
    params(("id" = String, Path)),
    responses((status = 200)))]
pub async fn leave() -> ApiError {
    unknown_path().await
}
