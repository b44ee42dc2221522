//! Events of a batch as they are told: with our ids in the place of the upstream's, our spelling of the recipient, the data that
//! clients gave their messages, and numbers in the place of user ids. Tells nothing: `inbox.rs` does.

use std::collections::HashMap;

use super::aliases::{self, Next};
use super::customer_writer::write_now;
use super::identity::{self, Carried};
use super::node::Node;
use super::stable;
use super::work::Work;
use crate::api::cloud::customer::{Number, Sighting, fill, named, reject, sightings, unnumbered};
use crate::api::cloud::event::{Event, Inbound, Item};
use crate::api::cloud::short::short;
use crate::api::cloud::stable::rename;
use crate::api::cloud::told;
use crate::api::v1::message::stored;
use crate::api::v1::who::is_user_id;
use crate::config::{InboundIds, UnknownNumber};
use crate::db::Db;
use crate::db::inbox::Stored;
use crate::db::message_id::UPSTREAM_ID_LEN_MAX;

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
    // Before they are completed: what a client typed is not what the upstream told.
    let seen = events.iter().map(|event| event.as_ref().map(sightings));
    let seen: Vec<Vec<Sighting>> = seen.map(Option::unwrap_or_default).collect();
    for event in events.iter_mut().flatten() {
        let Some(row) = event.asks_row().and_then(|id| rows.get(id)) else {
            continue;
        };
        let data = stored::callback_data(row.form, &row.payload);
        let recipient = stored::answered(row.form, &row.payload, &row.recipient);
        event.complete(&recipient, data);
    }
    let (keys, named) = who_is_who(node, work, db, stored, &mut events, &seen).await?;
    let mut news = identity::learn(node, db, stored, &mut events, keys).await?;
    // A customer whose number and key are news at once is told by the number: the key stands on the message.
    news.extend(named);
    if node.settings.client.inbound_ids == InboundIds::Short {
        shorten(node, db, stored, &mut events).await?;
    }
    let told = told_before(db, &events).await?;
    Ok(Batch { events, told, news })
}

/// Calls the messages of customers by short ids, which lead back to the upstream's before anybody is told of them.
async fn shorten(
    node: &Node,
    db: &Db,
    stored: &[Stored],
    events: &mut [Option<Event>],
) -> Result<(), String> {
    let mut ids = Vec::new();
    for (event, stored) in events.iter_mut().zip(stored) {
        let Some(Event::Message(message)) = event else {
            continue;
        };
        message.shorten_named(short);
        let theirs = message.id.take_if(|id| id.len() <= UPSTREAM_ID_LEN_MAX);
        let Some(theirs) = theirs else { continue };
        let ours = short(&theirs);
        message.id = Some(ours.clone());
        let hash = u32::try_from(stored.recipient_hash).unwrap_or(0);
        ids.push((ours, theirs, hash));
    }
    let done = node.in_turn(db.remember_inbound(&ids)).await;
    done.map_err(|error| error.brief())
}

/// What was told of the messages of ours that statuses name. Data in our exact form is ours also where neither row nor id is left:
/// of a message that was reported, collected, or lost with a database, this is the only word.
async fn told_before(
    db: &Db,
    events: &[Option<Event>],
) -> Result<HashMap<String, told::Row>, String> {
    let ours = |event: &Event| match event {
        Event::Status(status) => status.ours.clone(),
        Event::Message(_) | Event::Error(_) | Event::Account { .. } | Event::Unread { .. } => None,
    };
    let mut ids: Vec<String> = events.iter().flatten().filter_map(ours).collect();
    ids.sort_unstable();
    ids.dedup();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    db.told_of(&ids).await.map_err(|error| error.brief())
}

/// Learns who is who, and fills in what the upstream leaves out: each event by what was known when it came. Answers which messages
/// came with an identity key, and what is told before which.
async fn who_is_who(
    node: &Node,
    work: &Work,
    db: &Db,
    stored: &[Stored],
    events: &mut [Option<Event>],
    seen: &[Vec<Sighting>],
) -> Result<(Vec<Carried>, HashMap<usize, String>), String> {
    let asked = work
        .customers
        .unknown(events.iter().flatten().flat_map(unnumbered));
    let found = db.customers(&asked).await.map_err(|error| error.brief())?;
    work.customers.read(asked.into_iter(), found);
    let (fills, unknown) = (
        node.settings.client.fill_number,
        node.settings.client.unknown_number,
    );
    let number = |user_id: &str| work.customers.number(user_id).filter(|_| fills);
    // In all modes: an alias that was told in another one is good for ever.
    let next = aliases::hand_on(node, work, db, stored, events).await?;
    let aliases = match unknown {
        UnknownNumber::Alias => {
            let wanted = wanted(stored, events, &next, &number);
            let found = aliases::of(node, work, db, &wanted).await?;
            next.with_former(db, found).await?
        }
        UnknownNumber::UserId | UnknownNumber::Reject => HashMap::new(),
    };
    let address = |user_id: &str| {
        let known = number(user_id).or_else(|| aliases.get(user_id).cloned());
        known.unwrap_or_else(|| user_id.to_owned())
    };
    let names = stable::names(node, work, db, events, seen).await?;
    let event_keys = stored.iter().map(|stored| stored.event_key.as_str());
    work.customers.begin(event_keys);
    let (mut keys, mut news) = (Vec::new(), HashMap::new());
    for (at, (event, stored)) in events.iter_mut().zip(stored).enumerate() {
        let Some(event) = event else { continue };
        let hash = u32::try_from(stored.recipient_hash).unwrap_or(0);
        let at_ms = u64::try_from(stored.received_ms).unwrap_or(0);
        if let Event::Message(message) = &*event {
            keys.extend(identity::carried(node, work, at, message));
        }
        fill(event, address);
        rename(event, |number| names.get(number).cloned());
        if let Event::Message(message) = event {
            let nobody = message.from.as_deref().is_some_and(is_user_id);
            if unknown == UnknownNumber::Reject && nobody {
                reject(message);
            }
            if unknown == UnknownNumber::Alias
                && let Some(named) = named_now(work, message, &seen[at], at_ms, &names)
            {
                news.insert(at, named);
            }
        }
        if work.customers.first_time(&stored.event_key) {
            for sighting in &seen[at] {
                work.customers.learn(sighting, hash, at_ms);
            }
        }
    }
    write_now(node, work).await?;
    Ok((keys, news))
}

/// Customers in this batch who need an alias, by the user ids that they have at last: their numbers are not known.
fn wanted(
    stored: &[Stored],
    events: &[Option<Event>],
    next: &Next,
    number: &impl Fn(&str) -> Option<String>,
) -> HashMap<String, u32> {
    let mut wanted = HashMap::new();
    for (event, stored) in events.iter().zip(stored) {
        let ids = event.iter().flat_map(unnumbered).map(|id| next.last(id));
        for user_id in ids.filter(|id| is_user_id(id) && number(id).is_none()) {
            let hash = u32::try_from(stored.recipient_hash).unwrap_or(0);
            wanted.insert(user_id.to_owned(), hash);
        }
    }
    wanted
}

/// What the business is told before a message whose writer it knows by an alias, and whose number came with it.
fn named_now(
    work: &Work,
    message: &Inbound,
    seen: &[Sighting],
    at_ms: u64,
    names: &HashMap<String, String>,
) -> Option<String> {
    let told = seen.iter().find_map(|sighting| match &sighting.number {
        Number::Told(number) => Some((&sighting.user_id, number)),
        Number::Hidden | Number::Lost => None,
    });
    let (user_id, number) = told?;
    let alias = work.aliases.named(user_id, at_ms)?;
    let number = names.get(number).unwrap_or(number);
    Some(named(message, &alias, number).text())
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
