//! The one way to the primary master for calls of the public API that it serves.
//! Finds it, asks it once, and keeps nothing of what was asked: secrets pass through.

use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use serde::Serialize;

use super::state::Webapp;
use super::tokens::Token;
use super::v1::setting::primary_master;
use crate::api::control::ControlError;
use crate::api::error::ApiError;
use crate::api::served::Served;
use crate::api::v1::code::Code;
use crate::net::doer::{At, DeedError};

/// One call: longer than the master waits for its database.
const WITHIN: Duration = Duration::from_secs(8);

/// One answer of the primary master to what an administrator asked.
///
/// # Errors
/// Why it was not asked, or refused who asked: nothing was done. `None`: it did not answer, and the call may have been done.
pub async fn call<T: Serialize + Sync>(
    webapp: &Webapp,
    path: &str,
    (wish, token): (&T, &Token),
    within: Duration,
) -> Result<Option<Bytes>, ApiError> {
    let control = primary_master(webapp).await?;
    let known = webapp.map.now().master.clone();
    let known = known.filter(|(_, url)| *url == control);
    let at = At {
        base: &control,
        node: known.as_ref().map(|(node, _)| node.as_str()),
    };
    let older = "The primary master is of an older release; upgrade the masters";
    match webapp.do_for(at, path, (wish, token), within).await {
        Ok((status, bytes)) if status.is_success() => Ok(Some(bytes)),
        Ok((status, bytes)) if status.is_client_error() => Err(refused(&bytes)),
        Ok((StatusCode::SERVICE_UNAVAILABLE, bytes)) if said(&bytes).is_some() => {
            Err(refused(&bytes))
        }
        Err(
            DeedError::Older(_)
            | DeedError::NoNonce { .. }
            | DeedError::Unproved {
                status: StatusCode::NOT_FOUND,
                ..
            },
        ) => Err(ApiError::with(Code::NotReady, older)),
        Err(DeedError::Seal(error)) => Err(ApiError::with(Code::NotReady, error.to_string())),
        Err(error @ (DeedError::Stranger(_) | DeedError::Other { .. })) => {
            tracing::error!(%error, "the primary master was not asked");
            Ok(None)
        }
        // Anybody between can have written it: it counts as no answer.
        Err(error @ (DeedError::Unproved { .. } | DeedError::Changed(_))) => {
            tracing::warn!(%error, "what an administrator asked has no proved answer");
            Ok(None)
        }
        Err(error @ (DeedError::Call { .. } | DeedError::Silent { .. })) => {
            tracing::debug!(%error, "the primary master did not answer");
            Ok(None)
        }
        Ok(_) | Err(DeedError::WebappKey) => Ok(None),
    }
}

/// Why a master does not do it.
fn said(bytes: &[u8]) -> Option<String> {
    let error: ControlError = serde_json::from_slice(bytes).ok()?;
    Some(error.message)
}

fn refused(bytes: &[u8]) -> ApiError {
    let why = said(bytes).unwrap_or_else(|| "it did not say why".into());
    ApiError::with(
        Code::NotReady,
        format!("The primary master refused the call: {why}"),
    )
}

/// Asks the primary master for an administrator, and hands out the text of its answer.
///
/// # Errors
/// What it refused, as it said; 1011 with 503 when it did not answer: then the call may have been done, and may be made again.
pub async fn ask<T: Serialize + Sync>(
    webapp: &Webapp,
    path: &str,
    (wish, token): (&T, &Token),
) -> Result<Option<String>, ApiError> {
    let said = call(webapp, path, (wish, token), WITHIN).await?;
    let served = said.and_then(|bytes| serde_json::from_slice(&bytes).ok());
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
