//! What nobody asks for any more goes: events that were worked off, ids of the upstream, tokens that have expired. By the owner of
//! shard 0, once a minute, in small steps that rest for longer than they took: messages come first.
//! Messages and files: `collect.rs`.

use std::sync::Arc;
use std::time::Duration;

use super::collect::{KEEP_MS, rest, room};
use super::node::Node;
use super::work::Work;
use crate::db::{Db, DbError};
use crate::sys::clock;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(60);
/// Rows of one step; an embedded store has one writer at a time.
const STEP_LEN: u32 = 1000;
const STEP_LEN_EMBEDDED: u32 = 200;
/// Ids of the upstream lead to ours for so long: customers answer old messages.
const KEEP_IDS_MS: u64 = 400 * 24 * 3600 * 1000;

/// One kind of rows that grow old.
#[derive(Debug, Clone, Copy)]
enum Sweep {
    /// Events that were worked off: until they go, their keys drop duplicates.
    Events,
    /// Ids of the upstream.
    Ids,
    /// Tokens that have expired.
    Tokens,
}

impl Sweep {
    const ALL: [Self; 3] = [Self::Events, Self::Ids, Self::Tokens];

    /// As the journal calls it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events of WhatsApp",
            Self::Ids => "message ids of WhatsApp",
            Self::Tokens => "tokens",
        }
    }

    /// One step: how many rows went.
    async fn step(self, db: &Db, limit: u32) -> Result<u64, DbError> {
        match self {
            Self::Events => db.forget_events(KEEP_MS, limit).await,
            Self::Ids => db.forget_ids(KEEP_IDS_MS, limit).await,
            Self::Tokens => db.forget_tokens(limit).await,
        }
    }

    /// Until nothing of it is old.
    async fn all(self, node: &Node, work: &Work, db: &Db) -> Result<(), DbError> {
        let limit = match db.embedded() {
            true => STEP_LEN_EMBEDDED,
            false => STEP_LEN,
        };
        // The database's clock leapt ahead: nothing is old for certain.
        while node.spared.over(clock::now()) {
            room(work).await;
            let began = clock::now();
            let gone = node.in_turn(self.step(db, limit)).await?;
            rest(began).await;
            if gone < u64::from(limit) {
                break;
            }
        }
        Ok(())
    }
}

/// Sweeps until the tenure ends.
pub async fn sweep(node: Arc<Node>, work: Arc<Work>) {
    if work.own.shard.0 != 0 {
        return;
    }
    loop {
        clock::sleep(EVERY).await;
        let Some(db) = node.db() else { continue };
        for sweep in Sweep::ALL {
            if let Err(error) = sweep.all(&node, &work, &db).await {
                let what = sweep.as_str();
                tracing::warn!(error = %error.brief(), "deleting old {what} failed; retrying in a minute");
            }
        }
    }
}
