//! Who may be written to while `show_security_notifications` is on: nobody whose identity key changed and was not acknowledged.
//! Keeps no keys: owners do, from the messages of customers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use wa_core::identity::Standing;

use super::state::Webapp;
use crate::api::error::ApiError;
use crate::api::v1::code::Code;
use crate::api::v1::who::Recipient;
use crate::db::Db;
use crate::log::seldom;

/// For one look; without an answer nothing is said against a message.
const WITHIN: Duration = Duration::from_millis(500);

/// Refuses a message to a customer whose changed key the business has not acknowledged. While it does not want to hear of changes
/// the store is not asked.
///
/// # Errors
/// 1028.
pub async fn check(webapp: &Webapp, db: Option<&Db>, to: &Recipient) -> Result<(), ApiError> {
    let wanted = &webapp.map.security_notifications;
    let Some(db) = db.filter(|_| wanted.load(Ordering::Relaxed)) else {
        return Ok(());
    };
    let key = match tokio::time::timeout(WITHIN, db.key_of(to)).await {
        Ok(Ok(key)) => key,
        Ok(Err(error)) => {
            seldom!(
                tracing::warn!(error = %error.brief(), "identity keys could not be looked up; the message is taken without")
            );
            return Ok(());
        }
        Err(_) => return Ok(()),
    };
    match key.is_some_and(|key| key.standing == Standing::Changed) {
        false => Ok(()),
        true => Err(ApiError::with(
            Code::IdentityNotAcknowledged,
            format!(
                "The identity of {to} changed; acknowledge it with PUT /v1/contacts/{to}/identity",
                to = to.as_str()
            ),
        )),
    }
}
