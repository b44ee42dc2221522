//! Events of a batch as they are told: with our ids in the place of the upstream's, our spelling of the recipient, the data that
//! clients gave their messages, and numbers in the place of user ids. Tells nothing: `inbox.rs` does.

use std::collections::HashMap;

use super::customer_writer::write_now;
use super::identity::{self, Carried};
use super::node::Node;
use super::work::Work;
use crate::api::cloud::customer::{fill, sightings, unnumbered};
use crate::api::cloud::event::{Event, Item};
use crate::api::cloud::told;
use crate::api::v1::message::stored;
use crate::db::Db;
use crate::db::inbox::Stored;

/// A batch.
pub struct Batch {
    /// One for each stored event, in the order of the batch; `None`: it cannot be read.
    pub events: Vec<Option<Event>>,
    /// By our id: what the business was told of our messages.
    pub told: HashMap<String, told::Row>,
    /// By the place of a message: what the business is told before it, because the identity key of its writer changed.
    pub news: HashMap<usize, String>,
}

/// Reads and completes a batch. Without events that need it, the database is not asked.
///
/// # Errors
/// What the database said: the events stay where they are.
pub async fn resolve(
    node: &Node,
    work: &Work,
    db: &Db,
    stored: &[Stored],
) -> Result<Batch, String> {
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
    let keys = who_is_who(node, work, db, stored, &mut events).await?;
    let news = identity::learn(node, db, stored, &mut events, keys).await?;
    let told = told_before(db, &events).await?;
    Ok(Batch { events, told, news })
}

async fn told_before(
    db: &Db,
    events: &[Option<Event>],
) -> Result<HashMap<String, told::Row>, String> {
    let ours = |event: &Event| match event {
        Event::Status(status) => status.ours.clone(),
        Event::Message(_) => None,
    };
    let mut ids: Vec<String> = events.iter().flatten().filter_map(ours).collect();
    ids.sort_unstable();
    ids.dedup();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let found = db.told_of(&ids).await.map_err(|error| error.brief())?;
    let rows = found.into_iter();
    Ok(rows
        .map(|(id, column)| (id, told::Row::read(&column)))
        .collect())
}

/// Learns who is who, and fills in what the upstream leaves out: each event by what was known when it came. Answers which messages
/// came with an identity key.
async fn who_is_who(
    node: &Node,
    work: &Work,
    db: &Db,
    stored: &[Stored],
    events: &mut [Option<Event>],
) -> Result<Vec<Carried>, String> {
    let asked = work
        .customers
        .unknown(events.iter().flatten().flat_map(unnumbered));
    let found = db.customers(&asked).await.map_err(|error| error.brief())?;
    work.customers.read(asked.into_iter(), found);
    let fills = node.settings.client.fill_number;
    let address = |user_id: &str| {
        let number = work.customers.number(user_id).filter(|_| fills);
        number.unwrap_or_else(|| user_id.to_owned())
    };
    let mut at_once = false;
    let mut keys = Vec::new();
    for (at, (event, stored)) in events.iter_mut().zip(stored).enumerate() {
        let Some(event) = event else { continue };
        let hash = u32::try_from(stored.recipient_hash).unwrap_or(0);
        let at_ms = u64::try_from(stored.received_ms).unwrap_or(0);
        if let Event::Message(message) = &*event
            && let Some(address) = identity::address(work, message)
        {
            keys.push(Carried { at, address });
        }
        let seen = sightings(event);
        fill(event, address);
        for sighting in &seen {
            at_once |= work.customers.learn(sighting, hash, at_ms);
        }
    }
    if at_once {
        write_now(node, work).await?;
    }
    Ok(keys)
}

/// What came, as this release understands it.
pub fn read(stored: &Stored) -> Option<Event> {
    match serde_json::from_str::<Item>(&stored.payload) {
        Ok(item) => Some(Event::of(item.raw)),
        Err(error) => {
            tracing::error!(key = stored.event_key, %error, "a stored event cannot be read; ignoring it");
            None
        }
    }
}
