//! `/v1/contacts/{wa_id}/block` and `/unblock`.
//! `api/v1/block.rs` says who is meant; the owner asks the upstream.

use std::sync::Arc;

use axum::extract::{Path, State};

use crate::api::error::{ApiError, ErrorBody};
use crate::api::owner::OwnerCall;
use crate::api::v1::MetaOnly;
use crate::api::v1::block::{BlockReason, check, customer};
use crate::api::v1::who::Recipient;
use crate::webapp::answer::{Answer, Body, database, ok};
use crate::webapp::state::Webapp;

/// Whom a path means. An alias of ours never goes upstream: its user id does.
async fn named(webapp: &Webapp, wa_id: &str) -> Result<Recipient, ApiError> {
    let own = webapp.settings.upstream.phone_number.as_deref();
    let who = customer(wa_id, own)?;
    let Some(alias) = who.alias() else {
        return Ok(who);
    };
    let found = webapp.db()?.user_of_alias(alias).await;
    let unknown =
        || ApiError::invalid("wa_id must be a phone number, a user id, or an alias that was told");
    let user_id = found.map_err(|error| database(&error))?;
    user_id.map(Recipient::User).ok_or_else(unknown)
}

/// Block a customer, who must have written in the last 24 hours (else 2048). Who is blocked already stays so: 200.
/// Differs from the reference: `reason` is ignored, because the Cloud API has no place for it.
#[utoipa::path(post, path = "/v1/contacts/{wa_id}/block", tag = "contacts", request_body = Option<BlockReason>,
    params(("wa_id" = String, Path)),
    responses((status = 200, body = MetaOnly), (status = 400, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn block(
    State(webapp): State<Arc<Webapp>>,
    Path(wa_id): Path<String>,
    Body(body): Body,
) -> Answer {
    check(&body)?;
    let who = named(&webapp, &wa_id).await?;
    webapp.owners.ask(OwnerCall::Block { who }).await?;
    Ok(ok(&MetaOnly::default()))
}

/// Unblock a customer. Who is not blocked stays so: 200.
///
/// Differs from the reference: `reason` is ignored, because the Cloud API takes none.
#[utoipa::path(post, path = "/v1/contacts/{wa_id}/unblock", tag = "contacts", request_body = Option<BlockReason>,
    params(("wa_id" = String, Path)),
    responses((status = 200, body = MetaOnly), (status = 400, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn unblock(
    State(webapp): State<Arc<Webapp>>,
    Path(wa_id): Path<String>,
    Body(body): Body,
) -> Answer {
    check(&body)?;
    let who = named(&webapp, &wa_id).await?;
    webapp.owners.ask(OwnerCall::Unblock { who }).await?;
    Ok(ok(&MetaOnly::default()))
}
