//! Aliases of customers whose numbers are not known, for one owner: given when they are first needed, and told to be numbers when
//! those come. Knows no digits: `api/v1/alias.rs` does.

use std::collections::HashMap;

use super::nameless::LEN_MAX;
use super::node::Node;
use super::work::Work;
use crate::api::v1::alias::of_chance;
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
