//! `/v1/account/shards`: how many shards the cluster has. The primary master changes the count.
//! Waits until the map says so.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;

use crate::api::control;
use crate::api::error::{ApiError, ErrorBody};
use crate::api::v1::Meta;
use crate::api::v1::account::{Shards, ShardsAnswer, wanted_shards};
use crate::api::v1::code::Code;
use crate::api::v1::fields::Fields;
use crate::sys::clock;
use crate::webapp::answer::{Answer, Body, created, ok};
use crate::webapp::primary;
use crate::webapp::state::Webapp;
use crate::webapp::tokens::Token;

/// One call to the primary master.
const MASTER_DEADLINE: Duration = Duration::from_secs(3);
/// How often the map is read while it changes.
const POLL: Duration = Duration::from_millis(20);
/// How long a new reading of the map may take.
const FRESH_WITHIN: Duration = Duration::from_millis(500);

/// How many shards the cluster has.
#[utoipa::path(get, path = "/v1/account/shards", tag = "account",
    responses((status = 200, body = ShardsAnswer), (status = 403, body = ErrorBody)))]
pub async fn shards(State(webapp): State<Arc<Webapp>>) -> Answer {
    // Another webapp may have answered a change a moment ago. Without a database this one says what it knows.
    webapp.map.fresh(FRESH_WITHIN).await;
    Ok(ok(&shards_answer(&webapp)?))
}

fn shards_answer(webapp: &Webapp) -> Result<ShardsAnswer, ApiError> {
    match webapp.map.now().count {
        0 => Err(ApiError::with(
            Code::NotReady,
            "The shard map is not there yet",
        )),
        shards => Ok(ShardsAnswer {
            account: Shards { shards },
            meta: Meta::default(),
        }),
    }
}

/// Change how many shards the cluster has. Answers when the map says so; requests wait meanwhile. `cc`, `phone_number`,
/// `pin` and `cert` of the reference API are taken and not needed: the Cloud API knows the number by its id.
///
/// Differs from the reference: `cert` and `pin` are not needed, because the Cloud API knows the number by its id, and one number
/// may have any count of shards here.
#[utoipa::path(post, path = "/v1/account/shards", tag = "account",
    responses((status = 201, body = ShardsAnswer), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub async fn change_shards(
    State(webapp): State<Arc<Webapp>>,
    Extension(token): Extension<Token>,
    Body(body): Body,
) -> Answer {
    let wanted = wanted_shards(&mut Fields::parse(&body)?)?;
    // The documented answer to a change that cannot be made now.
    let not_now = |details: &str| ApiError::with(Code::NotReady, details).status(403);
    let wish = control::ShardsRequest {
        shards: wanted,
        dry_run: false,
    };
    let asked = (&wish, &token);
    let said = primary::call(&webapp, control::path::SHARDS, asked, MASTER_DEADLINE).await;
    let said = said.map_err(|error| match error.code {
        Code::NotReady => error.status(403),
        _ => error,
    })?;
    let answer: Option<control::ShardsAnswer> =
        said.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let answer = answer.ok_or_else(|| primary::unknown("GET /v1/account/shards"))?;
    if !answer.accepted {
        return Err(not_now(&answer.message));
    }
    let until = clock::now() + webapp.settings.timers.hold_timeout;
    // Only what was read after the master's answer counts: this webapp's copy may be from before an earlier change.
    let done = async || {
        let map = webapp.map.fresh(FRESH_WITHIN).await;
        map.is_some_and(|map| map.count == wanted)
    };
    while !done().await {
        if clock::now() >= until {
            return Err(not_now(
                "The change was asked for and is not done yet; look at GET /v1/account/shards",
            ));
        }
        clock::sleep(POLL).await;
    }
    Ok(created(&shards_answer(&webapp)?))
}
