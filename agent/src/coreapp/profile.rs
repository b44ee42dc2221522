//! The calls about the business itself: its profile, photo and compliance information, and whom it blocked.
//! What requests and answers look like stands in `api/cloud`; what was said a moment ago, `memory.rs` keeps.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};
use url::Url;

use super::memory::Memory;
use super::node::Node;
use super::upstream::UpstreamError;
use super::work::Work;
use crate::api::cloud::call::Call;
use crate::api::cloud::{block, profile, refusal};
use crate::api::owner::{OwnerAnswer, OwnerCall, Setback, Settled, Told};
use crate::api::v1::business::Profile;
use crate::api::v1::code::Code;
use crate::api::v1::photo::{PHOTO_LEN_MAX, Photo};
use crate::sys::clock;

/// For a call of this file; less than a webapp waits for it.
const WITHIN: Duration = Duration::from_secs(4);
/// For one with a file in it.
const FILE_WITHIN: Duration = Duration::from_secs(25);
const NO_APP: &str = "The photo cannot be changed: [upstream] app_id is not set. Write the id of the app that the access token \
                      belongs to into it, restart the coreapps, then try again";

/// Answers a webapp.
pub async fn answer(node: &Node, work: &Work, call: OwnerCall) -> OwnerAnswer {
    // The next owner has a connection, too.
    if work.held() {
        return OwnerAnswer::Setback(Setback::Busy);
    }
    let file = matches!(call, OwnerCall::ReadPhoto | OwnerCall::ChangePhoto { .. });
    let within = if file { FILE_WITHIN } else { WITHIN };
    let carried_out = tokio::time::timeout(within, carry_out(node, work, call));
    match work.stop.run_until_cancelled(carried_out).await {
        // The tenure ended in the middle of it.
        None => OwnerAnswer::Setback(Setback::Unknown),
        Some(Ok(Ok(settled))) => {
            if matches!(settled, Settled::Done | Settled::Told(_)) {
                node.upstream_seen(true);
            }
            OwnerAnswer::Settled(settled)
        }
        Some(Ok(Err(UpstreamError::Shut))) => OwnerAnswer::Setback(Setback::NotOwner),
        Some(Ok(Err(
            error @ (UpstreamError::Plain
            | UpstreamError::NoAddress
            | UpstreamError::Elsewhere(_)
            | UpstreamError::Request(_)
            | UpstreamError::Call(_)),
        ))) => {
            tracing::info!(%error, "the upstream did not answer a call about the business; answered 1011");
            OwnerAnswer::Settled(Settled::Unreachable)
        }
        Some(Err(_)) => OwnerAnswer::Settled(Settled::Unreachable),
    }
}

async fn carry_out(node: &Node, work: &Work, call: OwnerCall) -> Result<Settled, UpstreamError> {
    let memory = &work.memory;
    match call {
        OwnerCall::ReadProfile => Ok(match read_profile(work).await? {
            Ok(profile) => told(Told::Profile(profile)),
            Err(settled) => settled,
        }),
        OwnerCall::ReadCompliance => read_compliance(work).await,
        OwnerCall::ReadPhoto => read_photo(work).await,
        OwnerCall::ChangePhoto { photo } => {
            let app_id = &node.settings.upstream.app_id;
            changing(memory, change_photo(work, app_id, photo)).await
        }
        OwnerCall::ChangeProfile { change } => {
            changing(memory, done(work, Call::ChangeProfile(change))).await
        }
        OwnerCall::ChangeCompliance { info } => {
            changing(memory, done(work, Call::ChangeCompliance(info))).await
        }
        OwnerCall::Block { who } => {
            let (status, body) = work.upstream.call(&Call::Block(who.clone())).await?;
            Ok(block::settled(status.as_u16(), &body, &who))
        }
        OwnerCall::Unblock { who } => {
            let (status, body) = work.upstream.call(&Call::Unblock(who.clone())).await?;
            Ok(block::settled(status.as_u16(), &body, &who))
        }
        // Others carry these out.
        OwnerCall::Accept { .. }
        | OwnerCall::MarkRead { .. }
        | OwnerCall::LookUpTemplate { .. }
        | OwnerCall::FetchMedium { .. }
        | OwnerCall::AskRegistration(_)
        | OwnerCall::VerifyRegistration(_)
        | OwnerCall::TwoStep { .. } => Ok(Settled::Unreachable),
    }
}

fn told(told: Told) -> Settled {
    Settled::Told(Box::new(told))
}

/// Makes a change. Dropped in the middle of it, it may have been made: what was known before does not count either.
async fn changing(
    memory: &Memory,
    change: impl Future<Output = Result<Settled, UpstreamError>>,
) -> Result<Settled, UpstreamError> {
    struct Forgets<'a>(&'a Memory);
    impl Drop for Forgets<'_> {
        fn drop(&mut self) {
            self.0.forget();
        }
    }
    memory.forget();
    let _after = Forgets(memory);
    change.await
}

async fn done(work: &Work, call: Call) -> Result<Settled, UpstreamError> {
    let (status, body) = work.upstream.call(&call).await?;
    Ok(refusal::settled(status.as_u16(), &body))
}

/// An answer that reads as nothing, or is an error.
fn unread(status: StatusCode, body: &[u8]) -> Settled {
    match refusal::settled(status.as_u16(), body) {
        Settled::Done => Settled::Unreachable,
        other => other,
    }
}

async fn read_profile(work: &Work) -> Result<Result<Profile, Settled>, UpstreamError> {
    if let Some(profile) = work.memory.profile(clock::now()) {
        return Ok(Ok(profile));
    }
    let asked = work.memory.asking();
    let (status, body) = work.upstream.call(&Call::Profile).await?;
    match profile::read(&body).filter(|_| status.is_success()) {
        Some(profile) => {
            work.memory.keep_profile(asked, clock::now(), &profile);
            Ok(Ok(profile))
        }
        None => Ok(Err(unread(status, &body))),
    }
}

async fn read_compliance(work: &Work) -> Result<Settled, UpstreamError> {
    if let Some(info) = work.memory.compliance(clock::now()) {
        return Ok(told(Told::Compliance(info)));
    }
    let asked = work.memory.asking();
    let (status, body) = work.upstream.call(&Call::Compliance).await?;
    match profile::read_compliance(&body).filter(|_| status.is_success()) {
        Some(info) => {
            work.memory.keep_compliance(asked, clock::now(), &info);
            Ok(told(Told::Compliance(info)))
        }
        None => Ok(unread(status, &body)),
    }
}

async fn read_photo(work: &Work) -> Result<Settled, UpstreamError> {
    if let Some(photo) = work.memory.photo(clock::now()) {
        return Ok(told(Told::Photo(photo)));
    }
    // Addresses of photos grow old: one that leads nowhere is asked for once more.
    for again in [true, false] {
        let asked = work.memory.asking();
        let profile = match read_profile(work).await? {
            Ok(profile) => profile,
            Err(settled) => return Ok(settled),
        };
        let Some(link) = profile.photo else {
            return Ok(Settled::Refused {
                code: Code::NotFound,
                details: "The profile has no photo".into(),
            });
        };
        if let Some(photo) = fetch(work, &link).await? {
            work.memory.keep_photo(asked, clock::now(), &photo);
            return Ok(told(Told::Photo(photo)));
        }
        if again {
            work.memory.forget();
        }
    }
    Ok(Settled::Unreachable)
}

/// The file at an address; `None`: there is none that is a photo.
async fn fetch(work: &Work, link: &str) -> Result<Option<Photo>, UpstreamError> {
    let Ok(link) = Url::parse(link) else {
        return Ok(None);
    };
    let answer = work.upstream.fetch_picture(&link).await?;
    if answer.status() != StatusCode::OK {
        return Ok(None);
    }
    let body = Limited::new(answer.into_body(), PHOTO_LEN_MAX);
    let bytes = body.collect().await.map(|body| body.to_bytes());
    Ok(bytes.ok().and_then(|bytes| Photo::of_client(bytes).ok()))
}

/// Begins an upload, sends the bytes, and makes them the photo. An upload that nobody knows of harms nobody.
async fn change_photo(work: &Work, app_id: &str, photo: Photo) -> Result<Settled, UpstreamError> {
    if app_id.is_empty() {
        return Ok(Settled::Refused {
            code: Code::AccessDenied,
            details: NO_APP.into(),
        });
    }
    let begin = Call::BeginUpload {
        app_id: app_id.to_owned(),
        photo: photo.clone(),
    };
    let word = |(status, body): (StatusCode, Bytes), read: fn(&[u8]) -> Option<String>| {
        let word = read(&body).filter(|_| status.is_success());
        word.ok_or_else(|| unread(status, &body))
    };
    let begun = match word(work.upstream.call(&begin).await?, profile::begun) {
        Ok(begun) => begun,
        Err(settled) => return Ok(settled),
    };
    let sent = work.upstream.upload(&begun, photo.bytes, FILE_WITHIN).await;
    match word(sent?, profile::handle) {
        Ok(handle) => done(work, Call::ChangePhoto { handle }).await,
        Err(settled) => Ok(settled),
    }
}
