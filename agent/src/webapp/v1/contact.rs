//! `/v1/contacts`. `api/v1/contact.rs` judges and answers.

use crate::api::error::ErrorBody;
use crate::api::v1::Meta;
use crate::api::v1::contact::{self, ContactsAnswer};
use crate::api::v1::fields::Fields;
use crate::webapp::answer::{Answer, Body, ok};

/// Look numbers up. Every number that can be one is `valid`; nothing is asked upstream.
#[utoipa::path(post, path = "/v1/contacts", tag = "contacts",
    responses((status = 200, body = ContactsAnswer), (status = 400, body = ErrorBody)))]
pub async fn look_up(Body(body): Body) -> Answer {
    Ok(ok(&ContactsAnswer {
        contacts: contact::answer(&mut Fields::parse(&body)?)?,
        meta: Meta::default(),
    }))
}
