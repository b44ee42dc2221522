//! Statuses that no webapp could place, because they came without our data and the map of ids did not know them, or did not
//! answer: given to the owner of their message once the map knows it, and after a while to whoever would have had them.
//! Tells nothing: `inbox.rs` does, and says of those that stay nobody's that they are foreign.

use std::collections::HashMap;
use std::time::Duration;

use wa_core::time::Instant;

use super::work::Work;
use crate::api::cloud::event::{Item, Raw};
use crate::db::Db;
use crate::db::event::Unplaced;
use crate::sys::clock;

/// How often it is looked for them.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Statuses of one look.
const LEN_MAX: u32 = 1024;
/// An answer to a send is recorded within this, or never: what is not in the map of ids then is not ours.
const WITHIN: Duration = Duration::from_secs(10);

/// What one owner knows of them.
#[derive(Debug, Default)]
pub struct Placing {
    next: Option<Instant>,
    /// More may wait than were looked at.
    pub more: bool,
    /// Since when each has been seen here. The database's clock may leap.
    seen: HashMap<String, Instant>,
}

impl Placing {
    /// Looks, when it is time to.
    ///
    /// # Errors
    /// What the database said: they stay where they are.
    pub async fn look(&mut self, work: &Work, db: &Db) -> Result<(), String> {
        let now = clock::now();
        if self.next.is_some_and(|next| now < next) {
            return Ok(());
        }
        self.next = Some(now + LOOK_EVERY);
        // Whether there are more is unknown until the look is over.
        self.more = true;
        let waiting = db.unplaced_events(LEN_MAX).await;
        let waiting = waiting.map_err(|error| error.brief())?;
        self.seen
            .retain(|key, _| waiting.iter().any(|one| one.event_key == *key));
        if !waiting.is_empty() {
            self.place(work, db, &waiting, now).await?;
        }
        self.more = waiting.len() >= LEN_MAX as usize;
        Ok(())
    }

    async fn place(
        &mut self,
        work: &Work,
        db: &Db,
        waiting: &[Unplaced],
        now: Instant,
    ) -> Result<(), String> {
        let ids: Vec<Option<String>> = waiting
            .iter()
            .map(|one| upstream_id(&one.payload))
            .collect();
        let known: Vec<&str> = ids.iter().flatten().map(String::as_str).collect();
        let ours = db.ours(&known).await.map_err(|error| error.brief())?;
        let mut placed = Vec::new();
        for (one, id) in waiting.iter().zip(&ids) {
            let since = *self.seen.entry(one.event_key.clone()).or_insert(now);
            let age = Duration::from_millis(u64::try_from(one.age_ms).unwrap_or(0));
            match id.as_ref().map(|id| ours.get(id)) {
                Some(Some(ours)) => placed.push((&*one.event_key, Some(ours.recipient_hash))),
                Some(None) if age.max(now.since(since)) < WITHIN => {}
                Some(None) | None => placed.push((&*one.event_key, None)),
            }
        }
        if placed.is_empty() {
            return Ok(());
        }
        let held = db.place_events(&work.own, &placed).await;
        match held.map_err(|error| error.brief())? {
            true => Ok(()),
            false => Err("this node does not own the shard any more".into()),
        }
    }
}

/// The upstream's id that a stored status names.
fn upstream_id(payload: &str) -> Option<String> {
    let item: Item = serde_json::from_str(payload).ok()?;
    match item.raw {
        Raw::Status(status) => Some(status.get("id")?.as_str()?.to_owned()),
        Raw::Message { .. } | Raw::Error(_) | Raw::Account { .. } | Raw::Unread { .. } => None,
    }
}
