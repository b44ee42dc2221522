//! Messages of which nobody knows whether they were sent: after the window, sent again or reported, as configured.
//! `sender.rs` marks most of them; here, those that a database failover made again what they were. Receipts come through
//! `inbox.rs`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use wa_core::shard_map::recipient_hash;

use super::node::Node;
use super::outbox::IN_HAND_MAX;
use super::work::Work;
use crate::api::cloud::failed_callback;
use crate::config::OnAmbiguity;
use crate::db::message::{Finish, Finished, OwnWebhook};
use crate::db::{Db, DbError};
use crate::sys::clock;

/// Messages reported in one commit.
const BATCH_LEN_MAX: u32 = 64;
/// The documented code of a generic error in a `failed` status.
const CODE: u16 = 500;

/// Settles overdue messages until the tenure ends. The window counts from when the inbox is drained: a receipt that is
/// stored and not processed is no missing receipt.
pub async fn resolve(node: Arc<Node>, work: Arc<Work>) {
    let window = node.settings.upstream.ambiguity_window;
    let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
    let every = (window / 4).clamp(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        clock::sleep(every).await;
        let drained = *work.inbox_drained.borrow();
        if work.held() || drained.is_none_or(|since| clock::now().since(since) < window) {
            continue;
        }
        let Some(db) = node.db() else { continue };
        let done = match node.settings.upstream.on_ambiguity {
            OnAmbiguity::Resend => resend(&node, &work, &db, window_ms).await,
            OnAmbiguity::Report => report(&node, &work, &db, window_ms).await,
        };
        if let Err(error) = done {
            tracing::warn!(error = %error.brief(), "settling ambiguous messages failed; retrying");
        }
    }
}

/// How often orphans are looked for: twice the time that a commit may take to be answered.
const ORPHANS_EVERY: Duration = Duration::from_secs(10);

/// Finds rows that this ownership has claimed and that the process does not have in hand, until the tenure ends: a database
/// that lost commits says again that they are being sent. Nobody else would ever look at them while this tenure lasts.
pub async fn find_orphans(node: Arc<Node>, work: Arc<Work>) {
    let limit = u32::try_from(2 * IN_HAND_MAX).unwrap_or(u32::MAX);
    let mut before: HashSet<String> = HashSet::new();
    loop {
        clock::sleep(ORPHANS_EVERY).await;
        let Some(db) = node.db() else { continue };
        // Marked at the start of the tenure; the database may have lost that.
        let marked = node.in_turn(db.mark_ambiguous(&work.own, work.shard_count));
        match marked.await {
            Ok(0) => {}
            Ok(rows) => {
                tracing::warn!(shard = %work.own.shard, rows, "messages of an earlier owner are half sent again; waiting for their receipts");
            }
            Err(error) => {
                tracing::warn!(error = %error.brief(), "marking messages as ambiguous failed; retrying");
                continue;
            }
        }
        let claimed = match db.claimed_by(&work.own, limit).await {
            Ok(claimed) => claimed.into_iter(),
            Err(error) => {
                tracing::warn!(error = %error.brief(), "looking for claimed messages failed; retrying");
                continue;
            }
        };
        let orphans: HashSet<String> = claimed.filter(|id| !work.outbox.has(id)).collect();
        // Seen twice: a claim that was just committed is not in hand yet.
        let sure: Vec<Finish> = orphans
            .intersection(&before)
            .map(|id| Finish {
                id: id.clone(),
                to: Finished::Ambiguous,
                claims: i64::MAX,
            })
            .collect();
        before = orphans;
        if sure.is_empty() {
            continue;
        }
        match node.in_turn(db.finish(&work.own, &sure)).await {
            Ok(_) => {
                tracing::warn!(shard = %work.own.shard, rows = sure.len(), "the database does not know any more what became of some messages; waiting for their receipts");
            }
            Err(error) => {
                tracing::warn!(error = %error.brief(), "marking messages as ambiguous failed; retrying");
            }
        }
    }
}

async fn resend(node: &Node, work: &Work, db: &Db, window_ms: u64) -> Result<(), DbError> {
    let requeue = db.requeue_ambiguous(&work.own, work.shard_count, window_ms);
    if node.in_turn(requeue).await? {
        tracing::info!(shard = %work.own.shard, "no receipt came for some messages; sending them again");
        work.claim_wanted.notify_one();
    }
    Ok(())
}

async fn report(node: &Node, work: &Work, db: &Db, window_ms: u64) -> Result<(), DbError> {
    let overdue = db
        .overdue_ambiguous(&work.own, work.shard_count, window_ms, BATCH_LEN_MAX)
        .await?;
    if overdue.is_empty() {
        return Ok(());
    }
    let at_s = clock::wall_ms() / 1000;
    let told = |(id, recipient): (String, String)| {
        let title = "Whether it was sent is not known";
        let webhook = OwnWebhook {
            key: format!("{id}:failed"),
            recipient_hash: recipient_hash(&recipient),
            payload: failed_callback(&id, &recipient, CODE, title, at_s).to_string(),
        };
        (id, webhook)
    };
    let messages: Vec<(String, OwnWebhook)> = overdue.into_iter().map(told).collect();
    let reported = db.report_ambiguous(&work.own, CODE, &messages);
    if node.in_turn(reported).await? {
        tracing::info!(shard = %work.own.shard, rows = messages.len(), "no receipt came for some messages; reporting them as failed");
        work.webhook_wanted.notify_one();
    }
    Ok(())
}
