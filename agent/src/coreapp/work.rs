//! Everything that belongs to one tenure: it begins when the gate opens and is joined before "ended" is said.
//! Knows nothing of leases: the driver begins and ends it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wa_core::id::{Generation, Ownership};
use wa_core::time::Instant;

use super::fetch::Fetches;
use super::node::Node;
use super::outbox::{IN_HAND_MAX, Outbox};
use super::upstream::Upstream;
use super::{ambiguity, inbox, intake, sender, webhook};
use crate::db::message::Claimed;
use crate::sys::clock;

/// Requests that wait for a commit.
const INTAKE_LEN_MAX: usize = 2048;
/// Outcomes that wait to be recorded.
const OUTCOMES_LEN_MAX: usize = 1024;
/// Finished messages and processed events are kept this long: retries with the same id find them (S4: 7 days).
const KEEP_MS: u64 = 8 * 24 * 3600 * 1000;
/// Rows deleted by one statement.
const FORGET_MAX: u32 = 1000;
/// With no other traffic the upstream is asked this often.
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// The work of one tenure.
pub struct Work {
    pub own: Ownership,
    pub shard_count: u16,
    pub generation: Generation,
    pub began: Instant,
    pub upstream: Upstream,
    pub outbox: Outbox,
    /// Files of inbound messages on their way.
    pub fetches: Fetches,
    pub intake: mpsc::Sender<intake::Group>,
    pub send: mpsc::Sender<Claimed>,
    /// Something may wait in the message table, the inbox, the webhook table.
    pub claim_wanted: Notify,
    pub inbox_wanted: Notify,
    pub webhook_wanted: Notify,
    /// Since when the inbox has been seen drained; `None` while it is not.
    pub inbox_drained: watch::Sender<Option<Instant>>,
    /// The end of the tenure: whatever runs for it is dropped.
    pub stop: CancellationToken,
    hold: watch::Sender<bool>,
    requests: AtomicUsize,
    tasks: TaskTracker,
    runtime: Handle,
}

/// A request that is being accepted; dropped with its answer.
pub struct Accepting(Arc<Work>);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Work {
    /// Begins to work. The gate is open already.
    pub fn begin(
        node: &Arc<Node>,
        own: Ownership,
        shard_count: u16,
        generation: Generation,
    ) -> Arc<Self> {
        let (intake, groups) = mpsc::channel(INTAKE_LEN_MAX);
        let (send, queue) = mpsc::channel(2 * IN_HAND_MAX);
        let (outcomes, recorded) = mpsc::channel(OUTCOMES_LEN_MAX);
        let settings = &node.settings.upstream;
        let work = Arc::new(Self {
            upstream: Upstream::new(settings, Arc::clone(&node.gate), own.clone()),
            own,
            shard_count,
            generation,
            began: clock::now(),
            outbox: Outbox::new(),
            fetches: Fetches::default(),
            intake,
            send,
            claim_wanted: Notify::new(),
            inbox_wanted: Notify::new(),
            webhook_wanted: Notify::new(),
            inbox_drained: watch::Sender::new(None),
            stop: CancellationToken::new(),
            hold: watch::Sender::new(false),
            requests: AtomicUsize::new(0),
            tasks: TaskTracker::new(),
            runtime: node.runtime.clone(),
        });
        let both = || (Arc::clone(node), Arc::clone(&work));
        let (n, w) = both();
        work.spawn(intake::commit(n, w, groups));
        let (n, w) = both();
        work.spawn(sender::dispatch(n, w, queue, outcomes));
        let (n, w) = both();
        work.spawn(sender::record(n, w, recorded));
        let (n, w) = both();
        work.spawn(sender::claim(n, w));
        let (n, w) = both();
        work.spawn(ambiguity::resolve(n, w));
        let (n, w) = both();
        work.spawn(ambiguity::find_orphans(n, w));
        let (n, w) = both();
        work.spawn(inbox::process(n, w));
        let (n, w) = both();
        work.spawn(webhook::deliver(n, w));
        let (n, w) = both();
        work.spawn(probe(n, w));
        let (n, w) = both();
        work.spawn(housekeep(n, w));
        work
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

/// Asks the upstream now and then, so that silence of the business does not look like a lost connection.
async fn probe(node: Arc<Node>, work: Arc<Work>) {
    loop {
        if !work.held() {
            match work.upstream.probe().await {
                Ok(status) => {
                    let refused = matches!(status.as_u16(), 401 | 403 | 500..);
                    node.upstream_seen(!refused);
                    if refused {
                        tracing::warn!(%status, "the upstream refuses the probe; check [upstream] token; retrying");
                    }
                }
                Err(error) => {
                    node.upstream_seen(false);
                    tracing::warn!(%error, "the upstream does not answer the probe; retrying");
                }
            }
        }
        clock::sleep(PROBE_EVERY).await;
    }
}

/// Depths for the metrics, and deletion of what nobody asks for any more.
async fn housekeep(node: Arc<Node>, work: Arc<Work>) {
    let mut rounds = 0u32;
    loop {
        clock::sleep(Duration::from_secs(5)).await;
        let Some(db) = node.db() else { continue };
        let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        if let Ok(depth) = db.outbox_depth().await {
            node.metrics.outbox_depth.set(gauge(depth));
        }
        if let Ok(depth) = db.webhook_depth().await {
            node.metrics.webhook_depth.set(gauge(depth));
        }
        rounds += 1;
        if rounds.is_multiple_of(12) && work.own.shard.0 == 0 {
            let messages = db.forget_messages(KEEP_MS, FORGET_MAX).await;
            let events = db.forget_events(KEEP_MS).await;
            if let (Err(error), _) | (_, Err(error)) = (messages, events) {
                tracing::warn!(error = %error.brief(), "deleting old rows failed; retrying in a minute");
            }
        }
    }
}
