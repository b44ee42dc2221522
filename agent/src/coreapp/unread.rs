//! Events that nobody could read when they came, read once more when somebody retries them: what can be read by now is stored as
//! events of its own.
//! Tells nothing: `inbox.rs` does.

use std::collections::HashSet;

use wa_core::shard_map::recipient_hash;

use super::node::Node;
use crate::api::cloud::event::{Event, Item, Raw, take};
use crate::db::event::State;
use crate::db::inbox::{NewEvent, parts};
use crate::db::{Db, DbError};
use crate::log::seldom;

/// The places of events that can be read by now, and are stored. What the database refuses stays as it is: it holds up no other.
pub async fn again(node: &Node, db: &Db, events: &[Option<Event>]) -> HashSet<usize> {
    let mut read = HashSet::new();
    for (at, event) in events.iter().enumerate() {
        let Some(Event::Unread { call, .. }) = event else {
            continue;
        };
        let taken = take(call, node.settings.upstream.own());
        let mut items = taken.items;
        items.retain(|item| !matches!(item.raw, Raw::Unread { .. }));
        let skipped = taken.of_others + taken.echoes;
        if items.is_empty() && skipped == 0 {
            continue;
        }
        match store(db, items).await {
            Ok(()) => drop(read.insert(at)),
            Err(error) => seldom!(tracing::warn!(
                error = %error.brief(),
                "an event that can be read by now could not be stored; it is kept. To try again, type: wa-agent events retry"
            )),
        }
    }
    read
}

/// Stores what a webapp would have stored, with the customers that addresses lead to.
async fn store(db: &Db, items: Vec<Item>) -> Result<(), DbError> {
    let unplaced = items.iter().filter(|item| item.recipient_hash.is_none());
    let customers = unplaced.map(|item| item.customer.as_str());
    let customers: Vec<&str> = customers.filter(|customer| !customer.is_empty()).collect();
    let routes = db.routes(&customers).await?;
    let row = |item: Item| {
        let route = || Some(routes.get(&item.customer)?.recipient_hash);
        let hash = item.recipient_hash.or_else(route);
        NewEvent {
            recipient_hash: hash.unwrap_or_else(|| recipient_hash(&item.customer)),
            payload: serde_json::to_string(&item).expect("plain data is JSON"),
            // The map of ids was not asked: it is, before a status is foreign.
            state: match (&item.raw, item.recipient_hash) {
                (Raw::Status(_), None) => State::Unplaced,
                (Raw::Status(_), Some(_))
                | (
                    Raw::Message { .. } | Raw::Error(_) | Raw::Account { .. } | Raw::Unread { .. },
                    _,
                ) => State::Pending,
            },
            key: item.key,
        }
    };
    let new: Vec<NewEvent> = items.into_iter().map(row).collect();
    for part in parts(&new) {
        db.store_events(part).await?;
    }
    Ok(())
}
