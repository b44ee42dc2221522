//! The board of one tenure: what its tasks look at, from when the gate opens until all of them are joined.
//! Starts none of them: `foreman.rs` does.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wa_core::id::{Generation, Ownership};
use wa_core::time::Instant;

use super::customers::Customers;
use super::demands::Demands;
use super::fetches::Fetches;
use super::heard::Account;
use super::holding::Holding;
use super::in_hand::InHand;
use super::international::International;
use super::known_ids::KnownIds;
use super::looks::Looks;
use super::memory::Memory;
use super::nameless::Aliases;
use super::outbox::{IN_HAND_MAX, Outbox};
use super::reach::Reach;
use super::replies::Replies;
use super::shelf::Shelf;
use super::spellings::Spellings;
use super::trouble::Waiting;
use super::upstream::Upstream;
use super::waited_long::WaitedLong;
use crate::api::owner::{Acceptance, Setback};
use crate::db::message::{Claimed, NewMessage};
use crate::sys::clock;

/// Requests that wait for a commit.
const INTAKE_LEN_MAX: usize = 2048;

/// The work of one tenure.
pub struct Work {
    pub own: Ownership,
    pub shard_count: u16,
    pub generation: Generation,
    pub began: Instant,
    pub upstream: Upstream,
    pub outbox: Outbox,
    /// Customers who have written lately.
    pub replies: Arc<Replies>,
    /// The way to the upstream.
    pub reach: Reach,
    /// What holds messages back: the account, or answers that say nothing.
    pub holding: Holding,
    /// This shard's part of the number's limit, in messages per second.
    per_second: AtomicU32,
    /// Messages that wait in the store, as they were counted last, and what was accepted since.
    pub waiting: AtomicU64,
    /// Of these, messages of unknown fate that a person must decide about.
    pub for_person: AtomicU64,
    /// Ids of the upstream that are in the map already.
    pub known_ids: KnownIds,
    /// Who is who.
    pub customers: Customers,
    /// Customers whose numbers are not known.
    pub aliases: Aliases,
    /// Numbers that are typed otherwise than the upstream spells them.
    pub spellings: Spellings,
    /// Numbers that are known to begin with their country code.
    pub international: International,
    /// Files of inbound messages on their way.
    pub fetches: Fetches,
    /// Messages that stood behind those in the last batch.
    pub behind: AtomicUsize,
    /// Files of earlier ones that clients ask for.
    pub demands: Demands,
    /// Files of outgoing messages on their way.
    pub shelf: Arc<Shelf>,
    /// Messages that were refused for hours.
    pub waited_long: WaitedLong,
    /// Looks at single templates.
    pub looks: Looks,
    /// What the upstream said of the business a moment ago.
    pub memory: Memory,
    /// And what it said of the number and the account, for people who look.
    pub account: Account,
    pub intake: mpsc::Sender<Group>,
    pub send: mpsc::Sender<Claimed>,
    /// Something may wait in the message table, the inbox, the webhook table.
    pub claim_wanted: Notify,
    pub inbox_wanted: Notify,
    pub webhook_wanted: Notify,
    /// The registration that is being carried out.
    pub registering: InHand,
    /// The upstream said that the number is not registered, or it was registered just now: ask it.
    pub number_wanted: Notify,
    /// Callbacks that wait, as they were counted last.
    pub callbacks: Waiting,
    /// Since when the inbox has been seen drained; `None` while it is not.
    pub inbox_drained: watch::Sender<Option<Instant>>,
    /// The end of the tenure: whatever runs for it is dropped.
    pub stop: CancellationToken,
    hold: watch::Sender<bool>,
    requests: AtomicUsize,
    tasks: TaskTracker,
    runtime: Handle,
}

/// What the tasks of a tenure receive.
pub struct Queues {
    pub groups: mpsc::Receiver<Group>,
    pub queue: mpsc::Receiver<Claimed>,
}

/// A request that waits for a commit.
pub struct Group {
    pub messages: Vec<NewMessage>,
    pub reply: oneshot::Sender<Reply>,
}

/// What a request is told: one verdict a message, in order.
pub type Reply = Result<Vec<Acceptance>, Setback>;

/// A request that is being accepted; dropped with its answer.
pub struct Accepting(Arc<Work>);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Work {
    /// A board with nobody at work, and what comes through its queues.
    pub fn new(
        upstream: Upstream,
        own: Ownership,
        shard_count: u16,
        generation: Generation,
        runtime: Handle,
    ) -> (Arc<Self>, Queues) {
        let (intake, groups) = mpsc::channel(INTAKE_LEN_MAX);
        let (send, queue) = mpsc::channel(2 * IN_HAND_MAX);
        let work = Arc::new(Self {
            upstream,
            own,
            shard_count,
            generation,
            began: clock::now(),
            outbox: Outbox::new(),
            replies: Arc::default(),
            reach: Reach::default(),
            holding: Holding::default(),
            per_second: AtomicU32::new(1),
            waiting: AtomicU64::new(0),
            for_person: AtomicU64::new(0),
            known_ids: KnownIds::default(),
            customers: Customers::default(),
            aliases: Aliases::default(),
            spellings: Spellings::default(),
            international: International::default(),
            fetches: Fetches::default(),
            behind: AtomicUsize::new(0),
            demands: Demands::default(),
            shelf: Arc::default(),
            waited_long: WaitedLong::default(),
            looks: Looks::default(),
            memory: Memory::default(),
            account: Account::default(),
            intake,
            send,
            claim_wanted: Notify::new(),
            inbox_wanted: Notify::new(),
            webhook_wanted: Notify::new(),
            registering: InHand::default(),
            number_wanted: Notify::new(),
            callbacks: Waiting::default(),
            inbox_drained: watch::Sender::new(None),
            stop: CancellationToken::new(),
            hold: watch::Sender::new(false),
            requests: AtomicUsize::new(0),
            tasks: TaskTracker::new(),
            runtime,
        });
        (work, Queues { groups, queue })
    }

    /// Runs for the tenure, and is dropped at its end.
    pub fn spawn(&self, part: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let part = async move {
            stop.run_until_cancelled_owned(part).await;
        };
        self.tasks.spawn_on(part, &self.runtime);
    }

    /// Drops all that runs, aborts the upstream's sockets, and returns when nothing of it is left.
    pub async fn end(&self) {
        self.stop.cancel();
        self.upstream.abort();
        self.tasks.close();
        self.tasks.wait().await;
        let mut waited = 0u32;
        while !self.upstream.closed() {
            clock::sleep(Duration::from_millis(1)).await;
            waited += 1;
            if waited.is_multiple_of(1000) {
                tracing::warn!(shard = %self.own.shard, epoch = %self.own.epoch, "upstream sockets are still open; waiting");
            }
        }
    }

    /// Holds the intake and starts nothing new, or goes on.
    pub fn set_hold(&self, on: bool) {
        self.hold.send_replace(on);
        self.claim_wanted.notify_one();
    }

    /// This shard's part of the number's limit, in messages per second.
    pub fn per_second(&self) -> u32 {
        self.per_second.load(Ordering::Relaxed)
    }

    /// It is this from now on; what it was before.
    pub fn set_per_second(&self, per_second: u32) -> u32 {
        self.per_second.swap(per_second, Ordering::Relaxed)
    }

    /// The intake is held.
    pub fn held(&self) -> bool {
        *self.hold.borrow()
    }

    /// Changes of [`Self::held`].
    pub fn hold_changes(&self) -> watch::Receiver<bool> {
        self.hold.subscribe()
    }

    /// Counts a request from before the hold is asked until its answer.
    pub fn accepting(self: &Arc<Self>) -> Accepting {
        self.requests.fetch_add(1, Ordering::AcqRel);
        Accepting(Arc::clone(self))
    }

    /// Held, and nothing is being accepted, sent or recorded.
    pub fn quiet(&self) -> bool {
        self.held() && self.requests.load(Ordering::Acquire) == 0 && self.outbox.len() == 0
    }
}
