//! `/cloud/webhook`: the upstream's events come in. Verified, taken apart, stored once, and only then answered 200.
//! Interprets nothing: the owner of the shard does, and is told that something waits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Extension;
use axum::extract::{FromRequest as _, Query, Request, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse as _, Response};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use wa_core::shard_map::recipient_hash;

use super::answer::{Answer, Body, database};
use super::auth::{Signature, wrong_signature};
use super::state::{Batch, Webapp, internal_client};
use super::watcher::Watched;
use crate::api::cloud::event::{Item, Raw, Taken, take};
use crate::api::cloud::lenient::readable;
use crate::api::cloud::template;
use crate::api::error::{ApiError, ErrorBody};
use crate::api::internal::path;
use crate::api::v1::code::Code;
use crate::config::{Secret, Settings};
use crate::db::event::State as Standing;
use crate::db::inbox::{NewEvent, parts};
use crate::db::message::PAYLOAD_LEN_MAX;
use crate::db::{Db, DbError};
use crate::log::seldom;
use crate::metrics::WebappMetrics;
use crate::net::client::InternalClient;
use crate::net::door::Entry;
use crate::sys::clock;

/// Longest webhook call of the upstream, in bytes: it sends up to 3 MB.
pub const EVENTS_LEN_MAX: usize = 4 << 20;
/// Webhook calls that may wait to be stored; the upstream repeats what is turned away.
pub const QUEUE_LEN_MAX: usize = 1024;
/// Calls that share a commit.
const BATCH_MAX: usize = 64;
/// The upstream gives up after some seconds; it is told before that.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// An embedded database has one writer at a time for all processes: few large commits leave room for the coreapp's.
const EMBEDDED_PAUSE: Duration = Duration::from_millis(20);
/// For the look into the map of ids.
const PLACE_TIMEOUT: Duration = Duration::from_secs(1);
/// For the mark on templates that changed.
const DOUBT_TIMEOUT: Duration = Duration::from_secs(1);
const NUDGE_TIMEOUT: Duration = Duration::from_millis(300);

/// The query of the verification call.
#[derive(Debug, Deserialize)]
pub struct Verification {
    #[serde(rename = "hub.mode")]
    mode: Option<String>,
    #[serde(rename = "hub.verify_token")]
    token: Option<String>,
    #[serde(rename = "hub.challenge")]
    challenge: Option<String>,
}

/// The upstream checks that this URL is ours: its challenge is echoed if it knows our word.
#[utoipa::path(get, path = "/cloud/webhook", tag = "cloud",
    params(("hub.mode" = String, Query), ("hub.verify_token" = String, Query), ("hub.challenge" = String, Query)),
    responses((status = 200, body = String), (status = 403, body = ErrorBody)))]
pub async fn verify(
    State(webapp): State<Arc<Webapp>>,
    Query(query): Query<Verification>,
) -> Answer {
    let expected = webapp.settings.upstream.verify_token.now();
    let expected = expected.expose_secret();
    let given = query.token.unwrap_or_default();
    let fits = !expected.is_empty() && bool::from(expected.as_bytes().ct_eq(given.as_bytes()));
    match query.challenge {
        Some(challenge) if fits && query.mode.as_deref() == Some("subscribe") => {
            Ok(([(header::CONTENT_TYPE, "text/plain")], challenge).into_response())
        }
        _ => Err(ApiError::with(
            Code::AccessDenied,
            "The verify token does not fit",
        )),
    }
}

/// Whether `given` is the HMAC of the raw bytes under one of the app secrets, which stand one on a line.
fn signature_ok(secrets: &str, given: &Signature, body: &[u8]) -> bool {
    let secrets = secrets.lines().map(str::trim);
    secrets.filter(|secret| !secret.is_empty()).any(|secret| {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes any key length");
        mac.update(body);
        mac.verify_slice(&given.0).is_ok()
    })
}

/// Whether a secret in force, or one from before while no event has fitted the new ones yet, signed this.
fn signed(secret: &Secret, given: &Signature, body: &[u8]) -> bool {
    let (now, former) = (secret.now(), secret.former());
    if signature_ok(now.expose_secret(), given, body) {
        if secret.fits(&now) {
            tracing::info!("an upstream event fits the new app secret; the former is forgotten");
        }
        return true;
    }
    let fits = former.is_some_and(|former| signature_ok(former.expose_secret(), given, body));
    if fits {
        seldom!(tracing::warn!(
            "upstream events are still signed with the app secret before the new one; if that goes on, the new one is wrong: write \
             the right one into the file of [upstream] app_secret_file and type: systemctl reload 'wa-webapp@*'"
        ));
    }
    fits
}

/// Take events from the upstream.
#[utoipa::path(post, path = "/cloud/webhook", tag = "cloud", params(("X-Hub-Signature-256" = String, Header)),
    responses((status = 200), (status = 403, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn receive(
    State(webapp): State<Arc<Webapp>>,
    Extension(signature): Extension<Signature>,
    request: Request,
) -> Result<Response, ApiError> {
    let entry = request.extensions().get::<Entry>().cloned();
    let Body(body) = Body::from_request(request, &webapp).await?;
    if !signed(&webapp.settings.upstream.app_secret, &signature, &body) {
        return Err(wrong_signature());
    }
    if let Some(entry) = entry {
        entry.known();
    }
    let call = readable(&body);
    if let Ok(call) = serde_json::from_str(&call) {
        doubt(&webapp, &call).await;
    }
    let mut taken = take(&call, webapp.settings.upstream.own());
    count(&webapp, &taken);
    place(&webapp, &mut taken.items).await;
    let events: Vec<NewEvent> = taken.items.into_iter().map(to_row).collect();
    if events.is_empty() {
        return Ok("".into_response());
    }
    let (stored, answer) = oneshot::channel();
    let full = || ApiError::with(Code::Overloaded, "Too many events wait");
    webapp
        .events
        .try_send(Batch { events, stored })
        .map_err(|_| full())?;
    match tokio::time::timeout(STORE_TIMEOUT, answer).await {
        Ok(Ok(result)) => result.map(|()| "".into_response()),
        _ => {
            Err(ApiError::with(Code::Database, "The event could not be stored in time").status(503))
        }
    }
}

/// What is not told is counted, and said now and then.
fn count(webapp: &Webapp, taken: &Taken) {
    webapp.metrics.events_echoed.inc_by(taken.echoes);
    webapp.metrics.events_of_others.inc_by(taken.of_others);
    if taken.of_others > 0 {
        seldom!(tracing::warn!(
            events = taken.of_others,
            own = webapp.settings.upstream.phone_number_id,
            "the upstream sends events of another number, which are not told; if that is the number of this installation, write its id \
             into [upstream] phone_number_id"
        ));
    }
    for item in &taken.items {
        if let Raw::Unread { why, .. } = &item.raw {
            seldom!(tracing::warn!(
                key = item.key,
                why,
                "an event of the upstream cannot be read; it is kept: wa-agent events list"
            ));
        }
    }
}

/// What is known of templates that the upstream tells of is not fresh any more. No mark is a reason to refuse the call: without
/// one what is known ages by itself, in minutes.
async fn doubt(webapp: &Webapp, body: &serde_json::Value) {
    let names: Vec<&str> = template::changed(body).into_iter().collect();
    let Ok(db) = webapp.db() else { return };
    match tokio::time::timeout(DOUBT_TIMEOUT, db.doubt_templates(&names)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            let error = error.brief();
            tracing::debug!(%error, "templates that changed were not marked; they age by themselves");
        }
        Err(_) => tracing::debug!("templates that changed were not marked in time"),
    }
}

/// Statuses that came back without our data: the map of ids knows whose they are, and so which shard. Those that it does not know,
/// or is not asked about because the database does not answer, are placed later (`coreapp/placing.rs`).
async fn place(webapp: &Webapp, items: &mut [Item]) {
    let Ok(db) = webapp.db() else { return };
    place_statuses(&db, items).await;
    for item in items.iter_mut() {
        item.placed = item.recipient_hash.is_some();
    }
    let customer = |item: &Item| match item.recipient_hash {
        None => Some(item.customer.clone()).filter(|customer| !customer.is_empty()),
        Some(_) => None,
    };
    let customers: Vec<String> = items.iter().filter_map(customer).collect();
    let customers: Vec<&str> = customers.iter().map(String::as_str).collect();
    let routes = webapp.routes.of(Some(&db), &customers).await;
    for item in items
        .iter_mut()
        .filter(|item| item.recipient_hash.is_none())
    {
        let route = routes.get(&item.customer);
        item.recipient_hash = route.map(|route| route.recipient_hash);
    }
}

async fn place_statuses(db: &Db, items: &mut [Item]) {
    let unplaced = |item: &Item| match (&item.raw, item.recipient_hash) {
        (Raw::Status(status), None) => Some(status.get("id")?.as_str()?.to_owned()),
        (Raw::Status(_), Some(_))
        | (Raw::Message { .. } | Raw::Error(_) | Raw::Account { .. } | Raw::Unread { .. }, _) => {
            None
        }
    };
    let ids: Vec<String> = items.iter().filter_map(unplaced).collect();
    if ids.is_empty() {
        return;
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let found = tokio::time::timeout(PLACE_TIMEOUT, db.ours(&ids)).await;
    let Ok(Ok(ours)) = found else { return };
    for item in items {
        let ours = unplaced(item).and_then(|id| ours.get(&id));
        if let Some(ours) = ours {
            item.recipient_hash = Some(ours.recipient_hash);
        }
    }
}

/// An item as its row holds it. What cannot be read, and a status that is nobody's yet, are not the owner's to work off.
fn to_row(mut item: Item) -> NewEvent {
    let text = |item: &Item| serde_json::to_string(item).expect("plain data is JSON");
    let mut payload = text(&item);
    if payload.len() > PAYLOAD_LEN_MAX {
        item = item.too_long(PAYLOAD_LEN_MAX);
        payload = text(&item);
        seldom!(tracing::error!(
            key = item.key,
            "an upstream event is too long to be told; its beginning is kept: wa-agent events list"
        ));
    }
    let state = match (&item.raw, item.placed) {
        (Raw::Unread { .. }, _) => Standing::Unread,
        (Raw::Status(_), false) => Standing::Unplaced,
        (Raw::Status(_) | Raw::Message { .. } | Raw::Error(_) | Raw::Account { .. }, _) => {
            Standing::Pending
        }
    };
    let hash = item.recipient_hash;
    NewEvent {
        recipient_hash: hash.unwrap_or_else(|| recipient_hash(&item.customer)),
        payload,
        key: item.key,
        state,
    }
}

/// Stores what webhook calls bring, many calls in one commit, and tells the owners.
pub async fn store(
    settings: Arc<Settings>,
    map: Arc<Watched>,
    metrics: Arc<WebappMetrics>,
    mut queue: mpsc::Receiver<Batch>,
    stop: CancellationToken,
) {
    let client = internal_client(&settings);
    let db = map.shared_db();
    loop {
        let mut batches = Vec::new();
        tokio::select! {
            () = stop.cancelled() => return,
            count = queue.recv_many(&mut batches, BATCH_MAX) => if count == 0 { return },
        }
        let mut events = Vec::new();
        let mut waiting = Vec::with_capacity(batches.len());
        for batch in batches {
            events.extend(batch.events);
            waiting.push(batch.stored);
        }
        let result = store_all(&db, &mut events).await;
        if let Ok(new) = result {
            metrics.events_stored.inc_by(new.all);
            metrics.events_unread.inc_by(new.unread);
            nudge(&client, &map, &events);
        }
        let result = result.map(|_| ());
        for stored in waiting {
            let _ = stored.send(result.clone());
        }
        if db.load().as_ref().is_some_and(|db| db.embedded()) {
            clock::sleep(EMBEDDED_PAUSE).await;
        }
    }
}

/// Events that were not there yet.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct New {
    all: u64,
    /// Those of them that nobody can read.
    unread: u64,
}

/// Stores all events, in statements of bounded size. A part that was stored stays stored: repeated, it is a duplicate.
async fn store_all(db: &ArcSwapOption<Db>, events: &mut [NewEvent]) -> Result<New, ApiError> {
    let db = db
        .load_full()
        .ok_or_else(|| ApiError::with(Code::NotReady, "The database is not reached yet"))?;
    // Two webapps may store the same events at once: in one order, their locks cannot cross.
    // What nobody can read has statements of its own: the database says how many of those are new.
    let unread = |event: &NewEvent| event.state == Standing::Unread;
    events.sort_by(|a, b| (unread(a), &a.key).cmp(&(unread(b), &b.key)));
    let (readable, rest) = events.split_at(events.partition_point(|event| !unread(event)));
    let mut new = New::default();
    for (part, unread) in parts(readable)
        .into_iter()
        .map(|part| (part, false))
        .chain(parts(rest).into_iter().map(|part| (part, true)))
    {
        let stored = match tokio::time::timeout(STORE_TIMEOUT, db.store_events(part)).await {
            Ok(stored) => stored.map_err(|error| database(&error))?,
            Err(_) => return Err(database(&DbError::Deadline(STORE_TIMEOUT))),
        };
        new.all += stored;
        new.unread += if unread { stored } else { 0 };
    }
    Ok(new)
}

/// Tells the owners of the events' shards. They look by themselves too: what gets lost here costs a moment only.
fn nudge(client: &InternalClient, map: &Watched, events: &[NewEvent]) {
    let map = map.now();
    let shards: BTreeSet<u16> = events
        .iter()
        .filter_map(|event| map.shard(event.recipient_hash))
        .collect();
    for url in shards
        .into_iter()
        .filter_map(|shard| map.route(shard)?.url.clone())
    {
        let client = client.clone();
        tokio::spawn(async move {
            let url = format!("{url}{}", path::EVENTS);
            if let Err(error) = client
                .call(Method::POST, &url, Vec::new(), NUDGE_TIMEOUT)
                .await
            {
                tracing::debug!(%error, "an owner could not be told of events; it finds them by itself");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: events of the time between are taken under either secret, and the former one is worth nothing as soon as an
    /// event fitted the new one (F13). Method: signatures of both, before and after.
    #[test]
    fn f13_a_new_app_secret_takes_over() {
        let body = br#"{"entry":[]}"#;
        let by = |secret: &[u8]| {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length");
            mac.update(body);
            Signature(mac.finalize().into_bytes().to_vec())
        };
        let (old, new) = (by(b"old"), by(b"new"));
        let secret = Secret::new("old".into());
        assert!(signed(&secret, &old, body) && !signed(&secret, &new, body));
        assert!(secret.replace("new"));
        assert!(signed(&secret, &old, body) && !signed(&secret, &by(b"x"), body));
        assert!(signed(&secret, &new, body));
        assert!(!signed(&secret, &old, body), "forgotten");
    }

    /// Goal: an event that fits any of several secrets is taken, and no other. Method: a file with two of them and an empty line.
    #[test]
    fn several_app_secrets_are_in_force_at_once() {
        let body = br#"{"entry":[]}"#;
        let by = |secret: &[u8]| {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length");
            mac.update(body);
            Signature(mac.finalize().into_bytes().to_vec())
        };
        let secrets = Secret::new("one\r\n\n two \n".into());
        assert!(signed(&secrets, &by(b"one"), body) && signed(&secrets, &by(b"two"), body));
        for wrong in [&b""[..], b"three", b"one\r\n\n two \n"] {
            assert!(!signed(&secrets, &by(wrong), body), "{wrong:?}");
        }
    }

    /// Goal: only the holder of the app secret gets in. Method: a known signature, then each way to be wrong.
    #[test]
    fn signatures_are_checked_over_the_raw_bytes() {
        let body = br#"{"entry":[]}"#;
        let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").expect("any length");
        mac.update(body);
        let good = Signature(mac.finalize().into_bytes().to_vec());
        assert!(signature_ok("secret", &good, body));
        assert!(!signature_ok("secret", &good, br#"{"entry": []}"#));
        assert!(!signature_ok("other", &good, body));
        assert!(!signature_ok("", &good, body));
        assert!(!signature_ok("secret", &Signature(Vec::new()), body));
        assert!(!signature_ok(
            "secret",
            &Signature(good.0[1..].to_vec()),
            body
        ));
    }
}
