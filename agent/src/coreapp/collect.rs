//! Garbage collection by an owner: of what was asked for by `PUT /v1/services/…/gc`, and by itself as the settings say.
//! Goes in small steps, and rests between them for longer than they took: messages come first. Messages and files are collected
//! beside each other, so that neither holds up the other. What else grows old: `sweep.rs`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use wa_core::shard_map::shard_of;
use wa_core::time::Instant;

use super::node::Node;
use super::work::Work;
use crate::api::error::ErrorObject;
use crate::api::v1::callback::{Callback, Service};
use crate::api::v1::code::Code;
use crate::db::Db;
use crate::db::collection::{Kind, Running};
use crate::log::seldom;
use crate::media::file::{FOLDERS, LeftOver};
use crate::sys::clock;

/// Finished messages and processed events are kept this long: retries with the same id find them (S4: 7 days).
pub const KEEP_MS: u64 = 8 * 24 * 3600 * 1000;
/// How often it is looked for what was asked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// By themselves messages are collected so often, and media.
const MESSAGES_EVERY: Duration = Duration::from_secs(60);
const MEDIA_EVERY: Duration = Duration::from_secs(3600);
/// Messages that one step looks at; an embedded store has one writer at a time.
const STEP_LEN: u32 = 250;
const STEP_LEN_EMBEDDED: u32 = 50;
/// Files without a row that one step looks at.
const FILES_STEP_LEN: usize = 50;
/// A rest is so many times as long as the step before it.
const REST: u32 = 4;
const REST_MIN: Duration = Duration::from_millis(10);
const REST_MAX: Duration = Duration::from_secs(2);
/// A file that nobody used for 30 days goes.
pub(super) const UNUSED_MS: u64 = 30 * 24 * 3600 * 1000;
/// An upload takes minutes at most: what is older is left over.
pub(super) const PART_AGE: Duration = Duration::from_secs(24 * 3600);

/// Why a step was not done.
enum Failure {
    /// The store did not answer, or this node is not the owner any more: the part goes on later, perhaps elsewhere.
    Later(String),
    /// It cannot be done: the part ends with this.
    Ended(ErrorObject),
}

impl From<crate::db::DbError> for Failure {
    fn from(error: crate::db::DbError) -> Self {
        Self::Later(error.brief())
    }
}

fn stale() -> Failure {
    Failure::Later("this node does not own the shard any more".into())
}

/// Collects one kind until the tenure ends.
pub async fn collect(node: Arc<Node>, work: Arc<Work>, kind: Kind) {
    let mut due = work.began + every(kind);
    loop {
        clock::sleep(LOOK_EVERY).await;
        let Some(db) = node.db() else { continue };
        let collector = Collector {
            node: &node,
            work: &work,
            db: &db,
            kind,
        };
        if let Err(Failure::Later(why)) = collector.asked().await {
            seldom!(tracing::warn!(
                why,
                "a garbage collection waits; it goes on by itself"
            ));
        }
        collector.by_itself(&mut due).await;
    }
}

/// How often a kind is collected by itself.
fn every(kind: Kind) -> Duration {
    match kind {
        Kind::Messages => MESSAGES_EVERY,
        Kind::Media => MEDIA_EVERY,
    }
}

struct Collector<'a> {
    node: &'a Node,
    work: &'a Work,
    db: &'a Db,
    kind: Kind,
}

impl Collector<'_> {
    /// What was asked for and is this owner's, one after the other.
    async fn asked(&self) -> Result<(), Failure> {
        for part in self.db.collections().await? {
            let own = part.carried_out_by(self.work.shard_count) == self.work.own.shard.0;
            if own && part.kind == self.kind {
                self.part(&part).await?;
            }
        }
        Ok(())
    }

    async fn part(&self, part: &Running) -> Result<(), Failure> {
        let done = match part.kind {
            Kind::Messages => match part.shard {
                Some(shard) => self.messages((shard, part.shard_count), Some(part)).await,
                // It owns nothing.
                None => Ok(()),
            },
            Kind::Media => self.media(Some(part)).await,
        };
        let error = match done {
            Ok(()) => None,
            Err(Failure::Ended(error)) => Some(error),
            Err(later @ Failure::Later(_)) => return Err(later),
        };
        self.tell(part, error).await
    }

    /// Ends a part, with what was counted for it by whoever worked on it.
    async fn tell(&self, part: &Running, error: Option<ErrorObject>) -> Result<(), Failure> {
        let all = self.db.collections().await?;
        let same = |found: &&Running| {
            (found.kind, &found.node, found.run) == (part.kind, &part.node, part.run)
        };
        let Some(part) = all.iter().find(same) else {
            return Ok(());
        };
        let told = Callback::of_service(match part.kind {
            Kind::Messages => Service::messages(&part.node, part.deleted),
            Kind::Media => Service::media(part.deleted, error),
        });
        // Without a URL nobody takes callbacks: none waits for one.
        let wanted = !self.node.application.load().webhooks.url.is_empty();
        let told = wanted.then(|| told.text());
        let ended = self
            .db
            .end_collection(&self.work.own, part, told.as_deref());
        if !self.node.in_turn(ended).await? {
            return Err(stale());
        }
        tracing::info!(
            kind = part.kind.as_str(),
            node = part.node,
            deleted = part.deleted,
            "a garbage collection that was asked for has ended"
        );
        self.work.webhook_wanted.notify_one();
        Ok(())
    }

    async fn by_itself(&self, due: &mut Instant) {
        let now = clock::now();
        if now < *due {
            return;
        }
        *due = now + every(self.kind);
        let wanted = self.node.application.load().garbagecollector_enable.clone();
        let own = self.work.own.shard.0;
        let done = match self.kind {
            Kind::Messages if wanted.messages => {
                self.messages((own, self.work.shard_count), None).await
            }
            Kind::Media if wanted.media && own == 0 && self.node.media.wanted() => {
                self.media(None).await
            }
            Kind::Messages | Kind::Media => Ok(()),
        };
        let why = match done {
            Ok(()) => return,
            Err(Failure::Later(why)) => why,
            Err(Failure::Ended(error)) => error.details.unwrap_or_default(),
        };
        seldom!(tracing::warn!(why, "deleting what is old failed; retrying"));
    }

    /// Finished messages of a slice that are old enough, the oldest first.
    async fn messages(
        &self,
        (shard, count): (u16, u16),
        part: Option<&Running>,
    ) -> Result<(), Failure> {
        let limit = if self.db.embedded() {
            STEP_LEN_EMBEDDED
        } else {
            STEP_LEN
        };
        let mut behind = 0;
        // The database's clock leapt ahead: nothing is old for certain.
        while self.node.spared.over(clock::now()) {
            self.wait_for_room().await;
            let began = clock::now();
            let found = self.db.oldest_messages(behind, KEEP_MS, limit).await?;
            let Some(last) = found.last().copied() else {
                break;
            };
            behind = last.seq;
            let over = found
                .iter()
                .filter(|old| old.over && shard_of(old.recipient_hash, count).0 == shard);
            let seqs: Vec<i64> = over.map(|old| old.seq).collect();
            if !seqs.is_empty() {
                let gone = self.db.delete_messages(&self.work.own, &seqs, part);
                self.node.in_turn(gone).await?.ok_or_else(stale)?;
            }
            if last.young || found.len() < limit as usize {
                break;
            }
            rest(began).await;
        }
        Ok(())
    }

    /// Files that nobody used, and what broken uploads and deleted rows left.
    async fn media(&self, part: Option<&Running>) -> Result<(), Failure> {
        let kept = self.files_of_stickers().await?;
        let mut behind = String::new();
        while self.node.spared.over(clock::now()) {
            self.wait_for_room().await;
            self.usable()?;
            let began = clock::now();
            let found = self.db.media_unused(&behind, UNUSED_MS, STEP_LEN).await?;
            let Some((last, _)) = found.last() else { break };
            behind.clone_from(last);
            for (id, unused) in &found {
                if *unused && !kept.contains(id) {
                    self.medium(id, part).await?;
                }
            }
            rest(began).await;
        }
        for folder in 0..FOLDERS {
            self.left_over(folder, part).await?;
        }
        Ok(())
    }

    /// The row first: a row without a file would be offered to clients. A file without a row is found by its age.
    async fn medium(&self, id: &str, part: Option<&Running>) -> Result<(), Failure> {
        self.wait_for_room().await;
        let began = clock::now();
        let gone = self
            .db
            .delete_unused_medium(&self.work.own, (id, UNUSED_MS), part);
        if self.node.in_turn(gone).await?.ok_or_else(stale)? > 0 {
            let deleted = self.node.files.delete(id).await;
            deleted.map_err(|error| ended(&error))?;
        }
        rest(began).await;
        Ok(())
    }

    /// One folder of the directory, some of its files at a time.
    async fn left_over(&self, folder: u16, part: Option<&Running>) -> Result<(), Failure> {
        self.wait_for_room().await;
        self.usable()?;
        let began = clock::now();
        let unused = Duration::from_millis(UNUSED_MS);
        let found = self.node.files.left_over(folder, (PART_AGE, unused)).await;
        let found = found.map_err(|error| ended(&error))?;
        rest(began).await;
        for some in found.chunks(FILES_STEP_LEN) {
            self.wait_for_room().await;
            self.usable()?;
            if !self.node.spared.over(clock::now()) {
                return Ok(());
            }
            let began = clock::now();
            self.delete_left_over(some, part).await?;
            rest(began).await;
        }
        Ok(())
    }

    /// Those of these files that have no row.
    async fn delete_left_over(
        &self,
        files: &[LeftOver],
        part: Option<&Running>,
    ) -> Result<(), Failure> {
        let mut deleted = 0;
        for file in files {
            let known = match &file.id {
                Some(id) => self.db.medium(id).await?.is_some(),
                None => false,
            };
            if !known {
                let gone = self.node.files.delete_left_over(file).await;
                deleted += u64::from(gone.map_err(|error| ended(&error))?);
            }
        }
        if let Some(part) = part.filter(|_| deleted > 0) {
            let counted = self.db.count_collected(&self.work.own, part, deleted);
            if !self.node.in_turn(counted).await? {
                return Err(stale());
            }
        }
        Ok(())
    }

    async fn files_of_stickers(&self) -> Result<HashSet<String>, Failure> {
        #[derive(Deserialize)]
        struct Sticker {
            image_data_id: String,
        }
        let mut kept = HashSet::new();
        for pack in self.db.stickers().await? {
            let stickers: Vec<Sticker> = serde_json::from_str(&pack).map_err(|error| {
                Failure::Later(format!("a sticker pack cannot be read: {error}"))
            })?;
            kept.extend(stickers.into_iter().map(|sticker| sticker.image_data_id));
        }
        Ok(kept)
    }

    fn usable(&self) -> Result<(), Failure> {
        match self.node.media.remark() {
            Some(why) => Err(Failure::Ended(not_ready(why))),
            None => Ok(()),
        }
    }

    async fn wait_for_room(&self) {
        room(self.work).await;
    }
}

fn not_ready(why: String) -> ErrorObject {
    ErrorObject::new(Code::NotReady, Some(why))
}

fn ended(error: &crate::media::file::FileError) -> Failure {
    Failure::Ended(not_ready(error.to_string()))
}

/// A handover goes first.
pub(super) async fn room(work: &Work) {
    while work.held() {
        clock::sleep(REST_MIN).await;
    }
}

/// Between two steps.
pub(super) async fn rest(began: Instant) {
    let took = clock::now().since(began);
    clock::sleep((took * REST).clamp(REST_MIN, REST_MAX)).await;
}
