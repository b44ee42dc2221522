//! The lease rows in memory, with the same conditions as `db/lease.rs` writes them in SQL.
//! Keeps old states, so that a failover can lose the newest ones. The model (`tests/model`) uses it as well.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use wa_core::guard::{Guard, on};
use wa_core::id::{Epoch, Generation, Grant, Incarnation, NodeId, Nonce, Ownership, ShardId, Term};
use wa_core::master::{Handover, Outcome, Regroup};
use wa_core::message::MessageState;
use wa_core::plausible;
use wa_core::shard_map::{MasterRow, Phase, ShardRow};
use wa_core::time::Duration;

use crate::fault::Cell;
use crate::message::{Answer, Id, Tables, Write};

/// One write or read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Op {
    ReadMap,
    Take(
        NodeId,
        Incarnation,
        (Term, Grant, Nonce),
        (Term, Grant, Nonce),
        Duration,
    ),
    Renew(Term, Grant, Nonce, Duration),
    GiveBack(Term, Grant),
    Insert(Term, Grant, u16),
    Handover(Term, Grant, Box<Handover>),
    Activate(Term, Grant, ShardId, Epoch, Grant),
    Reshard(Term, Grant, Regroup),
    KnowServer(Term, Grant, u64),
    RenewShard(Ownership, Nonce, Duration),
    ReleaseShard(Ownership),
}

/// What the rows hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rows {
    pub master: MasterRow,
    pub shards: Vec<ShardRow>,
    /// Messages, events, webhooks.
    pub tables: Arc<Tables>,
    /// The server on which these rows are known to be complete.
    pub known: u64,
}

/// The server: rows, generation, and history for rewinds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Database {
    pub rows: Rows,
    /// Grows when another server takes over.
    pub server: u64,
    /// Grows when the lease table is dropped and made anew.
    pub made: u64,
    history: VecDeque<(u64, Rows)>,
    /// Most old states that are kept.
    pub history_max: usize,
    /// The newest handover named an ownership that was named before: promise S2.
    pub named_twice: bool,
    /// Every ownership ever written: promise S2.
    named: BTreeMap<(Epoch, Grant), Generation>,
}

impl Default for Database {
    /// An empty schema: no lease was ever taken, and there are no shards.
    fn default() -> Self {
        let master = MasterRow {
            holder: None,
            incarnation: Incarnation::default(),
            term: Term(0),
            grant: Grant(0),
            ttl: Duration::ZERO,
            nonce: Nonce(0),
            epoch_high: Epoch(0),
            shard_count: 0,
            generation: Default::default(),
        };
        Self {
            rows: Rows {
                master,
                shards: Vec::new(),
                tables: Arc::default(),
                known: 0,
            },
            server: 1,
            made: 1,
            history: VecDeque::new(),
            history_max: 64,
            named_twice: false,
            named: BTreeMap::new(),
        }
    }
}

impl Database {
    /// Under which map generation an ownership was named.
    pub fn generation_of(&self, own: &Ownership) -> Option<Generation> {
        self.named.get(&(own.epoch, own.grant)).copied()
    }

    /// The random number beside an epoch.
    pub fn grant_of(&self, epoch: Epoch) -> Option<Grant> {
        let mut named = self.named.keys();
        named.find(|(e, _)| *e == epoch).map(|(_, grant)| *grant)
    }

    /// Another server takes over; it has lost what was written after `since`.
    pub fn rewind(&mut self, since: u64) {
        while let Some((at, before)) = self.history.pop_back() {
            if at < since {
                break;
            }
            self.rows = before;
        }
        self.server += 1;
        self.history.clear();
    }

    /// Somebody puts a dump from that moment in the place of the tables: dropped, made anew and filled, on the same server.
    pub fn restore(&mut self, since: u64) {
        self.rewind_unseen(since);
        self.made += 1;
    }

    /// Another server takes over, has lost what was written after `since`, and calls itself the old one.
    pub fn rewind_unseen(&mut self, since: u64) {
        let server = self.server;
        self.rewind(since);
        self.server = server;
    }

    /// Another server takes over; it has lost the newest `writes`.
    pub fn rewind_writes(&mut self, writes: usize) {
        for _ in 0..writes {
            if let Some((_, before)) = self.history.pop_back() {
                self.rows = before;
            }
        }
        self.server += 1;
        self.history.clear();
    }

    /// Carries out one write.
    pub fn write(&mut self, now: u64, op: &Op) -> Outcome {
        self.remember(now);
        if self.apply(op) {
            Outcome::Held
        } else {
            Outcome::Lost
        }
    }

    fn remember(&mut self, now: u64) {
        self.history.push_back((now, self.rows.clone()));
        if self.history.len() > self.history_max {
            self.history.pop_front();
        }
    }

    /// Carries out one commit of an owner's work, behind a write of its guard row (rule 5.9).
    pub fn owner_writes(
        &mut self,
        now: u64,
        own: &Ownership,
        (count, now_ms): (u16, u64),
        write: &Write,
    ) -> Answer {
        let guard = self.rows.shards.iter().find(|row| row.shard == own.shard);
        let stands = guard.is_some_and(|row| {
            (row.epoch, row.grant) == (own.epoch, own.grant) && row.phase != Phase::Free
        });
        if !stands && on(Guard::OwnerWriteNamesGrant) {
            return Answer::Stale;
        }
        self.remember(now);
        Arc::make_mut(&mut self.rows.tables).apply(own, count, now_ms, write)
    }

    /// Whatever waits for a moment that lies ahead waits from now on: the wall clock was set back.
    pub fn make_due(&mut self, now_ms: u64) {
        for message in Arc::make_mut(&mut self.rows.tables).messages.values_mut() {
            if matches!(
                message.state,
                MessageState::Queued | MessageState::Sending | MessageState::Ambiguous
            ) {
                message.next_ms = message.next_ms.min(now_ms);
            }
        }
    }

    /// A webapp stores an event that is not there yet.
    pub fn store_event(&mut self, now: u64, event: (Id, u8)) {
        self.remember(now);
        let tables = Arc::make_mut(&mut self.rows.tables);
        tables.inbox.entry(event).or_insert(false);
    }

    /// Somebody or something overwrites a number.
    pub fn rot(&mut self, cell: Cell, number: u64) {
        let rows = &mut self.rows;
        match cell {
            Cell::Counter => rows.master.epoch_high = Epoch(number),
            Cell::Term => rows.master.term = Term(number),
            Cell::Epoch(shard) => {
                if let Some(row) = rows.shards.get_mut(usize::from(shard)) {
                    row.epoch = Epoch(number);
                    // What the row names from now on.
                    let name = (row.epoch, row.grant);
                    self.named.entry(name).or_insert(row.generation);
                }
            }
            Cell::Ttl(shard) => {
                if let Some(row) = rows.shards.get_mut(usize::from(shard)) {
                    row.ttl = Duration::from_millis(number);
                }
            }
        }
    }

    fn term_is(&self, term: Term, grant: Grant) -> bool {
        self.rows.master.term == term && self.rows.master.grant == grant || !on(Guard::CasTerm)
    }

    fn apply(&mut self, op: &Op) -> bool {
        let ours = |db: &Self, term: &Term, grant: &Grant| db.term_is(*term, *grant);
        match op {
            Op::ReadMap => true,
            Op::Take(node, incarnation, expect, new, ttl) => {
                let m = &mut self.rows.master;
                let nonce = m.nonce == expect.2 || !on(Guard::TakeNamesNonce);
                if (m.term, m.grant) != (expect.0, expect.1) || !nonce {
                    return false;
                }
                (m.holder, m.incarnation, m.ttl) = (Some(node.clone()), *incarnation, *ttl);
                (m.term, m.grant, m.nonce) = *new;
                true
            }
            Op::Renew(term, grant, nonce, ttl) => {
                if !ours(self, term, grant) || self.rows.master.holder.is_none() {
                    return false;
                }
                (self.rows.master.nonce, self.rows.master.ttl) = (*nonce, *ttl);
                true
            }
            Op::GiveBack(term, grant) => {
                if ours(self, term, grant) {
                    self.rows.master.holder = None;
                }
                true
            }
            Op::Insert(term, grant, count) => {
                if !ours(self, term, grant) || !self.rows.shards.is_empty() {
                    return false;
                }
                self.rows.master.shard_count = *count;
                self.rows.shards = (0..*count).map(empty_row).collect();
                true
            }
            Op::Handover(term, grant, handover) => {
                ours(self, term, grant) && self.handover(handover)
            }
            Op::Activate(term, grant, shard, epoch, shard_grant) => {
                let ours = ours(self, term, grant);
                // A rewind may have taken the row away.
                let Some(row) = self.rows.shards.get_mut(usize::from(shard.0)) else {
                    return false;
                };
                let same =
                    (row.epoch, row.grant, row.phase) == (*epoch, *shard_grant, Phase::Handover);
                let same = same || !on(Guard::ActivateNamesGrant);
                if ours && same {
                    row.phase = Phase::Active;
                    row.previous.clear();
                }
                ours && same
            }
            Op::Reshard(term, grant, regroup) => ours(self, term, grant) && self.reshard(regroup),
            Op::KnowServer(term, grant, server) => {
                ours(self, term, grant) && {
                    self.rows.known = *server;
                    true
                }
            }
            Op::RenewShard(own, nonce, ttl) => self.owned(own, |row| {
                (row.nonce, row.ttl) = (*nonce, *ttl);
            }),
            Op::ReleaseShard(own) => self.owned(own, |row| {
                (row.owner, row.phase) = (None, Phase::Free);
            }),
        }
    }

    fn owned(&mut self, own: &Ownership, change: impl Fn(&mut ShardRow)) -> bool {
        let row = self.rows.shards.iter_mut().find(|row| {
            let grant = (row.epoch, row.grant) == (own.epoch, own.grant);
            let start =
                row.owner.as_ref() == Some(&own.owner) && row.incarnation == own.incarnation;
            row.shard == own.shard
                && (grant && start || !on(Guard::RenewNamesOwner))
                && (row.phase == Phase::Active || !on(Guard::RenewOnlyActive))
        });
        row.map(change).is_some()
    }

    fn handover(&mut self, h: &Handover) -> bool {
        let Some(row) = self.rows.shards.get_mut(usize::from(h.shard.0)) else {
            return false;
        };
        let (epoch, grant, nonce, phase) = h.expect;
        let same = (row.epoch, row.grant, row.phase) == (epoch, grant, phase)
            && (row.generation == h.generation || !on(Guard::CasGeneration))
            && (row.nonce == nonce || !on(Guard::CasNonce));
        if !same && on(Guard::CasRow) {
            return false;
        }
        let name = (h.epoch, h.grant);
        self.named_twice |= self.named.insert(name, h.generation).is_some();
        (row.owner, row.incarnation) = (Some(h.to.clone()), h.to_incarnation);
        (row.epoch, row.grant, row.nonce, row.ttl) = (h.epoch, h.grant, h.nonce, h.ttl);
        (row.phase, row.previous) = (Phase::Handover, h.previous.clone());
        self.rows.master.epoch_high = h.epoch;
        true
    }

    fn reshard(&mut self, new: &Regroup) -> bool {
        let master = &mut self.rows.master;
        if (master.generation, master.epoch_high) != new.seen && on(Guard::ReshardNamesSeen) {
            return false;
        }
        // A counter that nobody can have counted up to is not gone on from.
        if !plausible::heard(new.epoch_high.0, master.epoch_high.0) {
            master.epoch_high = new.epoch_high;
        }
        master.epoch_high = master.epoch_high.max(new.epoch_high);
        master.shard_count = new.count;
        master.generation.0 += 1;
        for shard in self.rows.shards.len()..usize::from(new.count) {
            let shard = u16::try_from(shard).unwrap_or(0);
            self.rows.shards.push(empty_row(shard));
        }
        for row in &mut self.rows.shards {
            (row.owner, row.phase) = (None, Phase::Free);
            row.previous.clone_from(&new.previous);
            row.generation = self.rows.master.generation;
        }
        true
    }
}

fn empty_row(shard: u16) -> ShardRow {
    ShardRow {
        shard: ShardId(shard),
        generation: Default::default(),
        phase: Phase::Free,
        owner: None,
        incarnation: Incarnation::default(),
        epoch: Epoch(0),
        grant: Grant(0),
        ttl: Duration::ZERO,
        nonce: Nonce(0),
        previous: Vec::new(),
    }
}
