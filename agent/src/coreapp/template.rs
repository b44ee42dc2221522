//! The account's templates, read from the upstream into the table `template`: the whole list by the owner of shard 0, every
//! hour; those of one name when a webapp would refuse a message for them.
//! Judges no message: webapps do, with `api/cloud/template/verdict.rs`.
//!
//! The upstream also tells of changes by webhook. The webapp that gets such a call marks what is known of the template as not
//! fresh (`webapp/events.rs`). The next message that would be refused for it waits for a look; one of the last seconds counts.

use std::sync::Arc;
use std::time::Duration;

use super::node::Node;
use super::upstream::UpstreamError;
use super::work::Work;
use crate::api::cloud::call::{self, Call};
use crate::api::cloud::template::page;
use crate::api::owner::{OwnerAnswer, Setback, Settled};
use crate::db::DbError;
use crate::log::seldom;
use crate::sys::clock;

/// The first look of a tenure. What was accepted goes out first: this list is large, and nobody waits for it.
const FIRST_AFTER: Duration = Duration::from_secs(10);
/// How often the whole list is read.
const WHOLE_EVERY: Duration = Duration::from_secs(3600);
/// After a failure, or while a handover is under way.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// A page has 100 templates; an account may have 6,000.
const PAGES_MAX: usize = 100;

/// Why templates were not read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("the way to the upstream: {0}")]
    Upstream(#[from] UpstreamError),
    #[error("the upstream refuses it with status {status}: {details}")]
    Refused { status: u16, details: String },
    #[error("the upstream's answer is no list of templates")]
    NoList,
    #[error("the list has more than {PAGES_MAX} pages")]
    Endless,
    #[error("the database: {}", .0.brief())]
    Database(#[from] DbError),
    #[error("the database is not reached yet")]
    NoDatabase,
    #[error("this node does not own the shard any more")]
    Replaced,
}

/// Keeps the whole list, where somebody reads it.
pub async fn keep(node: Arc<Node>, work: Arc<Work>) {
    let settings = &node.settings;
    let wanted = settings.client.check_templates && !settings.upstream.waba_id.is_empty();
    if !wanted || work.own.shard.0 != 0 {
        return;
    }
    clock::sleep(FIRST_AFTER).await;
    loop {
        let wait = match work.held() {
            true => AGAIN_AFTER,
            false => match read(&node, &work, None).await {
                Ok(count) => {
                    tracing::debug!(count, "the list of templates was read");
                    WHOLE_EVERY
                }
                Err(error) => {
                    seldom!(tracing::warn!(
                        %error,
                        "the list of templates was not read, so that fewer template messages are checked at once; retrying in a minute"
                    ));
                    AGAIN_AFTER
                }
            },
        };
        clock::sleep(wait).await;
    }
}

/// Answers a webapp that would refuse a message for the template of this name.
pub async fn answer(node: &Node, work: &Work, name: &str) -> OwnerAnswer {
    if work.looks.counts(name, clock::now()) {
        return OwnerAnswer::Settled(Settled::Done);
    }
    // The next owner looks, too.
    if work.held() {
        return OwnerAnswer::Setback(Setback::Busy);
    }
    if node.settings.upstream.waba_id.is_empty() || !work.looks.allowed() {
        return OwnerAnswer::Settled(Settled::Unreachable);
    }
    let Some(looked) = work
        .stop
        .run_until_cancelled(read(node, work, Some(name)))
        .await
    else {
        return OwnerAnswer::Setback(Setback::Unknown);
    };
    match looked {
        Ok(_) => {
            work.looks.done(name, clock::now());
            OwnerAnswer::Settled(Settled::Done)
        }
        Err(ReadError::Upstream(UpstreamError::Shut) | ReadError::Replaced) => {
            OwnerAnswer::Setback(Setback::NotOwner)
        }
        Err(error) => {
            seldom!(tracing::warn!(
                %error,
                "the upstream was not asked for a template; a message that would be refused for it is sent"
            ));
            OwnerAnswer::Settled(Settled::Unreachable)
        }
    }
}

/// Reads the templates of one name, or all, into the table; what the upstream does not name any more goes. Returns how many
/// there are.
async fn read(node: &Node, work: &Work, name: Option<&str>) -> Result<usize, ReadError> {
    let db = node.db().ok_or(ReadError::NoDatabase)?;
    let began_ms = db.now_ms().await?;
    let mut after = None;
    let mut count = 0;
    for _ in 0..PAGES_MAX {
        let asked = Call::Templates {
            waba_id: node.settings.upstream.waba_id.clone(),
            name: name.map(str::to_owned),
            after,
        };
        let (status, body) = work.upstream.call(&asked).await?;
        if !status.is_success() {
            let status = status.as_u16();
            let (_, details) = call::refusal(&body);
            return Err(ReadError::Refused { status, details });
        }
        let mut page = page(&body).ok_or(ReadError::NoList)?;
        // The upstream also names templates whose name has this one in it.
        page.entries
            .retain(|entry| name.is_none_or(|name| entry.name == name));
        let stored = db.store_templates(&work.own, &page.entries);
        if !node.in_turn(stored).await? {
            return Err(ReadError::Replaced);
        }
        count += page.entries.len();
        if page.after.is_none() {
            let forgotten = db.forget_templates(&work.own, name, began_ms);
            let forgotten = node.in_turn(forgotten).await?;
            return forgotten.map(|_| count).ok_or(ReadError::Replaced);
        }
        after = page.after;
    }
    Err(ReadError::Endless)
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
