//! The work of one tenure as `agent/src/coreapp/{work,intake,outbox,sender,ambiguity,inbox,webhook}.rs` do it: accepts, claims,
//! sends, records, settles what is ambiguous, processes events, delivers webhooks. Decides nothing about tenures.

use std::collections::{BTreeMap, BTreeSet};

use wa_core::guard::{Guard, on};
use wa_core::hold::{Event, Hold, Pace};
use wa_core::id::{Ownership, ShardId};
use wa_core::naming::{Step, step};
use wa_core::outcome::{Next, Policy, after_window};
use wa_core::receipt::{Patience, judge};
use wa_core::shard_map::shard_of;
use wa_core::time::{Duration, Instant};

use super::hold::held_for;
use super::line::{Behind, Line};
use crate::invariant::invariant_s4_late;
use crate::message::{Accepted, Answer, CLAIM_MAX, Finished, Id, Write};
use crate::web::{Ask, Verdict, names_of};
use crate::world::{MS, Sim, What};

/// How long the driver of a statement waits for its answer, ms.
const STATEMENT_MS: u64 = 500;
/// How long an attempt waits for the upstream's answer, ms.
pub(super) const ATTEMPT_MS: u64 = 900;
/// How long a message of unknown fate waits for its receipt.
pub const PATIENCE: Patience = Patience {
    window: Duration::from_millis(700),
    max: Duration::from_millis(5000),
};
/// What is done with messages of unknown fate; the window of its pauses is a tenth of that above.
pub const POLICY: Policy = Policy {
    resend: true,
    sends_max: 3,
    then_report: true,
    window: Duration::from_millis(70),
};
const IN_HAND_MAX: usize = 16;
const TRIES: u32 = 3;

/// The loops of a tenure's work; each has one statement under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Mark,
    Claim,
    Record,
    Orphans,
    Ambiguity,
    Events,
    Webhooks,
}

/// What the answer to a commit is for.
#[derive(Debug, Clone)]
pub enum For {
    Part(Part),
    Intake(Ask, u32, u64, bool),
    Nobody,
}

/// The work of one tenure: gone with it.
#[derive(Debug, Clone)]
pub struct Work {
    pub own: Ownership,
    pub count: u16,
    /// By the number of the claim.
    pub(super) in_hand: BTreeMap<Id, u32>,
    /// Attempts under way, by when they began.
    pub(super) waiting: BTreeMap<Id, u64>,
    pub(super) outcomes: Vec<(Id, Finished, u32)>,
    recording: Vec<(Id, Finished, u32)>,
    delivering: Vec<(Id, u8)>,
    busy: BTreeSet<Part>,
    marked: bool,
    marked_again: bool,
    pub held: bool,
    drained_since: Option<Instant>,
    claim_batch: u64,
    failures: u32,
    turns: u32,
    /// What holds messages back.
    pub hold: Hold,
    claim_most: usize,
    /// The lines of customers.
    pub(super) line: Line,
    /// What goes back into the store behind the next outcome, each for so many ms.
    pub(super) late: Vec<(Id, u64)>,
    /// Claimed by this owner and not in hand, as the look before saw it.
    orphans: BTreeSet<Id>,
}

impl Work {
    /// Takes a message in hand; false when it is there already.
    fn takes(&mut self, id: Id, claims: u32) -> bool {
        if self.in_hand.contains_key(&id) {
            return false;
        }
        self.in_hand.insert(id, claims);
        true
    }

    /// Its bytes may have left, and its answer has not come.
    pub(crate) fn waits_for(&self, id: Id) -> bool {
        self.waiting.contains_key(&id)
    }

    /// It is in hand, and has no outcome.
    pub(crate) fn underway(&self, id: Id) -> bool {
        let mut over = self.outcomes.iter().chain(&self.recording);
        self.in_hand.contains_key(&id) && !over.any(|(other, ..)| *other == id)
    }

    /// What was put off with a message is recorded behind it.
    pub(super) fn late_goes(&mut self) {
        for (id, delay_ms) in std::mem::take(&mut self.late) {
            let claims = self.in_hand.get(&id).copied().unwrap_or(0);
            self.outcomes
                .push((id, Finished::Retry { delay_ms }, claims));
        }
    }
}

impl Sim {
    /// The work begins when the gate opens.
    pub(crate) fn begin_work(&mut self, node: usize, own: &Ownership) {
        if !self.messages {
            return;
        }
        let count = self.db_of(node).rows.master.shard_count;
        let work = Work {
            own: own.clone(),
            count,
            in_hand: BTreeMap::new(),
            waiting: BTreeMap::new(),
            outcomes: Vec::new(),
            recording: Vec::new(),
            delivering: Vec::new(),
            busy: BTreeSet::new(),
            marked: false,
            marked_again: false,
            held: false,
            drained_since: None,
            claim_batch: 0,
            failures: 0,
            turns: 0,
            orphans: BTreeSet::new(),
            hold: Hold::new(held_for()),
            claim_most: 0,
            line: Line::default(),
            late: Vec::new(),
        };
        let before = self.nodes[node].work.replace(Box::new(work));
        if before.is_none() {
            self.push_traffic(MS, node, What::Turn);
        }
    }

    /// A turn of all its loops.
    pub(crate) fn turn(&mut self, node: usize) {
        let now = self.local(node);
        self.look_at_hold(node, Event::Time);
        self.look_at_lines(node);
        let in_order = self.web.strict.on;
        let batch = wa_core::id::splitmix(&mut self.traffic);
        let Some(work) = self.nodes[node].work.as_deref_mut() else {
            return;
        };
        let mut statements = Vec::new();
        let mark = !work.marked || std::mem::take(&mut work.marked_again);
        if mark && on(Guard::MarkedAtStart) && work.busy.insert(Part::Mark) {
            statements.push((Part::Mark, Write::Mark));
        }
        let may_claim = work.marked || !on(Guard::MarkedAtStart);
        let (room, most) = match work.hold.pace() {
            Pace::None => (0, 0),
            Pace::One => (1, 1),
            Pace::Half | Pace::Full => (IN_HAND_MAX, CLAIM_MAX),
        };
        let room = work.in_hand.len() < room && !work.held && may_claim;
        if room && work.busy.insert(Part::Claim) {
            (work.claim_batch, work.claim_most) = (batch, most);
            work.line.claimed_at = work.line.version;
            let claim = Write::Claim {
                batch,
                in_order,
                most,
            };
            statements.push((Part::Claim, claim));
        }
        if !work.outcomes.is_empty() && work.busy.insert(Part::Record) {
            work.recording = std::mem::take(&mut work.outcomes);
            statements.push((Part::Record, Write::Finish(work.recording.clone())));
        }
        if !work.held && work.busy.insert(Part::Events) {
            statements.push((Part::Events, Write::Events));
        }
        let drained = work
            .drained_since
            .is_some_and(|at| now.since(at) >= PATIENCE.window);
        if drained && !work.held && work.busy.insert(Part::Ambiguity) {
            let (own, count) = (work.own.clone(), work.count);
            let write = self.settled(node, &own, count);
            statements.push((Part::Ambiguity, write));
        }
        for (part, write) in statements {
            self.commit(node, write, For::Part(part));
        }
        self.deliver_webhooks(node);
        self.look_for_orphans(node);
        let turn = (20 + self.dice(40)) * MS;
        self.push_traffic(turn, node, What::Turn);
    }

    /// Messages of unknown fate whose receipts are missing and not late: those that are sent again, or else those that are over.
    fn settled(&mut self, node: usize, own: &Ownership, count: u16) -> Write {
        let (mut again, mut over) = (Vec::new(), Vec::new());
        if self.db_cut.contains(&node) || self.refused_by_replica(node) {
            return Write::Requeue(again);
        }
        let policy = Policy {
            resend: !self.report_ambiguous,
            ..POLICY
        };
        let now_ms = self.wall_ms();
        let tables = std::sync::Arc::clone(&self.db_of(node).rows.tables);
        let window_ms = u64::try_from(PATIENCE.window.as_millis()).unwrap_or(u64::MAX);
        for (id, waited_ms) in tables.overdue(own, count, now_ms, window_ms) {
            let evidence = tables.receipts_around(id, now_ms);
            let verdict = judge(Duration::from_millis(waited_ms), PATIENCE, &evidence);
            self.count(&format!("messages: receipt missing, {verdict:?}"));
            if !verdict.settles() {
                continue;
            }
            let waited = (waited_ms, PATIENCE.max);
            let judged = invariant_s4_late(&tables, id, now_ms, waited);
            self.judged(judged);
            let doubt = tables.messages.get(&id).map_or(0, |row| row.doubt);
            match after_window(doubt + 1, policy) {
                Next::Again(pause) => {
                    let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                    again.push((id, pause_ms, doubt));
                }
                Next::Report | Next::Person => {
                    self.count(match policy.resend {
                        true => "messages: sent too often with unknown outcome",
                        false => "messages: reported after its window",
                    });
                    over.push(id);
                }
            }
        }
        match again.is_empty() {
            false => Write::Requeue(again),
            true => Write::Report(over),
        }
    }

    /// Rows that say "being sent" by this owner, which does not know them (the database lost what it recorded): after two
    /// looks they are ambiguous.
    fn look_for_orphans(&mut self, node: usize) {
        let Some(work) = self.nodes[node].work.as_deref_mut() else {
            return;
        };
        work.turns += 1;
        if !work.turns.is_multiple_of(16) || !on(Guard::OrphansAmbiguous) {
            return;
        }
        // Marked once more: the database may have lost that the others' rows were.
        work.marked_again = true;
        let own = work.own.clone();
        if self.db_cut.contains(&node) || self.refused_by_replica(node) {
            return;
        }
        let mut claimed = self.db_of(node).rows.tables.claimed_by(&own);
        let work = self.nodes[node].work.as_deref_mut().expect("seen above");
        claimed.retain(|id| !work.in_hand.contains_key(id));
        let both = |id: &&Id| work.orphans.contains(id);
        let sure: Vec<Id> = claimed.iter().filter(both).copied().collect();
        work.orphans = claimed;
        if !sure.is_empty() && work.busy.insert(Part::Orphans) {
            self.commit(node, Write::Orphans(sure), For::Part(Part::Orphans));
        }
    }

    fn deliver_webhooks(&mut self, node: usize) {
        let Some(work) = self.nodes[node].work.as_deref() else {
            return;
        };
        if work.busy.contains(&Part::Webhooks) || self.db_cut.contains(&node) {
            return;
        }
        let due = self.db_of(node).rows.tables.due(&work.own, work.count);
        // The business says 200 to most; what it refuses stays in the table.
        let taken: Vec<(Id, u8)> = due.into_iter().filter(|_| self.dice(4) != 0).collect();
        if taken.is_empty() {
            return;
        }
        for hook in &taken {
            self.business_hears(*hook);
        }
        let work = self.nodes[node].work.as_deref_mut().expect("seen above");
        work.busy.insert(Part::Webhooks);
        work.delivering.clone_from(&taken);
        self.commit(node, Write::Delivered(taken), For::Part(Part::Webhooks));
    }

    /// A request of a webapp.
    pub(crate) fn take(&mut self, node: usize, ask: Ask) {
        let alive = self.nodes[node].work.as_deref().is_some_and(|work| {
            let mine = shard_of(ask.recipient, work.count) == work.own.shard;
            mine && !work.held && self.generation_seen(work) == ask.generation
        });
        if !alive {
            return self.say_verdict(node, &ask, Verdict::NotOwner);
        }
        self.accept(node, ask, 1);
    }

    fn generation_seen(&self, work: &Work) -> Option<wa_core::id::Generation> {
        self.db.generation_of(&work.own)
    }

    fn accept(&mut self, node: usize, ask: Ask, tries: u32) {
        let batch = wa_core::id::splitmix(&mut self.traffic);
        let strict = self.web.strict.on;
        let claim = self.nodes[node].work.as_deref_mut().is_some_and(|work| {
            let free = matches!(work.hold.pace(), Pace::Half | Pace::Full);
            let first = !(strict && work.line.backlog);
            let claim = work.in_hand.len() < IN_HAND_MAX && work.marked && free && first;
            if !claim {
                work.line.queued();
            }
            claim
        });
        let write = Write::Accept {
            id: ask.id,
            body: ask.body,
            recipient: ask.recipient,
            names: ask.names,
            claim,
            batch,
        };
        self.commit(node, write, For::Intake(ask, tries, batch, claim));
    }

    /// Sends a commit on a pooled connection: slow, lost, or carried out with its answer lost.
    fn commit(&mut self, node: usize, write: Write, what: For) {
        let Some(work) = self.nodes[node].work.as_deref() else {
            return;
        };
        let (own, count) = (work.own.clone(), work.count);
        self.commit_as(node, own, count, write, what);
    }

    fn commit_as(&mut self, node: usize, own: Ownership, count: u16, write: Write, what: For) {
        self.next_op += 1;
        let id = self.next_op;
        self.commits.insert(id, (own.clone(), what));
        self.push_traffic(STATEMENT_MS * MS, node, What::CommitLate(id));
        let slow = self.dice(60);
        let delay = match slow {
            0 => self.dice(2500 * MS),
            1 | 2 => self.dice(400 * MS),
            _ => MS / 10 + self.dice(2 * MS),
        };
        let write = Box::new((own, count, write));
        self.push_traffic(delay, node, What::Commit(id, write));
    }

    /// The database carries it out, whatever has become of the node meanwhile.
    pub(crate) fn carry_out(&mut self, node: usize, id: u64, what: (Ownership, u16, Write)) {
        let (own, count, write) = what;
        if self.db_cut.contains(&node) || self.refused_by_replica(node) {
            return;
        }
        let answer = self.owner_writes(node, &own, count, &write);
        let lost = self.dice(60) == 0 || self.db_deaf.contains(&node);
        if lost {
            return self.count("messages: commit whose outcome is unknown");
        }
        let back = MS / 10 + self.dice(2 * MS);
        self.push_traffic(back, node, What::Committed(id, answer));
    }

    /// The answer, or that none came in time.
    pub(crate) fn committed(&mut self, node: usize, id: u64, answer: Answer) {
        let Some((own, what)) = self.commits.remove(&id) else {
            return;
        };
        let current = self.nodes[node]
            .work
            .as_deref()
            .is_some_and(|w| w.own == own);
        match what {
            For::Part(part) if current => self.part_done(node, part, answer),
            For::Intake(ask, tries, batch, claim) => {
                self.intake_done(node, &own, ask, (tries, batch, claim), answer);
            }
            _ => {}
        }
    }

    fn part_done(&mut self, node: usize, part: Part, answer: Answer) {
        let now = self.local(node);
        let Some(work) = self.nodes[node].work.as_deref_mut() else {
            return;
        };
        work.busy.remove(&part);
        match (part, answer) {
            (Part::Mark, Answer::Done) => {
                let before = std::mem::replace(&mut work.marked, true);
                if !before {
                    self.inherit(node);
                }
            }
            (Part::Claim, Answer::Claimed(ids)) => {
                let drained = ids.len() < work.claim_most;
                if drained {
                    work.line.claimed_all();
                }
                let fresh: Vec<Id> = ids
                    .into_iter()
                    .filter(|(id, claims)| work.takes(*id, *claims))
                    .map(|(id, _)| id)
                    .collect();
                let tables = std::sync::Arc::clone(&self.db_of(node).rows.tables);
                for id in fresh {
                    if let Some(line) = self.line(node) {
                        line.known(tables.messages.get(&id).map(|m| (id, m.seq)));
                    }
                    self.place(node, id);
                }
                if drained {
                    self.look_at_hold(node, Event::Drained);
                }
            }
            (Part::Claim, Answer::Unknown) => {
                let (own, count, batch) = (work.own.clone(), work.count, work.claim_batch);
                self.unclaim(node, own, count, batch);
            }
            (Part::Record, Answer::Done | Answer::Stale) => {
                for (id, to, _) in std::mem::take(&mut work.recording) {
                    work.in_hand.remove(&id);
                    if to == (Finished::Retry { delay_ms: 0 }) {
                        work.line.queued();
                    }
                }
                work.failures = 0;
            }
            (Part::Record, _) => {
                // Again until the store has them or the tenure ends.
                let again = std::mem::take(&mut work.recording);
                work.outcomes.splice(0..0, again);
                work.failures += 1;
            }
            (Part::Events, Answer::Events(more)) => {
                let since = work.drained_since.unwrap_or(now);
                work.drained_since = (!more).then_some(since);
            }
            (Part::Events, _) => work.drained_since = None,
            _ => {}
        }
    }

    /// Rows of a claim whose outcome nobody learned: looked for later, more than once, since it may still be on its way.
    fn unclaim(&mut self, node: usize, own: Ownership, count: u16, batch: u64) {
        for wait_ms in [100, 700, 2500] {
            let look = Box::new((own.clone(), count, batch));
            self.push_traffic(wait_ms * MS, node, What::Unclaim(look));
        }
    }

    pub(crate) fn look_for_claims(&mut self, node: usize, what: (Ownership, u16, u64)) {
        let (own, count, batch) = what;
        self.commit_as(node, own, count, Write::Unclaim { batch }, For::Nobody);
    }

    fn intake_done(
        &mut self,
        node: usize,
        own: &Ownership,
        ask: Ask,
        (tries, batch, claim): (u32, u64, bool),
        answer: Answer,
    ) {
        let work = self.nodes[node]
            .work
            .as_deref_mut()
            .filter(|w| w.own == *own);
        let verdict = match answer {
            Answer::Accepted(Accepted::New) => {
                // A queued row waits for the claimer; what was claimed as it was accepted goes out at once.
                let taken = work.is_some_and(|work| {
                    if !claim {
                        work.line.queued();
                    }
                    claim && work.takes(ask.id, 0)
                });
                if taken {
                    self.place(node, ask.id);
                }
                Verdict::Accepted
            }
            Answer::Accepted(Accepted::Duplicate) => Verdict::Duplicate,
            Answer::Accepted(Accepted::Conflict) => Verdict::Conflict,
            Answer::Stale => Verdict::NotOwner,
            _ => {
                let (count, goes_on) = (work.as_ref().map_or(1, |w| w.count), work.is_some());
                self.unclaim(node, own.clone(), count, batch);
                // Within the same tenure, as the product does: the next one may be of another shard.
                if tries < TRIES && goes_on {
                    return self.accept(node, ask, tries + 1);
                }
                if on(Guard::AnsweredAfterCommit) {
                    Verdict::Unknown
                } else {
                    Verdict::Accepted
                }
            }
        };
        self.say_verdict(node, &ask, verdict);
    }

    /// What becomes of a message that names another one; `None`: it goes.
    fn put_off(&mut self, node: usize, id: Id) -> Option<Finished> {
        names_of(id)?;
        if self.db_cut.contains(&node) || self.refused_by_replica(node) {
            return Some(Finished::Retry { delay_ms: 100 });
        }
        let (naming, named) = self.db_of(node).rows.tables.named(id)?;
        let step = step(naming, named);
        self.count(&format!("messages: names another, {step:?}"));
        match step {
            Step::Go | Step::GoBare => None,
            Step::Wait => Some(Finished::Retry { delay_ms: 100 }),
            Step::Fail => Some(Finished::Failed),
        }
    }

    /// One message, once: a look, and its bytes a moment later.
    pub(super) fn attempt(&mut self, node: usize, id: Id) {
        if self.nodes[node].work.is_none() {
            return;
        }
        let strict = self.web.strict.on;
        let held = |work: &Work| work.hold.pace() == Pace::None || (strict && work.held);
        let mut behind = Behind::Goes;
        let put_off = match self.nodes[node].work.as_deref().is_some_and(held) {
            true => Some(Finished::Retry { delay_ms: 0 }),
            false => self.admitted(node, id).or_else(|| {
                behind = Behind::WaitsOnce;
                let put_off = self.put_off(node, id)?;
                self.no_call(node, id, true);
                Some(put_off)
            }),
        };
        let now = self.now;
        let work = self.nodes[node].work.as_deref_mut().expect("seen above");
        work.waiting.insert(id, now);
        if let Some(to) = put_off {
            return self.outcome_of(node, id, to, behind);
        }
        let work = self.nodes[node].work.as_deref_mut().expect("seen above");
        let own = work.own.clone();
        let gap = MS / 20 + self.dice(2 * MS);
        self.push_traffic(gap, node, What::Write(Some(own), Some(id)));
        self.push_traffic(ATTEMPT_MS * MS, node, What::GiveUp(id));
    }
}

/// The shard of a recipient under a count.
pub fn slice(recipient: u32, count: u16) -> ShardId {
    shard_of(recipient, count)
}
