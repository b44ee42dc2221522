//! Around the cluster: clients and their webapp, the upstream, the business; and the ledger of what each of them knows.
//! The webapp holds and repeats requests as `agent/src/webapp/{forward,events}.rs` do.

pub mod strict;

use std::collections::{BTreeMap, BTreeSet};

use wa_core::id::{Generation, Grant};
use wa_core::message::MessageState;
use wa_core::outcome::{Account, Probe};

use crate::database::Rows;
use crate::invariant::{Known, invariant_s3_answered};
use crate::message::Id;
use crate::node::work::{POLICY, slice};
use crate::web::strict::{Place, Strict, invariant_order};
use crate::world::{MS, Sim, What};

/// How long a webapp holds a request, ms.
const HOLD_MS: u64 = 12_000;
/// How long it waits for one attempt, ms.
const ATTEMPT_MS: u64 = 700;

/// One attempt at a coreapp.
#[derive(Debug, Clone)]
pub struct Ask {
    pub request: u64,
    pub attempt: u32,
    pub id: Id,
    pub body: u64,
    pub recipient: u32,
    pub names: Option<Id>,
    pub generation: Option<Generation>,
}

/// What a coreapp says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    Duplicate,
    Conflict,
    NotOwner,
    Unknown,
}

#[derive(Debug, Clone)]
struct Request {
    id: Id,
    body: u64,
    recipient: u32,
    since: u64,
    attempt: u32,
    done: bool,
}

/// What happens outside the nodes.
#[derive(Debug, Clone)]
pub enum Outside {
    /// A client's request with this id (its key) and body.
    Client(Id, u64, u32),
    Try(u64),
    Overdue(u64, u32),
    Said(u64, u32, Verdict),
    ReadMap,
    Map(Box<Rows>),
    /// The webapp dies, and what it held with it: clients with a key of their own ask again.
    Dies,
    /// The upstream tells of a message, until it hears 200.
    Event(Id, u8),
}

/// The webapp, the upstream's and the business's memory.
#[derive(Debug, Clone, Default)]
pub struct Web {
    requests: BTreeMap<u64, Request>,
    next: u64,
    map: Option<Box<Rows>>,
    pub known: BTreeMap<Id, Known>,
    /// What the business was told, by message and state.
    pub told: BTreeSet<(Id, u8)>,
    receipts: Receipts,
    moods: Moods,
    pub(crate) strict: Strict,
}

/// What the upstream does for a while, with dice of its own.
#[derive(Debug, Clone, Default)]
struct Moods {
    dice: u64,
    /// One in so many messages goes out and is answered with an error all the same; 0: none.
    failing_of: u64,
    /// These messages never go out, and are answered as if they might have.
    poison_of: u64,
    /// From when to when it refuses this customer's messages as too many, ms.
    pair: Option<(u32, u64, u64)>,
    /// From when to when it refuses the account.
    account: Option<(u64, u64)>,
    /// It then refuses the token, and with it questions about the number; else the account is locked, and they are answered.
    token: bool,
    /// Messages that met the refused account, by who sent them.
    met: BTreeMap<Grant, u32>,
}

/// More messages of one tenure than this never meet a refused account: what was on its way, and one after each question.
const MET_MAX: u32 = 40;

/// How the upstream's receipts come in a seed. Has dice of its own: the course of the traffic does not depend on them.
#[derive(Debug, Clone, Default)]
struct Receipts {
    dice: u64,
    /// From when to when sends get theirs late, and by how much, ms.
    late: Option<(u64, u64, u64)>,
    /// One in so many messages never gets any; 0: each does.
    lost_of: u64,
}

/// The message that a client's message names: one in four, mostly one that was asked for before. Two of them name each other,
/// which only clients with keys of their own can arrange.
pub(crate) fn names_of(id: Id) -> Option<Id> {
    match id % 20 {
        5 => Some(id + 5),
        10 => Some(id - 5),
        0 | 4 | 8 | 13 | 16 => (id > 1).then(|| 1 + id * 7 % (id - 1)),
        _ => None,
    }
}

impl Web {
    /// Draws whether receipts are late for a while, by up to 9 s, and whether single ones are lost.
    pub(crate) fn draw_receipts(&mut self, seed: u64) {
        self.draw_moods(seed);
        self.strict = Strict::draw(seed);
        let mut dice = seed ^ 0x1a7e;
        let mut below = |n: u64| wa_core::id::splitmix(&mut dice) % n;
        let late = below(2) == 0;
        let (from, span, lag) = (below(6000), 500 + below(7000), 300 + below(8700));
        self.receipts = Receipts {
            late: late.then_some((from, from + span, lag)),
            lost_of: below(2) * 12,
            dice,
        };
    }

    /// Draws what the upstream does for a while.
    fn draw_moods(&mut self, seed: u64) {
        let mut dice = seed ^ 0x300d;
        let mut below = |n: u64| wa_core::id::splitmix(&mut dice) % n;
        let (failing, poison, pair, account) = (below(2), below(3), below(2), below(3));
        let customer = u32::try_from(below(64)).unwrap_or(0);
        let (from, span) = (below(5000), 500 + below(5000));
        let (refused, lasts) = (1000 + below(5000), 300 + below(3500));
        self.moods = Moods {
            failing_of: failing * 9,
            poison_of: (poison / 2) * 11,
            pair: (pair == 0).then_some((customer, from, from + span)),
            account: (account == 0).then_some((refused, refused + lasts)),
            token: below(2) == 0,
            dice,
            met: BTreeMap::new(),
        };
    }

    /// What it answers to a message of this customer before it looks at it, if anything.
    fn refuses(&mut self, now_ms: u64, id: Id, recipient: Option<u32>) -> Option<u32> {
        let moods = &self.moods;
        let during = |(from, to): (u64, u64)| (from..to).contains(&now_ms);
        if moods.account.is_some_and(during) {
            return Some([131_031, 190][usize::from(moods.token)]);
        }
        if self.strict.wants_payment(now_ms, id) {
            return Some(131_042);
        }
        let moods = &self.moods;
        let pair = moods
            .pair
            .filter(|(customer, ..)| recipient == Some(*customer));
        if pair.is_some_and(|(_, from, to)| during((from, to))) {
            return Some(131_056);
        }
        let poison = moods.poison_of > 0 && id.is_multiple_of(moods.poison_of);
        poison.then_some(131_000)
    }

    /// It has the message and answers with an error all the same.
    fn fails_afterwards(&mut self) -> bool {
        let moods = &mut self.moods;
        let dice = wa_core::id::splitmix(&mut moods.dice);
        moods.failing_of > 0 && dice.is_multiple_of(moods.failing_of)
    }

    /// The answer to a question about the number.
    pub(crate) fn probed(&self, now_ms: u64) -> Probe {
        let moods = &self.moods;
        let refused = moods
            .account
            .is_some_and(|(from, to)| (from..to).contains(&now_ms));
        match refused && moods.token {
            true => Probe::Refused(Account::Token),
            false => Probe::Good,
        }
    }

    /// A message met the refused account. How many of this tenure did.
    fn met(&mut self, grant: Grant) -> u32 {
        let met = self.moods.met.entry(grant).or_default();
        *met += 1;
        *met
    }

    /// How many ms later than usual the receipts of a message sent now come; `None`: never.
    fn receipt_lag(&mut self, now_ms: u64) -> Option<u64> {
        let receipts = &mut self.receipts;
        let dice = wa_core::id::splitmix(&mut receipts.dice);
        if receipts.lost_of > 0 && dice.is_multiple_of(receipts.lost_of) {
            return None;
        }
        let late = receipts
            .late
            .filter(|(from, to, _)| (*from..*to).contains(&now_ms));
        Some(late.map_or(0, |(_, _, lag)| lag))
    }

    /// No request is held.
    pub(crate) fn all_answered(&self) -> bool {
        self.requests.values().all(|r| r.done)
    }
}

impl Sim {
    /// Draws the traffic of clients: from when, how much, how many of them ask twice.
    pub(crate) fn draw_clients(&mut self) {
        let count = 20 + self.dice(40);
        let mut recipients: BTreeMap<Id, u32> = BTreeMap::new();
        for number in 0..count {
            let at = (600 + self.dice(7500)) * MS;
            let id = 1 + number;
            let drawn = u32::try_from(self.dice(64)).unwrap_or(0);
            let drawn = self.web.strict.addressed(id, drawn);
            // A message that names another one goes to the same customer.
            let other = names_of(id).and_then(|other| recipients.get(&other).copied());
            let recipient = other.unwrap_or(drawn);
            recipients.insert(id, recipient);
            self.web.strict.note_recipient(id, recipient);
            self.push_outside(at, Outside::Client(id, id * 10, recipient));
            if self.dice(4) == 0 {
                // The same key again, with the same body or, wrongly, with another one.
                let again = at + self.dice(3000) * MS;
                let body = id * 10 + self.dice(4) / 3;
                self.push_outside(again, Outside::Client(id, body, recipient));
            }
        }
        self.push_outside(0, Outside::ReadMap);
    }

    pub(crate) fn push_outside(&mut self, after: u64, what: Outside) {
        self.push_traffic(after, 0, What::Outside(Box::new(what)));
    }

    pub(crate) fn outside(&mut self, what: Outside) {
        match what {
            Outside::Client(id, body, recipient) => self.client(id, body, recipient),
            Outside::Try(request) => self.try_request(request),
            Outside::Overdue(request, attempt) => {
                if self
                    .web
                    .requests
                    .get(&request)
                    .is_some_and(|r| r.attempt == attempt)
                {
                    self.try_request(request);
                }
            }
            Outside::Said(request, attempt, verdict) => self.said(request, attempt, verdict),
            Outside::ReadMap => {
                let rows = Box::new(self.db.rows.clone());
                let back = MS + self.dice(4 * MS);
                self.push_outside(back, Outside::Map(rows));
                let next = (40 + self.dice(120)) * MS;
                self.push_outside(next, Outside::ReadMap);
            }
            Outside::Map(rows) => self.web.map = Some(rows),
            Outside::Dies => {
                self.count("fault: webapp dies");
                let held: Vec<Request> = std::mem::take(&mut self.web.requests)
                    .into_values()
                    .collect();
                self.web.map = None;
                for r in held.into_iter().filter(|r| !r.done) {
                    let again = (200 + self.dice(800)) * MS;
                    self.push_outside(again, Outside::Client(r.id, r.body, r.recipient));
                }
            }
            Outside::Event(id, state) => self.event(id, state),
        }
    }

    fn client(&mut self, id: Id, body: u64, recipient: u32) {
        self.web.next += 1;
        let number = self.web.next;
        let request = Request {
            id,
            body,
            recipient,
            since: self.now,
            attempt: 0,
            done: false,
        };
        self.web.requests.insert(number, request);
        let now_ms = self.now / MS;
        let known = self.web.known.entry(id).or_default();
        known.asked_ms.get_or_insert(now_ms);
        self.count("messages: request");
        self.try_request(number);
    }

    fn try_request(&mut self, number: u64) {
        let now = self.now;
        let Some(request) = self.web.requests.get_mut(&number).filter(|r| !r.done) else {
            return;
        };
        if now >= request.since + HOLD_MS * MS {
            request.done = true;
            return self.count("messages: request given up");
        }
        request.attempt += 1;
        if request.attempt > 1 {
            self.counts
                .entry("messages: request held".into())
                .and_modify(|n| *n += 1)
                .or_insert(1);
        }
        let request = request.clone();
        let owner = self.web.map.as_ref().and_then(|map| {
            let shard = slice(request.recipient, map.master.shard_count);
            let row = map.shards.iter().find(|row| row.shard == shard)?;
            Some((row.owner.clone()?, row.generation))
        });
        let wait = (ATTEMPT_MS / 2 + self.dice(ATTEMPT_MS / 2)) * MS;
        let Some((owner, generation)) = owner else {
            return self.push_outside(wait / 4, Outside::Try(number));
        };
        self.push_outside(wait, Outside::Overdue(number, request.attempt));
        let node = self.index(&owner);
        if self.web_cut.contains(&(true, node)) {
            return self.count("messages: request lost");
        }
        let ask = Ask {
            request: number,
            attempt: request.attempt,
            id: request.id,
            body: request.body,
            recipient: request.recipient,
            names: names_of(request.id),
            generation: Some(generation),
        };
        let way = MS / 5 + self.dice(3 * MS);
        self.push_traffic(way, node, What::Take(Box::new(ask)));
    }

    pub(crate) fn say_verdict(&mut self, node: usize, ask: &Ask, verdict: Verdict) {
        if self.web_cut.contains(&(false, node)) {
            return self.count("messages: answer lost");
        }
        let way = MS / 5 + self.dice(3 * MS);
        self.push_outside(way, Outside::Said(ask.request, ask.attempt, verdict));
    }

    fn said(&mut self, number: u64, attempt: u32, verdict: Verdict) {
        let Some(request) = self.web.requests.get_mut(&number).filter(|r| !r.done) else {
            return;
        };
        match verdict {
            Verdict::Accepted | Verdict::Duplicate => {
                request.done = true;
                let (id, body) = (request.id, request.body);
                self.count("messages: answered 2xx");
                let now_ms = self.now / MS;
                let known = self.web.known.entry(id).or_default();
                known.answered = true;
                known.answered_ms.get_or_insert(now_ms);
                let rows = &self.db.rows.tables;
                if let Err(why) = invariant_s3_answered(known, rows, id, body) {
                    self.broken = Some(format!("{why} ({} ms)", self.now / MS));
                }
            }
            Verdict::Conflict => {
                request.done = true;
                self.count("messages: conflict");
            }
            Verdict::NotOwner | Verdict::Unknown if request.attempt == attempt => {
                let wait = (5 + self.dice(40)) * MS;
                // The next attempt: what is still said of this one is not heard.
                self.push_outside(wait, Outside::Try(number));
            }
            _ => {}
        }
    }

    /// The bytes of a message reached the upstream: it has it now, whoever hears of that.
    pub(crate) fn upstream_gets(&mut self, node: usize, id: Id) {
        let drawn = match self.dice(24) {
            0 => 131_056,
            1 => 131_047,
            2 => 131_016,
            _ => 0,
        };
        let row = self.db.rows.tables.messages.get(&id);
        let recipient = row.map(|row| row.recipient);
        let refused = self.web.refuses(self.now / MS, id, recipient);
        let mut code = refused.unwrap_or(drawn);
        self.count_mood(node, code, refused.is_some());
        self.judge_line(node, id);
        if code == 0 {
            self.count("messages: upstream has it");
            self.tell(format!("the upstream has message {id}"));
            let known = self.web.known.entry(id).or_default();
            known.received += 1;
            if let Err(why) = crate::invariant::invariant_s4_sent(known, id, POLICY.sends_max) {
                self.broken = Some(format!("{why} ({} ms)", self.now / MS));
            }
            let tables = std::sync::Arc::clone(&self.db.rows.tables);
            let judged = crate::invariant::invariant_named_first(&self.web.known, &tables, id);
            self.judged(judged);
            let lag = self.web.receipt_lag(self.now / MS);
            self.count(match lag {
                Some(0) => "messages: receipt prompt",
                Some(_) => "messages: receipt late",
                None => "messages: receipt lost",
            });
            for state in [MessageState::Sent, MessageState::Delivered] {
                let after = (10 + self.dice(400) + lag.unwrap_or(0)) * MS;
                if lag.is_some() {
                    self.push_outside(after, Outside::Event(id, state as u8));
                }
            }
            if self.web.fails_afterwards() {
                self.count("messages: upstream has it and answers an error");
                code = 131_000;
            }
        } else {
            self.count("messages: upstream refuses");
        }
        if self.dice(20) == 0 {
            return self.count("messages: upstream's answer lost");
        }
        let way = MS + self.dice(30 * MS);
        self.push_traffic(way, node, What::UpstreamSaid(id, code));
    }

    /// What it refused for a while, and that a refused account meets few messages.
    fn count_mood(&mut self, node: usize, code: u32, refused: bool) {
        if !refused {
            return;
        }
        self.count(match code {
            131_056 => "messages: one customer refused for long",
            131_000 => "messages: never goes out, and might have",
            131_042 => "messages: payment refused",
            _ => "messages: account refused",
        });
        let grant = self.nodes[node].work.as_deref().map(|work| work.own.grant);
        if let Some(grant) = grant.filter(|_| code == 131_042) {
            let judged = self.web.strict.unpaid_met(grant);
            self.judged(judged);
        }
        if let Some(grant) = grant.filter(|_| matches!(code, 190 | 131_031)) {
            let met = self.web.met(grant);
            if met > MET_MAX {
                let why = format!("F05: {met} messages of one tenure met the refused account");
                self.judged(Err(why));
            }
        }
    }

    /// Order and bucket, where the lines of customers are kept.
    fn judge_line(&mut self, node: usize, id: Id) {
        let Some(work) = self.nodes[node].work.as_deref() else {
            return;
        };
        // What comes late of a tenure that is over is judged by S1.
        if !self.web.strict.on || !work.waits_for(id) {
            return;
        }
        let (work, now_ms) = (work.clone(), self.now / MS);
        let judged = self.web.strict.bucket(now_ms, work.own.grant, id);
        self.judged(judged);
        // A clock that is set moves the due times by which messages are claimed.
        let set = ["fault: wall clock set", "fault: wall clock set back"];
        if set.iter().any(|fault| self.counts.contains_key(*fault)) {
            return;
        }
        let tables = std::sync::Arc::clone(&self.db.rows.tables);
        let underway = |other: Id| work.underway(other);
        let wall_ms = self.wall_ms();
        let judged = (id, &underway as &dyn Fn(Id) -> bool, wall_ms);
        match invariant_order(&self.web.known, &tables, &work.own, judged) {
            Ok(Place::Alone) => {}
            Ok(Place::BehindAll) => self.count("messages: order kept"),
            Ok(Place::BehindAnotherTenure) => self.count("messages: order kept over a failover"),
            Ok(Place::BeforeOneThatWaits) => self.count("messages: overtakes one that waits"),
            Err(why) => self.judged(Err(why)),
        }
    }

    /// A webapp stores the event, and only then says 200; the upstream tells again what it heard no 200 for.
    fn event(&mut self, id: Id, state: u8) {
        let stored = self.dice(6) != 0;
        if stored {
            self.db.store_event(self.now, (id, state));
        }
        let heard = stored && self.dice(8) != 0;
        if !heard {
            self.count("messages: event told again");
            let again = (100 + self.dice(500)) * MS;
            self.push_outside(again, Outside::Event(id, state));
        }
    }

    pub(crate) fn business_hears(&mut self, hook: (Id, u8)) {
        self.count("messages: webhook delivered");
        self.web.told.insert(hook);
    }
}
