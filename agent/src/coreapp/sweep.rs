//! What is old and nobody asks for any more goes, in small named sweeps that rest for longer than they took: messages come first.
//! Messages themselves, and whole files: `collect.rs`. Who sweeps is the owner of shard 0.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::collect::{KEEP_MS, PART_AGE, rest, room};
use super::node::Node;
use super::work::Work;
use crate::api::cloud::file::INBOUND_KEEP_MS;
use crate::api::v1::message::stored;
use crate::db::body::kept_ms;
use crate::db::{Db, DbError};
use crate::log::seldom;
use crate::media::file::{FOLDERS, FileError, Files};
use crate::sys::clock;
use crate::sys::state::random_u64;

/// What nobody could read waits for so long for somebody who retries it.
pub(super) const KEEP_UNREAD_MS: u64 = 30 * 24 * 3600 * 1000;
/// Decisions of masters and operators are history for so long.
pub(super) const KEEP_HISTORY_MS: u64 = 400 * 24 * 3600 * 1000;
/// What the upstream says of how long it has a file may be a little less than what it does.
pub(super) const KEEP_REMOTE_MS: u64 = INBOUND_KEEP_MS + 24 * 3600 * 1000;
/// So many lines of the audit are kept at most, whatever the setting says.
pub(super) const AUDIT_LINES_MAX: u64 = 1_000_000;
/// How often it is begun anew.
const EVERY: Duration = Duration::from_secs(60);
/// Rows of one step. An embedded store has one writer at a time.
const STEP_LEN: u32 = 1000;
const STEP_LEN_EMBEDDED: u32 = 50;
/// Content is read before it goes: of few messages at once, which may be long.
const BODIES_LEN: u32 = 50;
/// Unfinished uploads that one step removes.
pub(super) const UPLOADS_LEN: usize = 50;

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
    /// Files of customers that were never fetched, and that the upstream has no more.
    Remote,
    /// Who did what.
    Audit,
    /// Files of uploads that broke off, whatever the settings say of files that are whole.
    Uploads,
}

impl Sweep {
    /// All of them, in their order.
    pub const ALL: [Self; 9] = [
        Self::Bodies,
        Self::EventBodies,
        Self::Events,
        Self::Ids,
        Self::Tokens,
        Self::History,
        Self::Remote,
        Self::Audit,
        Self::Uploads,
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
            Self::Remote => "files never fetched",
            Self::Audit => "audit",
            Self::Uploads => "unfinished uploads",
        }
    }

    /// One step; how many rows it was.
    async fn step(self, node: &Node, work: &Work, (db, turn): (&Db, &Turn)) -> Result<u64, String> {
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
            Self::Events | Self::Ids | Self::Tokens | Self::History | Self::Audit => {
                let client = &node.settings.client;
                let keep = (client.keep_ids, client.keep_audit);
                self.forget(db, keep, limit).await.map_err(brief)
            }
            Self::Remote => remote(db, &turn.file, STEP_LEN).await.map_err(brief),
            // Whether the directory is usable is said elsewhere.
            Self::Uploads if node.media.wanted() && node.media.remark().is_none() => {
                let gone = unfinished(&node.files, &turn.folder).await;
                gone.map_err(|error| error.to_string())
            }
            Self::Uploads => Ok(0),
        }
    }

    /// Deletes rows that go by their age alone; how many.
    pub(super) async fn forget(
        self,
        db: &Db,
        (keep_ids, keep_audit): (Duration, Duration),
        limit: u32,
    ) -> Result<u64, DbError> {
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        match self {
            Self::Events => db.forget_events((KEEP_MS, KEEP_UNREAD_MS), limit).await,
            Self::Ids => db.forget_ids(ms(keep_ids), limit).await,
            Self::Audit => {
                db.forget_audit((ms(keep_audit), AUDIT_LINES_MAX), limit)
                    .await
            }
            Self::Tokens => db.forget_tokens(limit).await,
            Self::History => db.forget_decisions(KEEP_HISTORY_MS, limit).await,
            Self::Bodies | Self::EventBodies | Self::Remote | Self::Uploads => Ok(0),
        }
    }
}

/// Where the sweeps go on that look at everything in turn.
#[derive(Default)]
struct Turn {
    folder: AtomicU16,
    /// An id.
    file: Mutex<String>,
}

/// Forgets files that only the upstream had, among the next ones; how many. Each minute looks at so many, in the order of ids.
pub(super) async fn remote(db: &Db, at: &Mutex<String>, limit: u32) -> Result<u64, DbError> {
    let behind = at.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (gone, next) = db.forget_remote(&behind, KEEP_REMOTE_MS, limit).await?;
    *at.lock().unwrap_or_else(PoisonError::into_inner) = next;
    Ok(gone)
}

/// Removes unfinished uploads of one folder; how many. Goes on to the next folder when this one has no more, so that each minute
/// reads one folder, and all of them are read in four hours.
pub(super) async fn unfinished(files: &Files, folder: &AtomicU16) -> Result<u64, FileError> {
    let at = folder.load(Ordering::Relaxed) % FOLDERS;
    let next = (at + 1) % FOLDERS;
    let found = files.unfinished(at, PART_AGE, UPLOADS_LEN).await;
    let more = found.as_ref().map_or(0, Vec::len) >= UPLOADS_LEN;
    // What cannot be read or deleted holds up no other folder.
    folder.store(next, Ordering::Relaxed);
    let mut gone = 0;
    for file in found? {
        gone += u64::from(files.delete_left_over(&file).await?);
    }
    if more {
        folder.store(at, Ordering::Relaxed);
    }
    Ok(gone)
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
    // Tenures may be shorter than a round: none begins where the one before did.
    let turn = Turn {
        folder: AtomicU16::new(u16::from(random_u64().to_le_bytes()[0])),
        file: Mutex::new(format!("{:08x}", random_u64() >> 32)),
    };
    loop {
        clock::sleep(EVERY).await;
        let mut left = Sweep::ALL.to_vec();
        // Shards may have come and gone: who sweeps has shard 0. After a leap of the database's clock nothing is old for certain.
        while work.own.shard.0 == 0 && node.spared.over(clock::now()) && !left.is_empty() {
            let mut more = Vec::new();
            for sweep in left {
                match one_step(sweep, &node, &work, &turn).await {
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
async fn one_step(sweep: Sweep, node: &Node, work: &Work, turn: &Turn) -> Result<u64, String> {
    room(work).await;
    let db = node.db().ok_or("no database")?;
    let began = clock::now();
    let rows = sweep.step(node, work, (&db, turn)).await?;
    node.metrics.swept.add(sweep.as_str(), rows);
    if rows > 0 {
        rest(began).await;
    }
    Ok(rows)
}
