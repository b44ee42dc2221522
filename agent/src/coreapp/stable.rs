//! The numbers by which the business knows its customers, for a batch of events (`[client] stable_wa_id`).
//! Puts them nowhere: `api/cloud/stable.rs` does.

use std::collections::HashMap;

use super::node::Node;
use super::work::Work;
use crate::api::cloud::customer::{Number, Sighting, unnumbered};
use crate::api::cloud::event::Event;
use crate::api::cloud::stable::numbers;
use crate::db::Db;

/// By the upstream's spelling: the number that the business typed (`Db::written_first`). Nobody is asked while the setting is off.
///
/// # Errors
/// What the database said.
pub async fn names(
    node: &Node,
    work: &Work,
    db: &Db,
    events: &[Option<Event>],
    seen: &[Vec<Sighting>],
) -> Result<HashMap<String, String>, String> {
    if !node.settings.client.stable_wa_id {
        return Ok(HashMap::new());
    }
    let events = || events.iter().flatten();
    let mut all: Vec<String> = events().flat_map(numbers).map(str::to_owned).collect();
    // Numbers that will be filled in.
    let hidden = events().flat_map(unnumbered);
    all.extend(hidden.filter_map(|user_id| work.customers.number(user_id)));
    all.extend(seen.iter().flatten().filter_map(|one| match &one.number {
        Number::Told(number) => Some(number.clone()),
        Number::Hidden | Number::Lost => None,
    }));
    all.sort_unstable();
    all.dedup();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let found = db.written_first(&all).await;
    found.map_err(|error| error.brief())
}
