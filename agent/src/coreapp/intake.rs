//! Intake: the loop that accepts the messages of many requests with one commit.
//! Checks no message: the webapp did. Knows no HTTP: `serve.rs` does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use wa_core::hold::{Pace, Sort};
use wa_core::shard_map::shard_of;

use super::holding;
use super::international;
use super::node::Node;
use super::work::{Group, Reply, Work};
use crate::api::owner::{Acceptance, Message, OwnerAnswer, Setback, Settled};
use crate::api::v1::code::Code;
use crate::api::v1::message::stored::{self, Unreadable};
use crate::db::message::{AcceptError, Accepted, Claimed, NewMessage};
use crate::log::seldom;
use crate::sys::clock;

/// Messages in one commit, roughly: a request is never split.
const COMMIT_LEN_MAX: usize = 256;
/// How often a commit is tried before its outcome is called unknown.
const TRIES: u32 = 3;

/// What is accepted can be read again: nothing is stored that only its writer understands.
fn read_message(message: Message) -> Result<(NewMessage, Sort), Unreadable> {
    let read = stored::read(message.form, &message.payload)?;
    let sort = holding::sort_in(&read.content);
    let new = NewMessage {
        id: message.id,
        recipient: read.to.as_str().to_owned(),
        recipient_hash: message.recipient_hash,
        kind: read.content.kind().as_str(),
        form: message.form,
        hashes: stored::hashes(&read),
        payload: message.payload,
    };
    Ok((new, sort))
}

/// Every message on its own: the ones that this release does not read hold up nobody else, nor do those that are too many, whose
/// number comes last.
fn read_messages(
    messages: Vec<Message>,
    too_many: impl Fn(Sort) -> bool,
) -> (Vec<NewMessage>, Vec<bool>, u64) {
    let mut readable = Vec::with_capacity(messages.len());
    let mut left = 0;
    let known = messages.into_iter().map(|message| match read_message(message) {
        Ok((_, sort)) if too_many(sort) => {
            left += 1;
            false
        }
        Ok((message, _)) => {
            readable.push(message);
            true
        }
        Err(error) => {
            seldom!(
                tracing::warn!(%error, "a webapp wrote a message that this release cannot read; it asks again")
            );
            false
        }
    });
    let known = known.collect();
    (readable, known, left)
}

/// What is said once too many messages wait for an upstream that takes none.
const FULL: &str = "WhatsApp takes no messages of this account now, and as many wait as may ([client] queue_max). wa-agent status says why";

/// The same where payment is wanted for messages of this kind.
const FULL_OF_KIND: &str = "WhatsApp takes no messages of this kind now, and as many wait as may ([client] queue_max). wa-agent status says why";

fn refused(details: &str) -> OwnerAnswer {
    OwnerAnswer::Settled(Settled::Refused {
        code: Code::Overloaded,
        details: details.to_owned(),
    })
}

/// Until messages go again at full pace, so many may wait and no more: while all are held, while one shows whether they may go, and
/// while those go that waited.
fn bound(pace: Pace) -> bool {
    match pace {
        Pace::None | Pace::One | Pace::Half => true,
        Pace::Full => false,
    }
}

/// Has messages stored, in one commit with what else waits.
pub async fn accept(node: &Node, work: &Arc<Work>, messages: Vec<Message>) -> OwnerAnswer {
    let within = |m: &Message| shard_of(m.recipient_hash, work.shard_count) == work.own.shard;
    if !messages.iter().all(within) {
        return OwnerAnswer::Setback(Setback::NotOwner);
    }
    // Counted before the hold is asked: a hold that is set later waits for this request.
    let accepting = work.accepting();
    if work.held() {
        return OwnerAnswer::Setback(Setback::Busy);
    }
    let count = messages.len() as u64;
    // They are counted every few seconds, and those that come meanwhile one by one.
    let waiting = work.waiting.fetch_add(count, Ordering::Relaxed) + count;
    let over = waiting > node.settings.client.queue_max;
    let uncount = |count| work.waiting.fetch_sub(count, Ordering::Relaxed);
    if over && bound(work.holding.pace()) {
        uncount(count);
        return refused(FULL);
    }
    let (messages, known, left) = read_messages(messages, |sort| over && work.holding.unpaid(sort));
    uncount(left);
    // The others of such a call are taken: then the webapp asks again, for these alone.
    if left > 0 && messages.is_empty() {
        return refused(FULL_OF_KIND);
    }
    let verdicts = if messages.is_empty() {
        Ok(Vec::new())
    } else {
        commit_soon(node, work, messages).await
    };
    drop(accepting);
    let mut verdicts = match verdicts {
        Ok(verdicts) => verdicts.into_iter(),
        Err(setback) => return OwnerAnswer::Setback(setback),
    };
    let each = known.into_iter().map(|known| {
        let verdict = known.then(|| verdicts.next());
        verdict.flatten().unwrap_or(Acceptance::Unsettled)
    });
    OwnerAnswer::Settled(Settled::Accepted {
        verdicts: each.collect(),
    })
}

/// Waits for the commit that has these messages in it.
async fn commit_soon(
    node: &Node,
    work: &Work,
    messages: Vec<NewMessage>,
) -> Result<Vec<Acceptance>, Setback> {
    let (reply, answer) = oneshot::channel();
    let group = Group { messages, reply };
    work.intake.try_send(group).map_err(|_| Setback::Busy)?;
    let longest = node.settings.timers.lease_ttl * 2;
    match tokio::time::timeout(longest, answer).await {
        Ok(Ok(verdicts)) => verdicts,
        // Dropped unanswered: the tenure ended around the commit.
        Ok(Err(_)) | Err(_) => Err(Setback::Unknown),
    }
}

/// Accepts what waits, group by group, one commit at a time.
pub async fn commit(node: Arc<Node>, work: Arc<Work>, mut groups: mpsc::Receiver<Group>) {
    while let Some(first) = groups.recv().await {
        let mut len = first.messages.len();
        let mut batch = vec![first];
        while len < COMMIT_LEN_MAX {
            let Ok(group) = groups.try_recv() else { break };
            len += group.messages.len();
            batch.push(group);
        }
        commit_batch(&node, &work, batch).await;
    }
}

async fn commit_batch(node: &Node, work: &Work, batch: Vec<Group>) {
    let (mut messages, mut replies) = (Vec::new(), Vec::new());
    for group in batch {
        replies.push((group.messages.len(), group.reply));
        messages.extend(group.messages);
    }
    // Asked before the commit: a message that is put down meanwhile has its outcome recorded already.
    let known: Vec<bool> = messages.iter().map(|m| work.outbox.has(&m.id)).collect();
    let claim = work.outbox.claim_at_once(messages.len());
    let began = clock::now();
    let stored = async {
        let result = store(node, work, &messages, claim).await;
        node.metrics.commit.observe(clock::now().since(began));
        result
    };
    // Meanwhile: what is claimed at once is not looked at by `claim.rs`.
    let recipients = messages.iter().map(|m| m.recipient.as_str());
    let recipients = recipients.filter(|_| claim);
    let (result, ()) = tokio::join!(
        stored,
        international::look(node.db(), &work.international, recipients)
    );
    if !claim {
        work.outbox.queued();
        let routes = messages.iter().map(|m| m.recipient_hash);
        work.replies.queued(routes);
        work.claim_wanted.notify_one();
    }
    let accepted = match result {
        Ok(accepted) => {
            node.troubles.intake.over();
            accepted
        }
        Err(error) => {
            // Stale is no fault of the store: the tenure is over.
            if let AcceptError::Db(error) = &error {
                node.troubles.intake.failed(&error.brief());
            }
            return refuse(&error, messages.len(), replies);
        }
    };
    let each = messages.into_iter().zip(known).zip(accepted);
    let verdicts: Vec<Acceptance> = each
        .map(|((m, known), accepted)| settle(node, work, m, known, accepted, claim))
        .collect();
    let mut verdicts = verdicts.into_iter();
    for (len, reply) in replies {
        let verdicts = verdicts.by_ref().take(len).collect();
        let _ = reply.send(Ok(verdicts));
    }
}

/// Nothing was accepted, or nobody knows: rows that were claimed all the same, the store queues by itself.
fn refuse(error: &AcceptError, len: usize, replies: Vec<(usize, oneshot::Sender<Reply>)>) {
    let setback = match error {
        AcceptError::Stale => Setback::NotOwner,
        AcceptError::Db(error) => {
            tracing::warn!(error = %error.brief(), "a group of {len} messages was not accepted; the webapp retries");
            Setback::Unknown
        }
    };
    for (_, reply) in replies {
        let _ = reply.send(Err(setback));
    }
}

/// What the webapp is told of one message; a new one goes straight to the sender.
fn settle(
    node: &Node,
    work: &Work,
    message: NewMessage,
    known: bool,
    accepted: Accepted,
    claim: bool,
) -> Acceptance {
    match accepted {
        Accepted::Conflict => Acceptance::Conflict,
        Accepted::Duplicate => Acceptance::Duplicate,
        Accepted::Unsettled => Acceptance::Unsettled,
        Accepted::New if known => Acceptance::Duplicate,
        Accepted::New => {
            node.metrics.accepted.inc();
            if claim && !work.outbox.take(&message.id) {
                return Acceptance::Duplicate;
            }
            if claim {
                let claimed = Claimed {
                    seq: None,
                    id: message.id,
                    recipient: message.recipient,
                    recipient_hash: i64::from(message.recipient_hash),
                    form: i64::from(message.form),
                    payload: message.payload,
                    attempts: -1,
                    age_ms: 0,
                    doubt: 0,
                    claimed: clock::now(),
                };
                // The queue is longer than what may be in hand; if it is full all the same, the row waits as ambiguous.
                if let Err(error) = work.send.try_send(claimed) {
                    tracing::error!(%error, "the sender's queue is full, which its bound rules out");
                }
            }
            Acceptance::Accepted
        }
    }
}

/// One commit, tried again while the store is busy: the ids make a repetition harmless.
async fn store(
    node: &Node,
    work: &Work,
    messages: &[NewMessage],
    claim: bool,
) -> Result<Vec<Accepted>, AcceptError> {
    let deadline = node.settings.timers.lease_ttl;
    let mut last = AcceptError::Db(crate::db::DbError::Deadline(deadline));
    for attempt in 1..=TRIES {
        let Some(db) = node.db() else { break };
        let write = tokio::time::timeout(deadline, db.accept(&work.own, messages, claim));
        match node.in_turn(write).await {
            Ok(Ok(accepted)) => return Ok(accepted),
            Ok(Err(AcceptError::Stale)) => return Err(AcceptError::Stale),
            Ok(Err(error)) => last = error,
            Err(_) => break,
        }
        clock::sleep(Duration::from_millis(10) * attempt).await;
    }
    Err(last)
}
