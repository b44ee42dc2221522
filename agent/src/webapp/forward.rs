//! Messages on their way to the owner of their shard: requests that wait together travel together.
//! Safe to repeat: every message has its id before the first attempt, and the owner stores an id once. Finding the owner,
//! waiting and asking again: `owner.rs`.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::owner::{End, Errand, HELD_MAX, Heard, Owners, Place};
use super::shard_map::Map;
use crate::api::error::ApiError;
use crate::api::owner::{self, Acceptance, OwnerCall, Settled};
use crate::api::v1::code::Code;
use crate::api::v1::message::Message;
use crate::api::v1::message::stored::{self, Form};
use crate::sys::clock;

/// Messages in one call to a coreapp.
const BATCH_MAX: usize = 256;
/// Calls to one shard's owner at once: while one is being committed, the next one is gathered.
const CALLS_AT_ONCE: usize = 3;
const SHARDS_MAX: usize = 32;
/// Bytes of the messages in one call, roughly: a coreapp reads twice as much.
const CALL_BYTES_MAX: usize = 2 << 20;

/// A checked message with the id that it was given.
pub struct Outgoing {
    pub id: String,
    pub recipient_hash: u32,
    pub message: Message,
}

impl Outgoing {
    /// In a form that every possible owner reads.
    fn in_form(&self, form: Form) -> owner::Message {
        owner::Message {
            id: self.id.clone(),
            recipient_hash: self.recipient_hash,
            form: form.number(),
            payload: stored::write(form, &self.message),
        }
    }
}

/// One request on its way.
struct Item {
    message: Outgoing,
    reply: oneshot::Sender<Result<Acceptance, ApiError>>,
}

/// Takes messages and has them brought to their owners.
pub struct Forwarder {
    shared: Arc<Shared>,
}

struct Shared {
    owners: Arc<Owners>,
    queues: Vec<mpsc::Sender<Item>>,
}

impl Forwarder {
    /// Starts a task per shard; they end with `stop`.
    pub fn start(owners: Arc<Owners>, stop: &CancellationToken) -> Self {
        let (queues, receivers): (Vec<_>, Vec<_>) =
            (0..SHARDS_MAX).map(|_| mpsc::channel(HELD_MAX)).unzip();
        let shared = Arc::new(Shared { owners, queues });
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
    pub async fn send(&self, message: Outgoing) -> Result<Acceptance, ApiError> {
        let owners = &self.shared.owners;
        let late = not_yet(&message.message);
        let since = message.message.since();
        let bytes = stored::write(Form::NEWEST, &message.message).len() + message.id.len();
        let _room = owners.room(bytes)?;
        let started = clock::now();
        let (reply, answer) = oneshot::channel();
        let hold = owners.map.hold_timeout();
        self.shared.put(Item { message, reply })?;
        let answer = tokio::time::timeout(hold, answer).await;
        owners.metrics.forward.observe(clock::now().since(started));
        match answer {
            Ok(Ok(result)) => {
                owners.map.refused.over();
                result
            }
            // The task ended: this webapp is stopping.
            Ok(Err(_)) => Err(owners.shed(Code::Overloaded, "This node is stopping")),
            // Held and not refused at once: a coreapp that starts again is without a word for a moment.
            Err(_) if since > owners.map.now().form() => Err(late),
            Err(_) => Err(owners.nobody()),
        }
    }
}

/// A type that is newer than some coreapp of the cluster.
fn not_yet(message: &Message) -> ApiError {
    let kind = message.content.kind().as_str();
    ApiError::with(
        Code::NotReady,
        format!(
            "Not every coreapp of this cluster reads messages of type {kind} yet; update the rest of its machines"
        ),
    )
}

impl Shared {
    /// Puts an item into the queue that the newest map names.
    fn put(&self, item: Item) -> Result<(), ApiError> {
        let map = self.owners.map.now();
        let shard = map.shard(item.message.recipient_hash).unwrap_or(0);
        let queue = &self.queues[usize::from(shard) % SHARDS_MAX];
        match queue.try_send(item) {
            Ok(()) => Ok(()),
            Err(error) => {
                let refused = self.owners.overloaded();
                // Who gave it hears of it, whether by the answer or by the reply.
                let _ = error.into_inner().reply.send(Err(refused.clone()));
                Err(refused)
            }
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
            let batch = Batch {
                shard,
                items,
                asked: 0,
                turn: Some(turn),
            };
            deliver(&shared, batch).await;
        });
    }
}

/// Messages of one shard that travel together.
struct Batch {
    shard: u16,
    items: Vec<Item>,
    /// So many of them, the first ones, are in the call that is under way.
    asked: usize,
    /// See [`CALLS_AT_ONCE`]. Given back once what is left waits for another owner: it must not hold up the shard.
    turn: Option<OwnedSemaphorePermit>,
}

/// Not every coreapp reads messages of this type: the newest form that all of them read is older than it.
fn unread_by_some(message: &Message, map: &Map) -> bool {
    message.since() > map.form()
}

impl Errand for Batch {
    fn wanted(&mut self) -> usize {
        // Whoever timed out or went away waits no more.
        self.items.retain(|item| !item.reply.is_closed());
        self.items.len()
    }

    fn place<'a>(&mut self, map: &'a Map) -> Place<'a> {
        let moved = |item: &Item| {
            let shard = map.shard(item.message.recipient_hash);
            shard.is_some_and(|shard| shard != self.shard)
        };
        if self.items.iter().any(moved) {
            return Place::Scattered;
        }
        if self
            .items
            .iter()
            .all(|item| unread_by_some(&item.message.message, map))
        {
            self.turn = None;
            return Place::Nobody;
        }
        match map.route(self.shard) {
            Some(route) if route.url.is_some() => Place::Owner(route),
            Some(_) | None => Place::Nobody,
        }
    }

    fn call(&mut self, map: &Map) -> OwnerCall {
        let form = map.form();
        // A coreapp of an older release came back meanwhile: what it does not read waits, and holds up nobody else.
        let waits = |item: &Item| unread_by_some(&item.message.message, map);
        self.items.sort_by_key(waits);
        let readable = self.items.partition_point(|item| !waits(item));
        let mut bytes = 0;
        let mut messages = Vec::with_capacity(readable);
        for item in self.items.iter().take(readable) {
            let message = item.message.in_form(form);
            bytes += message.payload.len() + message.id.len();
            if bytes > CALL_BYTES_MAX && !messages.is_empty() {
                break;
            }
            messages.push(message);
        }
        self.asked = messages.len();
        OwnerCall::Accept { messages }
    }

    fn hear(&mut self, settled: Settled) -> Heard {
        let verdicts = match settled {
            Settled::Accepted { verdicts } if verdicts.len() == self.asked => verdicts,
            // Nothing of the call was stored.
            Settled::Refused { code, details } => return self.refuse(code, details),
            Settled::Accepted { .. }
            | Settled::Done
            | Settled::Told(_)
            | Settled::Registration(_)
            | Settled::Unreachable => return Heard::Nonsense,
        };
        let left = self.items.split_off(self.asked);
        let each = std::mem::replace(&mut self.items, left).into_iter();
        let mut unsettled = false;
        for (item, verdict) in each.zip(verdicts) {
            match verdict {
                Acceptance::Accepted | Acceptance::Duplicate | Acceptance::Conflict => {
                    let _ = item.reply.send(Ok(verdict));
                }
                Acceptance::Unsettled => {
                    unsettled = true;
                    self.items.push(item);
                }
            }
        }
        if self.items.is_empty() {
            Heard::Over
        } else if unsettled {
            self.turn = None;
            Heard::Again
        } else {
            Heard::Rest
        }
    }
}

impl Batch {
    /// The owner took none of those that were in the call.
    fn refuse(&mut self, code: Code, details: String) -> Heard {
        let left = self.items.split_off(self.asked);
        let refused = ApiError::with(code, details);
        for item in std::mem::replace(&mut self.items, left) {
            let _ = item.reply.send(Err(refused.clone()));
        }
        match self.items.is_empty() {
            true => Heard::Over,
            false => Heard::Rest,
        }
    }
}

/// Tries until every item is answered or nobody waits for any of them.
async fn deliver(shared: &Arc<Shared>, mut batch: Batch) {
    let shard = batch.shard;
    let end = shared.owners.run(&mut batch).await;
    let failed = match end {
        End::Over => return,
        End::Scattered => {
            for item in batch.items {
                // Who is refused hears of it.
                let _ = shared.put(item);
            }
            return;
        }
        End::Doubt => ApiError::with(Code::Internal, "Nobody knows whether the message was taken"),
        End::Foreign(status) => {
            tracing::error!(%status, shard, "the coreapp refused a batch; its requests are answered 1014");
            ApiError::with(Code::Internal, "The coreapp refused the request")
        }
    };
    for item in batch.items {
        let _ = item.reply.send(Err(failed.clone()));
    }
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
