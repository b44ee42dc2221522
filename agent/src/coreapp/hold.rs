//! Carries out what `wa_core::hold` decides: asks the upstream after the number while messages are held, says so in the journal, and
//! lets the sender and the claimer know how fast they may go. Decides nothing.

use std::sync::Arc;
use std::time::Duration;

use wa_core::hold::{Action, Event, Pace, Sort, Why};
use wa_core::judgement::unit_of;
use wa_core::outcome::Probe;

use super::node::Node;
use super::work::Work;
use crate::api::cloud::call::Call;
use crate::api::cloud::code;
use crate::config::Text;
use crate::log::message_id;
use crate::sys::clock;

/// The answer to a question that was asked for one message holds for others so long.
const ASKED_FOR: Duration = Duration::from_secs(2);

/// Takes note of an event, and carries out what follows from it.
pub fn note(node: &Arc<Node>, work: &Arc<Work>, event: Event) {
    let (actions, changed) = work.holding.step(event);
    if actions.is_empty() && !changed {
        return;
    }
    for action in actions {
        match action {
            Action::Probe => {
                let (n, w) = (Arc::clone(node), Arc::clone(work));
                work.spawn(async move {
                    let probe = ask(&n, &w).await;
                    note(&n, &w, Event::Probed(probe));
                });
            }
            Action::Tell(why) => tell(node, work, why),
            Action::TellAgain(why) => {
                let shard = work.own.shard;
                match why {
                    Why::Trouble => {
                        tracing::info!(%shard, "the upstream gives answers again; messages go on");
                    }
                    Why::Account(account) => {
                        tracing::info!(MESSAGE_ID = message_id::ACCOUNT_TAKEN, %shard, ?account, "the upstream takes messages of this account again; what waited goes on by itself");
                    }
                }
            }
        }
    }
    // Until messages go again: a hold with its trials is one span.
    let held = matches!(work.holding.pace(), Pace::None | Pace::One);
    work.reach.hold(held);
    for sort in [Sort::Template, Sort::Other] {
        let waits = work.holding.unpaid(sort);
        work.reach.wait_for_payment(sort, waits);
    }
    work.holding.changed.notify_one();
    work.claim_wanted.notify_one();
}

fn tell(node: &Node, work: &Work, why: Why) {
    let shard = work.own.shard;
    let (says, remedy) = (
        why.says(),
        why.remedy(&unit_of(node.settings.node.as_str())),
    );
    match why {
        Why::Trouble => {
            tracing::warn!(%shard, "{says}; messages wait, and the upstream is asked again every few seconds");
        }
        Why::Account(account) => {
            tracing::error!(MESSAGE_ID = message_id::ACCOUNT_REFUSED, %shard, ?account, "{says}; messages are kept and wait. {remedy}");
        }
    }
}

/// Asks after the number.
async fn ask(node: &Node, work: &Work) -> Probe {
    match work.upstream.call(&Call::Probe).await {
        Ok((status, body)) => {
            let probe = code::probe(status.as_u16(), &body);
            node.upstream_seen(probe == Probe::Good);
            probe
        }
        Err(error) => {
            node.upstream_seen(false);
            node.troubles.upstream.failed(&error.to_string());
            Probe::Nothing
        }
    }
}

/// Asks whether it is the account that is refused, or one message. Asked for one message, it is answered for those beside it.
pub async fn suspect(node: &Node, work: &Work) -> Probe {
    let mut asked = work.holding.asked.lock().await;
    if let Some((_, probe)) = asked.filter(|(at, _)| clock::now().since(*at) < ASKED_FOR) {
        return probe;
    }
    let probe = ask(node, work).await;
    *asked = Some((clock::now(), probe));
    probe
}

/// Waits for deadlines and new tokens, until the tenure ends.
pub async fn watch(node: Arc<Node>, work: Arc<Work>) {
    let token = &node.settings.upstream.token;
    let mut used: Text = token.now();
    loop {
        let deadline = work.holding.deadline();
        // A token that comes between two looks is seen at the next one.
        let until = deadline.unwrap_or(clock::now() + Duration::from_secs(5));
        tokio::select! {
            () = clock::sleep_until(until) => {}
            () = work.holding.changed.notified() => {}
            () = token.renewed() => {}
        }
        let now = token.now();
        if !Arc::ptr_eq(&now, &used) {
            used = now;
            note(&node, &work, Event::Nudged);
        }
        if deadline.is_some_and(|at| clock::now() >= at) {
            note(&node, &work, Event::Time);
        }
    }
}
