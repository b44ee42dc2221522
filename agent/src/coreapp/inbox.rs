//! Works off verified upstream events: message states and webhooks in one commit, by the owner only.
//! Stores no events: webapps do. Delivers no webhooks: `webhook.rs` does.

use std::sync::Arc;
use std::time::Duration;

use wa_core::backoff::exponential;

use super::fetch::{self, Fetched, Fetches, automatic, file_of};
use super::node::Node;
use super::work::Work;
use crate::api::cloud::{Content, Event, status_change, to_callback};
use crate::api::v1::setting::ApplicationSettings;
use crate::db::inbox::{Processed, Stored};
use crate::sys::clock;

/// Events of one commit.
const BATCH_LEN_MAX: u32 = 256;
/// The same on the embedded store, whose one lock a lease may be waiting for.
const BATCH_LEN_MAX_EMBEDDED: u32 = 48;
/// How often the inbox is looked into when nobody says that something came.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Processes events until the tenure ends.
pub async fn process(node: Arc<Node>, work: Arc<Work>) {
    let mut failures = 0u32;
    loop {
        if work.held() {
            // The handover waits for what is being sent: it goes first.
            clock::sleep(Duration::from_millis(5)).await;
            continue;
        }
        match batch(&node, &work).await {
            Ok(full) => {
                failures = 0;
                let since = *work.inbox_drained.borrow();
                // A full batch: more may wait, and receipts among it.
                let drained = (!full).then(|| since.unwrap_or_else(clock::now));
                work.inbox_drained.send_replace(drained);
                if !full {
                    let _ = tokio::time::timeout(LOOK_EVERY, work.inbox_wanted.notified()).await;
                }
            }
            Err(error) => {
                work.inbox_drained.send_replace(None);
                failures += 1;
                let wait = exponential(
                    Duration::from_millis(50),
                    failures,
                    Duration::from_secs(1),
                    0,
                );
                tracing::warn!(%error, "processing events failed; retrying in {wait:?}");
                clock::sleep(wait).await;
            }
        }
    }
}

/// One commit. True when the batch was full.
async fn batch(node: &Arc<Node>, work: &Arc<Work>) -> Result<bool, String> {
    let db = node.db().ok_or("no database")?;
    let limit = if db.embedded() {
        BATCH_LEN_MAX_EMBEDDED
    } else {
        BATCH_LEN_MAX
    };
    let stored = db
        .pending_events(&work.own, work.shard_count, limit)
        .await
        .map_err(|error| error.brief())?;
    if stored.is_empty() {
        return Ok(false);
    }
    let settings = node.application.load();
    let mut processed: Vec<Processed> = Vec::with_capacity(stored.len());
    for event in &stored {
        processed.extend(meaning(node, work, &settings, event));
    }
    if processed.is_empty() {
        // All of them wait for their files.
        return Ok(false);
    }
    let held = node
        .in_turn(db.process_events(&work.own, &processed))
        .await
        .map_err(|error| error.brief())?;
    if !held {
        return Err("this node does not own the shard any more".into());
    }
    work.fetches
        .forget(processed.iter().map(|p| p.key.as_str()));
    if processed.iter().any(|p| p.webhook.is_some()) {
        work.webhook_wanted.notify_one();
    }
    Ok(stored.len() >= limit as usize)
}

/// What an event means; `None`: not yet, its file is on the way.
fn meaning(
    node: &Arc<Node>,
    work: &Arc<Work>,
    settings: &ApplicationSettings,
    stored: &Stored,
) -> Option<Processed> {
    let (mut processed, event) = plain_meaning(settings, stored);
    let Some(event) = event else {
        return Some(processed);
    };
    let Some(wanted) = file_of(&event) else {
        return Some(processed);
    };
    let fetched = if automatic(node, settings, &wanted) {
        Fetches::ask(node, work, &stored.event_key, &wanted)
    } else {
        Fetched::Failed
    };
    if fetched == Fetched::Running {
        return None;
    }
    let mut callback = to_callback(&event);
    fetch::put(&mut callback, &wanted, &fetched);
    processed.webhook = processed.webhook.map(|_| callback.to_string());
    Some(processed)
}

/// What an event means for our message and for the business, its file apart.
fn plain_meaning(settings: &ApplicationSettings, stored: &Stored) -> (Processed, Option<Event>) {
    let mut processed = Processed {
        key: stored.event_key.clone(),
        recipient_hash: u32::try_from(stored.recipient_hash).unwrap_or(0),
        status: None,
        webhook: None,
    };
    let event = match serde_json::from_str::<Event>(&stored.payload) {
        Ok(event) => Event {
            key: stored.event_key.clone(),
            ..event
        },
        Err(error) => {
            tracing::error!(key = stored.event_key, %error, "a stored event cannot be read; ignoring it");
            return (processed, None);
        }
    };
    processed.status = status_change(&event)
        .map(|(id, state, wamid)| (id, state, (!wamid.is_empty()).then_some(wamid)));
    if wanted(settings, &event) {
        processed.webhook = Some(to_callback(&event).to_string());
    }
    (processed, Some(event))
}

/// The business wants to hear of this event. Without a URL nobody ever takes a status; messages wait for one.
fn wanted(settings: &ApplicationSettings, event: &Event) -> bool {
    let Content::Status(status) = &event.content else {
        return true;
    };
    let chosen = &settings.webhooks.message;
    let word = status.get("status").and_then(serde_json::Value::as_str);
    let by_word = match word {
        Some("sent") => chosen.sent || settings.sent_status,
        Some("delivered") => chosen.delivered,
        Some("read") => chosen.read,
        _ => true,
    };
    by_word && !settings.webhooks.url.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use wa_core::message::MessageState;

    fn stored(word: &str) -> Stored {
        let event = Event {
            key: String::new(),
            customer: "447700900456".into(),
            content: Content::Status(json!({
                "id": "wamid.X", "status": word, "biz_opaque_callback_data": "m1", "recipient_id": "447700900456"
            })),
        };
        Stored {
            event_key: format!("wamid.X:{word}"),
            recipient_hash: 7,
            payload: serde_json::to_string(&event).expect("plain JSON"),
        }
    }

    /// Goal: every status moves our message; only the chosen ones reach the business.
    #[test]
    fn statuses_are_told_as_the_settings_say() {
        let mut settings = ApplicationSettings::default();
        assert_eq!(
            plain_meaning(&settings, &stored("delivered")).0.webhook,
            None
        );
        settings.webhooks.url = "https://business.example/hook".into();
        let sent = plain_meaning(&settings, &stored("sent")).0;
        assert_eq!(sent.webhook, None);
        assert_eq!(
            sent.status,
            Some(("m1".into(), MessageState::Sent, Some("wamid.X".into())))
        );
        assert!(
            plain_meaning(&settings, &stored("delivered"))
                .0
                .webhook
                .is_some_and(|w| w.contains("\"m1\""))
        );
        assert!(
            plain_meaning(&settings, &stored("failed"))
                .0
                .webhook
                .is_some()
        );
        settings.sent_status = true;
        assert!(
            plain_meaning(&settings, &stored("sent"))
                .0
                .webhook
                .is_some()
        );
    }

    #[test]
    fn an_event_that_cannot_be_read_is_put_away() {
        let rubbish = Stored {
            event_key: "k".into(),
            recipient_hash: 1,
            payload: "{".into(),
        };
        let processed = plain_meaning(&ApplicationSettings::default(), &rubbish).0;
        assert_eq!((processed.key.as_str(), processed.webhook), ("k", None));
    }
}
