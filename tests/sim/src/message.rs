//! The rows of the message path in memory, with the conditions that `agent/src/db/{message,inbox,webhook}.rs` word in SQL:
//! intake, claims, outcomes, ambiguity, events, webhooks. Every owner's write is one commit behind the guard row.
//! Sends nothing: `work` plays the coreapp, `web` the webapp, the upstream and the business.

use std::collections::{BTreeMap, BTreeSet};

use wa_core::guard::{Guard, on};
use wa_core::id::{Epoch, Grant, Ownership};
use wa_core::message::MessageState;

/// A message's id: minted before the first attempt.
pub type Id = u64;
/// A status of a message: what an event or a webhook speaks of.
pub type Status = (Id, MessageState);

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Message {
    pub body: u64,
    pub recipient: u32,
    pub state: MessageState,
    pub claim: (Epoch, Grant),
    pub batch: u64,
    pub claims: u32,
    pub next_ms: u64,
}

/// The tables.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Tables {
    pub messages: BTreeMap<Id, Message>,
    /// Stored events; true: processed.
    pub inbox: BTreeMap<(Id, u8), bool>,
    pub webhooks: BTreeMap<(Id, u8), u64>,
}

/// Where an attempt leaves its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finished {
    Sent,
    Retry { delay_ms: u64 },
    Failed,
    Ambiguous,
}

/// One commit of an owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Write {
    Accept {
        id: Id,
        body: u64,
        recipient: u32,
        claim: bool,
        batch: u64,
    },
    Claim {
        batch: u64,
    },
    /// Outcomes, each with the number of the claim that it belongs to.
    Finish(Vec<(Id, Finished, u32)>),
    /// At the start of a tenure: what an earlier owner was sending is ambiguous.
    Mark,
    Requeue {
        window_ms: u64,
    },
    Report {
        window_ms: u64,
    },
    /// A claim whose outcome nobody learned.
    Unclaim {
        batch: u64,
    },
    /// Claimed by this owner, and nobody has them in hand.
    Orphans(Vec<Id>),
    Events,
    Delivered(Vec<(Id, u8)>),
}

/// What became of a message on its way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accepted {
    New,
    Duplicate,
    Conflict,
}

/// The answer to a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// (epoch, grant) is not the shard's any more: nothing was done.
    Stale,
    Accepted(Accepted),
    Claimed(Vec<(Id, u32)>),
    Done,
    /// Events were processed; true: more may wait.
    Events(bool),
    Unknown,
}

/// Rows of one claim, events of one commit.
const CLAIM_MAX: usize = 8;
const EVENTS_MAX: usize = 8;

impl Tables {
    /// Carries out one commit of an owner whose guard row stands.
    pub fn apply(&mut self, own: &Ownership, count: u16, now_ms: u64, write: &Write) -> Answer {
        let name = (own.epoch, own.grant);
        let mine = |m: &Message| m.recipient % u32::from(count.max(1)) == u32::from(own.shard.0);
        match write {
            Write::Accept {
                id,
                body,
                recipient,
                claim,
                batch,
            } => {
                let message = Message {
                    body: *body,
                    recipient: *recipient,
                    state: [MessageState::Queued, MessageState::Sending][usize::from(*claim)],
                    claim: if *claim { name } else { Default::default() },
                    batch: *batch,
                    claims: 0,
                    next_ms: now_ms,
                };
                return Answer::Accepted(self.accept(*id, message));
            }
            Write::Claim { batch } => {
                let queued = |m: &Message| m.state == MessageState::Queued && m.next_ms <= now_ms;
                let due = self
                    .messages
                    .iter_mut()
                    .filter(|(_, m)| mine(m) && queued(m));
                let claimed = due.take(CLAIM_MAX).map(|(id, m)| {
                    if on(Guard::ClaimedBeforeSent) {
                        (m.state, m.claim, m.batch) = (MessageState::Sending, name, *batch);
                        m.claims += 1;
                    }
                    (*id, m.claims)
                });
                return Answer::Claimed(claimed.collect());
            }
            Write::Finish(outcomes) => outcomes.iter().for_each(|(id, to, claims)| {
                self.finish(*id, *to, (name, *claims), now_ms);
            }),
            Write::Mark => {
                for m in self.messages.values_mut() {
                    if mine(m) && m.state == MessageState::Sending && m.claim != name {
                        (m.state, m.next_ms) = (MessageState::Ambiguous, now_ms);
                    }
                }
            }
            Write::Requeue { window_ms } => {
                for m in self.messages.values_mut() {
                    if mine(m) && overdue(m, now_ms, *window_ms) {
                        (m.state, m.next_ms) = (MessageState::Queued, now_ms);
                    }
                }
            }
            Write::Report { window_ms } => self.report(&mine, now_ms, *window_ms),
            Write::Unclaim { batch } => self.unclaim(*batch),
            Write::Orphans(ids) => ids.iter().for_each(|id| {
                self.finish(*id, Finished::Ambiguous, (name, u32::MAX), now_ms);
            }),
            Write::Events => return Answer::Events(self.events(&mine, now_ms)),
            Write::Delivered(hooks) => hooks.iter().for_each(|hook| {
                self.webhooks.remove(hook);
            }),
        }
        Answer::Done
    }

    fn unclaim(&mut self, batch: u64) {
        for m in self.messages.values_mut() {
            if m.state == MessageState::Sending && m.batch == batch {
                m.state = MessageState::Queued;
            }
        }
    }

    fn accept(&mut self, id: Id, message: Message) -> Accepted {
        let known = self.messages.get(&id).filter(|_| on(Guard::IdStoredOnce));
        match known {
            Some(known) if known.body != message.body => Accepted::Conflict,
            Some(known) if known.batch == message.batch => Accepted::New,
            Some(_) => Accepted::Duplicate,
            None => {
                self.messages.insert(id, message);
                Accepted::New
            }
        }
    }

    fn finish(&mut self, id: Id, to: Finished, claim: ((Epoch, Grant), u32), now_ms: u64) {
        let Some(m) = self.messages.get_mut(&id) else {
            return;
        };
        let (name, claims) = claim;
        let newest = m.claims <= claims;
        let ours = m.claim == name && newest;
        let sending = m.state == MessageState::Sending && ours;
        match to {
            Finished::Sent if (m.state as u8) < 3 => m.state = MessageState::Sent,
            Finished::Retry { delay_ms } if sending => {
                (m.state, m.next_ms) = (MessageState::Queued, now_ms + delay_ms);
            }
            Finished::Failed => {
                if (m.state as u8) < 3 && ours {
                    m.state = MessageState::Failed;
                }
                if on(Guard::ToldInTheSameCommit) {
                    self.webhooks
                        .insert((id, MessageState::Failed as u8), now_ms);
                }
            }
            Finished::Ambiguous if sending => {
                (m.state, m.next_ms) = (MessageState::Ambiguous, now_ms);
            }
            _ => {}
        }
    }

    fn report(&mut self, mine: &dyn Fn(&Message) -> bool, now_ms: u64, window_ms: u64) {
        for (id, m) in &mut self.messages {
            if mine(m) && overdue(m, now_ms, window_ms) {
                m.state = MessageState::Failed;
                if on(Guard::ToldInTheSameCommit) {
                    self.webhooks
                        .insert((*id, MessageState::Failed as u8), now_ms);
                }
            }
        }
    }

    fn events(&mut self, mine: &dyn Fn(&Message) -> bool, now_ms: u64) -> bool {
        let (messages, webhooks) = (&mut self.messages, &mut self.webhooks);
        let pending = self
            .inbox
            .iter_mut()
            .filter(|((id, _), processed)| !**processed && messages.get(id).is_none_or(mine));
        let mut some: Vec<(&(Id, u8), &mut bool)> = pending.take(EVENTS_MAX).collect();
        for (event, processed) in &mut some {
            **processed = true;
            let (id, number) = **event;
            if let Some(m) = messages.get_mut(&id)
                && let Some(state) = MessageState::from_u8(number)
            {
                m.state = m.state.after(state);
            }
            webhooks.insert((id, number), now_ms);
        }
        some.len() == EVENTS_MAX
    }

    /// What an owner has claimed and not finished.
    pub fn claimed_by(&self, own: &Ownership) -> BTreeSet<Id> {
        let name = (own.epoch, own.grant);
        let sending = |m: &Message| m.state == MessageState::Sending && m.claim == name;
        let ids = self.messages.iter().filter(|(_, m)| sending(m));
        ids.map(|(id, _)| *id).collect()
    }

    /// Webhooks of the slice that wait.
    pub fn due(&self, own: &Ownership, count: u16) -> Vec<(Id, u8)> {
        let mine = |id: &Id| {
            let m = self.messages.get(id);
            m.is_none_or(|m| m.recipient % u32::from(count.max(1)) == u32::from(own.shard.0))
        };
        let due = self.webhooks.keys().filter(|(id, _)| mine(id));
        due.take(CLAIM_MAX).copied().collect()
    }
}

fn overdue(m: &Message, now_ms: u64, window_ms: u64) -> bool {
    m.state == MessageState::Ambiguous && m.next_ms + window_ms <= now_ms
}
