//! Events that nobody could read when they came, read once more when somebody retries them: what can be read by now is stored as
//! events of its own.
//! Tells nothing: `inbox.rs` does.

use std::collections::HashSet;

use wa_core::shard_map::recipient_hash;

use super::node::Node;
use crate::api::cloud::event::{Event, Raw, take};
use crate::db::Db;
use crate::db::event::State;
use crate::db::inbox::NewEvent;

/// The places of events that can be read by now, and are stored.
///
/// # Errors
/// What the database said: they stay where they are.
pub async fn again(
    node: &Node,
    db: &Db,
    events: &[Option<Event>],
) -> Result<HashSet<usize>, String> {
    let mut read = HashSet::new();
    for (at, event) in events.iter().enumerate() {
        let Some(Event::Unread { call, .. }) = event else {
            continue;
        };
        let taken = take(call, &node.settings.upstream.phone_number_id);
        let mut items = taken.items;
        items.retain(|item| !matches!(item.raw, Raw::Unread { .. }));
        let skipped = taken.of_others + taken.echoes;
        if items.is_empty() && skipped == 0 {
            continue;
        }
        let new: Vec<NewEvent> = items
            .into_iter()
            .map(|item| NewEvent {
                recipient_hash: item
                    .recipient_hash
                    .unwrap_or_else(|| recipient_hash(&item.customer)),
                payload: serde_json::to_string(&item).expect("plain data is JSON"),
                // The map of ids was not asked: it is, before a status is foreign.
                state: match (&item.raw, item.recipient_hash) {
                    (Raw::Status(_), None) => State::Unplaced,
                    (Raw::Status(_), Some(_))
                    | (
                        Raw::Message { .. }
                        | Raw::Error(_)
                        | Raw::Account { .. }
                        | Raw::Unread { .. },
                        _,
                    ) => State::Pending,
                },
                key: item.key,
            })
            .collect();
        db.store_events(&new).await.map_err(|error| error.brief())?;
        read.insert(at);
    }
    Ok(read)
}
