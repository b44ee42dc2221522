//! Which server a node's statements reach, and the promises that are judged at each write (S2 to S5).
//! Knows no statement: `database` and `message` do.

use wa_core::guard::{Guard, on};
use wa_core::id::Ownership;
use wa_core::master::Outcome;
use wa_core::message::MessageState;

use crate::database::{Database, Op, Rows};
use crate::invariant::{
    invariant_all_settled, invariant_s2, invariant_s3, invariant_s3_in_the_end, invariant_s4,
    invariant_s5,
};
use crate::message::{Accepted, Answer, Tables, Write};
use crate::world::{MS, Sim};

impl Sim {
    /// The server that a node's connections lead to.
    pub(crate) fn db_of(&self, node: usize) -> &Database {
        match &self.replica {
            Some(replica) if self.on_replica.contains(&node) => replica,
            _ => &self.db,
        }
    }

    fn db_of_mut(&mut self, node: usize) -> &mut Database {
        match &mut self.replica {
            Some(replica) if self.on_replica.contains(&node) => replica,
            _ => &mut self.db,
        }
    }

    /// It reaches only a server that is not the one writer: its connections are refused (attack 7).
    pub(crate) fn refused_by_replica(&self, node: usize) -> bool {
        let other = self.replica.is_some() && self.on_replica.contains(&node);
        other && !self.two_writers && on(Guard::OneWriter)
    }

    /// A write of the lease rows.
    pub(crate) fn write_row(&mut self, node: usize, op: &Op) -> Outcome {
        let now = self.now;
        let db = self.db_of_mut(node);
        let owner = match op {
            Op::RenewShard(own, ..) | Op::ReleaseShard(own) => Some(own),
            _ => None,
        };
        let before = owner.map(|_| db.rows.clone());
        let outcome = db.write(now, op);
        let mut judged = invariant_s2(db);
        if let (Some(own), Some(before), Ok(())) = (owner, before, &judged) {
            judged = invariant_s5(own, &before, &db.rows);
        }
        self.judged(judged);
        outcome
    }

    pub(crate) fn judged(&mut self, judged: Result<(), String>) {
        if let Err(why) = judged
            && self.broken.is_none()
        {
            self.broken = Some(format!("{why} ({} ms)", self.now / MS));
        }
    }

    /// A commit of an owner's work.
    pub(crate) fn owner_writes(
        &mut self,
        node: usize,
        own: &Ownership,
        count: u16,
        write: &Write,
    ) -> Answer {
        let (now, now_ms) = (self.now, self.wall_ms());
        let db = self.db_of_mut(node);
        let before = db.rows.clone();
        let answer = db.owner_writes(now, own, (count, now_ms), write);
        let after = db.rows.clone();
        self.judged(invariant_s5(own, &before, &after));
        self.narrate_write(node, own, write, &answer);
        if answer == Answer::Stale {
            self.count("messages: stale write");
        }
        if let (Write::Accept { id, .. }, Answer::Accepted(Accepted::New)) = (write, &answer) {
            let known = self.web.known.entry(*id).or_default();
            let judged = invariant_s4(known, *id);
            known.accepted = true;
            known.accepted_by = Some(own.grant);
            self.judged(judged);
        }
        let unclaims = matches!(write, Write::Unclaim { .. });
        self.note_doubts(&before.tables, &after.tables, unclaims);
        let judged = invariant_s3(&self.web.known, &self.web.told, &after.tables);
        self.judged(judged);
        answer
    }

    /// Messages of which nobody knew for a moment whether they had been sent.
    fn note_doubts(&mut self, before: &Tables, after: &Tables, unclaims: bool) {
        let mut doubts = 0;
        for (id, row) in &after.messages {
            let was = before.messages.get(id).map(|m| m.state);
            if row.state == MessageState::Ambiguous && was != Some(MessageState::Ambiguous) {
                doubts += 1;
            }
            if row.state == MessageState::Queued && was == Some(MessageState::Sending) && unclaims {
                self.web.known.entry(*id).or_default().limbo = true;
            }
            if row.state == MessageState::Queued && was == Some(MessageState::Ambiguous) {
                self.web.known.entry(*id).or_default().settled += 1;
            }
        }
        for _ in 0..doubts {
            self.count("messages: ambiguous");
        }
    }

    /// The database has lost commits: what vanished is no promise of the cluster any more, what went back is in doubt.
    pub(crate) fn note_rewind(&mut self, before: &Rows) {
        let after = self.db.rows.tables.clone();
        for (id, row) in &before.tables.messages {
            let known = self.web.known.entry(*id).or_default();
            match after.messages.get(id) {
                None => {
                    (known.lost, known.accepted, known.rewound) = (true, false, true);
                    known.rewinds += 1;
                }
                Some(now) if now != row => {
                    known.rewinds += 1;
                    known.rewound = true;
                }
                Some(_) => {}
            }
        }
    }

    /// What must hold once the faults are long over.
    pub(crate) fn in_the_end(&self) -> Result<(), String> {
        let tables = &self.db.rows.tables;
        let ends = invariant_s3_in_the_end(&self.web.known, &self.web.told);
        ends.map_err(|(id, why)| {
            let row = tables.messages.get(&id);
            format!("{why}; now is {}, its row {row:?}", self.wall_ms())
        })?;
        invariant_all_settled(tables)
    }

    /// Every client has its answer, and everything that was answered 2xx is sent or reported.
    pub(crate) fn all_told(&self) -> bool {
        self.in_the_end().is_ok() && self.web.all_answered()
    }
}
