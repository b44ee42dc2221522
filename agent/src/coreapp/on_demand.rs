//! Files of customers that only the upstream has, fetched when a client asks for them. Which they are, the store remembers
//! (`db/remote.rs`); who waits for which: `demands.rs`; how one is fetched: `fetch.rs`.

use std::sync::Arc;
use std::time::Duration;

use super::demands::{Asked, Tell};
use super::fetch::{Missed, bring};
use super::node::Node;
use super::work::Work;
use crate::api::cloud::file::INBOUND_KEEP_MS;
use crate::api::owner::{OwnerAnswer, Setback, Settled};
use crate::api::v1::code::Code;
use crate::db::media::Medium;
use crate::log::seldom;
use crate::sys::clock;

/// A client waits so long, which is less than its webapp does; the file goes on coming.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);
/// For one file, from when it has its place. Large ones take minutes on slow lines; what stops coming is given up long before.
const ASKED_WITHIN: Duration = Duration::from_secs(600);
/// Before a database that did not answer is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// Forgets that a file is on its way, however that ends.
struct Way {
    work: Arc<Work>,
    id: String,
}

impl Drop for Way {
    fn drop(&mut self) {
        self.work.demands.forget(&self.id);
    }
}

/// Answers a webapp: done once the file is here.
pub async fn answer(node: &Arc<Node>, work: &Arc<Work>, id: String) -> OwnerAnswer {
    // The next owner has a connection, too.
    if work.held() {
        return OwnerAnswer::Setback(Setback::Busy);
    }
    let mut told = match work.demands.ask(&id) {
        Asked::Full => return OwnerAnswer::Setback(Setback::Busy),
        Asked::Running(told) => told,
        Asked::Yours(tell, told) => {
            begin(node, work, id, tell);
            told
        }
    };
    let ended = tokio::time::timeout(ANSWER_WITHIN, told.wait_for(Option::is_some));
    match work.stop.run_until_cancelled(ended).await {
        // The tenure ended in the middle of it.
        None | Some(Ok(Err(_))) => OwnerAnswer::Setback(Setback::Unknown),
        Some(Ok(Ok(outcome))) => {
            let outcome = outcome.clone();
            outcome.unwrap_or(OwnerAnswer::Setback(Setback::Unknown))
        }
        Some(Err(_)) => refused(Code::NotReady, "The file is still on its way; try again"),
    }
}

fn refused(code: Code, details: &str) -> OwnerAnswer {
    OwnerAnswer::Settled(Settled::Refused {
        code,
        details: details.to_owned(),
    })
}

/// Fetches a file in the background: whoever waits for it may go.
fn begin(node: &Arc<Node>, work: &Arc<Work>, id: String, tell: Tell) {
    let node = Arc::clone(node);
    let way = Way {
        work: Arc::clone(work),
        id,
    };
    work.spawn(async move {
        let of = Arc::clone(&way.work);
        let _place = of.demands.place().await;
        let fetching = tokio::time::timeout(ASKED_WITHIN, fetch(&node, &way.work, &way.id));
        let outcome = fetching.await;
        let late = || refused(Code::NotReady, "Fetching the file took too long; try again");
        let outcome = outcome.unwrap_or_else(|_| late());
        // Whoever asks from now on looks into the store.
        drop(way);
        tell.send_replace(Some(outcome));
    });
}

async fn fetch(node: &Node, work: &Work, id: &str) -> OwnerAnswer {
    let unknown = || refused(Code::NotFound, "There is no media with this id");
    let Some(db) = node.db() else {
        return OwnerAnswer::Setback(Setback::Unknown);
    };
    let file = match db.remote_medium(id).await {
        Ok(Some((file, age_ms))) if age_ms < INBOUND_KEEP_MS => file,
        Ok(Some(_)) => {
            let why = "WhatsApp kept this file for seven days, and it was not fetched by then";
            return refused(Code::NotFound, why);
        }
        // Another one may have fetched it.
        Ok(None) => match db.medium(id).await {
            Ok(Some(_)) => return OwnerAnswer::Settled(Settled::Done),
            Ok(None) => return unknown(),
            Err(_) => return OwnerAnswer::Setback(Setback::Unknown),
        },
        Err(_) => return OwnerAnswer::Setback(Setback::Unknown),
    };
    match bring(node, work, &file).await {
        Ok(medium) => match known(node, &medium).await {
            true => OwnerAnswer::Settled(Settled::Done),
            // It was deleted meanwhile.
            false => {
                let _ = node.files.delete(id).await;
                unknown()
            }
        },
        Err(Missed::Gone) => refused(Code::NotFound, "WhatsApp does not have this file any more"),
        Err(Missed::Later(why)) => {
            seldom!(tracing::warn!(
                id,
                why,
                "a file that a client asks for cannot be fetched; answered 1011"
            ));
            refused(Code::NotReady, "The file cannot be fetched now; try again")
        }
    }
}

/// Makes it known that a file is here, again until the store has it: whoever waits for that has a deadline. False: nobody wants it
/// any more.
async fn known(node: &Node, medium: &Medium) -> bool {
    loop {
        if let Some(db) = node.db() {
            let done = node.in_turn(db.fetched_medium(medium)).await;
            match done {
                Ok(true) => return true,
                // A try before this one, or another owner, may have made it known.
                Ok(false) => match db.medium(&medium.id).await {
                    Ok(found) => return found.is_some(),
                    Err(error) => tracing::debug!(error = %error.brief(), "asking again"),
                },
                Err(error) => tracing::debug!(error = %error.brief(), "asking again"),
            }
        }
        clock::sleep(AGAIN).await;
    }
}
