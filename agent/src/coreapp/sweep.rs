//! What is old and nobody asks for any more goes, in small named sweeps that rest for longer than they took: messages come first.
//! Messages themselves, and files: `collect.rs`. Who sweeps is the owner of shard 0.

use std::sync::Arc;
use std::time::Duration;

use super::collect::{KEEP_MS, rest, room};
use super::node::Node;
use super::work::Work;
use crate::api::v1::message::stored;
use crate::db::body::kept_ms;
use crate::db::{Db, DbError};
use crate::log::seldom;
use crate::sys::clock;

/// What nobody could read waits for so long for somebody who retries it.
const KEEP_UNREAD_MS: u64 = 30 * 24 * 3600 * 1000;
/// Decisions of masters and operators are history for so long.
const KEEP_HISTORY_MS: u64 = 400 * 24 * 3600 * 1000;
/// How often it is begun anew.
const EVERY: Duration = Duration::from_secs(60);
/// Rows of one step. An embedded store has one writer at a time.
const STEP_LEN: u32 = 1000;
const STEP_LEN_EMBEDDED: u32 = 50;
/// Content is read before it goes: of few messages at once, which may be long.
const BODIES_LEN: u32 = 50;

/// What goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// Content of finished messages.
    Bodies,
    /// Content of told events.
    EventBodies,
    /// Told events.
    Events,
    /// The map of ids.
    Ids,
    /// Expired logins.
    Tokens,
    /// Decisions and their evidence.
    History,
}

impl Sweep {
    /// All of them, in their order.
    pub const ALL: [Self; 6] = [
        Self::Bodies,
        Self::EventBodies,
        Self::Events,
        Self::Ids,
        Self::Tokens,
        Self::History,
    ];

    /// Its name in metrics and in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bodies => "message bodies",
            Self::EventBodies => "event bodies",
            Self::Events => "events",
            Self::Ids => "message ids",
            Self::Tokens => "tokens",
            Self::History => "history",
        }
    }

    /// One step; how many rows it was.
    async fn step(self, node: &Node, work: &Work, db: &Db) -> Result<u64, String> {
        let limit = match db.embedded() {
            true => STEP_LEN_EMBEDDED,
            false => STEP_LEN,
        };
        let brief = |error: DbError| error.brief();
        let keep_ms = kept_ms(node.settings.client.keep_bodies);
        match self {
            Self::Bodies if !node.blanking.may() => Ok(0),
            Self::Bodies => bodies(node, work, db, (keep_ms, limit.min(BODIES_LEN))).await,
            Self::EventBodies => {
                let gone = db.blank_events(&work.own, keep_ms, limit);
                let gone = node.in_turn(gone).await.map_err(brief)?;
                gone.ok_or_else(stale)
            }
            Self::Events => {
                let gone = db.forget_events((KEEP_MS, KEEP_UNREAD_MS), limit);
                gone.await.map_err(brief)
            }
            Self::Ids => {
                let keep_ms = u64::try_from(node.settings.client.keep_ids.as_millis());
                let gone = db.forget_ids(keep_ms.unwrap_or(u64::MAX), limit);
                gone.await.map_err(brief)
            }
            Self::Tokens => db.forget_tokens(limit).await.map_err(brief),
            Self::History => {
                let gone = db.forget_decisions(KEEP_HISTORY_MS, limit);
                gone.await.map_err(brief)
            }
        }
    }
}

fn stale() -> String {
    "this node does not own the shard any more".into()
}

/// Content of finished messages.
async fn bodies(
    node: &Node,
    work: &Work,
    db: &Db,
    (keep_ms, limit): (u64, u32),
) -> Result<u64, String> {
    let due = db.bodies_due(keep_ms, limit).await;
    let mut due = due.map_err(|error| error.brief())?;
    // After a clock that was set back nothing stays for longer than it was to.
    let longest = i64::try_from(keep_ms).unwrap_or(i64::MAX);
    for body in &mut due {
        body.left_ms = body.left_ms.min(longest);
    }
    let (gone, later): (Vec<_>, Vec<_>) = due.into_iter().partition(|body| body.left_ms <= 0);
    let gone: Vec<(i64, String)> = gone
        .into_iter()
        .map(|body| (body.seq, stored::remains(body.form, &body.payload)))
        .collect();
    let later: Vec<(i64, i64)> = later.iter().map(|body| (body.seq, body.left_ms)).collect();
    let done = node.in_turn(db.blank_bodies(&work.own, &gone, &later));
    match done.await.map_err(|error| error.brief())? {
        true => Ok((gone.len() + later.len()) as u64),
        false => Err(stale()),
    }
}

/// Sweeps until the tenure ends: a step of each in turn, so that none waits for another that has much to do.
pub async fn sweep(node: Arc<Node>, work: Arc<Work>) {
    loop {
        clock::sleep(EVERY).await;
        let mut left = Sweep::ALL.to_vec();
        // Shards may have come and gone: who sweeps has shard 0. After a leap of the database's clock nothing is old for certain.
        while work.own.shard.0 == 0 && node.spared.over(clock::now()) && !left.is_empty() {
            let mut more = Vec::new();
            for sweep in left {
                match one_step(sweep, &node, &work).await {
                    Ok(0) => {}
                    Ok(_) => more.push(sweep),
                    Err(why) => seldom!(tracing::warn!(
                        what = sweep.as_str(),
                        why,
                        "deleting what is old failed; retrying in a minute"
                    )),
                }
            }
            left = more;
        }
    }
}

/// One step and its rest; how many rows it was.
async fn one_step(sweep: Sweep, node: &Node, work: &Work) -> Result<u64, String> {
    room(work).await;
    let db = node.db().ok_or("no database")?;
    let began = clock::now();
    let rows = sweep.step(node, work, &db).await?;
    node.metrics.swept.add(sweep.as_str(), rows);
    if rows > 0 {
        rest(began).await;
    }
    Ok(rows)
}
