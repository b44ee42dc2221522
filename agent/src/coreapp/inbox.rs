//! Works off verified upstream events: message states and webhooks in one commit, by the owner only.
//! Stores no events: webapps do. Delivers no webhooks: `webhook.rs` does.

use std::sync::Arc;
use std::time::Duration;

use wa_core::backoff::exponential;

use super::fetch::{self, automatic};
use super::fetches::Fetched;
use super::media;
use super::node::Node;
use super::work::Work;
use crate::api::cloud::callback::{Attached, callback};
use crate::api::cloud::code;
use crate::api::cloud::event::{Event, Item, Word};
use crate::api::v1::message::stored;
use crate::api::v1::setting::ApplicationSettings;
use crate::db::Db;
use crate::db::inbox::{Processed, Stored};
use crate::log::seldom;
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
                seldom!(tracing::warn!(%error, "processing events failed; retrying in {wait:?}"));
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
    let events = resolved(work, &db, &stored).await?;
    let refused: Vec<&str> = events.iter().flatten().filter_map(refused_file).collect();
    media::forget_of(node, work, &refused).await?;
    for (event, stored) in events.into_iter().zip(&stored) {
        processed.extend(meaning(node, work, &settings, stored, event));
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
    for event in &processed {
        if let Some((ours, _, Some(theirs))) = &event.status
            && work.known_ids.ours(theirs).is_none()
        {
            work.known_ids.write_soon(ours, theirs);
        }
    }
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
    event: Option<Event>,
) -> Option<Processed> {
    let Some(event) = event else {
        return Some(unread(stored));
    };
    let file = match event.file() {
        None => Attached::Nothing,
        Some(file) if automatic(node, settings, &file) => {
            match fetch::ask(node, work, &stored.event_key, &file) {
                Fetched::Running => return None,
                Fetched::There(id) => Attached::Ours(id),
                Fetched::Failed => Attached::Undownloaded,
            }
        }
        Some(_) => Attached::Undownloaded,
    };
    Some(processed(settings, stored, event, file))
}

/// The events as this release understands them, with our ids in the place of the upstream's, our spelling of the recipient, and
/// the data that clients gave their messages. Without events that need it, the database is not asked.
async fn resolved(work: &Work, db: &Db, stored: &[Stored]) -> Result<Vec<Option<Event>>, String> {
    let mut events: Vec<Option<Event>> = stored.iter().map(read).collect();
    let names: Vec<&str> = events.iter().flatten().flat_map(Event::names).collect();
    let ours = db.ours(&names).await.map_err(|error| error.brief())?;
    for event in events.iter_mut().flatten() {
        event.rename(|theirs| {
            let stored = ours.get(theirs).map(|ours| ours.id.clone());
            stored.or_else(|| work.known_ids.ours(theirs))
        });
    }
    let asked: Vec<&str> = events
        .iter()
        .flatten()
        .filter_map(Event::asks_row)
        .collect();
    let rows = db.rows_of(&asked).await.map_err(|error| error.brief())?;
    for event in events.iter_mut().flatten() {
        let Some(row) = event.asks_row().and_then(|id| rows.get(id)) else {
            continue;
        };
        let data = stored::callback_data(row.form, &row.payload);
        event.complete(&row.recipient, data);
    }
    Ok(events)
}

/// Our id of a message that failed because of a file: the upstream does not know it any more, or cannot use it.
fn refused_file(event: &Event) -> Option<&str> {
    match event {
        Event::Status(status) if status.word == Word::Failed => {
            let mut errors = status.errors.iter();
            let refused = errors.any(|error| error.code == code::FILE_REFUSED);
            status.ours.as_deref().filter(|_| refused)
        }
        Event::Status(_) | Event::Message(_) => None,
    }
}

/// What came, as this release understands it.
fn read(stored: &Stored) -> Option<Event> {
    match serde_json::from_str::<Item>(&stored.payload) {
        Ok(item) => Some(Event::of(item.raw)),
        Err(error) => {
            tracing::error!(key = stored.event_key, %error, "a stored event cannot be read; ignoring it");
            None
        }
    }
}

/// An event that means nothing.
fn unread(stored: &Stored) -> Processed {
    Processed {
        key: stored.event_key.clone(),
        recipient_hash: u32::try_from(stored.recipient_hash).unwrap_or(0),
        status: None,
        webhook: None,
    }
}

/// What an event means for our message and for the business.
fn processed(
    settings: &ApplicationSettings,
    stored: &Stored,
    event: Event,
    file: Attached,
) -> Processed {
    let status = event.status_change();
    let told = wanted(settings, &event).then(|| callback(event, file).text());
    Processed {
        status,
        webhook: told,
        ..unread(stored)
    }
}

/// The business wants to hear of this event. Without a URL nobody ever takes a status; messages wait for one.
fn wanted(settings: &ApplicationSettings, event: &Event) -> bool {
    let Event::Status(status) = event else {
        return true;
    };
    let chosen = &settings.webhooks.message;
    let by_word = match status.word {
        Word::Sent => chosen.sent || settings.sent_status,
        Word::Delivered => chosen.delivered,
        Word::Read => chosen.read,
        Word::Failed | Word::Other(_) => true,
    };
    by_word && !settings.webhooks.url.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cloud::event::Raw;
    use serde_json::json;
    use wa_core::message::MessageState;

    fn stored(word: &str) -> Stored {
        let item = Item {
            key: String::new(),
            customer: "447700900456".into(),
            recipient_hash: None,
            raw: Raw::Status(json!({
                "id": "wamid.X", "status": word, "biz_opaque_callback_data": "m1.00000007", "recipient_id": "447700900456"
            })),
        };
        Stored {
            event_key: format!("wamid.X:{word}"),
            recipient_hash: 7,
            payload: serde_json::to_string(&item).expect("plain JSON"),
        }
    }

    fn meaning(settings: &ApplicationSettings, stored: &Stored) -> Processed {
        match read(stored) {
            Some(event) => processed(settings, stored, event, Attached::Nothing),
            None => unread(stored),
        }
    }

    /// Goal: every status moves our message; only the chosen ones reach the business.
    #[test]
    fn statuses_are_told_as_the_settings_say() {
        let mut settings = ApplicationSettings::default();
        assert_eq!(meaning(&settings, &stored("delivered")).webhook, None);
        settings.webhooks.url = "https://business.example/hook".into();
        let sent = meaning(&settings, &stored("sent"));
        assert_eq!(sent.webhook, None);
        assert_eq!(
            sent.status,
            Some(("m1".into(), MessageState::Sent, Some("wamid.X".into())))
        );
        assert!(
            meaning(&settings, &stored("delivered"))
                .webhook
                .is_some_and(|w| w.contains("\"m1\""))
        );
        assert!(meaning(&settings, &stored("failed")).webhook.is_some());
        settings.sent_status = true;
        assert!(meaning(&settings, &stored("sent")).webhook.is_some());
    }

    #[test]
    fn an_event_that_cannot_be_read_is_put_away() {
        let rubbish = Stored {
            event_key: "k".into(),
            recipient_hash: 1,
            payload: "{".into(),
        };
        let processed = meaning(&ApplicationSettings::default(), &rubbish);
        assert_eq!((processed.key.as_str(), processed.webhook), ("k", None));
    }
}
