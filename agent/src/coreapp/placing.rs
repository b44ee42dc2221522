//! Statuses that no webapp could place, because they came without our data and the map of ids did not know them, or did not
//! answer: given to the owner of their message once the map knows it, and after a while to whoever would have had them.
//! Tells nothing: `inbox.rs` does, and says of those that stay nobody's that they are foreign.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use wa_core::time::Instant;

use super::work::Work;
use crate::api::cloud::event::{Item, Raw};
use crate::db::Db;
use crate::db::event::Unplaced;
use crate::sys::clock;

/// How often it is looked for them.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Statuses of one look, and looks until the oldest are looked at again.
const LEN_MAX: u32 = 1024;
const PAGES_MAX: u32 = 64;
/// An answer to a send is recorded within this, or never: what is not in the map of ids then is not ours.
const WITHIN: Duration = Duration::from_secs(10);
/// The same where the message may be another shard's, whose new owner still has to fill the map of ids after a takeover.
const WITHIN_SHARDS: Duration = Duration::from_secs(30);

/// What one owner knows of them.
#[derive(Debug, Default)]
pub struct Placing {
    next: Option<Instant>,
    /// More may wait than were looked at.
    pub more: bool,
    /// Since when this owner has looked for each, and the database answered. By the clock of this node: the database's may leap.
    seen: HashMap<String, Instant>,
    /// Those of the pages of this pass.
    passed: HashSet<String>,
    pages: u32,
    /// Where the next page begins.
    after: Option<(i64, String)>,
}

/// Nobody will know its message any more. Until `refilled`, the map of ids may lack what an earlier owner recorded.
fn over(waited: Duration, refilled: bool, shard_count: u16) -> bool {
    let within = match shard_count {
        0 | 1 => WITHIN,
        _ => WITHIN_SHARDS,
    };
    refilled && waited >= within
}

impl Placing {
    /// Looks at the next page, when it is time to.
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
        // Before the map of ids is asked: what was written into it by then is found.
        let refilled = work.known_ids.refilled.load(Ordering::Acquire);
        let after = self.after.as_ref().map(|(at, key)| (*at, key.as_str()));
        let waiting = db.unplaced_events(after, LEN_MAX).await;
        let waiting = waiting.map_err(|error| error.brief())?;
        if !waiting.is_empty() {
            self.place(work, db, &waiting, (now, refilled)).await?;
        }
        self.turn(waiting);
        Ok(())
    }

    /// To the next page, or back to the first one.
    fn turn(&mut self, waiting: Vec<Unplaced>) {
        self.pages += 1;
        self.more = waiting.len() >= LEN_MAX as usize;
        let last = waiting.last();
        self.after = last.map(|one| (one.received_ms, one.event_key.clone()));
        self.passed
            .extend(waiting.into_iter().map(|one| one.event_key));
        if !self.more || self.pages >= PAGES_MAX {
            let passed = std::mem::take(&mut self.passed);
            self.seen.retain(|key, _| passed.contains(key));
            (self.pages, self.after) = (0, None);
        }
    }

    async fn place(
        &mut self,
        work: &Work,
        db: &Db,
        waiting: &[Unplaced],
        (now, refilled): (Instant, bool),
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
            match id.as_ref().map(|id| ours.get(id)) {
                Some(Some(ours)) => placed.push((&*one.event_key, Some(ours.recipient_hash))),
                Some(None) if !over(now.since(since), refilled, work.shard_count) => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no status is given up before the map of ids had its chance. Method: a table.
    #[test]
    fn a_status_waits_for_the_map_of_ids() {
        for (waited_s, refilled, shards, given_up) in [
            (9, true, 1, false),
            (10, true, 1, true),
            (3600, false, 1, false),
            (10, true, 3, false),
            (30, true, 3, true),
        ] {
            let waited = Duration::from_secs(waited_s);
            assert_eq!(
                over(waited, refilled, shards),
                given_up,
                "{waited_s} s of {shards}"
            );
        }
    }

    /// Goal: those behind the first page are looked at, none is forgotten meanwhile, and what is gone is. Method: two pages, then one
    /// that is short.
    #[test]
    fn pages_follow_each_other() {
        let page = |from: u32, len: u32| -> Vec<Unplaced> {
            let one = |n: u32| Unplaced {
                event_key: format!("{n:05}"),
                payload: String::new(),
                received_ms: i64::from(n),
            };
            (from..from + len).map(one).collect()
        };
        let mut placing = Placing::default();
        placing.seen.insert("00001".into(), clock::now());
        placing.seen.insert("gone".into(), clock::now());
        placing.turn(page(0, LEN_MAX));
        assert!(placing.more && placing.seen.len() == 2);
        assert_eq!(placing.after, Some((1023, "01023".to_owned())));
        placing.turn(page(LEN_MAX, 3));
        assert!(!placing.more && placing.after.is_none());
        assert_eq!(placing.seen.keys().collect::<Vec<_>>(), ["00001"]);
        for _ in 0..PAGES_MAX {
            placing.turn(page(0, LEN_MAX));
        }
        assert!(
            placing.more && placing.after.is_none(),
            "a pass has a bound"
        );
    }
}
