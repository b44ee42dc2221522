//! The rows of the message path in memory, with the conditions that `agent/src/db/{message,ambiguity,inbox,webhook}.rs` word in SQL:
//! intake, claims, outcomes, ambiguity, events, webhooks. Every owner's write is one commit behind the guard row.
//! Sends nothing: `work` plays the coreapp, `web` the webapp, the upstream and the business.

use std::collections::{BTreeMap, BTreeSet};

use wa_core::guard::{Guard, on};
use wa_core::id::{Epoch, Grant, Ownership};
use wa_core::message::MessageState;
use wa_core::naming::{Named, Naming};
use wa_core::receipt::{Evidence, LAGS_MAX, NEWER_MAX, Neighbour, OLDER_MAX};
use wa_core::time::Duration;
use wa_core::told::{Heard, Told, Verdict, judge};

/// A message's id: minted before the first attempt.
pub type Id = u64;
/// A status of a message: what an event or a webhook speaks of.
pub type Status = (Id, MessageState);

/// The longest pause that a message is ever given here, ms.
const PAUSE_MAX_MS: u64 = 18_000;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Message {
    pub body: u64,
    pub recipient: u32,
    /// The message that it answers, or reacts to.
    pub names: Option<Id>,
    /// Numbers the rows as they were inserted.
    pub seq: u64,
    pub state: MessageState,
    pub claim: (Epoch, Grant),
    pub batch: u64,
    pub claims: u32,
    pub next_ms: u64,
    /// When it was accepted, by the wall clock of the database: a row that was never put off is due from then on.
    pub accepted_ms: u64,
    /// The number of the commit that claimed it.
    pub order: u64,
    pub receipt: Receipt,
    /// How often it was sent with an outcome that nobody learned.
    pub doubt: u32,
    /// What the business was told of it.
    pub told: Told,
}

/// The status that says this.
fn heard(state: MessageState) -> Option<Heard> {
    let all = [Heard::Sent, Heard::Failed, Heard::Delivered, Heard::Read];
    all.into_iter().find(|heard| heard.state() == state)
}

/// Whether the business is told of this status; then it has been.
fn tells(message: &mut Message, heard: Heard) -> bool {
    let tells = judge(message.told, heard) == Verdict::Tell;
    if tells {
        message.told = heard.told();
    }
    tells
}

/// What is known of a message's receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Receipt {
    #[default]
    NotExpected,
    /// Answered at this moment, ms.
    Awaited(u64),
    /// So many ms after the answer, where that is known.
    Came(Option<u64>),
}

/// The tables.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Tables {
    pub messages: BTreeMap<Id, Message>,
    /// Stored events; true: processed.
    pub inbox: BTreeMap<(Id, u8), bool>,
    pub webhooks: BTreeMap<(Id, u8), u64>,
    /// Numbers the commits: the guard row's `touch`.
    pub touch: u64,
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
        names: Option<Id>,
        claim: bool,
        batch: u64,
    },
    Claim {
        batch: u64,
        /// By due time, then by number, as the product does; else by id.
        in_order: bool,
        /// At most so many rows.
        most: usize,
    },
    /// Outcomes, each with the number of the claim that it belongs to.
    Finish(Vec<(Id, Finished, u32)>),
    /// At the start of a tenure: what an earlier owner was sending is ambiguous.
    Mark,
    /// These have waited for long enough: they are sent again, or reported.
    /// Each after its pause, ms, and as it was seen: sent so often with unknown outcome before.
    Requeue(Vec<(Id, u64, u32)>),
    Report(Vec<Id>),
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
pub const CLAIM_MAX: usize = 8;
const EVENTS_MAX: usize = 8;

impl Tables {
    /// Carries out one commit of an owner whose guard row stands.
    pub fn apply(&mut self, own: &Ownership, count: u16, now_ms: u64, write: &Write) -> Answer {
        let name = (own.epoch, own.grant);
        let mine = |m: &Message| m.recipient % u32::from(count.max(1)) == u32::from(own.shard.0);
        self.touch = (self.touch + 1).max(now_ms * 1000);
        let order = self.touch;
        match write {
            Write::Accept {
                id,
                body,
                recipient,
                names,
                claim,
                batch,
            } => {
                let message = Message {
                    names: *names,
                    seq: order,
                    body: *body,
                    recipient: *recipient,
                    state: [MessageState::Queued, MessageState::Sending][usize::from(*claim)],
                    claim: if *claim { name } else { Default::default() },
                    batch: *batch,
                    claims: 0,
                    next_ms: now_ms,
                    accepted_ms: now_ms,
                    order: if *claim { order } else { 0 },
                    receipt: Receipt::NotExpected,
                    doubt: 0,
                    told: Told::Nothing,
                };
                return Answer::Accepted(self.accept(*id, message));
            }
            Write::Claim {
                batch,
                in_order,
                most,
            } => {
                let most = (*most, *in_order);
                return Answer::Claimed(self.claim(&mine, (name, *batch), most, now_ms));
            }
            Write::Finish(outcomes) => outcomes.iter().for_each(|(id, to, claims)| {
                self.finish(*id, *to, (name, *claims), now_ms);
            }),
            Write::Mark => self.mark(&mine, name, now_ms),
            Write::Requeue(ids) => self.requeue(ids, now_ms),
            Write::Report(ids) => self.report(ids, now_ms),
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

    /// Messages of the slice that are of unknown fate, and those that were put off, with what is left of that (`db/left.rs`).
    pub fn left_behind(&self, own: &Ownership, count: u16, now_ms: u64) -> Vec<(Id, Option<u64>)> {
        let mine = |m: &Message| m.recipient % u32::from(count.max(1)) == u32::from(own.shard.0);
        let left = |m: &Message| match m.state {
            MessageState::Ambiguous => Some(None),
            MessageState::Queued if m.next_ms > now_ms && m.next_ms != m.accepted_ms => {
                Some(Some(m.next_ms - now_ms))
            }
            MessageState::Queued
            | MessageState::Sending
            | MessageState::Sent
            | MessageState::Delivered
            | MessageState::Read
            | MessageState::Failed => None,
        };
        let all = self.messages.iter().filter(|(_, m)| mine(m));
        all.filter_map(|(id, m)| Some((*id, left(m)?))).collect()
    }

    /// At the start of a tenure: what an earlier owner was sending is of unknown fate. The tenure may have missed a step of the
    /// clock, too (`db/due.rs`, make_fresh_due).
    fn mark(&mut self, mine: &impl Fn(&Message) -> bool, name: (Epoch, Grant), now_ms: u64) {
        for m in self.messages.values_mut().filter(|m| mine(m)) {
            let fresh = m.state == MessageState::Queued && m.next_ms == m.accepted_ms;
            if fresh || m.state == MessageState::Ambiguous {
                m.next_ms = m.next_ms.min(now_ms);
            }
            if m.state == MessageState::Sending && m.claim != name {
                (m.state, m.next_ms) = (MessageState::Ambiguous, now_ms);
            }
        }
    }

    /// Claims queued rows that are due, at most so many: by due time, then by number, or else by id.
    fn claim(
        &mut self,
        mine: &impl Fn(&Message) -> bool,
        (name, batch): ((Epoch, Grant), u64),
        (most, in_order): (usize, bool),
        now_ms: u64,
    ) -> Vec<(Id, u32)> {
        let order = self.touch;
        // As `due` of the product: what lies further ahead than any pause, the clock's being set back brought there.
        let due = |m: &Message| m.next_ms <= now_ms || m.next_ms > now_ms + PAUSE_MAX_MS;
        let queued = |m: &Message| m.state == MessageState::Queued && due(m);
        let all = self.messages.iter_mut();
        let mut due: Vec<(&Id, &mut Message)> = all.filter(|(_, m)| mine(m) && queued(m)).collect();
        if in_order {
            due.sort_by_key(|(_, m)| (m.next_ms, m.seq));
            due.truncate(most);
            due.sort_by_key(|(_, m)| m.seq);
        }
        let claimed = due.into_iter().take(most).map(|(id, m)| {
            if on(Guard::ClaimedBeforeSent) {
                (m.state, m.claim, m.batch) = (MessageState::Sending, name, batch);
                (m.claims, m.order) = (m.claims + 1, order);
            }
            (*id, m.claims)
        });
        claimed.collect()
    }

    fn requeue(&mut self, ids: &[(Id, u64, u32)], now_ms: u64) {
        for (id, pause_ms, doubt) in ids {
            if let Some(m) = self.messages.get_mut(id)
                && m.state == MessageState::Ambiguous
                && m.doubt == *doubt
            {
                (m.state, m.next_ms) = (MessageState::Queued, now_ms + pause_ms);
                m.doubt += 1;
            }
        }
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
            Finished::Sent => {
                if m.receipt == Receipt::NotExpected && m.state != MessageState::Failed {
                    m.receipt = Receipt::Awaited(now_ms);
                }
                if (m.state as u8) < 3 {
                    m.state = MessageState::Sent;
                }
            }
            Finished::Retry { delay_ms: 0 } if sending => {
                (m.state, m.next_ms) = (MessageState::Queued, m.accepted_ms.min(now_ms));
            }
            Finished::Retry { delay_ms } if sending => {
                (m.state, m.next_ms) = (MessageState::Queued, now_ms + delay_ms);
            }
            Finished::Failed => {
                if (m.state as u8) < 3 && ours {
                    m.state = MessageState::Failed;
                }
                if on(Guard::ToldInTheSameCommit) && judge(m.told, Heard::Failed) == Verdict::Tell {
                    m.told = Told::Failed;
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

    fn report(&mut self, ids: &[Id], now_ms: u64) {
        for id in ids {
            if let Some(m) = self.messages.get_mut(id)
                && m.state == MessageState::Ambiguous
            {
                m.state = MessageState::Failed;
                if on(Guard::ToldInTheSameCommit) {
                    m.told = Told::Failed;
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
                m.receipt = match m.receipt {
                    Receipt::NotExpected => Receipt::Came(None),
                    Receipt::Awaited(since) => Receipt::Came(Some(now_ms.saturating_sub(since))),
                    came @ Receipt::Came(_) => came,
                };
                if heard(state).is_some_and(|heard| !tells(m, heard)) {
                    continue;
                }
            }
            webhooks.insert((id, number), now_ms);
        }
        some.len() == EVENTS_MAX
    }

    /// Ambiguous messages of the slice that have waited for so long, by their claims: each with its wait in ms.
    pub fn overdue(
        &self,
        own: &Ownership,
        count: u16,
        now_ms: u64,
        window_ms: u64,
    ) -> Vec<(Id, u64)> {
        let slice = |m: &Message| m.recipient % u32::from(count.max(1)) == u32::from(own.shard.0);
        let waits =
            |m: &Message| m.state == MessageState::Ambiguous && m.next_ms + window_ms <= now_ms;
        let overdue = self.messages.iter().filter(|(_, m)| slice(m) && waits(m));
        overdue.map(|(id, m)| (*id, now_ms - m.next_ms)).collect()
    }

    /// The receipts of the number around a message's claim.
    pub fn receipts_around(&self, id: Id, now_ms: u64) -> Evidence {
        let order = self.messages.get(&id).map_or(0, |m| m.order);
        let mut newer: Vec<(u64, Neighbour)> = Vec::new();
        let (mut older, mut lags) = (Vec::new(), Vec::new());
        for m in self.messages.values() {
            let seen = match m.receipt {
                Receipt::NotExpected => continue,
                Receipt::Awaited(since) => {
                    Neighbour::Lacking(Duration::from_millis(now_ms.saturating_sub(since)))
                }
                Receipt::Came(lag) => {
                    lags.extend(lag.map(|lag| (m.order, Duration::from_millis(lag))));
                    Neighbour::Receipted
                }
            };
            let side = if m.order > order {
                &mut newer
            } else {
                &mut older
            };
            side.push((m.order, seen));
        }
        newer.sort_by_key(|(order, _)| *order);
        older.sort_by_key(|(order, _)| std::cmp::Reverse(*order));
        lags.sort_by_key(|(order, _)| std::cmp::Reverse(*order));
        Evidence {
            newer: newer.into_iter().take(NEWER_MAX).map(|(_, n)| n).collect(),
            older: older.into_iter().take(OLDER_MAX).map(|(_, n)| n).collect(),
            lags: lags
                .into_iter()
                .take(LAGS_MAX)
                .map(|(_, lag)| lag)
                .collect(),
        }
    }

    /// What is known of the message that another one names (`db/message_id.rs`).
    pub fn named(&self, id: Id) -> Option<(Naming, Named)> {
        let message = self.messages.get(&id)?;
        let naming = [Naming::Answer, Naming::Reaction][usize::from(id.is_multiple_of(2))];
        let other = self.messages.get(&message.names?);
        let other = other.filter(|o| o.recipient == message.recipient && o.seq < message.seq);
        let named = match other.map(|other| other.state) {
            None | Some(MessageState::Failed) => Named::Gone,
            Some(MessageState::Sent | MessageState::Delivered | MessageState::Read) => Named::Sent,
            Some(MessageState::Queued | MessageState::Sending | MessageState::Ambiguous) => {
                Named::Open
            }
        };
        Some((naming, named))
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
