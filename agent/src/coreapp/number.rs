//! Whether the number is registered at the upstream, and how much it may send: looked at when a tenure begins, when a send was
//! refused for it, when there is news of it, and again and again while it is not. Nothing waits for it: an owner that is not registered serves what needs no registration.
//! Registers nothing: `registration.rs` does, when a person asks.

use std::sync::Arc;
use std::time::Duration;

use wa_core::hold::Event;
use wa_core::pace::{self, Level};

use super::hold;
use super::node::Node;
use super::work::Work;
use crate::api::cloud::call::Call;
use crate::api::cloud::registration::State;
use crate::api::internal::UNREGISTERED;
use crate::sys::clock;

/// Between two looks at least, whoever asks for them.
const GAP: Duration = Duration::from_secs(2);
/// While it is not registered: somebody may register it elsewhere.
const WHILE_NOT: Duration = Duration::from_secs(30);
/// After a look that brought nothing.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Once it is registered.
const WHILE_SO: Duration = Duration::from_secs(3600);

/// While it may be upgraded: the news of that reaches one shard only.
const WHILE_STANDARD: Duration = Duration::from_secs(600);

/// Looks, for as long as the tenure lives.
pub async fn watch(node: Arc<Node>, work: Arc<Work>) {
    // What an earlier tenure knew may be long ago.
    node.set_unregistered(false);
    let mut known = Level::default();
    loop {
        let wait = match (work.held(), look(&work).await) {
            (true, _) | (false, None) => AGAIN_AFTER,
            (false, Some(state)) => {
                note(&node, &work, state.unregistered);
                // An answer without it says nothing of it.
                let level = state.level.unwrap_or(known);
                known = level;
                learn(&node, &work, level);
                let learns = node.settings.upstream.rate_per_second.is_none();
                match (state.unregistered, level) {
                    (true, _) => WHILE_NOT,
                    (false, Level::Standard) if learns => WHILE_STANDARD,
                    (false, Level::Standard | Level::High) => WHILE_SO,
                }
            }
        };
        clock::sleep(GAP).await;
        tokio::select! {
            () = clock::sleep(wait) => {}
            () = work.number_wanted.notified() => {}
        }
    }
}

/// Asks the upstream; `None`: it did not say.
async fn look(work: &Work) -> Option<State> {
    let (status, body) = work.upstream.call(&Call::NumberState).await.ok()?;
    State::read(status.as_u16(), &body)
}

/// The sender goes by this.
fn learn(node: &Node, work: &Work, level: Level) {
    let written = node.settings.upstream.rate_per_second;
    let most = pace::most(written, level, work.shard_count);
    let before = work.set_per_second(most);
    if before != most {
        tracing::info!(shard = %work.own.shard, ?level, "the upstream allows the number another rate; this shard's part was {before} messages a second and is {most}");
    }
}

/// Each change once.
fn note(node: &Arc<Node>, work: &Arc<Work>, unregistered: bool) {
    let before = node.unregistered();
    node.set_unregistered(unregistered);
    match (before, unregistered) {
        (false, true) => tracing::warn!("{UNREGISTERED}"),
        (true, false) => {
            tracing::info!("the number is registered at WhatsApp");
            hold::note(node, work, Event::Nudged);
        }
        (true, true) | (false, false) => {}
    }
}
