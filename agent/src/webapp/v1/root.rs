//! `GET /`: whether this webapp is up, for whoever has no login. `HEAD` is answered by the same row.
//! Asks nobody else: the cluster is told by `/v1/health`.

use axum::response::Response;

use crate::api::v1::MetaOnly;
use crate::webapp::answer::ok;

/// This webapp is up.
#[utoipa::path(get, path = "/", tag = "monitoring", responses((status = 200, body = MetaOnly)))]
pub async fn root() -> Response {
    ok(&MetaOnly::default())
}
