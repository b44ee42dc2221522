//! Carries out what `wa_core::hold` decides: asks the upstream after the number while messages are held, says so in the journal, and
//! lets the sender and the claimer know how fast they may go. Decides nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use wa_core::hold::{Action, Event, Hold, Pace, Sort, Why};
use wa_core::outcome::Probe;
use wa_core::time::Instant;

use super::node::Node;
use super::work::Work;
use crate::api::cloud::call::Call;
use crate::api::cloud::code;
use crate::api::v1::message::Content;
use crate::api::v1::message::stored;
use crate::config::Text;
use crate::db::message::Claimed;
use crate::log::message_id;
use crate::sys::clock;

/// The answer to a question that was asked for one message holds for others so long.
const ASKED_FOR: Duration = Duration::from_secs(2);

/// What holds messages of one tenure.
#[derive(Debug, Default)]
pub struct Holding {
    hold: Mutex<Hold>,
    /// The deadline may have changed.
    changed: Notify,
    asked: tokio::sync::Mutex<Option<(Instant, Probe)>>,
}

impl Holding {
    fn hold(&self) -> MutexGuard<'_, Hold> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How fast messages may go.
    pub fn pace(&self) -> Pace {
        self.hold().pace()
    }

    /// This message is refused for the account, and it is the message that is refused.
    pub fn itself(&self, id: &str) -> bool {
        self.hold().itself(id)
    }

    /// How long all messages wait yet.
    pub fn left(&self) -> Duration {
        let deadline = self.hold().deadline();
        deadline.map_or(Duration::ZERO, |at| at.since(clock::now()))
    }

    /// What holds messages, and since when.
    pub fn why(&self) -> Option<(Why, Instant)> {
        self.hold().why()
    }

    /// How long this message has to wait for what its sort is not allowed now.
    pub fn admit(&self, message: &Claimed) -> Option<Duration> {
        let mut hold = self.hold();
        if !hold.unpaid() {
            return None;
        }
        hold.admit(clock::now(), sort_of(message))
    }

    /// The sort of a message, as far as it plays a part now.
    pub fn sort(&self, message: &Claimed) -> Sort {
        match self.hold().unpaid() {
            true => sort_of(message),
            false => Sort::Other,
        }
    }
}

/// Which messages payment tells apart.
pub fn sort_of(message: &Claimed) -> Sort {
    let form = u16::try_from(message.form).unwrap_or(u16::MAX);
    match stored::read(form, &message.payload).map(|message| message.content) {
        Ok(Content::Template(_) | Content::Hsm(_)) => Sort::Template,
        Ok(
            Content::Text(_)
            | Content::Media(_)
            | Content::Location(_)
            | Content::Contacts(_)
            | Content::Interactive(_)
            | Content::Reaction(_),
        )
        | Err(_) => Sort::Other,
    }
}

/// Takes note of an event, and carries out what follows from it.
pub fn note(node: &Arc<Node>, work: &Arc<Work>, event: Event) {
    let mut actions = Vec::new();
    let changed = {
        let mut hold = work.holding.hold();
        let before = (hold.pace(), hold.deadline());
        hold.step(clock::now(), event, &mut actions);
        before != (hold.pace(), hold.deadline())
    };
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
    work.reach.hold(work.holding.pace() == Pace::None);
    work.holding.changed.notify_one();
    work.claim_wanted.notify_one();
}

fn tell(node: &Node, work: &Work, why: Why) {
    let shard = work.own.shard;
    let (says, remedy) = (why.says(), why.remedy(node.settings.node.as_str()));
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
        let deadline = work.holding.hold().deadline();
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
