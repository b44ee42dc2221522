//! Seeds in which each customer's line is kept and judged at the upstream: order, the bucket, and payment for one sort of messages.
//! Has dice of its own, so that all other seeds go as they went.

use std::collections::BTreeMap;

use wa_core::hold::Sort;
use wa_core::id::{Grant, Ownership};
use wa_core::message::MessageState;
use wa_core::pace::PAIR_EVERY;

use crate::invariant::Known;
use crate::message::{Id, Message, Tables};

/// The buckets' clock runs so many times as fast, so that they matter within a seed.
pub const SCALE: u64 = 15;
/// So many at once to one customer.
pub const PAIR_BURST: u32 = 2;
/// So much of the window has surely not passed by any clock.
const WINDOW_SURE_MS: u64 = 500;
/// More messages of one tenure than this never meet an upstream that wants to be paid: those on their way, and one after each pause.
const UNPAID_MET_MAX: u32 = 24;

/// What a coreapp does not do, to show that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// It keeps no line of a customer.
    Lines,
    /// A new owner does not ask what the one before left.
    Heirs,
    /// It keeps no bucket.
    Buckets,
    /// Payment holds all messages.
    Payment,
}

/// What is drawn, and what the upstream saw.
#[derive(Debug, Clone, Default)]
pub struct Strict {
    pub on: bool,
    pub broken: Option<Broken>,
    /// Half of the messages are for this customer.
    busy: Option<u32>,
    /// The upstream wants to be paid for this sort, from when to when, ms.
    unpaid: Option<(Sort, u64, u64)>,
    refused: bool,
    met: BTreeMap<Grant, u32>,
    recipients: BTreeMap<Id, u32>,
    /// When calls to a customer came, by who made them, ms.
    calls: BTreeMap<(Grant, u32), Vec<u64>>,
}

/// The sort of a message.
pub fn sort_of(id: Id) -> Sort {
    match id.is_multiple_of(3) {
        true => Sort::Template,
        false => Sort::Other,
    }
}

impl Strict {
    pub fn draw(seed: u64) -> Self {
        let mut dice = seed ^ 0x571c7;
        let mut below = |n: u64| wa_core::id::splitmix(&mut dice) % n;
        let on = below(2) == 0;
        let (busy, customer) = (below(2) == 0, u32::try_from(below(64)).unwrap_or(0));
        let (unpaid, sort) = (
            below(2) == 0,
            [Sort::Template, Sort::Other][usize::from(below(2) == 0)],
        );
        let (from, span) = (1000 + below(5000), 300 + below(3000));
        Self {
            on,
            busy: busy.then_some(customer).filter(|_| on),
            unpaid: unpaid.then_some((sort, from, from + span)).filter(|_| on),
            ..Self::default()
        }
    }

    /// To whom a message goes, of whom another one was drawn.
    pub fn addressed(&self, id: Id, drawn: u32) -> u32 {
        self.busy.filter(|_| id % 2 == 1).unwrap_or(drawn)
    }

    pub fn note_recipient(&mut self, id: Id, recipient: u32) {
        self.recipients.insert(id, recipient);
    }

    pub fn recipient(&self, id: Id) -> u32 {
        self.recipients.get(&id).copied().unwrap_or(0)
    }

    /// It wants to be paid first.
    pub fn wants_payment(&mut self, now_ms: u64, id: Id) -> bool {
        let wants = |(sort, from, to): (Sort, u64, u64)| {
            sort == sort_of(id) && (from..to).contains(&now_ms)
        };
        let wants = self.unpaid.is_some_and(wants);
        self.refused |= wants;
        wants
    }

    /// A message of this tenure met that.
    pub fn unpaid_met(&mut self, grant: Grant) -> Result<(), String> {
        let met = self.met.entry(grant).or_default();
        *met += 1;
        match *met > UNPAID_MET_MAX {
            true => Err(format!(
                "F05: {met} messages of one tenure met the upstream that wants to be paid"
            )),
            false => Ok(()),
        }
    }

    /// A message is held for payment: its sort was refused, and no other is held.
    pub fn holds_its_sort_only(&self, id: Id) -> Result<(), String> {
        let sort = self.unpaid.map(|(sort, ..)| sort);
        match self.refused && sort == Some(sort_of(id)) {
            true => Ok(()),
            false => Err(format!(
                "F05: message {id} waits for a payment that nobody asked for"
            )),
        }
    }

    /// The bucket, at the upstream: a call to a customer came. A machine that stands still in between may bring two bursts together.
    /// Clocks are wrong by a tenth.
    pub fn bucket(&mut self, now_ms: u64, grant: Grant, id: Id) -> Result<(), String> {
        let every_ms = u64::try_from(PAIR_EVERY.as_millis()).unwrap_or(u64::MAX) / SCALE * 4 / 5;
        let most = u64::from(PAIR_BURST) * 2 + 1;
        let calls = self.calls.entry((grant, self.recipient(id))).or_default();
        calls.push(now_ms);
        let count = calls.len() as u64;
        let too_many = (0..).zip(calls.iter()).find(|(before, at)| {
            let (some, span_ms): (u64, u64) = (count - before, now_ms - **at);
            some > most + span_ms / every_ms
        });
        match too_many {
            Some((before, at)) => Err(format!(
                "pace: {} messages within {} ms to one customer",
                count - before,
                now_ms - at
            )),
            None => Ok(()),
        }
    }
}

/// What was found of the order of a message among its customer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Alone,
    BehindAll,
    /// Behind all, some of which another tenure accepted.
    BehindAnotherTenure,
    /// An earlier one was put off, is of unknown fate or was left by another tenure.
    BeforeOneThatWaits,
}

/// Order, at the upstream: a message comes behind all that its client knew to be accepted before it asked for this one. But one that
/// was put off, whose fate is not known, or that another tenure was sending may be overtaken: but one of unknown fate that another
/// tenure was sending not before its window is over, by a message that was never tried. `underway`: messages that this tenure has
/// in hand and that have no outcome; `now_ms`: by the wall clock.
pub fn invariant_order(
    known: &BTreeMap<Id, Known>,
    tables: &Tables,
    own: &Ownership,
    (id, underway, now_ms): (Id, &dyn Fn(Id) -> bool, u64),
) -> Result<Place, String> {
    let (Some(message), Some(asked)) = (tables.messages.get(&id), known.get(&id)) else {
        return Ok(Place::Alone);
    };
    let before = |other: &Message| other.recipient == message.recipient && other.seq < message.seq;
    let fresh = message.doubt == 0 && message.claims <= 1 && message.next_ms == message.accepted_ms;
    let mut place = Place::Alone;
    for (other, row) in tables.messages.iter().filter(|(_, row)| before(row)) {
        let Some(k) = known.get(other).filter(|k| !k.rewound && !asked.rewound) else {
            continue;
        };
        if k.answered_ms
            .is_none_or(|at| at > asked.asked_ms.unwrap_or(0))
        {
            continue;
        }
        let over = k.received > 0 || row.state == MessageState::Failed;
        let name = (own.epoch, own.grant);
        let touched = row.doubt > 0 || row.next_ms != row.accepted_ms || k.limbo;
        let waits = match row.state {
            MessageState::Queued => touched || row.claims > 0,
            MessageState::Sending => row.claim != name || touched || !underway(*other),
            MessageState::Ambiguous => {
                let heir = row.claim != name && fresh && !k.limbo && !asked.limbo;
                !heir || now_ms >= row.next_ms + WINDOW_SURE_MS
            }
            MessageState::Sent
            | MessageState::Delivered
            | MessageState::Read
            | MessageState::Failed => true,
        };
        let anew = k.accepted_by != Some(own.grant);
        place = match (over, waits) {
            (true, _) if anew && place != Place::BeforeOneThatWaits => Place::BehindAnotherTenure,
            (true, _) if place == Place::Alone => Place::BehindAll,
            (true, _) => place,
            (false, true) => Place::BeforeOneThatWaits,
            (false, false) => {
                return Err(format!(
                    "order: message {id} came before message {other}, which was accepted before it was asked for"
                ));
            }
        };
    }
    Ok(place)
}

impl crate::world::Sim {
    /// Coreapps that do not do one thing.
    #[must_use]
    pub fn careless(mut self, broken: Broken) -> Self {
        self.web.strict.broken = Some(broken);
        self
    }
}
