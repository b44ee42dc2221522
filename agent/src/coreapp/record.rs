//! Records what became of messages, many with one commit.
//! Sends nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use wa_core::backoff::exponential;

use super::attempt::Attempt;
use super::node::Node;
use super::work::Work;
use crate::api::v1::callback::{Callback, Status};
use crate::api::v1::message::stored;
use crate::db::body::{Bodies, kept_ms};
use crate::db::inbox::failure_key;
use crate::db::message::{Finish, Finished, OwnWebhook};
use crate::db::route::Link;
use crate::log::seldom;
use crate::sys::clock;

/// Outcomes recorded with one commit.
const RECORD_LEN_MAX: usize = 256;

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
            seldom!(
                tracing::warn!(%error, "recording {} outcomes failed; retrying in {wait:?}", batch.len())
            );
            clock::sleep(wait).await;
        }
        if batch
            .iter()
            .any(|a| matches!(a.to, Finished::Retry { delay_ms: 0 }))
        {
            work.outbox.queued();
        }
        let later = |a: &&Attempt| matches!(a.to, Finished::Retry { .. });
        let later = batch.iter().filter(later);
        work.replies.put_off(later.map(|a| a.message.route()));
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
    let links: Vec<Link> = batch.iter().filter_map(|a| a.link.clone()).collect();
    for attempt in batch {
        let (id, recipient) = (&attempt.message.id, &attempt.message.recipient);
        if let Some(error) = &attempt.error {
            let at_s = clock::wall_ms() / 1000;
            let data = stored::callback_data(attempt.message.form, &attempt.message.payload);
            let (form, payload) = (attempt.message.form, &attempt.message.payload);
            let recipient = &stored::answered(form, payload, recipient);
            let status = Status::failed(id, recipient, error.clone(), at_s).with_data(data);
            webhooks.push(OwnWebhook {
                message_id: id.clone(),
                key: failure_key(id),
                recipient_hash: attempt.message.route(),
                payload: Callback::of_status(status).text(),
            });
        }
        finishes.push(Finish {
            id: id.clone(),
            to: attempt.to.clone(),
            claims: attempt.message.claims(),
        });
    }
    let bodies = bodies(node, batch);
    // Stale: the rows are the next owner's; the driver ends this tenure.
    let done = db.finish_and_tell(&work.own, &finishes, (&webhooks, &links), &bodies);
    node.in_turn(done).await.map_err(|error| error.brief())?;
    for attempt in batch {
        if let Finished::Sent { wamid } = &attempt.to {
            work.known_ids.write_soon(&attempt.message.id, wamid);
        }
    }
    if !webhooks.is_empty() {
        work.webhook_wanted.notify_one();
    }
    Ok(())
}

/// What becomes of the content of what was sent or has failed.
fn bodies(node: &Node, batch: &[Attempt]) -> Bodies {
    let keep = node.settings.client.keep_bodies;
    // Kept although it need not be, it goes with a sweep.
    if !keep.is_zero() || !node.blanking.may() {
        return Bodies::Kept { ms: kept_ms(keep) };
    }
    let left = batch.iter().map(|attempt| {
        let message = &attempt.message;
        let left = stored::remains(message.form, &message.payload);
        (message.id.clone(), left)
    });
    Bodies::Gone {
        left: left.filter(|(_, left)| !left.is_empty()).collect(),
    }
}
