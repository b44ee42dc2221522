//! Reads at the begin of a tenure who has written lately.
//! Keeps nothing in mind: `replies.rs` does.

use std::sync::Arc;
use std::time::Duration;

use wa_core::turn::RECENT;

use super::node::Node;
use super::work::Work;
use crate::log::seldom;
use crate::sys::clock;

/// Events that are looked through.
const LOOKED_THROUGH_MAX: u32 = 50_000;
/// After a look that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// At the begin of a tenure: who wrote before it, as far as the newest events tell, as soon as the store can be asked for them.
pub async fn remember(node: Arc<Node>, work: Arc<Work>) {
    loop {
        if let Some(db) = node.db()
            && matches!(db.finds_by_customer().await, Ok(true))
        {
            work.replies.found();
            let span = u64::try_from(RECENT.as_millis()).unwrap_or(u64::MAX);
            let found = db.writers(&work.own, work.shard_count, span, LOOKED_THROUGH_MAX);
            match found.await {
                Ok(found) => {
                    for (route, ago_ms) in found {
                        work.replies.heard(route, Duration::from_millis(ago_ms));
                    }
                    return work.claim_wanted.notify_one();
                }
                Err(error) => seldom!(
                    tracing::warn!(error = %error.brief(), "who wrote lately could not be read; answers to them wait with all messages; retrying")
                ),
            }
        }
        clock::sleep(PAUSE).await;
    }
}
