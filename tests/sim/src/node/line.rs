//! The customers' lines of a tenure as `agent/src/coreapp/{line,sender,outbox}.rs` keep them: one message at a time to each, in the
//! order of acceptance; the bucket of each; payment, which holds one sort. In half of the seeds: `web/strict.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use wa_core::hold::{Pace, Sort};
use wa_core::pace::Pairs;
use wa_core::time::{Duration, Instant};

use super::work::Work;
use crate::message::{Finished, Id};
use crate::web::strict::{Broken, PAIR_BURST, SCALE, sort_of};
use crate::world::Sim;

/// What stands behind a message after its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// As the outcome says.
    Waits,
    /// It waits for the message that this one names, and not without end.
    WaitsOnce,
    /// It may go.
    Goes,
}

/// What others of one customer wait behind: `Block` of the product's line.
#[derive(Debug, Clone)]
struct Block {
    first: Vec<Id>,
    busy: bool,
    /// Whether others waited for it, with each.
    came: VecDeque<(Id, bool)>,
    until: Instant,
}

/// The longest that messages wait behind one.
const LONGEST: Duration = Duration::from_millis(900);

/// The lines, and what is known of the store.
#[derive(Debug, Clone)]
pub struct Line {
    /// Customers with a message that may go or is on its way, and what waits behind it.
    behind: BTreeMap<u32, VecDeque<Id>>,
    /// Their earlier messages are of unknown fate or put off.
    blocked: BTreeMap<u32, Block>,
    naming: BTreeMap<Id, Instant>,
    /// Numbers of rows that were claimed from the store, or left by an earlier owner.
    seqs: BTreeMap<Id, u64>,
    pairs: Pairs,
    booked: BTreeSet<Id>,
    /// Let go to show whether payment is in order: one of each sort.
    tried: [Option<Id>; 2],
    /// Older messages wait in the store; grows with each that goes there.
    pub backlog: bool,
    pub version: u64,
    pub claimed_at: u64,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            behind: BTreeMap::new(),
            blocked: BTreeMap::new(),
            naming: BTreeMap::new(),
            seqs: BTreeMap::new(),
            pairs: Pairs::new(PAIR_BURST),
            booked: BTreeSet::new(),
            tried: [None; 2],
            backlog: true,
            version: 0,
            claimed_at: 0,
        }
    }
}

impl Line {
    /// Something was stored unclaimed.
    pub fn queued(&mut self) {
        (self.backlog, self.version) = (true, self.version + 1);
    }

    /// Whether others of its customer wait for it, or for one that was accepted later. Then it goes before those that came meanwhile
    /// and were accepted later.
    fn came_back(&mut self, route: u32, id: Id) -> bool {
        let Some(block) = self.blocked.get_mut(&route) else {
            return false;
        };
        let seq = |id: &Id| self.seqs.get(id).copied();
        let at = block.first.iter().position(|first| *first == id);
        let awaited = at.map(|at| block.first.remove(at)).is_some();
        let before = |that: &Id| seq(&id).zip(seq(that)).is_some_and(|(it, that)| it < that);
        let came = block.came.iter().map(|(came, _)| came);
        if !awaited && !block.first.iter().chain(came).any(before) {
            return false;
        }
        let number = |id: &Id| seq(id).unwrap_or(u64::MAX);
        let at = (block.came).partition_point(|(one, _)| number(one) <= number(&id));
        block.came.insert(at, (id, awaited));
        true
    }

    /// The store told the numbers of these rows.
    pub fn known(&mut self, seqs: impl IntoIterator<Item = (Id, u64)>) {
        self.seqs.extend(seqs);
    }

    /// Others wait behind this one.
    fn block(&mut self, route: u32, id: Id, until: Instant) {
        let block = self.blocked.entry(route).or_insert(Block {
            first: Vec::new(),
            busy: false,
            came: VecDeque::new(),
            until,
        });
        block.first.insert(0, id);
        block.busy = false;
        block.until = block.until.max(until);
        self.behind.entry(route).or_default();
    }

    /// The next one of those that go before others; the others follow when none is left.
    fn next_first(&mut self, route: u32) -> Option<Id> {
        let seq = |id: &Id| self.seqs.get(id).copied();
        let block = self.blocked.get_mut(&route).filter(|block| !block.busy)?;
        let (next, awaited) = *block.came.front()?;
        let after = |that: &Id| seq(that).is_none_or(|that| seq(&next) > Some(that));
        if !awaited && block.first.iter().any(after) {
            return None;
        }
        block.came.pop_front();
        block.busy = true;
        if block.first.is_empty() && block.came.is_empty() {
            self.blocked.remove(&route);
        }
        Some(next)
    }

    /// A claim found less than it asked for.
    pub fn claimed_all(&mut self) {
        self.backlog &= self.version != self.claimed_at;
    }
}

/// The clock by which the buckets count: the product's spans, shortened.
fn scaled(now: Instant) -> Instant {
    Instant(now.0.saturating_mul(SCALE))
}

/// A wait of the buckets in ms of the simulated clock.
fn unscaled(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis())
        .unwrap_or(u64::MAX)
        .div_ceil(SCALE)
        .max(1)
}

impl Sim {
    pub(crate) fn line(&mut self, node: usize) -> Option<&mut Line> {
        let work = self.nodes[node].work.as_deref_mut();
        work.map(|work| &mut work.line)
    }

    /// A message that was taken in hand: it goes, or waits behind its customer's.
    pub(crate) fn place(&mut self, node: usize, id: Id) {
        if !self.web.strict.on || self.web.strict.broken == Some(Broken::Lines) {
            return self.attempt(node, id);
        }
        let route = self.web.strict.recipient(id);
        let Some(line) = self.line(node) else { return };
        if line.came_back(route, id) {
            let Some(next) = line.next_first(route) else {
                return;
            };
            return self.attempt(node, next);
        }
        if let Some(behind) = line.behind.get_mut(&route) {
            behind.push_back(id);
            return self.count("messages: waits behind its customer's");
        } else {
            line.behind.insert(route, VecDeque::new());
        }
        self.attempt(node, id);
    }

    /// Customers who have waited for long enough; in a held tenure, and while all messages are held, nobody goes.
    pub(crate) fn look_at_lines(&mut self, node: usize) {
        let now = self.local(node);
        let held = |work: &Work| work.held || work.hold.pace() == Pace::None;
        let held = self.nodes[node].work.as_deref().is_some_and(held);
        let Some(line) = self.line(node).filter(|line| !line.behind.is_empty()) else {
            return;
        };
        if held {
            let mut back = Vec::new();
            for block in line.blocked.values_mut() {
                let came = block.came.drain(..).map(|(id, _)| id);
                let came: Vec<Id> = came.collect();
                block.first.extend(&came);
                back.extend(came);
            }
            back.extend(line.behind.values_mut().flat_map(|b| b.drain(..)));
            return self.give_back(node, &back, 0);
        }
        let over = line.blocked.iter().filter(|(_, block)| block.until <= now);
        let over: Vec<u32> = over.map(|(route, _)| *route).collect();
        for route in over {
            let Some(line) = self.line(node) else { return };
            let Some(block) = line.blocked.remove(&route) else {
                continue;
            };
            let behind = line.behind.entry(route).or_default();
            let mut came: VecDeque<Id> = block.came.iter().map(|(id, _)| *id).collect();
            came.append(behind);
            *behind = came;
            if !block.busy {
                self.next_of(node, route);
            }
        }
    }

    /// At the begin of a tenure: what an earlier owner left (`db/left.rs`) goes before all others of its customer.
    pub(crate) fn inherit(&mut self, node: usize) {
        if !self.web.strict.on || self.web.strict.broken == Some(Broken::Heirs) {
            return;
        }
        let (now, now_ms) = (self.local(node), self.wall_ms());
        let tables = std::sync::Arc::clone(&self.db_of(node).rows.tables);
        let Some(work) = self.nodes[node].work.as_deref_mut() else {
            return;
        };
        let mut found = 0;
        for (id, due_in_ms) in tables.left_behind(&work.own, work.count, now_ms) {
            work.line
                .known(tables.messages.get(&id).map(|m| (id, m.seq)));
            let due = due_in_ms.map(|ms| Duration::from_millis(ms + 10));
            let wait = due.map_or(LONGEST, |due| due.min(LONGEST));
            let route = self.web.strict.recipient(id);
            work.line.block(route, id, now + wait);
            found += 1;
        }
        for _ in 0..found {
            self.count("messages: an earlier owner left one to wait for");
        }
    }

    /// What waits because of its sort, or of its customer's bucket: it goes back into the store.
    pub(crate) fn admitted(&mut self, node: usize, id: Id) -> Option<Finished> {
        if !self.web.strict.on {
            return None;
        }
        self.unpaid(node, id).or_else(|| self.bucket(node, id))
    }

    fn unpaid(&mut self, node: usize, id: Id) -> Option<Finished> {
        let (now, sort) = (self.local(node), sort_of(id));
        let work = self.nodes[node].work.as_deref_mut()?;
        let wrongly = self.web.strict.broken == Some(Broken::Payment) && work.hold.unpaid();
        if !work.hold.unpaid_sort(sort) && !wrongly {
            return None;
        }
        let wait = work.hold.admit(now, sort);
        let wait = wait.or_else(|| wrongly.then_some(Duration::from_millis(100)));
        let Some(wait) = wait else {
            work.line.tried[sort as usize] = Some(id);
            self.count("messages: shows whether payment is in order");
            return None;
        };
        self.count("messages: waits for payment");
        let judged = self.web.strict.holds_its_sort_only(id);
        self.judged(judged);
        Some(Finished::Retry {
            delay_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1),
        })
    }

    fn bucket(&mut self, node: usize, id: Id) -> Option<Finished> {
        let (now, route) = (scaled(self.local(node)), self.web.strict.recipient(id));
        if self.web.strict.broken == Some(Broken::Buckets) {
            return None;
        }
        let line = self.line(node)?;
        let booked = line.booked.remove(&id);
        let wait = line.pairs.take(now, route, booked)?;
        self.count("messages: waits for its customer's bucket");
        self.no_call(node, id, false);
        Some(self.put_off_all(node, id, wait))
    }

    /// The upstream refused it as one too many to its customer.
    pub(crate) fn one_too_many(&mut self, node: usize, id: Id) -> Finished {
        let (now, route) = (scaled(self.local(node)), self.web.strict.recipient(id));
        let wait = self.line(node).map(|line| line.pairs.refused(now, route));
        self.put_off_all(node, id, wait.unwrap_or_default())
    }

    /// It and what stands behind it, until the same moment.
    fn put_off_all(&mut self, node: usize, id: Id, wait: Duration) -> Finished {
        let (now, route) = (scaled(self.local(node)), self.web.strict.recipient(id));
        let delay_ms = unscaled(wait);
        if let Some(line) = self.line(node) {
            line.pairs.book(now, route, wait);
            line.booked.insert(id);
            if let Some(block) = line.blocked.get_mut(&route) {
                block.first.insert(0, id);
            }
            let behind = line.behind.get_mut(&route).map(std::mem::take);
            let behind: Vec<Id> = behind.unwrap_or_default().into();
            line.booked.extend(&behind);
            // Behind this one, whose outcome comes in a moment.
            if let Some(work) = self.nodes[node].work.as_deref_mut() {
                work.late.extend(behind.iter().map(|id| (*id, delay_ms)));
            }
        }
        Finished::Retry { delay_ms }
    }

    fn give_back(&mut self, node: usize, ids: &[Id], delay_ms: u64) {
        if let Some(work) = self.nodes[node].work.as_deref_mut() {
            work.late.extend(ids.iter().map(|id| (*id, delay_ms)));
            work.late_goes();
        }
    }

    /// It had its turn and made no call. `bucket`: the turn of its bucket was taken.
    pub(crate) fn no_call(&mut self, node: usize, id: Id, bucket: bool) {
        if !self.web.strict.on {
            return;
        }
        let (now, sort) = (self.local(node), sort_of(id));
        let route = self.web.strict.recipient(id);
        let Some(work) = self.nodes[node].work.as_deref_mut() else {
            return;
        };
        if work.line.tried[sort as usize] == Some(id) {
            work.line.tried[sort as usize] = None;
            work.hold.give_back(now, sort);
        }
        if bucket {
            work.line.pairs.give_back(route);
        }
    }

    /// The upstream took one.
    pub(crate) fn pair_taken(&mut self, node: usize, id: Id) {
        let route = self.web.strict.recipient(id);
        if let Some(line) = self.line(node) {
            line.pairs.taken(route);
        }
    }

    /// What stands behind it waits, or goes.
    pub(crate) fn after(&mut self, node: usize, id: Id, to: Finished, behind: Behind) {
        if !self.web.strict.on {
            return;
        }
        let (now, route) = (self.local(node), self.web.strict.recipient(id));
        let longest = LONGEST;
        let span = match (to, behind) {
            (_, Behind::Goes) => None,
            (Finished::Ambiguous, _) => Some(longest),
            (Finished::Retry { delay_ms }, _) if delay_ms > 0 => {
                Some(Duration::from_millis(delay_ms + 10).min(longest))
            }
            (Finished::Retry { .. } | Finished::Sent | Finished::Failed, _) => None,
        };
        let Some(line) = self.line(node) else { return };
        let until = match (span, behind) {
            (None, _) => None,
            (Some(span), Behind::WaitsOnce) => {
                let end = *line.naming.entry(id).or_insert(now + longest);
                (end > now).then(|| end.min(now + span))
            }
            (Some(span), _) => Some(now + span),
        };
        match until {
            Some(until) => {
                line.block(route, id, until);
            }
            None => self.next_of(node, route),
        }
    }

    fn next_of(&mut self, node: usize, route: u32) {
        let Some(line) = self.line(node) else { return };
        if let Some(block) = line.blocked.get_mut(&route) {
            block.busy = false;
            let next = line.next_first(route);
            return next.map_or((), |next| self.attempt(node, next));
        }
        match line.behind.get_mut(&route).and_then(VecDeque::pop_front) {
            Some(next) => self.attempt(node, next),
            None => drop(line.behind.remove(&route)),
        }
    }

    /// The sort that payment tells apart, for the hold.
    pub(crate) fn sort(&self, id: Id) -> Sort {
        match self.web.strict.on {
            true => sort_of(id),
            false => Sort::Other,
        }
    }
}
