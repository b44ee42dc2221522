//! Works off the inbox: message states, callbacks for the business, and what became of ambiguous sends.
//! Stores no events: webapps do.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wa_core::id::Ownership;

use super::Shared;
use crate::api::cloud::{self, Event};
use crate::db::inbox::Processed;
use crate::sys::clock;

/// Most events of one commit.
const BATCH_MAX: u32 = 256;
/// How often the inbox is looked at when nobody says that something came.
const POLL_EVERY: Duration = Duration::from_millis(250);

/// Runs until the tenure ends. What an earlier owner was sending is ambiguous from the start of it.
pub async fn work_off(shared: Arc<Shared>, own: Ownership, stop: CancellationToken) {
    let mut marked = false;
    while !stop.is_cancelled() {
        if !marked {
            match shared.db.mark_ambiguous(&own, shared.shard_count()).await {
                Ok(0) => marked = true,
                Ok(count) => {
                    marked = true;
                    tracing::info!(
                        EPOCH = own.epoch.0,
                        count,
                        "messages of the former owner wait for their receipts"
                    );
                }
                Err(error) => {
                    tracing::warn!(error = %error.brief(), "ambiguous messages could not be marked; retrying")
                }
            }
        }
        let drained = match drain(&shared, &own).await {
            Ok(drained) => drained,
            Err(error) => {
                tracing::warn!(error = %error.brief(), "the inbox could not be worked off; retrying");
                false
            }
        };
        // The window counts only while the receipts that have come are processed.
        let window_ms = u64::try_from(shared.settings.upstream.ambiguity_window.as_millis())
            .unwrap_or(u64::MAX);
        if drained
            && marked
            && let Ok(true) = shared
                .db
                .requeue_ambiguous(&own, shared.shard_count(), window_ms)
                .await
        {
            shared.outbox_ready.notify_one();
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.inbox_ready.notified() => {}
            () = clock::sleep(POLL_EVERY) => {}
        }
    }
}

/// Processes all that waits. True when nothing is left.
async fn drain(shared: &Shared, own: &Ownership) -> Result<bool, crate::db::DbError> {
    // Bounded: other work of this task has its turn, too.
    for _ in 0..32 {
        let pending = shared
            .db
            .pending_events(own, shared.shard_count(), BATCH_MAX)
            .await?;
        if pending.is_empty() {
            return Ok(true);
        }
        let application = shared.application.load();
        let processed: Vec<Processed> = pending
            .iter()
            .map(|stored| process(stored, &application))
            .collect();
        if !shared.db.process_events(own, &processed).await? {
            return Ok(false);
        }
        if processed.iter().any(|p| p.webhook.is_some()) {
            shared.webhooks_ready.notify_one();
        }
        if pending.len() < BATCH_MAX as usize {
            return Ok(true);
        }
    }
    Ok(false)
}

fn process(
    stored: &crate::db::inbox::Stored,
    application: &super::webhook::Application,
) -> Processed {
    let recipient_hash = u32::try_from(stored.recipient_hash).unwrap_or(0);
    let key = stored.event_key.clone();
    let Ok(event) = serde_json::from_str::<Event>(&stored.payload) else {
        tracing::warn!(event = %key, "an event cannot be read; ignoring it");
        return Processed {
            key,
            recipient_hash,
            status: None,
            webhook: None,
        };
    };
    let status = cloud::status_change(&event)
        .map(|(id, state, wamid)| (id, state, Some(wamid).filter(|w| !w.is_empty())));
    let webhook = application
        .wants(&event)
        .then(|| cloud::to_callback(&event).to_string());
    Processed {
        key,
        recipient_hash,
        status,
        webhook,
    }
}
