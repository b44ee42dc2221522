//! Claims what waits in the store, and finds what an earlier owner left half sent.
//! Sends nothing: `sender.rs` does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use wa_core::backoff::exponential;
use wa_core::hold::{Event, Pace};

use super::hold;
use super::international;
use super::line::BLOCKED_MAX;
use super::node::Node;
use super::outbox::REPLIES_IN_HAND_MAX;
use super::work::Work;
use crate::db::DbError;
use crate::db::left::Left;
use crate::db::message::Claimed;
use crate::log::seldom;
use crate::sys::clock;

/// Rows claimed with one commit.
const CLAIM_LEN_MAX: usize = 256;
/// Customers who have written lately that one statement asks about.
const ASKED_LEN_MAX: usize = 64;
/// For the look at what an earlier owner left. Nothing is sent before.
const LEFT_WITHIN: Duration = Duration::from_secs(1);
/// How often the store is asked for messages that became due, when nobody says so.
const CLAIM_EVERY: Duration = Duration::from_millis(500);

/// Claims what waits in the store, and recovers what an earlier owner left half sent. `left`: to the sender, before anything is
/// claimed.
pub async fn claim(node: Arc<Node>, work: Arc<Work>, left: oneshot::Sender<Vec<Left>>) {
    let _ = left.send(mark(&node, &work).await);
    loop {
        let pause = || work.reach.paused(clock::now());
        let may = || !work.held() && pause().is_none() && work.holding.pace() != Pace::None;
        loop {
            if may() {
                claim_replies(&node, &work).await;
            }
            if !may() || !claim_some(&node, &work).await {
                break;
            }
        }
        let wait = pause().map_or(CLAIM_EVERY, |left| left.min(CLAIM_EVERY));
        let _ = tokio::time::timeout(wait, work.claim_wanted.notified()).await;
    }
}

/// One claim. True when more may wait and there is room for it.
async fn claim_some(node: &Arc<Node>, work: &Arc<Work>) -> bool {
    let room = work.outbox.room().min(CLAIM_LEN_MAX);
    let Some(db) = node.db().filter(|_| room >= CLAIM_LEN_MAX / 8) else {
        return false;
    };
    // Without a way to the upstream one message finds out whether there is one again.
    let lost = work.reach.lost() || work.holding.pace() == Pace::One;
    if lost && work.outbox.len() > 0 {
        return false;
    }
    let version = work.outbox.version();
    let wanted = if lost { 1 } else { room };
    let limit = u32::try_from(wanted).unwrap_or(u32::MAX);
    match node
        .in_turn(db.claim(&work.own, work.shard_count, limit))
        .await
    {
        Ok(rows) => {
            let all = rows.len() < wanted;
            if !take_in_hand(node, work, rows, false).await {
                return false;
            }
            if all {
                work.outbox.claimed_all(version);
                if work.holding.pace() == Pace::Half {
                    hold::note(node, work, Event::Drained);
                }
            }
            !all
        }
        Err(error) => {
            // What it may have claimed all the same, the store queues again by itself.
            seldom!(tracing::warn!(error = %error.brief(), "claiming messages failed; retrying"));
            clock::sleep(Duration::from_millis(100)).await;
            false
        }
    }
}

/// To the sender. False: the tenure is over.
async fn take_in_hand(node: &Node, work: &Work, rows: Vec<Claimed>, replies: bool) -> bool {
    let recipients = rows.iter().map(|row| row.recipient.as_str());
    international::look(node.db(), &work.international, recipients).await;
    for row in rows {
        let taken = match replies {
            true => work.outbox.take_reply(&row.id),
            false => work.outbox.take(&row.id),
        };
        if taken && work.send.send(row).await.is_err() {
            return false;
        }
    }
    true
}

/// One claim for customers who have written lately, whatever waits before them, with room of its own in hand.
async fn claim_replies(node: &Arc<Node>, work: &Arc<Work>) {
    if !work.outbox.backlog() {
        return work.replies.nothing_waits();
    }
    let room = work.outbox.room_for_replies();
    let few = work.reach.lost() || work.holding.pace() == Pace::One;
    let Some(db) = node.db() else { return };
    if few || !work.replies.may_ask() || room < REPLIES_IN_HAND_MAX / 8 {
        return;
    }
    let asked = work.replies.take(ASKED_LEN_MAX);
    if asked.is_empty() {
        return;
    }
    let limit = u32::try_from(room).unwrap_or(u32::MAX);
    let claim = db.claim_of(&work.own, work.shard_count, &asked, limit);
    match node.in_turn(claim).await {
        Ok(found) => {
            work.replies.put_off(found.not_due.into_iter());
            if found.more {
                work.replies.queued(asked.into_iter());
            }
            take_in_hand(node, work, found.claimed, true).await;
        }
        Err(error) => {
            // What it may have claimed all the same is looked for by the store; theirs wait behind it.
            work.replies.put_off(asked.into_iter());
            seldom!(
                tracing::warn!(error = %error.brief(), "claiming answers to customers failed; retrying")
            );
            clock::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What later messages wait behind. Without an answer in time they wait behind nothing: sending goes on.
fn known(left: Result<Result<Vec<Left>, DbError>, tokio::time::error::Elapsed>) -> Vec<Left> {
    let why = match left {
        Ok(Ok(left)) => return left,
        Ok(Err(error)) => error.brief(),
        Err(_) => format!("no answer within {LEFT_WITHIN:?}"),
    };
    tracing::warn!(
        why,
        "what an earlier owner left could not be read; messages may overtake those of unknown fate or put off before this takeover"
    );
    Vec::new()
}

/// Rows claimed under another epoch are ambiguous from now on; tried until the store has done it. What later messages wait behind.
async fn mark(node: &Node, work: &Work) -> Vec<Left> {
    let mut failures = 0u32;
    loop {
        let Some(db) = node.db() else {
            return Vec::new();
        };
        // Together: the takeover takes no longer for it. Whichever comes first, the same messages are found.
        let limit = u32::try_from(BLOCKED_MAX).unwrap_or(u32::MAX);
        let left = db.left_behind(&work.own, work.shard_count, limit);
        let left = tokio::time::timeout(LEFT_WITHIN, left);
        let marked = node.in_turn(db.mark_ambiguous(&work.own, work.shard_count));
        let (marked, left) = tokio::join!(marked, left);
        let done = marked.map(|rows| (rows, known(left)));
        match done {
            Ok((rows, left)) => {
                if rows > 0 {
                    tracing::info!(rows, shard = %work.own.shard, "messages were being sent by an earlier owner; waiting for their receipts");
                }
                return left;
            }
            Err(error) => {
                failures += 1;
                let wait = exponential(
                    Duration::from_millis(20),
                    failures,
                    Duration::from_secs(1),
                    0,
                );
                seldom!(
                    tracing::warn!(error = %error.brief(), "finding half-sent messages failed; retrying in {wait:?}")
                );
                clock::sleep(wait).await;
            }
        }
    }
}
