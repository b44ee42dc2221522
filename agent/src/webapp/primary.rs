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
/// Why it was not asked, or refused who asked: nothing was done. `None`: nobody knows whether it was done.
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
    taken(webapp.do_for(at, path, (wish, token), within).await)
}

/// What a client is told, by what is known of the call.
fn taken(said: Result<(StatusCode, Bytes), DeedError>) -> Result<Option<Bytes>, ApiError> {
    let older = "The primary master is of an older release; upgrade the masters";
    let silent = "The primary master does not answer; nothing was done. Try again";
    match said {
        Ok((status, bytes)) if status.is_success() => Ok(Some(bytes)),
        Ok((status, bytes)) => match serde_json::from_slice::<ControlError>(&bytes) {
            // It was begun.
            Ok(said) if said.unknown => {
                tracing::warn!(
                    why = said.message,
                    "the primary master does not know whether it did what an administrator asked"
                );
                Ok(None)
            }
            Ok(said) => Err(refused(&said.message)),
            Err(_) if status.is_client_error() => Err(refused("it did not say why")),
            Err(_) => Ok(None),
        },
        Err(DeedError::Older(_) | DeedError::NoNonce { .. }) => {
            Err(ApiError::with(Code::NotReady, older))
        }
        Err(DeedError::Seal(error)) => Err(ApiError::with(Code::NotReady, error.to_string())),
        // No call was sent.
        Err(error @ (DeedError::Stranger(_) | DeedError::Other { .. })) => {
            tracing::error!(%error, "the primary master was not asked");
            Err(ApiError::with(Code::NotReady, silent).retry_after(1))
        }
        Err(error @ DeedError::Silent { .. }) => {
            tracing::debug!(%error, "the primary master did not answer");
            Err(ApiError::with(Code::NotReady, silent).retry_after(1))
        }
        Err(error @ DeedError::WebappKey) => Err(ApiError::with(Code::NotReady, error.to_string())),
        // Anybody between can have written it, whatever it says: it counts as no answer.
        Err(error @ (DeedError::Unproved { .. } | DeedError::Changed(_))) => {
            tracing::warn!(%error, "what an administrator asked has no proved answer");
            Ok(None)
        }
        Err(error @ DeedError::Call { .. }) => {
            tracing::warn!(%error, "what an administrator asked has no answer");
            Ok(None)
        }
    }
}

fn refused(why: &str) -> ApiError {
    ApiError::with(
        Code::NotReady,
        format!("The primary master refused the call: {why}"),
    )
}

/// What a client is told where nobody knows whether it was done. `look`: where it can see that.
pub fn unknown(look: &str) -> ApiError {
    ApiError::with(
        Code::NotReady,
        format!(
            "Whether it was done is not known: the primary master did not say so in time. Look at {look}, then try again"
        ),
    )
}

/// Asks the primary master for an administrator, and hands out the text of its answer.
///
/// # Errors
/// What it refused, as it said; 1011 with 503 when it did not say whether it was done: then the call may be made again.
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
        None => Err(unknown("what is in force now, by a GET")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::client::CallError;

    fn control(unknown: bool) -> Bytes {
        let error = ControlError {
            code: Code::NotReady.number(),
            message: "as the master says".into(),
            primary: None,
            unknown,
        };
        serde_json::to_vec(&error).expect("JSON").into()
    }

    /// Goal: a client reads "refused" only where nothing was done, and never where nobody knows. Method: every end of a call to the primary
    /// master.
    #[test]
    fn what_nobody_knows_is_not_called_refused() {
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        let at = || "http://192.0.2.1:6255".to_owned();
        let why = || CallError::Connect("refused".into());
        let unproved = |status| DeedError::Unproved {
            at: at(),
            status,
            said: String::new(),
        };
        let unknown = [
            Ok((busy, control(true))),
            Ok((StatusCode::INTERNAL_SERVER_ERROR, Bytes::new())),
            Err(unproved(StatusCode::NOT_FOUND)),
            Err(unproved(busy)),
            Err(DeedError::Changed(at())),
            Err(DeedError::Call {
                at: at(),
                why: CallError::Broken("in the middle".into()),
            }),
        ];
        for said in unknown {
            let words = format!("{said:?}");
            assert_eq!(taken(said), Ok(None), "{words}");
        }
        let nothing_done = [
            (
                Ok((busy, control(false))),
                "refused the call: as the master says",
            ),
            (
                Ok((StatusCode::FORBIDDEN, Bytes::new())),
                "refused the call: it did not say why",
            ),
            (Err(DeedError::Older(at())), "upgrade the masters"),
            (
                Err(DeedError::Silent {
                    at: at(),
                    why: why(),
                }),
                "nothing was done",
            ),
            (Err(DeedError::Stranger(at())), "nothing was done"),
        ];
        for (said, part) in nothing_done {
            let error = taken(said).expect_err("nothing was done");
            let details = format!("{error:?}");
            assert!(details.contains(part), "{part} in {details}");
        }
        let done = taken(Ok((StatusCode::OK, Bytes::from_static(b"{}"))));
        assert_eq!(done, Ok(Some(Bytes::from_static(b"{}"))));
    }
}
