//! `/v1/stickerpacks`.

use crate::api::error::ApiError;
use crate::webapp::answer::unknown_path;

/// The sticker packs.
#[utoipa::path(get, path = "/v1/stickerpacks", tag = "stickerpacks",
    responses((status = 200)))]
pub async fn packs() -> ApiError {
    unknown_path().await
}

/// Create a sticker pack.
#[utoipa::path(post, path = "/v1/stickerpacks", tag = "stickerpacks",
    responses((status = 200)))]
pub async fn create() -> ApiError {
    unknown_path().await
}

/// One sticker pack.
#[utoipa::path(get, path = "/v1/stickerpacks/{pack}", tag = "stickerpacks",
    params(("pack" = String, Path)),
    responses((status = 200)))]
pub async fn pack() -> ApiError {
    unknown_path().await
}

/// Change a sticker pack.
#[utoipa::path(patch, path = "/v1/stickerpacks/{pack}", tag = "stickerpacks",
    params(("pack" = String, Path)),
    responses((status = 200)))]
pub async fn change() -> ApiError {
    unknown_path().await
}

/// Delete a sticker pack.
#[utoipa::path(delete, path = "/v1/stickerpacks/{pack}", tag = "stickerpacks",
    params(("pack" = String, Path)),
    responses((status = 200)))]
pub async fn delete() -> ApiError {
    unknown_path().await
}

/// The stickers of a pack.
#[utoipa::path(get, path = "/v1/stickerpacks/{pack}/stickers", tag = "stickerpacks",
    params(("pack" = String, Path)),
    responses((status = 200)))]
pub async fn stickers() -> ApiError {
    unknown_path().await
}

/// Add a sticker to a pack.
#[utoipa::path(post, path = "/v1/stickerpacks/{pack}/stickers", tag = "stickerpacks",
    params(("pack" = String, Path)),
    responses((status = 200)))]
pub async fn add() -> ApiError {
    unknown_path().await
}

/// One sticker of a pack.
#[utoipa::path(get, path = "/v1/stickerpacks/{pack}/stickers/{index}", tag = "stickerpacks",
    params(("pack" = String, Path)),
    params(("index" = String, Path)),
    responses((status = 200)))]
pub async fn sticker() -> ApiError {
    unknown_path().await
}

/// Change a sticker of a pack.
#[utoipa::path(patch, path = "/v1/stickerpacks/{pack}/stickers/{index}", tag = "stickerpacks",
    params(("pack" = String, Path)),
    params(("index" = String, Path)),
    responses((status = 200)))]
pub async fn change_sticker() -> ApiError {
    unknown_path().await
}

/// Delete a sticker of a pack.
#[utoipa::path(delete, path = "/v1/stickerpacks/{pack}/stickers/{index}", tag = "stickerpacks",
    params(("pack" = String, Path)),
    params(("index" = String, Path)),
    responses((status = 200)))]
pub async fn delete_sticker() -> ApiError {
    unknown_path().await
}
