//! Writes what was learned of customers into the store, behind everything that holds the guard row: only what differs from the
//! rows. Knows none by itself: `customers.rs` does.

use std::sync::Arc;
use std::time::Duration;

use wa_core::shard_map::recipient_hash;

use super::aliases;
use super::customers::{Done, REMEMBERED_MAX, Waiting};
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
            match write_some(&node, &work).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(why) => {
                    seldom!(tracing::warn!(
                        error = why,
                        "numbers and user ids of customers were not written down; retrying"
                    ));
                    clock::sleep(PAUSE).await;
                }
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

/// Writes numbers that changed, at once: they must not be used by whoever comes next.
///
/// # Errors
/// What the database said.
pub async fn write_now(node: &Node, work: &Work) -> Result<(), String> {
    while work.customers.urgent() {
        write_some(node, work).await?;
    }
    Ok(())
}

/// False: nothing waits.
async fn write_some(node: &Node, work: &Work) -> Result<bool, String> {
    // Whoever holds it waits for a few statements, each of which has its deadline.
    let _one_at_a_time = work.customers.writing.lock().await;
    let taken = work.customers.take();
    if taken.is_empty() {
        return Ok(false);
    }
    let written = match node.db() {
        None => Err("no database".to_owned()),
        Some(db) => write_changed(node, &db, &taken)
            .await
            .map_err(|error| error.brief()),
    };
    match written {
        Ok(done) => work.customers.written(&taken, &done),
        Err(why) => {
            work.customers.put_back(&taken);
            return Err(why);
        }
    }
    Ok(true)
}

/// Reads the rows first: after a takeover nearly all of them are as they should be, and another owner may have learned more.
/// Answers what became of each, in the same order.
async fn write_changed(node: &Node, db: &Db, taken: &[Waiting]) -> Result<Vec<Done>, DbError> {
    let ids = taken.iter().map(|one| one.customer.user_id.as_str());
    let rows = db.customers(&ids.collect::<Vec<_>>()).await?;
    let mut changed: Vec<Customer> = Vec::new();
    let mut written = Vec::with_capacity(taken.len());
    for waiting in taken {
        let mut customer = waiting.customer.clone();
        let row = rows.get(&customer.user_id);
        if let Some(row) = row {
            customer.known = waiting.beside(&row.known);
        }
        let own = recipient_hash(&customer.user_id);
        let theirs = row.is_some_and(|row| row.recipient_hash == own);
        let mut parted = theirs && customer.recipient_hash != own && customer.known.wa_id.is_some();
        if parted {
            let merge = db.merge_route(&customer.user_id, own, customer.recipient_hash);
            parted = !node.in_turn(merge).await?;
        }
        written.push(Done {
            known: customer.known.clone(),
            parted,
        });
        if row.is_none_or(|row| customer.known.differs(&row.known)) {
            changed.push(customer);
        }
    }
    match node.in_turn(db.write_customers(&changed)).await {
        Err(error) if error.is_taken() => write_alone(node, db, &changed).await?,
        done => done?,
    }
    Ok(written)
}

/// Somebody else took a number just now: its customer is written without, and keeps no other from being written.
async fn write_alone(node: &Node, db: &Db, customers: &[Customer]) -> Result<(), DbError> {
    for customer in customers {
        let one = std::slice::from_ref(customer);
        match node.in_turn(db.write_customers(one)).await {
            Err(error) if error.is_taken() => {
                let known = customer.known.lost();
                let lost = Customer {
                    known,
                    ..customer.clone()
                };
                node.in_turn(db.write_customers(&[lost])).await?;
            }
            done => done?,
        }
    }
    Ok(())
}
