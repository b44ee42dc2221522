//! `/v1/contacts/{wa_id}/identity`.
//! Keeps no keys: owners do, from the messages of customers (`coreapp/identity.rs`).

use std::sync::Arc;

use axum::extract::{Path, State};
use wa_core::identity::Standing;

use crate::api::error::{ApiError, ErrorBody};
use crate::api::v1::code::Code;
use crate::api::v1::identity::{Identity, IdentityAnswer, IdentityRequest, parse};
use crate::api::v1::who::Recipient;
use crate::api::v1::{Meta, MetaOnly};
use crate::db::Db;
use crate::db::identity_key::IdentityKey;
use crate::webapp::answer::{Answer, Body, database, ok};
use crate::webapp::state::Webapp;

/// The customer that a path names.
fn customer(wa_id: &str) -> Result<Recipient, ApiError> {
    Recipient::parse(wa_id)
        .ok_or_else(|| ApiError::invalid("wa_id must be a phone number or a user id (BSUID)"))
}

/// The customer's key: the newest, where it is kept by more than one address.
async fn key(db: &Db, customer: &Recipient) -> Result<IdentityKey, ApiError> {
    let key = db.key_of(customer).await.map_err(|e| database(&e))?;
    key.ok_or_else(|| {
        ApiError::with(
            Code::NotFound,
            "No identity of this contact is known; it comes with the contact's first message",
        )
    })
}

/// The identity of a customer, as the upstream told it last. It tells identities while `show_security_notifications` is on.
///
/// Differs from the reference: 1006 until the customer has written, because the Cloud API tells identities with messages only.
#[utoipa::path(get, path = "/v1/contacts/{wa_id}/identity", tag = "contacts",
    params(("wa_id" = String, Path, description = "Phone number or user id (BSUID)")),
    responses((status = 200, body = IdentityAnswer), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
              (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn read(State(webapp): State<Arc<Webapp>>, Path(wa_id): Path<String>) -> Answer {
    let customer = customer(&wa_id)?;
    let key = key(&*webapp.db()?, &customer).await?;
    Ok(ok(&IdentityAnswer {
        identity: Identity {
            acknowledged: key.standing != Standing::Changed,
            created_timestamp: key.changed_ms,
            hash: key.hash,
        },
        meta: Meta::default(),
    }))
}

/// Acknowledge the changed identity of a customer. Messages to the customer are taken again, and go to nobody else.
#[utoipa::path(put, path = "/v1/contacts/{wa_id}/identity", tag = "contacts", request_body = IdentityRequest,
    params(("wa_id" = String, Path, description = "Phone number or user id (BSUID)")),
    responses((status = 200, body = MetaOnly), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
              (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn acknowledge(
    State(webapp): State<Arc<Webapp>>,
    Path(wa_id): Path<String>,
    Body(body): Body,
) -> Answer {
    let request = parse(&body)?;
    let customer = customer(&wa_id)?;
    let db = webapp.db()?;
    let known = key(&db, &customer).await?;
    let addresses = db.addresses_of(&customer).await;
    let addresses = addresses.map_err(|e| database(&e))?;
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let fits = known.hash == request.hash
        && db
            .acknowledge_identity(&addresses, &request.hash)
            .await
            .map_err(|e| database(&e))?;
    match fits {
        true => Ok(ok(&MetaOnly::default())),
        false => Err(ApiError::invalid(
            "hash must be the identity that GET answers for this contact",
        )),
    }
}
