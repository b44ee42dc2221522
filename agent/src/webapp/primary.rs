//! The one way to the primary master for calls of the public API that it serves.
//! Finds it, asks it once, and keeps nothing of what was asked: secrets pass through.

use std::time::Duration;

use axum::http::Method;
use serde::Serialize;

use super::state::Webapp;
use super::v1::setting::primary_master;
use crate::api::error::ApiError;
use crate::api::served::Served;
use crate::api::v1::code::Code;

/// One call: longer than the master waits for its database.
const WITHIN: Duration = Duration::from_secs(8);

/// Asks the primary master, and hands out the text of its answer.
///
/// # Errors
/// What it refused, as it said; 1011 with 503 when it did not answer: then the call may have been done, and may be made again.
pub async fn ask<T: Serialize + Sync>(
    webapp: &Webapp,
    path: &str,
    wish: &T,
) -> Result<Option<String>, ApiError> {
    let control = primary_master(webapp).await?;
    let url = format!("{control}{path}");
    let call = webapp.call(Method::POST, &url, Some(wish), WITHIN).await;
    let served = match call {
        Ok((status, bytes)) if status.is_success() => serde_json::from_slice(&bytes).ok(),
        Ok((status, _)) if status.is_client_error() => {
            return Err(ApiError::with(
                Code::NotReady,
                "The primary master is of an older release; upgrade the masters",
            ));
        }
        Ok(_) | Err(_) => None,
    };
    match served {
        Some(Served::Done) => Ok(None),
        Some(Served::Text(text)) => Ok(Some(text)),
        Some(Served::Refused { code, details }) => Err(ApiError::with(code, details)),
        None => Err(ApiError::with(
            Code::NotReady,
            "The primary master did not answer; try again",
        )),
    }
}
