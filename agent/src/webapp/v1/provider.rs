//! `/v1/settings/application/media/providers`: what links are fetched with.
//! Holds no secret: the primary master seals them, and owners open them.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};

use crate::api::error::{ApiError, ErrorBody};
use crate::api::provider::shown;
use crate::api::served::{ProvidersRequest, path};
use crate::api::v1::MetaOnly;
use crate::api::v1::code::Code;
use crate::api::v1::provider::{Provider, ProvidersAnswer, answer, read};
use crate::db::setting::MEDIA_PROVIDERS;
use crate::webapp::answer::{Answer, Body, database, ok};
use crate::webapp::primary;
use crate::webapp::state::Webapp;
use crate::webapp::tokens::Token;

/// The media providers, without their secrets.
#[utoipa::path(get, path = "/v1/settings/application/media/providers", tag = "settings",
    responses((status = 200, body = ProvidersAnswer), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub async fn list(State(webapp): State<Arc<Webapp>>) -> Answer {
    let row = webapp.db()?.setting(MEDIA_PROVIDERS).await;
    let (_, row) = row.map_err(|error| database(&error))?;
    let known = shown(&row).ok_or_else(|| {
        tracing::error!(
            "the row of the media providers cannot be read by this release; upgrade this machine"
        );
        ApiError::with(
            Code::Internal,
            "The stored providers cannot be read by this release",
        )
    })?;
    Ok(ok(&answer(known)))
}

/// Store media providers by name; the others stay. Takes a list, or one of them. A secret that is written as `****` stays what
/// it is, and so do `hosts` where they are not named.
///
/// Differs from the reference: `hosts` is additional, because without it whoever may send a message can have the secret sent to any
/// server.
#[utoipa::path(post, path = "/v1/settings/application/media/providers", tag = "settings",
    request_body = Vec<Provider>,
    responses((status = 200, body = MetaOnly), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn store(
    State(webapp): State<Arc<Webapp>>,
    Extension(token): Extension<Token>,
    Body(body): Body,
) -> Answer {
    let wish = ProvidersRequest {
        store: read(&body)?,
        delete: None,
    };
    primary::ask(&webapp, path::PROVIDERS, (&wish, &token)).await?;
    Ok(ok(&MetaOnly::default()))
}

/// Delete a media provider.
#[utoipa::path(delete, path = "/v1/settings/application/media/providers/{name}", tag = "settings",
    params(("name" = String, Path)),
    responses((status = 200, body = MetaOnly), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn delete(
    State(webapp): State<Arc<Webapp>>,
    Extension(token): Extension<Token>,
    Path(name): Path<String>,
) -> Answer {
    let wish = ProvidersRequest {
        store: Vec::new(),
        delete: Some(name),
    };
    primary::ask(&webapp, path::PROVIDERS, (&wish, &token)).await?;
    Ok(ok(&MetaOnly::default()))
}
