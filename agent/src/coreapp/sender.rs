//! The sender: claimed messages out, within the rate; outcomes back in batches.
//! Nothing starts without the gate; a row is claimed before its first byte leaves.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use governor::{Quota, RateLimiter};
use http::{Request, Response};
use http_body_util::Full;
use secrecy::ExposeSecret as _;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wa_core::backoff::exponential;
use wa_core::id::Ownership;
use wa_core::message::{Outcome, RetryClass, classify};
use wa_core::wire::Body;

use super::Shared;
use crate::api::cloud::{ErrorAnswer, SendAnswer};
use crate::db::message::{Claimed, Finish, Finished};
use crate::net::client::{CallError, OutsideClient};
use crate::sys::clock;

/// Claimed messages that wait for the rate or for a free connection.
pub const QUEUE_LEN: usize = 2048;
/// Most outcomes of one commit.
const BATCH_MAX: usize = 256;
/// How often due rows are looked for when nobody says that there are some.
const CLAIM_EVERY: Duration = Duration::from_millis(100);

/// Sends the body upstream under a live tenure.
///
/// # Errors
/// [`CallError`]; `Connect` means that nothing was sent.
pub async fn post(
    shared: &Shared,
    own: &Ownership,
    body: String,
) -> Result<Response<Bytes>, CallError> {
    let client = OutsideClient::new(shared.settings.upstream.connect_timeout, 1);
    call(shared, &client, own, body).await
}

async fn call(
    shared: &Shared,
    client: &OutsideClient,
    own: &Ownership,
    body: String,
) -> Result<Response<Bytes>, CallError> {
    let u = &shared.settings.upstream;
    let request = Request::post(format!(
        "{}/{}/{}/messages",
        u.base_url, u.version, u.phone_number_id
    ))
    .header(
        "authorization",
        format!("Bearer {}", u.token.expose_secret()),
    )
    .header("content-type", "application/json")
    .header("x-wa-shard", own.shard.0)
    .header("x-wa-epoch", own.epoch.0)
    .body(Full::new(Bytes::from(body)))
    .map_err(|e| CallError::Connect(e.to_string()))?;
    // The last look before the first byte.
    if !shared.gate.allows(own.epoch) {
        return Err(CallError::Connect("the tenure has ended".into()));
    }
    let answer = client.call(request, u.request_timeout).await;
    if answer.is_ok() {
        shared.upstream_answered();
    }
    answer
}

/// What one tenure's sender is made of.
pub struct Sending {
    pub shared: Arc<Shared>,
    pub own: Ownership,
    pub stop: CancellationToken,
    pub tracker: TaskTracker,
}

/// Takes messages from the queue and sends each in a task, until the tenure ends; then gives the queue back.
pub async fn send_all(s: Sending, queue: &mut mpsc::Receiver<Claimed>) {
    let u = &s.shared.settings.upstream;
    let rate = NonZeroU32::new(u.rate_per_second.max(1)).expect("at least one");
    let limiter = RateLimiter::direct(Quota::per_second(rate));
    let room = Arc::new(Semaphore::new(u.concurrency.max(1)));
    let client = OutsideClient::new(u.connect_timeout, u.concurrency.max(1));
    let (outcomes, finished) = mpsc::channel(QUEUE_LEN);
    s.tracker
        .spawn(finish_loop(Arc::clone(&s.shared), s.own.clone(), finished));
    loop {
        if s.shared.hold.load(Ordering::Acquire) && !s.stop.is_cancelled() {
            give_back(&s.shared, queue, &outcomes).await;
            tokio::select! {
                () = s.stop.cancelled() => break,
                () = clock::sleep(Duration::from_millis(2)) => continue,
            }
        }
        let next = tokio::select! {
            biased;
            () = s.stop.cancelled() => break,
            next = tokio::time::timeout(Duration::from_millis(20), queue.recv()) => next,
        };
        let Ok(Some(message)) = next else { continue };
        s.shared.busy.fetch_add(1, Ordering::AcqRel);
        let permit = tokio::select! {
            biased;
            () = s.stop.cancelled() => None,
            permit = async { limiter.until_ready().await; Arc::clone(&room).acquire_owned().await.ok() } => permit,
        };
        let Some(permit) = permit.filter(|_| !s.shared.hold.load(Ordering::Acquire)) else {
            let _ = outcomes
                .send(Finish {
                    id: message.id,
                    to: Finished::Retry { delay_ms: 0 },
                })
                .await;
            continue;
        };
        let (shared, own, client) = (Arc::clone(&s.shared), s.own.clone(), client.clone());
        let (outcomes, stop) = (outcomes.clone(), s.stop.clone());
        s.tracker.spawn(async move {
            shared.in_flight.fetch_add(1, Ordering::AcqRel);
            let finish = tokio::select! {
                biased;
                // Dropping the call closes its socket with SO_LINGER 0; the outcome is unknown.
                () = stop.cancelled() => Finish { id: message.id.clone(), to: Finished::Ambiguous },
                finish = send_one(&shared, &client, &own, &message) => finish,
            };
            shared.in_flight.fetch_sub(1, Ordering::AcqRel);
            drop(permit);
            if outcomes.send(finish).await.is_err() {
                shared.busy.fetch_sub(1, Ordering::AcqRel);
            }
        });
    }
    give_back(&s.shared, queue, &outcomes).await;
}

/// What waits in memory goes back to the table as queued: the next owner need not wait for any receipt.
async fn give_back(
    shared: &Shared,
    queue: &mut mpsc::Receiver<Claimed>,
    outcomes: &mpsc::Sender<Finish>,
) {
    while let Ok(message) = queue.try_recv() {
        shared.busy.fetch_add(1, Ordering::AcqRel);
        let _ = outcomes
            .send(Finish {
                id: message.id,
                to: Finished::Retry { delay_ms: 0 },
            })
            .await;
    }
}

async fn send_one(
    shared: &Shared,
    client: &OutsideClient,
    own: &Ownership,
    message: &Claimed,
) -> Finish {
    let answer = call(shared, client, own, message.payload.clone()).await;
    let attempts = u32::try_from(message.attempts).unwrap_or(0) + 1;
    let to = match answer {
        Ok(answer) if answer.status().is_success() => {
            match serde_json::from_slice::<SendAnswer>(answer.body()) {
                Ok(sent) if !sent.messages.is_empty() => {
                    shared.metrics.sent.inc();
                    Finished::Sent {
                        wamid: sent.messages[0].id.clone(),
                    }
                }
                _ => Finished::Ambiguous,
            }
        }
        Ok(answer) => refused(answer.status().as_u16(), answer.body(), attempts),
        Err(CallError::Connect(_)) => Finished::Retry {
            delay_ms: retry_ms(RetryClass::Passing, attempts),
        },
        Err(_) => Finished::Ambiguous,
    };
    if matches!(to, Finished::Ambiguous) {
        shared.metrics.ambiguous.inc();
    }
    if let Finished::Failed { code } = &to {
        shared.metrics.failed.inc();
        let title = crate::api::error::title(*code);
        let callback = crate::api::cloud::failed_callback(
            &message.id,
            &message.recipient,
            *code,
            title,
            clock::wall_ms() / 1000,
        );
        let hash = wa_core::shard_map::recipient_hash(&message.recipient);
        let key = format!("{}:failed", message.id);
        // Told before it is recorded: told twice is allowed, never told is not.
        if let Err(error) = shared
            .db
            .queue_webhook(own, &key, hash, &callback.to_string())
            .await
        {
            tracing::warn!(error = %error.brief(), "a failed status could not be queued; the message stays ambiguous");
            return Finish {
                id: message.id.clone(),
                to: Finished::Ambiguous,
            };
        }
        shared.webhooks_ready.notify_one();
    }
    Finish {
        id: message.id.clone(),
        to,
    }
}

/// What a refusal means. Without a code that we know, 5xx is ambiguous and 4xx is final.
fn refused(status: u16, body: &[u8], attempts: u32) -> Finished {
    let Ok(answer) = serde_json::from_slice::<ErrorAnswer>(body) else {
        return if status >= 500 {
            Finished::Ambiguous
        } else {
            Finished::Failed { code: 1000 }
        };
    };
    match classify(answer.error.code) {
        Outcome::Retry(class) => Finished::Retry {
            delay_ms: retry_ms(class, attempts),
        },
        Outcome::Failed(code) => Finished::Failed { code },
        Outcome::Sent | Outcome::Ambiguous => Finished::Ambiguous,
    }
}

fn retry_ms(class: RetryClass, attempts: u32) -> u64 {
    let jitter = (crate::sys::state::random_u64() & 0xff) as u8;
    let s = Duration::from_secs;
    let wait = match class {
        RetryClass::Passing => exponential(Duration::from_millis(200), attempts, s(60), jitter),
        RetryClass::NumberLimit => exponential(s(1), attempts, s(60), jitter),
        RetryClass::PairLimit => exponential(s(6), attempts, s(120), jitter),
        RetryClass::Long => exponential(s(60), attempts, s(3600), jitter),
    };
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

/// Records outcomes, many in one commit. A commit that fails leaves its rows claimed: they come back as ambiguous.
async fn finish_loop(shared: Arc<Shared>, own: Ownership, mut finished: mpsc::Receiver<Finish>) {
    while let Some(first) = finished.recv().await {
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX {
            let Ok(next) = finished.try_recv() else { break };
            batch.push(next);
        }
        for attempt in 1..=3u32 {
            match shared.db.finish(&own, &batch).await {
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(error = %error.brief(), attempt, "outcomes were not recorded; trying again");
                    clock::sleep(Duration::from_millis(50) * attempt).await;
                }
            }
        }
        shared.busy.fetch_sub(batch.len(), Ordering::AcqRel);
    }
}

/// Finds queued rows that are due and claims them, as far as the queue has room.
pub async fn claim_loop(shared: Arc<Shared>, own: Ownership, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let held = shared.hold.load(Ordering::Acquire);
        let room = u32::try_from(
            shared
                .to_sender
                .capacity()
                .saturating_sub(512)
                .min(BATCH_MAX),
        )
        .unwrap_or(0);
        let mut claimed = Vec::new();
        if !held && room > 0 && shared.gate.allows(own.epoch) {
            shared.busy.fetch_add(1, Ordering::AcqRel);
            match shared.db.claim(&own, shared.shard_count(), room).await {
                Ok(rows) => claimed = rows,
                Err(error) => {
                    tracing::warn!(error = %error.brief(), "claiming messages failed; retrying")
                }
            }
            shared.busy.fetch_sub(1, Ordering::AcqRel);
        }
        let full = claimed.len() == room as usize && room > 0;
        for message in claimed {
            let _ = shared.to_sender.try_send(message);
        }
        if full {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.outbox_ready.notified() => {}
            () = clock::sleep(CLAIM_EVERY) => {}
        }
    }
}

/// The word to the masters that nothing is under way any more.
pub fn quiesced(own: &Ownership) -> Body {
    Body::Quiesced {
        shard: own.shard,
        epoch: own.epoch,
        grant: own.grant,
    }
}
