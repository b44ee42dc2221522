//! Reads at the begin of a tenure who has written lately.
//! Keeps nothing in mind: `replies.rs` does.

use std::sync::Arc;
use std::time::Duration;

use wa_core::backoff::exponential;
use wa_core::turn::RECENT;

use super::node::Node;
use super::work::Work;
use crate::log::seldom;
use crate::sys::clock;

/// Events that are looked through.
const LOOKED_THROUGH_MAX: u32 = 200_000;
/// After a look that failed, doubled each time. Then whoever writes from now on is known, and no others.
const PAUSE: Duration = Duration::from_secs(1);
const TRIES: u32 = 5;
/// An operator may make the index meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// At the begin of a tenure: who wrote before it, as far as the newest events tell, as soon as the store can be asked for them.
pub async fn remember(node: Arc<Node>, work: Arc<Work>) {
    while !found(&node).await {
        clock::sleep(LOOK_EVERY).await;
    }
    work.replies.found();
    for n in 1..=TRIES {
        if let Some(db) = node.db() {
            let span = u64::try_from(RECENT.as_millis()).unwrap_or(u64::MAX);
            let wrote = db.writers(&work.own, work.shard_count, span, LOOKED_THROUGH_MAX);
            match wrote.await {
                Ok(wrote) => {
                    // The last who wrote comes last: the memory forgets the first.
                    for (route, ago_ms) in wrote.into_iter().rev() {
                        work.replies.heard(route, Duration::from_millis(ago_ms));
                    }
                    break;
                }
                Err(error) => seldom!(
                    tracing::warn!(error = %error.brief(), "who wrote lately could not be read; answers to them wait with all messages; retrying")
                ),
            }
        }
        clock::sleep(exponential(PAUSE, n, LOOK_EVERY, 0)).await;
    }
    work.claim_wanted.notify_one();
}

/// The store finds messages by their customer.
async fn found(node: &Node) -> bool {
    let Some(db) = node.db() else { return false };
    matches!(db.finds_by_customer().await, Ok(true))
}
