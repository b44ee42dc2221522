//! Writes what was learned of customers into the store, behind everything that holds the guard row: only what differs from the
//! rows. Knows none by itself: `customers.rs` does.

use std::sync::Arc;
use std::time::Duration;

use wa_core::shard_map::recipient_hash;

use super::aliases;
use super::customers::REMEMBERED_MAX;
use super::node::Node;
use super::work::Work;
use crate::db::customer::Customer;
use crate::db::{Db, DbError};
use crate::log::seldom;
use crate::sys::clock;

/// How long changes are gathered. An embedded database has one writer at a time.
const GATHER: Duration = Duration::from_millis(50);
const GATHER_EMBEDDED: Duration = Duration::from_millis(300);
/// Between two statements, so that a campaign's customers come behind its messages.
const REST: Duration = Duration::from_millis(20);
/// After a statement that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes customers until the tenure ends.
pub async fn write(node: Arc<Node>, work: Arc<Work>) {
    remember(&node, &work).await;
    loop {
        work.customers.wanted.notified().await;
        let embedded = node.db().is_some_and(|db| db.embedded());
        clock::sleep(if embedded { GATHER_EMBEDDED } else { GATHER }).await;
        loop {
            let customers = work.customers.take();
            if customers.is_empty() {
                break;
            }
            if let Err(why) = write_some(&node, &work, &customers).await {
                seldom!(tracing::warn!(
                    error = why,
                    "numbers and user ids of customers were not written down; retrying"
                ));
                work.customers.put_back(&customers);
                clock::sleep(PAUSE).await;
            }
            clock::sleep(REST).await;
        }
    }
}

/// Numbers that are only remembered, from the store. Until they are here it is asked for each.
async fn remember(node: &Node, work: &Work) {
    let limit = u32::try_from(REMEMBERED_MAX).unwrap_or(u32::MAX);
    loop {
        if let Some(db) = node.db() {
            let found = db.remembered_numbers(limit).await;
            let read = aliases::read(work, &db).await;
            match found.and_then(|found| read.map(|()| found)) {
                Ok(found) => return work.customers.remembered(found),
                Err(error) => seldom!(
                    tracing::warn!(error = %error.brief(), "numbers that are only remembered could not be read; retrying")
                ),
            }
        }
        clock::sleep(PAUSE).await;
    }
}

/// Writes what waits at once: a number that changed must not be used by whoever comes next.
///
/// # Errors
/// What the database said.
pub async fn write_now(node: &Node, work: &Work) -> Result<(), String> {
    loop {
        let customers = work.customers.take();
        if customers.is_empty() {
            return Ok(());
        }
        if let Err(why) = write_some(node, work, &customers).await {
            work.customers.put_back(&customers);
            return Err(why);
        }
    }
}

async fn write_some(node: &Node, work: &Work, customers: &[Customer]) -> Result<(), String> {
    let db = node.db().ok_or("no database")?;
    let done = write_changed(node, &db, customers).await;
    done.map_err(|error| error.brief())?;
    work.customers.written(customers);
    Ok(())
}

/// Reads the rows first: after a takeover nearly all of them are as they should be.
async fn write_changed(node: &Node, db: &Db, customers: &[Customer]) -> Result<(), DbError> {
    let ids: Vec<&str> = customers.iter().map(|c| c.user_id.as_str()).collect();
    let rows = db.customers(&ids).await?;
    let mut changed: Vec<Customer> = Vec::new();
    for customer in customers {
        let row = rows.get(&customer.user_id);
        let mut customer = customer.clone();
        if let Some(row) = row {
            customer.known = customer.known.named_as(&row.known);
        }
        let newer = row.is_some_and(|row| row.known.seen_ms > customer.known.seen_ms);
        let differs = row.is_none_or(|row| customer.known.differs(&row.known));
        let own = recipient_hash(&customer.user_id);
        let parted =
            row.filter(|row| row.recipient_hash == own && customer.recipient_hash != own && !newer);
        if parted.is_some() && customer.known.wa_id.is_some() {
            node.in_turn(db.merge_route(&customer.user_id, own, customer.recipient_hash))
                .await?;
        }
        if differs && !newer {
            changed.push(customer);
        }
    }
    node.in_turn(db.write_customers(&changed)).await
}
