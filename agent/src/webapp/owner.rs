//! The one way to the owner of a shard: finds it in the shard map, holds while there is none, and asks again for as long as that
//! is harmless.
//! Knows no call's meaning: what is asked, and whether the answer ends it, an [`Errand`] says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};

use super::shard_map::{Map, Route};
use super::watcher::{Held, Watched};
use crate::api::error::ApiError;
use crate::api::owner::{
    OwnerAnswer, OwnerCall, OwnerRequest, PATH, Repeat, Setback, Settled, Told, Whom,
};
use crate::api::registration::Outcome;
use crate::api::v1::code::Code;
use crate::metrics::WebappMetrics;
use crate::net::client::{CallError, InternalClient};
use crate::sys::clock;

/// Requests that may wait at once, and the bytes of their messages.
pub const HELD_MAX: usize = 10_000;
/// See [`HELD_MAX`].
pub const HELD_BYTES_MAX: usize = 64 << 20;
/// An attempt that takes longer counts as waiting: the map is read often from then on.
const SLOW_ATTEMPT: Duration = Duration::from_millis(40);
const BACKOFF_MIN: Duration = Duration::from_millis(2);
const BACKOFF_MAX: Duration = Duration::from_millis(25);
/// Before an owner is asked again for what it could not settle.
const AGAIN: Duration = Duration::from_millis(200);
/// For an attempt in which the owner asks the upstream.
const UPSTREAM_WITHIN: Duration = Duration::from_secs(5);
/// For a registration: the owner asks the upstream four times at most, and the database in between.
pub const REGISTRATION_WITHIN: Duration = Duration::from_secs(60);
/// For an attempt in which a file goes to the upstream or comes from there.
const FILE_WITHIN: Duration = Duration::from_secs(30);
/// What an HTTP server says of a body that is JSON, and of a type that it does not know.
const UNKNOWN_CALL: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

/// Whom an errand is for under a map.
pub enum Place<'a> {
    Owner(&'a Route),
    /// Nobody may act at the moment, or the map was not read yet.
    Nobody,
    /// The errand is not for one owner any more: whoever made it cuts it anew.
    Scattered,
}

/// What an answer means for an errand.
pub enum Heard {
    Over,
    /// A part of it is left, which was not in the call.
    Rest,
    /// A part of it is left, which this owner cannot settle.
    Again,
    /// It is no answer to this call.
    Nonsense,
}

/// Something that is asked of an owner until it is settled.
pub trait Errand {
    /// For how many it is asked that still wait; forgets who does not.
    fn wanted(&mut self) -> usize;
    /// Whom to ask.
    fn place<'a>(&mut self, map: &'a Map) -> Place<'a>;
    /// What to ask, for an owner under this map.
    fn call(&mut self, map: &Map) -> OwnerCall;
    /// Whether it may be asked again in doubt: as the call says.
    fn repeat(&self, call: &OwnerCall) -> Repeat {
        call.repeat()
    }
    /// Takes an answer.
    fn hear(&mut self, settled: Settled) -> Heard;
}

/// How an errand ended.
pub enum End {
    /// It is settled, or nobody wants it any more.
    Over,
    /// See [`Place::Scattered`].
    Scattered,
    /// It may have been done, and may not be repeated.
    Doubt,
    /// What answers is no owner of ours, or of a version that does not fit.
    Foreign(StatusCode),
}

/// Finds owners, for all that this webapp asks of them.
pub struct Owners {
    pub map: Arc<Watched>,
    pub metrics: Arc<WebappMetrics>,
    client: InternalClient,
    /// After this an attempt that only the store answers is given up even if nobody says that the owner changed.
    store_within: Duration,
    waiting: AtomicUsize,
    waiting_bytes: AtomicUsize,
}

/// Room for one request; given back when dropped.
pub struct Room<'a> {
    owners: &'a Owners,
    bytes: usize,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.owners.waiting.fetch_sub(1, Ordering::Relaxed);
        self.owners
            .waiting_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Owners {
    /// Has asked nobody yet.
    pub fn new(
        map: Arc<Watched>,
        metrics: Arc<WebappMetrics>,
        client: InternalClient,
        store_within: Duration,
    ) -> Self {
        Self {
            map,
            metrics,
            client,
            store_within,
            waiting: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
        }
    }

    /// Room for a request that may wait.
    ///
    /// # Errors
    /// 1016 when too much waits already.
    pub fn room(&self, bytes: usize) -> Result<Room<'_>, ApiError> {
        // Counted first, checked then: at most a few requests too careful, never one too many.
        let requests = self.waiting.fetch_add(1, Ordering::Relaxed);
        let total = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let room = Room {
            owners: self,
            bytes,
        };
        if requests < HELD_MAX && total <= HELD_BYTES_MAX {
            Ok(room)
        } else {
            Err(self.overloaded())
        }
    }

    /// Too much waits.
    pub fn overloaded(&self) -> ApiError {
        self.shed(Code::Overloaded, "Too many requests wait")
    }

    /// A request that is answered 503 instead of being held for longer.
    pub fn shed(&self, code: Code, details: &str) -> ApiError {
        self.metrics.shed.inc();
        ApiError::with(code, details).retry_after(1)
    }

    /// Nobody took it within the hold.
    pub fn nobody(&self) -> ApiError {
        let why = "No coreapp took over the shard in time";
        self.map.refused.failed(why);
        self.shed(Code::NotPrimaryCoreapp, why)
    }

    /// Asks until the errand is settled or nobody waits for it. Waits without an end of its own: whoever waits has one.
    pub async fn run(&self, errand: &mut impl Errand) -> End {
        let mut changes = self.map.changes();
        let mut backoff = BACKOFF_MIN;
        let mut waits = None;
        loop {
            let wanted = errand.wanted();
            if wanted == 0 {
                return End::Over;
            }
            let map = Arc::clone(&changes.borrow_and_update());
            let setback = match errand.place(&map) {
                Place::Scattered => return End::Scattered,
                Place::Nobody => None,
                Place::Owner(route) => {
                    let call = errand.call(&map);
                    let repeat = errand.repeat(&call);
                    match self.attempt(route, call).await {
                        Attempted::Settled(status, settled) => match errand.hear(settled) {
                            Heard::Over => return End::Over,
                            Heard::Rest => continue,
                            // Only another owner can: there is no hurry.
                            Heard::Again => {
                                backoff = AGAIN;
                                None
                            }
                            Heard::Nonsense if status.is_server_error() => {
                                Some((Setback::Unknown, repeat))
                            }
                            Heard::Nonsense => return End::Foreign(status),
                        },
                        Attempted::Setback(setback) => Some((setback, repeat)),
                        Attempted::Foreign(status) => return End::Foreign(status),
                    }
                }
            };
            if setback.is_some_and(|(setback, repeat)| !setback.may_repeat(repeat)) {
                return End::Doubt;
            }
            if waits.is_none() {
                waits = Some(Waits::new(self, wanted));
            } else {
                self.map.reread();
            }
            tokio::select! {
                _ = changes.changed() => backoff = BACKOFF_MIN,
                () = clock::sleep(backoff) => backoff = (backoff * 2).min(BACKOFF_MAX),
            }
        }
    }

    /// Has one thing done that one client waits for, through a failover if need be.
    ///
    /// # Errors
    /// 1016 when too much waits already, 1018 when no owner took it in time, the code of a refusal, 1011 when the upstream did
    /// not answer, 1014 when it may have been done and may not be repeated, or no owner of ours answered.
    pub async fn ask(&self, call: OwnerCall) -> Result<(), ApiError> {
        match self.settle(call).await? {
            Settled::Done => Ok(()),
            Settled::Told(_)
            | Settled::Accepted { .. }
            | Settled::Refused { .. }
            | Settled::Registration(_)
            | Settled::Unreachable => Err(foreign()),
        }
    }

    /// Asks for something.
    ///
    /// # Errors
    /// As [`Owners::ask`].
    pub async fn told(&self, call: OwnerCall) -> Result<Told, ApiError> {
        match self.settle(call).await? {
            Settled::Told(told) => Ok(*told),
            Settled::Done
            | Settled::Accepted { .. }
            | Settled::Refused { .. }
            | Settled::Registration(_)
            | Settled::Unreachable => Err(foreign()),
        }
    }

    async fn settle(&self, call: OwnerCall) -> Result<Settled, ApiError> {
        let _room = self.room(held_bytes(&call))?;
        // Whoever gives up first is who waits for the upstream.
        let beyond = self.within(&call).saturating_sub(UPSTREAM_WITHIN);
        let mut one = One { call, answer: None };
        let within = self.map.hold_timeout() + beyond;
        let Ok(end) = tokio::time::timeout(within, self.run(&mut one)).await else {
            return Err(self.nobody());
        };
        self.map.refused.over();
        match (end, one.answer) {
            (End::Over, Some(settled @ (Settled::Done | Settled::Told(_)))) => Ok(settled),
            (End::Over, Some(Settled::Refused { code, details })) => Err(refused(code, details)),
            (End::Over, Some(Settled::Unreachable)) => Err(ApiError::with(
                Code::NotReady,
                "WhatsApp does not answer; try again",
            )),
            (End::Doubt, _) => Err(ApiError::with(
                Code::Internal,
                "Nobody knows whether this was done. Check it, then try again",
            )),
            (End::Foreign(UNKNOWN_CALL), _) => Err(ApiError::with(
                Code::NotReady,
                "The coreapp that owns the number is of an older release, which cannot do this. Upgrade it, then try again",
            )),
            (End::Foreign(status), _) => {
                tracing::error!(%status, "a coreapp refused a call; it is answered 1014");
                Err(foreign())
            }
            // One call is not scattered, is wanted while we wait, and ends with an answer of its kind.
            (End::Over, None | Some(Settled::Accepted { .. } | Settled::Registration(_)))
            | (End::Scattered, _) => Err(foreign()),
        }
    }

    /// Asks the owner of the first shard for a registration. It is never repeated in doubt.
    ///
    /// # Errors
    /// 1016 when too much waits already, 1018 when there was no owner in time, 1011 when it may have been done, or the owner is of
    /// a release that has no such call.
    pub async fn ask_first(&self, call: OwnerCall) -> Result<Outcome, ApiError> {
        let _room = self.room(0)?;
        let mut one = One { call, answer: None };
        let within = self.map.hold_timeout() + REGISTRATION_WITHIN;
        let Ok(end) = tokio::time::timeout(within, self.run(&mut one)).await else {
            return Err(self.nobody());
        };
        let doubt = |details| Err(ApiError::with(Code::NotReady, details).retry_after(60));
        match (end, one.answer) {
            (End::Over, Some(Settled::Registration(outcome))) => Ok(outcome),
            (End::Doubt, _) => doubt(
                "The owner ended in the middle of it, and it is not repeated by itself. Nobody knows yet what was done: see wa-agent \
                 status, then type POST /v1/account again",
            ),
            (End::Foreign(_), _) => doubt(
                "The owner is of an older release, which cannot register the number: install this release there",
            ),
            (End::Over | End::Scattered, _) => Err(foreign()),
        }
    }

    /// How long one attempt may take.
    fn within(&self, call: &OwnerCall) -> Duration {
        match call {
            OwnerCall::Accept { .. } => self.store_within,
            OwnerCall::MarkRead { .. }
            | OwnerCall::LookUpTemplate { .. }
            | OwnerCall::ReadProfile
            | OwnerCall::ChangeProfile { .. }
            | OwnerCall::ReadCompliance
            | OwnerCall::ChangeCompliance { .. }
            | OwnerCall::Block { .. }
            | OwnerCall::Unblock { .. } => UPSTREAM_WITHIN,
            OwnerCall::TwoStep { .. } => UPSTREAM_WITHIN,
            OwnerCall::ReadPhoto
            | OwnerCall::ChangePhoto { .. }
            | OwnerCall::FetchMedium { .. } => FILE_WITHIN,
            OwnerCall::AskRegistration(_) | OwnerCall::VerifyRegistration(_) => REGISTRATION_WITHIN,
        }
    }

    /// One call to the owner that the map names. Given up at once when the map names a later one.
    async fn attempt(&self, route: &Route, call: OwnerCall) -> Attempted {
        let Some(url) = &route.url else {
            return Attempted::Setback(Setback::NotOwner);
        };
        let within = self.within(&call);
        let request = OwnerRequest {
            shard: route.shard,
            generation: route.generation,
            epoch: route.epoch,
            call,
        };
        let body = serde_json::to_vec(&request).expect("plain data is JSON");
        let url = format!("{url}{PATH}");
        let call = self.client.call(Method::POST, &url, body, within);
        tokio::pin!(call);
        let mut changes = self.map.changes();
        let mut held = None;
        let answer = loop {
            tokio::select! {
                answer = &mut call => break answer,
                _ = changes.changed() => {
                    let newer = Arc::clone(&changes.borrow_and_update());
                    if newer.route(route.shard) != Some(route) {
                        return Attempted::Setback(Setback::Unknown);
                    }
                }
                () = clock::sleep(SLOW_ATTEMPT), if held.is_none() => held = Some(self.map.hold()),
            }
        };
        match answer {
            Ok((status, bytes)) => read_answer(status, &bytes),
            Err(error) => {
                tracing::debug!(%error, shard = route.shard, "a call to an owner failed; retrying");
                Attempted::Setback(match error {
                    CallError::Connect(_) | CallError::Forbidden(_) => Setback::NotOwner,
                    CallError::Broken(_) | CallError::Deadline(_) => Setback::Unknown,
                })
            }
        }
    }

    /// Requests that wait.
    #[cfg(test)]
    pub fn waiting(&self) -> (usize, usize) {
        let load = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        (load(&self.waiting), load(&self.waiting_bytes))
    }
}

/// A refusal in an answer: codes that usually come in a `failed` status have no HTTP status of their own, and nothing is
/// wrong with this server.
fn refused(code: Code, details: String) -> ApiError {
    let error = ApiError::with(code, details);
    match error.http_status() {
        500 => error.status(400),
        _ => error,
    }
}

/// Bytes that a call holds while it waits.
fn held_bytes(call: &OwnerCall) -> usize {
    match call {
        OwnerCall::ChangePhoto { photo } => photo.bytes.len(),
        OwnerCall::Accept { .. }
        | OwnerCall::MarkRead { .. }
        | OwnerCall::LookUpTemplate { .. }
        | OwnerCall::FetchMedium { .. }
        | OwnerCall::ReadProfile
        | OwnerCall::ChangeProfile { .. }
        | OwnerCall::ReadCompliance
        | OwnerCall::ChangeCompliance { .. }
        | OwnerCall::ReadPhoto
        | OwnerCall::Block { .. }
        | OwnerCall::Unblock { .. }
        | OwnerCall::TwoStep { .. }
        | OwnerCall::AskRegistration(_)
        | OwnerCall::VerifyRegistration(_) => 0,
    }
}

fn foreign() -> ApiError {
    ApiError::with(Code::Internal, "The coreapp refused the request")
}

/// What came of one attempt.
enum Attempted {
    Settled(StatusCode, Settled),
    Setback(Setback),
    Foreign(StatusCode),
}

fn read_answer(status: StatusCode, bytes: &[u8]) -> Attempted {
    match serde_json::from_slice(bytes) {
        Ok(OwnerAnswer::Settled(settled)) => Attempted::Settled(status, settled),
        Ok(OwnerAnswer::Setback(setback)) => Attempted::Setback(setback),
        Err(_) if status.is_server_error() => Attempted::Setback(Setback::Unknown),
        // Whatever listens there is no coreapp, or one of a release that has no such call.
        Err(_) if status == StatusCode::NOT_FOUND => Attempted::Setback(Setback::NotOwner),
        Err(_) => Attempted::Foreign(status),
    }
}

/// An errand that waits: counted, and the map is read often.
struct Waits<'a> {
    owners: &'a Owners,
    count: i64,
    _held: Held<'a>,
}

impl<'a> Waits<'a> {
    fn new(owners: &'a Owners, count: usize) -> Self {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        owners.metrics.held.inc_by(count);
        Self {
            owners,
            count,
            _held: owners.map.hold(),
        }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.owners.metrics.held.dec_by(self.count);
    }
}

/// One call, for whoever owns a shard of the number: see [`Whom`].
struct One {
    call: OwnerCall,
    answer: Option<Settled>,
}

impl Errand for One {
    fn wanted(&mut self) -> usize {
        1
    }

    fn place<'a>(&mut self, map: &'a Map) -> Place<'a> {
        let first = self.call.whom() == Whom::First;
        let owned = |route: &&Route| {
            let fits = !first || route.shard == 0;
            fits && route.generation == map.generation && route.url.is_some()
        };
        map.routes
            .iter()
            .find(owned)
            .map_or(Place::Nobody, Place::Owner)
    }

    fn call(&mut self, _: &Map) -> OwnerCall {
        self.call.clone()
    }

    fn hear(&mut self, settled: Settled) -> Heard {
        match settled {
            Settled::Accepted { .. } => Heard::Nonsense,
            Settled::Done
            | Settled::Told(_)
            | Settled::Refused { .. }
            | Settled::Registration(_)
            | Settled::Unreachable => {
                self.answer = Some(settled);
                Heard::Over
            }
        }
    }
}

#[cfg(test)]
#[path = "owner_tests.rs"]
mod tests;
