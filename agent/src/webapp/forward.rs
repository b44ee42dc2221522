//! Forwarding to the owner of a shard: requests that wait together travel together, and wait through a failover.
//! Safe to repeat: every message has its id before the first attempt, and the owner stores an id once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::shard_map::{Map, Watched};
use crate::api::error::ApiError;
use crate::api::internal::{AcceptAnswer, AcceptRequest, Message, Verdict, path};
use crate::metrics::WebappMetrics;
use crate::net::client::InternalClient;
use crate::sys::clock;

/// Requests that may wait at once, and the bytes of their messages.
pub const HELD_MAX: usize = 10_000;
/// See [`HELD_MAX`].
pub const HELD_BYTES_MAX: usize = 64 << 20;
/// Messages in one call to a coreapp.
const BATCH_MAX: usize = 256;
/// Calls to one shard's owner at once: while one is being committed, the next one is gathered.
const CALLS_AT_ONCE: usize = 3;
const SHARDS_MAX: usize = 32;
/// An attempt that takes longer counts as waiting: the map is read often from then on.
const SLOW_ATTEMPT: Duration = Duration::from_millis(40);
const BACKOFF_MIN: Duration = Duration::from_millis(2);
const BACKOFF_MAX: Duration = Duration::from_millis(25);

/// One request on its way.
struct Item {
    message: Message,
    reply: oneshot::Sender<Result<Verdict, ApiError>>,
}

/// Takes messages and finds their owners.
pub struct Forwarder {
    shared: Arc<Shared>,
}

struct Shared {
    map: Arc<Watched>,
    metrics: Arc<WebappMetrics>,
    client: InternalClient,
    queues: Vec<mpsc::Sender<Item>>,
    waiting: AtomicUsize,
    waiting_bytes: AtomicUsize,
    /// After this an attempt is given up even if nobody says that the owner changed.
    attempt_timeout: Duration,
}

/// Room for one request; given back when dropped.
struct Room<'a> {
    shared: &'a Shared,
    bytes: usize,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        self.shared
            .waiting_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Shared {
    fn room(&self, bytes: usize) -> Option<Room<'_>> {
        // Counted first, checked then: at most a few requests too careful, never one too many.
        let requests = self.waiting.fetch_add(1, Ordering::Relaxed);
        let total = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let room = Room {
            shared: self,
            bytes,
        };
        (requests < HELD_MAX && total <= HELD_BYTES_MAX).then_some(room)
    }

    fn shed(&self, code: u16, details: &str) -> ApiError {
        self.metrics.shed.inc();
        ApiError::with(code, details).retry_after(1)
    }
}

impl Forwarder {
    /// Starts a task per shard; they end with `stop`.
    pub fn start(
        map: Arc<Watched>,
        metrics: Arc<WebappMetrics>,
        client: InternalClient,
        attempt_timeout: Duration,
        stop: &CancellationToken,
    ) -> Self {
        let (queues, receivers): (Vec<_>, Vec<_>) =
            (0..SHARDS_MAX).map(|_| mpsc::channel(HELD_MAX)).unzip();
        let shared = Arc::new(Shared {
            map,
            metrics,
            client,
            queues,
            waiting: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
            attempt_timeout,
        });
        for (shard, queue) in receivers.into_iter().enumerate() {
            let shard = u16::try_from(shard).expect("32 fits");
            tokio::spawn(gather(Arc::clone(&shared), shard, queue, stop.clone()));
        }
        Self { shared }
    }

    /// Hands a message to its owner and waits, through a failover if need be.
    ///
    /// # Errors
    /// 1016 when too much waits already, 1018 when no owner took it in time, 1014 when its owner refused it.
    pub async fn send(&self, message: Message) -> Result<Verdict, ApiError> {
        let shared = &self.shared;
        let overloaded = "Too many requests wait";
        let room = shared.room(message.payload.len() + message.id.len() + message.recipient.len());
        let _room = room.ok_or_else(|| shared.shed(1016, overloaded))?;
        let started = clock::now();
        let (reply, answer) = oneshot::channel();
        let hold = shared.map.hold_timeout();
        let shard = shared.map.now().shard(message.recipient_hash).unwrap_or(0);
        let sent = shared.queues[usize::from(shard) % SHARDS_MAX].try_send(Item { message, reply });
        sent.map_err(|_| shared.shed(1016, overloaded))?;
        let answer = tokio::time::timeout(hold, answer).await;
        shared
            .metrics
            .forward
            .observe(clock::now().since(started).as_secs_f64());
        match answer {
            Ok(Ok(result)) => result,
            // The task ended: this webapp is stopping.
            Ok(Err(_)) => Err(shared.shed(1016, "This node is stopping")),
            Err(_) => Err(shared.shed(1018, "No coreapp took over the shard in time")),
        }
    }
}

/// Collects what waits for one shard and sends it on; new requests gather while calls are under way.
async fn gather(
    shared: Arc<Shared>,
    shard: u16,
    mut queue: mpsc::Receiver<Item>,
    stop: CancellationToken,
) {
    let calls = Arc::new(Semaphore::new(CALLS_AT_ONCE));
    loop {
        let Ok(turn) = Arc::clone(&calls).acquire_owned().await else {
            return;
        };
        let mut items = Vec::with_capacity(16);
        tokio::select! {
            () = stop.cancelled() => return,
            count = queue.recv_many(&mut items, BATCH_MAX) => if count == 0 { return },
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            deliver(&shared, shard, items).await;
            drop(turn);
        });
    }
}

/// Why one attempt did not settle its batch.
enum Setback {
    /// No owner, or the one that was asked is not: the map decides.
    NoOwner,
    /// The owner asks for patience, or the outcome is unknown.
    Again,
    /// The number of shards changed: the batch falls apart.
    Regrouped,
    /// The owner refused the whole batch: a bug or a version that does not fit.
    Refused(StatusCode),
}

/// Tries until every item is answered or nobody waits for any of them.
async fn deliver(shared: &Arc<Shared>, shard: u16, mut items: Vec<Item>) {
    let mut changes = shared.map.changes();
    let mut backoff = BACKOFF_MIN;
    let mut held = None;
    loop {
        // Whoever timed out or went away waits no more.
        items.retain(|item| !item.reply.is_closed());
        if items.is_empty() {
            break;
        }
        let map = Arc::clone(&changes.borrow_and_update());
        match attempt(shared, shard, &map, &items).await {
            Ok(verdicts) => {
                for (item, verdict) in items.drain(..).zip(verdicts) {
                    let _ = item.reply.send(Ok(verdict));
                }
                break;
            }
            Err(Setback::Regrouped) => return regroup(shared, items),
            Err(Setback::Refused(status)) => {
                tracing::error!(%status, shard, "the coreapp refused a batch; its requests are answered 1014");
                for item in items {
                    let _ = item
                        .reply
                        .send(Err(ApiError::with(1014, "The coreapp refused the request")));
                }
                break;
            }
            Err(Setback::NoOwner | Setback::Again) => {}
        }
        if held.is_none() {
            held = Some(Waiting::new(shared, items.len()));
        } else {
            shared.map.reread();
        }
        tokio::select! {
            _ = changes.changed() => backoff = BACKOFF_MIN,
            () = clock::sleep(backoff) => backoff = (backoff * 2).min(BACKOFF_MAX),
        }
    }
}

/// A batch that waits: counted, and the map is read often.
struct Waiting<'a> {
    shared: &'a Shared,
    count: i64,
    _held: super::shard_map::Held<'a>,
}

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared, count: usize) -> Self {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        shared.metrics.held.inc_by(count);
        Self {
            shared,
            count,
            _held: shared.map.hold(),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.metrics.held.dec_by(self.count);
    }
}

/// Puts each item into the queue that the newest map names.
fn regroup(shared: &Shared, items: Vec<Item>) {
    let map = shared.map.now();
    for item in items {
        let shard = map.shard(item.message.recipient_hash).unwrap_or(0);
        if let Err(error) = shared.queues[usize::from(shard) % SHARDS_MAX].try_send(item) {
            let _ = error
                .into_inner()
                .reply
                .send(Err(shared.shed(1016, "Too many requests wait")));
        }
    }
}

/// One call to the owner that the map names. Given up at once when the map names a later one.
async fn attempt(
    shared: &Shared,
    shard: u16,
    map: &Map,
    items: &[Item],
) -> Result<Vec<Verdict>, Setback> {
    let moved = |item: &Item| {
        map.shard(item.message.recipient_hash)
            .is_some_and(|s| s != shard)
    };
    if items.iter().any(moved) {
        return Err(Setback::Regrouped);
    }
    let route = map.route(shard).ok_or(Setback::NoOwner)?;
    let url = route.url.as_ref().ok_or(Setback::NoOwner)?;
    let request = AcceptRequest {
        shard,
        generation: route.generation,
        epoch: route.epoch,
        messages: items.iter().map(|item| item.message.clone()).collect(),
    };
    let body = serde_json::to_vec(&request).expect("plain data is JSON");
    let url = format!("{url}{}", path::MESSAGES);
    let call = shared
        .client
        .call(Method::POST, &url, body, shared.attempt_timeout);
    tokio::pin!(call);
    let mut changes = shared.map.changes();
    let mut held = None;
    let (status, bytes) = loop {
        tokio::select! {
            answer = &mut call => break answer.map_err(|error| {
                tracing::debug!(%error, shard, "a forward failed; retrying");
                Setback::Again
            })?,
            _ = changes.changed() => {
                let newer = Arc::clone(&changes.borrow_and_update());
                if newer.route(shard) != Some(route) {
                    return Err(Setback::NoOwner);
                }
            }
            () = clock::sleep(SLOW_ATTEMPT), if held.is_none() => held = Some(shared.map.hold()),
        }
    };
    read_answer(status, &bytes, items.len())
}

fn read_answer(status: StatusCode, bytes: &[u8], count: usize) -> Result<Vec<Verdict>, Setback> {
    match serde_json::from_slice(bytes) {
        Ok(AcceptAnswer::Accepted { verdicts }) if verdicts.len() == count => Ok(verdicts),
        Ok(AcceptAnswer::NotOwner) => Err(Setback::NoOwner),
        Ok(AcceptAnswer::Busy | AcceptAnswer::Unknown) => Err(Setback::Again),
        _ if status.is_server_error() => Err(Setback::Again),
        _ => Err(Setback::Refused(status)),
    }
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
