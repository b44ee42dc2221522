//! Aliases of customers whose numbers are not known, for one owner: given when they are first needed, and told to be numbers when
//! those come. Knows no digits: `api/v1/alias.rs` does.

use std::collections::HashMap;

use super::nameless::LEN_MAX;
use super::node::Node;
use super::work::Work;
use crate::api::cloud::customer::succession;
use crate::api::cloud::event::Event;
use crate::api::v1::alias::of_chance;
use crate::db::inbox::Stored;
use crate::db::{Db, DbError};
use crate::sys::state;

/// Aliases that are tried for one customer: one of a hundred thousand millions is hardly ever taken.
const TRIES: u32 = 8;

/// What the store has, after a takeover.
///
/// # Errors
/// When the database does not answer.
pub async fn read(work: &Work, db: &Db) -> Result<(), DbError> {
    let limit = u32::try_from(LEN_MAX).unwrap_or(u32::MAX);
    for (user_id, alias) in db.nameless(limit).await? {
        work.aliases.add(&user_id, &alias);
    }
    Ok(())
}

/// The aliases of user ids, each with the hash of its customer. Who has none gets one.
///
/// # Errors
/// What the database said.
pub async fn of(
    node: &Node,
    work: &Work,
    db: &Db,
    wanted: &HashMap<String, u32>,
) -> Result<HashMap<String, String>, String> {
    let ids: Vec<&str> = wanted.keys().map(String::as_str).collect();
    let found = db.aliases(&ids).await;
    let mut found = found.map_err(|error| error.brief())?;
    for (user_id, hash) in wanted {
        if !found.contains_key(user_id) {
            let alias = give(node, db, user_id, *hash).await?;
            found.insert(user_id.clone(), alias);
        }
    }
    for (user_id, alias) in &found {
        work.aliases.add(user_id, alias);
    }
    Ok(found)
}

/// User ids that are others from now on: former ones, and those in their places.
#[derive(Debug, Default)]
pub struct Next(HashMap<String, String>);

impl Next {
    fn is_from_now_on(&mut self, former: &str, next: &str) {
        // Whoever gets an id back has it.
        self.0.remove(next);
        self.0.insert(former.to_owned(), next.to_owned());
    }

    /// The user id that this one's customer has at last.
    pub fn last<'a>(&'a self, user_id: &'a str) -> &'a str {
        let mut last = user_id;
        for _ in 0..self.0.len() {
            let Some(next) = self.0.get(last) else { break };
            last = next;
        }
        last
    }

    /// These aliases, and each also by the former user ids of its customer.
    ///
    /// # Errors
    /// What the database said.
    pub async fn with_former(
        &self,
        db: &Db,
        mut found: HashMap<String, String>,
    ) -> Result<HashMap<String, String>, String> {
        // One whose number is known by now was not asked for.
        let lasts: Vec<&str> = self.0.keys().map(|former| self.last(former)).collect();
        let others = db.aliases(&lasts).await;
        found.extend(others.map_err(|error| error.brief())?);
        for former in self.0.keys() {
            if let Some(alias) = found.get(self.last(former)).cloned() {
                found.insert(former.clone(), alias);
            }
        }
        Ok(found)
    }
}

/// An alias is good for ever: it goes on to the user id in the place of the one that it was given for. Where both have one, both
/// keep theirs.
///
/// # Errors
/// What the database said.
pub async fn hand_on(
    node: &Node,
    work: &Work,
    db: &Db,
    stored: &[Stored],
    events: &[Option<Event>],
) -> Result<Next, String> {
    let mut all = Next::default();
    for (event, stored) in events.iter().zip(stored) {
        let Some((former, next)) = event.as_ref().and_then(succession) else {
            continue;
        };
        all.is_from_now_on(former, next);
        let found = db.aliases(&[former, next]).await;
        let found = found.map_err(|error| error.brief())?;
        let (Some(alias), None) = (found.get(former), found.get(next)) else {
            continue;
        };
        let hash = u32::try_from(stored.recipient_hash).unwrap_or(0);
        let done = db.hand_on_alias(&work.own, alias, (former, next), hash);
        let held = node.in_turn(done).await.map_err(|error| error.brief())?;
        if !held {
            return Err("this node does not own the shard any more".into());
        }
        work.aliases.hand_on(former, next, alias);
    }
    Ok(all)
}

async fn give(node: &Node, db: &Db, user_id: &str, hash: u32) -> Result<String, String> {
    for _ in 0..TRIES {
        let alias = of_chance(state::random_u64());
        let given = node.in_turn(db.give_alias(user_id, &alias, hash)).await;
        given.map_err(|error| error.brief())?;
        let found = db.aliases(&[user_id]).await;
        let mut found = found.map_err(|error| error.brief())?;
        if let Some(alias) = found.remove(user_id) {
            return Ok(alias);
        }
    }
    Err("no alias is free".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the last user id of a customer is found, and nobody looks for ever. Method: a chain, and one that comes back.
    #[test]
    fn user_ids_follow_each_other() {
        let mut next = Next::default();
        next.is_from_now_on("A", "B");
        next.is_from_now_on("B", "C");
        assert_eq!(
            ["A", "B", "C", "D"].map(|id| next.last(id)),
            ["C", "C", "C", "D"]
        );
        next.is_from_now_on("C", "A");
        assert_eq!(["A", "B", "C"].map(|id| next.last(id)), ["A", "A", "A"]);
    }
}
