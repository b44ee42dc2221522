//! Messages of which nobody knows whether they were sent: after the window, sent again or reported, as configured.
//! Marks none: `sender.rs` does, and their receipts come through `inbox.rs`.

use std::sync::Arc;
use std::time::Duration;

use wa_core::shard_map::recipient_hash;

use super::node::Node;
use super::work::Work;
use crate::api::cloud::failed_callback;
use crate::config::OnAmbiguity;
use crate::db::message::OwnWebhook;
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
