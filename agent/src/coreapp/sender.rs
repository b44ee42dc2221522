//! The sender: takes claimed messages upstream within the limits, and records what became of them.
//! A message is claimed in the store before its first byte leaves; what ends unknown waits for its receipt.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use governor::clock::Clock as _;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::mpsc;
use wa_core::backoff::exponential;
use wa_core::message::{Outcome, RetryClass, classify};
use wa_core::shard_map::recipient_hash;
use wa_core::time::Instant;

use super::media::{self, Unsent};
use super::node::Node;
use super::outbox::IN_HAND_MAX;
use super::upstream::{UpstreamError, shown};
use super::work::Work;
use crate::api::cloud::{ErrorAnswer, SendAnswer, failed_callback};
use crate::db::message::{Claimed, Finish, Finished, OwnWebhook};
use crate::sys::{clock, state};

/// Outcomes recorded with one commit.
const RECORD_LEN_MAX: usize = 256;
/// Rows claimed with one commit.
const CLAIM_LEN_MAX: usize = 256;
/// How often the store is asked for messages that became due, when nobody says so.
const CLAIM_EVERY: Duration = Duration::from_millis(500);
/// About one message in 6 s to one recipient (131056).
const PAIR_DELAY: Duration = Duration::from_secs(6);

/// An attempt and what came of it.
pub struct Attempt {
    message: Claimed,
    to: Finished,
    retry: Option<RetryClass>,
    /// The upstream's words on a failure.
    title: String,
}

impl Attempt {
    fn new(message: Claimed, to: Finished) -> Self {
        Self {
            message,
            to,
            retry: None,
            title: String::new(),
        }
    }

    fn again(message: Claimed, class: RetryClass) -> Self {
        let delay_ms =
            u64::try_from(delay(class, message.attempts).as_millis()).unwrap_or(u64::MAX);
        Self {
            retry: Some(class),
            ..Self::new(message, Finished::Retry { delay_ms })
        }
    }
}

fn delay(class: RetryClass, attempts: i64) -> Duration {
    let failures = u32::try_from(attempts.max(1)).unwrap_or(u32::MAX);
    let jitter = state::random_u64().to_le_bytes()[0];
    let (first, cap) = match class {
        RetryClass::Passing | RetryClass::NumberLimit => (1, 60),
        RetryClass::PairLimit => return PAIR_DELAY,
        RetryClass::Long => (60, 900),
    };
    exponential(
        Duration::from_secs(first),
        failures,
        Duration::from_secs(cap),
        jitter,
    )
}

/// The `/v1` code and the words of a refused call.
pub fn refusal(answer: &[u8]) -> (u16, String) {
    match serde_json::from_slice::<ErrorAnswer>(answer) {
        Ok(answer) => (
            wa_core::message::to_onprem(answer.error.code),
            answer.error.message,
        ),
        Err(_) => (1000, shown(answer)),
    }
}

/// What waits to be sent: one message at a time to each recipient, so that its order is kept.
#[derive(Default)]
struct Line {
    ready: VecDeque<Claimed>,
    /// Recipients with a message ready or on its way, and what waits behind it.
    behind: HashMap<String, VecDeque<Claimed>>,
    /// Recipients that the upstream wants to be left alone for a while.
    spared: HashMap<String, Instant>,
    /// The whole number sends too fast.
    paused_until: Instant,
}

impl Line {
    fn place(&mut self, message: Claimed) {
        if let Some(behind) = self.behind.get_mut(&message.recipient) {
            behind.push_back(message);
        } else {
            self.behind
                .insert(message.recipient.clone(), VecDeque::new());
            self.ready.push_back(message);
        }
    }

    /// A message of the recipient is done: the next one may go.
    fn next_of(&mut self, recipient: &str) {
        match self.behind.get_mut(recipient).and_then(VecDeque::pop_front) {
            Some(next) => self.ready.push_back(next),
            None => {
                self.behind.remove(recipient);
            }
        }
    }

    /// Everything that has not been started.
    fn take_all(&mut self) -> Vec<Claimed> {
        let mut all: Vec<Claimed> = Vec::new();
        for message in std::mem::take(&mut self.ready) {
            let rest = self.behind.remove(&message.recipient).unwrap_or_default();
            all.push(message);
            all.extend(rest);
        }
        // What is left stands behind messages on their way.
        for behind in self.behind.values_mut() {
            all.extend(behind.drain(..));
        }
        all
    }

    fn note(&mut self, now: Instant, attempt: &Attempt) {
        match (attempt.retry, &attempt.to) {
            (Some(RetryClass::NumberLimit), Finished::Retry { delay_ms }) => {
                self.paused_until = now + Duration::from_millis(*delay_ms);
            }
            (Some(RetryClass::PairLimit), _) => {
                self.spared.retain(|_, until| *until > now);
                self.spared
                    .insert(attempt.message.recipient.clone(), now + PAIR_DELAY);
            }
            _ => {}
        }
    }
}

/// Starts attempts within concurrency, rate and limits, until the tenure ends.
pub async fn dispatch(
    node: Arc<Node>,
    work: Arc<Work>,
    mut queue: mpsc::Receiver<Claimed>,
    outcomes: mpsc::Sender<Attempt>,
) {
    let settings = &node.settings.upstream;
    let rate = NonZeroU32::new(settings.rate_per_second).unwrap_or(NonZeroU32::MIN);
    let limiter = RateLimiter::direct(Quota::per_second(rate));
    let mut hold = work.hold_changes();
    let mut line = Line::default();
    let mut attempts = FuturesUnordered::new();
    loop {
        let mut wait = None;
        if *hold.borrow_and_update() {
            for message in line.take_all() {
                let back = Attempt::new(message, Finished::Retry { delay_ms: 0 });
                if outcomes.send(back).await.is_err() {
                    return;
                }
            }
        } else {
            while attempts.len() < settings.concurrency.max(1) && !line.ready.is_empty() {
                if let Some(span) = must_wait(&limiter, &line) {
                    wait = Some(span);
                    break;
                }
                let Some(message) = line.ready.pop_front() else {
                    break;
                };
                let spared = line.spared.get(&message.recipient).copied();
                attempts.push(attempt(
                    Arc::clone(&node),
                    Arc::clone(&work),
                    message,
                    spared,
                ));
            }
        }
        tokio::select! {
            Some(done) = attempts.next(), if !attempts.is_empty() => {
                let done: Attempt = done;
                line.note(clock::now(), &done);
                line.next_of(&done.message.recipient);
                if outcomes.send(done).await.is_err() {
                    return;
                }
            }
            message = queue.recv() => match message {
                Some(message) => line.place(message),
                None => return,
            },
            _ = hold.changed() => {}
            () = clock::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
        }
    }
}

/// How long the rate of the number, or a pause that it was told to make, forbids the next attempt.
fn must_wait(limiter: &DefaultDirectRateLimiter, line: &Line) -> Option<Duration> {
    let now = clock::now();
    if now < line.paused_until {
        return Some(line.paused_until.since(now));
    }
    let refused = limiter.check().err()?;
    Some(
        refused
            .wait_time_from(limiter.clock().now())
            .max(Duration::from_millis(1)),
    )
}

/// One message, once.
async fn attempt(
    node: Arc<Node>,
    work: Arc<Work>,
    message: Claimed,
    spared_until: Option<Instant>,
) -> Attempt {
    let now = clock::now();
    if let Some(left) = spared_until
        .map(|until| until.since(now))
        .filter(|left| !left.is_zero())
    {
        let delay_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        return Attempt::new(message, Finished::Retry { delay_ms });
    }
    node.metrics.in_flight.inc();
    let payload = match media::resolve(&node, &work, &message.payload).await {
        Ok(payload) => payload.into_owned(),
        Err(unsent) => {
            node.metrics.in_flight.dec();
            return without_file(&node, message, unsent);
        }
    };
    let result = work.upstream.post_message(payload).await;
    node.metrics.in_flight.dec();
    judge(&node, message, result)
}

/// Its file could not be given to the upstream: the message was not sent.
fn without_file(node: &Node, message: Claimed, unsent: Unsent) -> Attempt {
    match unsent {
        Unsent::Held => Attempt::new(message, Finished::Retry { delay_ms: 0 }),
        Unsent::Later(why) => {
            tracing::warn!(
                id = message.id,
                why,
                "the file of a message cannot be given to the upstream; retrying"
            );
            Attempt::again(message, RetryClass::Passing)
        }
        Unsent::Never(code, title) => {
            tracing::info!(
                id = message.id,
                code,
                "the file of a message cannot be sent; reporting failed"
            );
            node.metrics.failed.inc();
            Attempt {
                title,
                ..Attempt::new(message, Finished::Failed { code })
            }
        }
    }
}

fn judge(
    node: &Node,
    message: Claimed,
    result: Result<(http::StatusCode, bytes::Bytes), UpstreamError>,
) -> Attempt {
    let (status, body) = match result {
        Ok(answer) => answer,
        Err(error) => {
            let over = matches!(error, UpstreamError::Shut);
            node.upstream_seen(false);
            if error.nothing_sent() {
                if !over {
                    tracing::warn!(id = message.id, %error, "the upstream cannot be reached; retrying");
                }
                return Attempt::again(message, RetryClass::Passing);
            }
            tracing::warn!(id = message.id, %error, "a send ended unknown; waiting for its receipt");
            node.metrics.ambiguous.inc();
            return Attempt::new(message, Finished::Ambiguous);
        }
    };
    if status.is_success() {
        node.upstream_seen(true);
        let wamid = serde_json::from_slice::<SendAnswer>(&body)
            .ok()
            .and_then(|answer| answer.messages.into_iter().next())
            .map_or(String::new(), |m| m.id);
        node.metrics.sent.inc();
        return Attempt::new(message, Finished::Sent { wamid });
    }
    let error = serde_json::from_slice::<ErrorAnswer>(&body)
        .ok()
        .map(|answer| answer.error);
    node.upstream_seen(error.is_some() && !matches!(status.as_u16(), 401 | 403));
    let outcome = match (&error, status.as_u16()) {
        (Some(error), _) => classify(error.code),
        (None, 429) => Outcome::Retry(RetryClass::NumberLimit),
        (None, 500..) => Outcome::Ambiguous,
        (None, _) => Outcome::Failed(1000),
    };
    let cloud_code = error.as_ref().map_or(0, |e| e.code);
    match outcome {
        Outcome::Retry(class) => {
            tracing::info!(id = message.id, %status, cloud_code, ?class, "the upstream refused for now; retrying");
            Attempt::again(message, class)
        }
        Outcome::Failed(code) => {
            tracing::info!(id = message.id, %status, cloud_code, code, "the upstream refused for good; reporting failed");
            node.metrics.failed.inc();
            let title = error.map_or_else(|| "Generic error".into(), |e| e.message);
            Attempt {
                title,
                ..Attempt::new(message, Finished::Failed { code })
            }
        }
        Outcome::Ambiguous | Outcome::Sent => {
            tracing::warn!(id = message.id, %status, "a send ended unknown; waiting for its receipt");
            node.metrics.ambiguous.inc();
            Attempt::new(message, Finished::Ambiguous)
        }
    }
}

/// Records outcomes, many with one commit, and again until the store has them or the tenure ends.
pub async fn record(node: Arc<Node>, work: Arc<Work>, mut outcomes: mpsc::Receiver<Attempt>) {
    while let Some(first) = outcomes.recv().await {
        let mut batch = vec![first];
        while batch.len() < RECORD_LEN_MAX {
            let Ok(next) = outcomes.try_recv() else { break };
            batch.push(next);
        }
        let mut failures = 0u32;
        while let Err(error) = record_batch(&node, &work, &batch).await {
            failures += 1;
            let wait = exponential(
                Duration::from_millis(20),
                failures,
                Duration::from_secs(1),
                0,
            );
            tracing::warn!(%error, "recording {} outcomes failed; retrying in {wait:?}", batch.len());
            clock::sleep(wait).await;
        }
        if batch
            .iter()
            .any(|a| matches!(a.to, Finished::Retry { delay_ms: 0 }))
        {
            work.outbox.queued();
        }
        work.outbox
            .put_down(batch.iter().map(|a| a.message.id.as_str()));
        if work.outbox.backlog() {
            work.claim_wanted.notify_one();
        }
    }
}

async fn record_batch(node: &Node, work: &Work, batch: &[Attempt]) -> Result<(), String> {
    let db = node.db().ok_or("no database")?;
    let (mut finishes, mut webhooks) = (Vec::new(), Vec::new());
    for attempt in batch {
        let (id, recipient) = (&attempt.message.id, &attempt.message.recipient);
        if let Finished::Failed { code } = &attempt.to {
            let at_s = clock::wall_ms() / 1000;
            webhooks.push(OwnWebhook {
                key: format!("{id}:failed"),
                recipient_hash: recipient_hash(recipient),
                payload: failed_callback(id, recipient, *code, &attempt.title, at_s).to_string(),
            });
        }
        finishes.push(Finish {
            id: id.clone(),
            to: attempt.to.clone(),
            claims: attempt.message.claims(),
        });
    }
    // Stale: the rows are the next owner's; the driver ends this tenure.
    node.in_turn(db.finish_and_tell(&work.own, &finishes, &webhooks))
        .await
        .map_err(|error| error.brief())?;
    if !webhooks.is_empty() {
        work.webhook_wanted.notify_one();
    }
    Ok(())
}

/// Claims what waits in the store, and recovers what an earlier owner left half sent.
pub async fn claim(node: Arc<Node>, work: Arc<Work>) {
    mark(&node, &work).await;
    loop {
        while !work.held() && claim_some(&node, &work).await {}
        let _ = tokio::time::timeout(CLAIM_EVERY, work.claim_wanted.notified()).await;
    }
}

/// One claim. True when more may wait and there is room for it.
async fn claim_some(node: &Node, work: &Work) -> bool {
    let room = IN_HAND_MAX
        .saturating_sub(work.outbox.len())
        .min(CLAIM_LEN_MAX);
    let Some(db) = node.db().filter(|_| room >= CLAIM_LEN_MAX / 8) else {
        return false;
    };
    let version = work.outbox.version();
    let limit = u32::try_from(room).unwrap_or(u32::MAX);
    match node
        .in_turn(db.claim(&work.own, work.shard_count, limit))
        .await
    {
        Ok(rows) => {
            let all = rows.len() < room;
            for row in rows {
                if work.outbox.take(&row.id) && work.send.send(row).await.is_err() {
                    return false;
                }
            }
            if all {
                work.outbox.claimed_all(version);
            }
            !all
        }
        Err(error) => {
            // What it may have claimed all the same, the store queues again by itself.
            tracing::warn!(error = %error.brief(), "claiming messages failed; retrying");
            clock::sleep(Duration::from_millis(100)).await;
            false
        }
    }
}

/// Rows claimed under another epoch are ambiguous from now on; tried until the store has done it.
async fn mark(node: &Node, work: &Work) {
    let mut failures = 0u32;
    loop {
        let Some(db) = node.db() else { return };
        match node
            .in_turn(db.mark_ambiguous(&work.own, work.shard_count))
            .await
        {
            Ok(0) => return,
            Ok(rows) => {
                tracing::info!(rows, shard = %work.own.shard, "messages were being sent by an earlier owner; waiting for their receipts");
                return;
            }
            Err(error) => {
                failures += 1;
                let wait = exponential(
                    Duration::from_millis(20),
                    failures,
                    Duration::from_secs(1),
                    0,
                );
                tracing::warn!(error = %error.brief(), "finding half-sent messages failed; retrying in {wait:?}");
                clock::sleep(wait).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, recipient: &str) -> Claimed {
        Claimed {
            id: id.into(),
            recipient: recipient.into(),
            payload: String::new(),
            attempts: 0,
        }
    }

    /// Goal: one message at a time to a recipient, in order; others are not kept waiting.
    #[test]
    fn recipients_queue_behind_themselves_only() {
        let mut line = Line::default();
        for (id, to) in [("1", "a"), ("2", "a"), ("3", "b"), ("4", "a")] {
            line.place(message(id, to));
        }
        let ids = |line: &Line| line.ready.iter().map(|m| m.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&line), ["1", "3"]);
        line.ready.clear();
        line.next_of("a");
        assert_eq!(ids(&line), ["2"]);
        line.next_of("b");
        let left: Vec<String> = line.take_all().into_iter().map(|m| m.id).collect();
        assert_eq!(left, ["2", "4"]);
        line.next_of("a");
        assert!(line.behind.is_empty());
    }

    /// Goal: a hold gives back what stands behind a message on its way, and the recipient goes on afterwards.
    #[test]
    fn a_hold_leaves_only_what_is_on_its_way() {
        let mut line = Line::default();
        line.place(message("1", "a"));
        line.place(message("2", "a"));
        line.ready.clear();
        assert_eq!(line.take_all().len(), 1);
        line.place(message("3", "a"));
        assert!(line.ready.is_empty());
        line.next_of("a");
        assert_eq!(line.ready.len(), 1);
    }

    #[test]
    fn waits_are_bounded_by_their_class() {
        assert_eq!(delay(RetryClass::PairLimit, 9), PAIR_DELAY);
        assert!(delay(RetryClass::Passing, 1) <= Duration::from_secs(1));
        assert!(delay(RetryClass::Passing, 1000) <= Duration::from_secs(60));
        assert!(delay(RetryClass::Long, 1) >= Duration::from_secs(45));
    }
}
