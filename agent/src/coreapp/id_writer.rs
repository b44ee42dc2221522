//! Writes the ids that the upstream gave into the map of ids, behind everything that holds the guard row.
//! Knows none by itself: `known_ids.rs` does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::node::Node;
use super::work::Work;
use crate::log::seldom;
use crate::sys::clock;

/// How long ids are gathered. An embedded database has one writer at a time.
const GATHER: Duration = Duration::from_millis(20);
const GATHER_EMBEDDED: Duration = Duration::from_millis(200);
/// Not while a takeover has the database busy; and how many messages are looked at.
const REFILL_AFTER: Duration = Duration::from_secs(10);
const REFILL_LEN_MAX: u32 = 4096;
/// After a statement that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes ids until the tenure ends, behind everything that holds the guard row; once, what an owner that died has left.
pub async fn write(node: Arc<Node>, work: Arc<Work>) {
    let refill_at = work.began + REFILL_AFTER;
    let refilled = &work.known_ids.refilled;
    loop {
        let wait = refill_at.since(clock::now());
        if refilled.load(Ordering::Acquire) {
            work.known_ids.wanted.notified().await;
        } else if wait.is_zero()
            || tokio::time::timeout(wait, work.known_ids.wanted.notified())
                .await
                .is_err()
        {
            refilled.store(refill(&node).await, Ordering::Release);
        }
        let embedded = node.db().is_some_and(|db| db.embedded());
        clock::sleep(if embedded { GATHER_EMBEDDED } else { GATHER }).await;
        loop {
            let pairs = work.known_ids.take();
            if pairs.is_empty() {
                break;
            }
            let both: Vec<(&str, &str)> = pairs.iter().map(|(o, t)| (&**o, &**t)).collect();
            let Some(db) = node.db() else {
                work.known_ids.put_back(pairs);
                clock::sleep(PAUSE).await;
                continue;
            };
            if let Err(error) = node.in_turn(db.remember_ids(&both)).await {
                seldom!(
                    tracing::warn!(error = %error.brief(), "ids of the upstream were not written down; retrying")
                );
                work.known_ids.put_back(pairs);
                clock::sleep(PAUSE).await;
            }
        }
    }
}

/// What an earlier owner recorded and had not written into the map. False: the database did not do it; later once more.
async fn refill(node: &Node) -> bool {
    let Some(db) = node.db() else {
        clock::sleep(PAUSE).await;
        return false;
    };
    let done = node.in_turn(db.remember_newest(REFILL_LEN_MAX)).await;
    if let Err(error) = &done {
        seldom!(
            tracing::warn!(error = %error.brief(), "ids of the upstream were not looked through; retrying")
        );
        clock::sleep(PAUSE).await;
    }
    done.is_ok()
}
