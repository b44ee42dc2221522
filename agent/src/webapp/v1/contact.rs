//! `/v1/contacts`. `api/v1/contact.rs` judges and answers.

use std::sync::Arc;

use axum::extract::State;

use crate::api::error::ErrorBody;
use crate::api::v1::Meta;
use crate::api::v1::contact::{self, ContactsAnswer};
use crate::api::v1::fields::Fields;
use crate::webapp::answer::{Answer, Body, ok};
use crate::webapp::state::Webapp;

/// Look numbers up. Every number that can be one is `valid`, in the upstream's spelling where an earlier send told it (with `[client]
/// stable_wa_id` as it was typed).
///
/// Differs from the reference: `blocking` and `force_check` change nothing, because the Cloud API has no call for it. Like the
/// reference since v2.43 it answers `valid` for every number.
#[utoipa::path(post, path = "/v1/contacts", tag = "contacts",
    responses((status = 200, body = ContactsAnswer), (status = 400, body = ErrorBody)))]
pub async fn look_up(State(webapp): State<Arc<Webapp>>, Body(body): Body) -> Answer {
    let mut contacts = contact::answer(&mut Fields::parse(&body)?)?;
    let numbers: Vec<&str> = contacts.iter().filter_map(|c| c.wa_id.as_deref()).collect();
    let stable = webapp.settings.client.stable_wa_id;
    let db = webapp.db().ok().filter(|_| !stable);
    let routes = webapp.routes.of(db.as_deref(), &numbers).await;
    for wa_id in contacts.iter_mut().filter_map(|c| c.wa_id.as_mut()) {
        let spelling = routes
            .get(wa_id.as_str())
            .and_then(|route| route.spelling.as_ref());
        if let Some(spelling) = spelling {
            wa_id.clone_from(spelling);
        }
    }
    Ok(ok(&ContactsAnswer {
        contacts,
        meta: Meta::default(),
    }))
}
