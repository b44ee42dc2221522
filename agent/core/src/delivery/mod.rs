//! Which webhook may go next: one at a time for each customer and in order, and no customer waits for another.
//! Sends nothing and reads nothing: the owner's loop reads what [`Lines::wants`] names, and sends what [`Lines::start`] gives.
//!
//! Rows of one shard are stored one commit after the other, so that their ids rise with time. The owner reads them by id, from
//! the lowest on, and remembers how far it came. A customer has a line in memory while anything of his is on its way, waits for
//! a pause to end, or was left in the store. What was left in the store is read again by customer. So memory has a bound, and
//! a customer whose webhook fails keeps his own rows in the store and nobody else's.

pub mod backlog;
mod line;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::backoff::linear;
use crate::time::{Duration, Instant};
use line::Line;

/// Customers with a line. Beyond it nothing more is read until lines end: so many that fail are no failure of one customer.
pub const LINES_MAX: usize = 65_536;
/// Rows of one customer in memory; the others stay in the store.
pub const LINE_LEN_MAX: usize = 16;
/// Bytes of rows in memory, beside those on their way and the first one of a line.
pub const BYTES_MAX: usize = 4 << 20;
/// Customers whose rows are read with one statement.
pub const ASKED_MAX: usize = 16;

/// A webhook as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<B> {
    pub id: i64,
    /// The hash of the customer's route.
    pub customer: u32,
    /// Failures that are stored.
    pub attempts: u32,
    /// What is left of its pause; zero where it has none.
    pub wait: Duration,
    /// Since it was stored, at its reading.
    pub age: Duration,
    pub body: B,
    /// Size of the body.
    pub bytes: usize,
}

/// Rows by id, from the one asked for on.
#[derive(Debug, Clone)]
pub struct Page<B> {
    /// Those of the own slice.
    pub rows: Vec<Row<B>>,
    /// The highest id that was looked at, of other slices too.
    pub last: Option<i64>,
    /// There may be more behind it.
    pub full: bool,
}

/// What is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// What is stored behind this id.
    Ahead { after: i64 },
    /// Of each customer the first [`LINE_LEN_MAX`] rows behind an id.
    Customers(Vec<(u32, i64)>),
}

/// What is to be recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Results {
    pub delivered: Vec<i64>,
    /// With the pause in milliseconds.
    pub put_off: Vec<(i64, u64)>,
    /// Refused for too long, and what was said last: not tried any more.
    pub parked: Vec<(i64, String)>,
}

impl Results {
    pub fn len(&self) -> usize {
        self.delivered.len() + self.put_off.len() + self.parked.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Whose turn it is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Ahead,
    Left,
    Again,
}

/// The lines of all customers of one tenure.
#[derive(Debug)]
pub struct Lines<B> {
    /// Every row of the slice up to here has been looked at.
    upto: i64,
    /// There may be rows behind it.
    ahead: bool,
    lines: BTreeMap<u32, Line<B>>,
    /// Customers whose first row may go: those of good standing, and those whose first row failed before.
    ready: VecDeque<u32>,
    ready_again: VecDeque<u32>,
    /// Customers with rows that are in the store only, in the same two kinds.
    left: VecDeque<u32>,
    left_again: VecDeque<u32>,
    /// Pauses, by their ends.
    held: BTreeSet<(Instant, u32)>,
    /// On their way, and how many of them failed before.
    flying: usize,
    flying_again: usize,
    /// Rows in memory that are not on their way, and their bytes.
    queued: usize,
    bytes: usize,
    results: Results,
    /// Delivered and not taken out of the store yet: not to be read again.
    unsettled: BTreeSet<i64>,
    /// Put aside and not recorded yet: the customers wait for that.
    parking: BTreeMap<i64, u32>,
    turn: Turn,
}

impl<B> Default for Lines<B> {
    fn default() -> Self {
        Self {
            upto: 0,
            ahead: true,
            lines: BTreeMap::new(),
            ready: VecDeque::new(),
            ready_again: VecDeque::new(),
            left: VecDeque::new(),
            left_again: VecDeque::new(),
            held: BTreeSet::new(),
            flying: 0,
            flying_again: 0,
            queued: 0,
            bytes: 0,
            results: Results::default(),
            unsettled: BTreeSet::new(),
            parking: BTreeMap::new(),
            turn: Turn::Ahead,
        }
    }
}

/// How many requests may be repetitions of failed ones: a receiver that hangs for some customers leaves room for the others.
fn again_max(at_once: usize) -> usize {
    at_once.saturating_sub((at_once / 3).max(1)).max(1)
}

impl<B> Lines<B> {
    /// Something may have been stored.
    pub fn news(&mut self) {
        self.ahead = true;
    }

    /// What to read now, if anything: only while too little is ready to go. Whoever asks reads it, and says what came.
    pub fn wants(&mut self, now: Instant, at_once: usize) -> Option<Look> {
        self.end_pauses(now);
        for _ in 0..3 {
            let turn = self.turn;
            self.turn = match turn {
                Turn::Ahead => Turn::Left,
                Turn::Left => Turn::Again,
                Turn::Again => Turn::Ahead,
            };
            let look = match turn {
                Turn::Ahead if self.ready.len() < at_once => self.look_ahead(),
                Turn::Left if self.ready.len() < at_once => self.look_left(false),
                Turn::Again if self.ready_again.len() < again_max(at_once) => self.look_left(true),
                Turn::Ahead | Turn::Left | Turn::Again => None,
            };
            if look.is_some() {
                return look;
            }
        }
        None
    }

    fn look_ahead(&mut self) -> Option<Look> {
        if !self.ahead || self.lines.len() >= LINES_MAX {
            return None;
        }
        // News that come while it is read ask for another look.
        self.ahead = false;
        Some(Look::Ahead { after: self.upto })
    }

    fn look_left(&mut self, again: bool) -> Option<Look> {
        let left = if again {
            &mut self.left_again
        } else {
            &mut self.left
        };
        let some = left.len().min(ASKED_MAX);
        let customers: Vec<u32> = left.drain(..some).collect();
        let asked = customers
            .into_iter()
            .filter_map(|customer| Some((customer, self.lines.get(&customer)?.taken)));
        let asked: Vec<(u32, i64)> = asked.collect();
        (!asked.is_empty()).then_some(Look::Customers(asked))
    }

    /// What was asked for could not be read: it is asked for again.
    pub fn unread(&mut self, look: Look) {
        match look {
            Look::Ahead { .. } => self.ahead = true,
            Look::Customers(asked) => {
                for (customer, _) in asked {
                    self.queue_left(customer);
                }
            }
        }
    }

    /// What [`Look::Ahead`] found.
    pub fn read_ahead(&mut self, now: Instant, page: Page<B>) {
        for row in page.rows {
            if row.id <= self.upto {
                continue;
            }
            if self.lines.len() >= LINES_MAX && !self.lines.contains_key(&row.customer) {
                // From here on again, when lines have ended.
                self.ahead = true;
                return;
            }
            self.upto = row.id;
            self.place(now, row);
        }
        self.upto = self.upto.max(page.last.unwrap_or(0));
        self.ahead |= page.full;
    }

    /// A row that was met for the first time.
    fn place(&mut self, now: Instant, row: Row<B>) {
        if self.unsettled.contains(&row.id) {
            return;
        }
        let room = self.bytes + row.bytes <= BYTES_MAX;
        let customer = row.customer;
        if let Some(line) = self.lines.get_mut(&customer) {
            // What is left in the store is read by customer, this row with it.
            if row.id <= line.taken || line.more {
                return;
            }
            if room && line.queue.len() < LINE_LEN_MAX {
                self.bytes += row.bytes;
                self.queued += 1;
                line.push(now, row);
            } else {
                line.more = true;
            }
            return;
        }
        let mut line = Line::behind(row.id - 1);
        line.failures = row.attempts;
        if row.wait > Duration::ZERO {
            self.held.insert((now + row.wait, customer));
            self.lines.insert(customer, line);
            return;
        }
        if room {
            line.more = false;
            self.bytes += row.bytes;
            self.queued += 1;
            line.push(now, row);
        }
        self.lines.insert(customer, line);
        self.go_on(customer);
    }

    /// What [`Look::Customers`] found: rows in the order of their ids.
    pub fn read_customers(&mut self, now: Instant, asked: &[(u32, i64)], rows: Vec<Row<B>>) {
        let mut found: BTreeMap<u32, Vec<Row<B>>> = BTreeMap::new();
        for row in rows {
            found.entry(row.customer).or_default().push(row);
        }
        for (customer, after) in asked {
            let Some(line) = self.lines.get_mut(customer) else {
                continue;
            };
            let rows = found.remove(customer).unwrap_or_default();
            if line.taken != *after {
                // Something in front of it was found meanwhile.
                self.queue_left(*customer);
                continue;
            }
            line.more = rows.len() >= LINE_LEN_MAX;
            for row in rows {
                if row.id <= line.taken || self.unsettled.contains(&row.id) {
                    continue;
                }
                if self.bytes + row.bytes > BYTES_MAX && !line.queue.is_empty() {
                    line.more = true;
                    break;
                }
                self.bytes += row.bytes;
                self.queued += 1;
                line.push(now, row);
            }
            self.go_on(*customer);
        }
    }

    /// A row of the own slice that lies in the store. One that was passed by is found by this: its number was given before that
    /// of a row that was seen, and it was stored later.
    pub fn seen(&mut self, id: i64, customer: u32) {
        if id > self.upto || self.unsettled.contains(&id) {
            return;
        }
        let room = self.lines.len() < LINES_MAX;
        match self.lines.get_mut(&customer) {
            // While he has rows in memory their order comes first.
            Some(line) if line.flying || !line.queue.is_empty() => {}
            Some(line) => line.taken = line.taken.min(id - 1),
            None if !room => {}
            None => {
                self.lines.insert(customer, Line::behind(id - 1));
                self.left.push_back(customer);
            }
        }
    }

    /// The next one to send, if there is one and room for it: of `at_once` requests in all, and `may_run` for now.
    pub fn start(&mut self, now: Instant, at_once: usize, may_run: usize) -> Option<Row<B>> {
        self.end_pauses(now);
        while self.flying < may_run.min(at_once) {
            let again = self.flying_again < again_max(at_once);
            let customer = match again.then(|| self.ready_again.pop_front()).flatten() {
                Some(customer) => customer,
                None => self.ready.pop_front()?,
            };
            let Some(line) = self.lines.get_mut(&customer) else {
                continue;
            };
            let Some((until, row)) = line.queue.pop_front() else {
                continue;
            };
            self.bytes -= row.bytes;
            self.queued -= 1;
            if now < until && line.failures == 0 {
                // An earlier owner, or an earlier release, put it off.
                self.hold(customer, row.id, until);
                continue;
            }
            line.flying = true;
            self.flying += 1;
            self.flying_again += usize::from(line.failures > 0);
            return Some(row);
        }
        None
    }

    /// The business took it.
    pub fn delivered(&mut self, id: i64, customer: u32) {
        self.landed(customer);
        self.results.delivered.push(id);
        self.unsettled.insert(id);
        if let Some(line) = self.lines.get_mut(&customer) {
            line.failures = 0;
        }
        self.go_on(customer);
    }

    /// The business did not take it: its customer waits, and nobody else. The failures of this row, and the pause.
    pub fn failed(
        &mut self,
        now: Instant,
        row: &Row<B>,
        (step, cap): (Duration, Duration),
    ) -> (u32, Duration) {
        self.landed(row.customer);
        let before = self.lines.get(&row.customer).map_or(0, |l| l.failures);
        let failures = before.max(row.attempts).saturating_add(1);
        let wait = linear(step, failures, cap);
        if let Some(line) = self.lines.get_mut(&row.customer) {
            line.failures = failures;
        }
        self.hold(row.customer, row.id, now + wait);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.results.put_off.push((row.id, wait_ms));
        (failures, wait)
    }

    /// The business has not taken it for too long: it is put aside. Its customer's next one goes when that is recorded: an owner that
    /// dies before leaves it to the next one, who tries it first.
    pub fn park(&mut self, id: i64, customer: u32, why: String) {
        self.landed(customer);
        self.results.parked.push((id, why));
        self.unsettled.insert(id);
        self.parking.insert(id, customer);
        if let Some(line) = self.lines.get_mut(&customer) {
            line.parking = true;
        }
    }

    /// Nobody was reached: it is the first to be tried again.
    pub fn unreached(&mut self, row: Row<B>) {
        let customer = row.customer;
        self.landed(customer);
        if let Some(line) = self.lines.get_mut(&customer) {
            self.bytes += row.bytes;
            self.queued += 1;
            line.queue.push_front((Instant::ZERO, row));
            match line.failures {
                0 => self.ready.push_front(customer),
                _ => self.ready_again.push_front(customer),
            }
        }
    }

    /// What is to be recorded, as it stands.
    pub fn results(&self) -> &Results {
        &self.results
    }

    /// Takes it to be recorded.
    pub fn take_results(&mut self) -> Results {
        std::mem::take(&mut self.results)
    }

    /// It was recorded.
    pub fn recorded(&mut self, results: &Results) {
        let parked = results.parked.iter().map(|(id, _)| id);
        for id in results.delivered.iter().chain(parked) {
            self.unsettled.remove(id);
        }
        for (id, _) in &results.parked {
            let Some(customer) = self.parking.remove(id) else {
                continue;
            };
            if let Some(line) = self.lines.get_mut(&customer) {
                line.parking = false;
            }
            self.go_on(customer);
        }
    }

    /// It was not, as far as is known: it is recorded with what came meanwhile.
    pub fn unrecorded(&mut self, mut results: Results) {
        results.delivered.append(&mut self.results.delivered);
        results.put_off.append(&mut self.results.put_off);
        results.parked.append(&mut self.results.parked);
        self.results = results;
    }

    /// Requests on their way.
    pub fn flying(&self) -> usize {
        self.flying
    }

    /// Rows in memory, with those on their way.
    pub fn in_memory(&self) -> usize {
        self.flying + self.queued
    }

    /// The lowest id that is not delivered, as far as is known.
    pub fn oldest(&self) -> Option<i64> {
        self.lines.values().map(Line::first).min()
    }

    /// When the next pause ends.
    pub fn deadline(&self) -> Option<Instant> {
        self.held.first().map(|(until, _)| *until)
    }

    fn landed(&mut self, customer: u32) {
        let Some(line) = self.lines.get_mut(&customer).filter(|line| line.flying) else {
            return;
        };
        line.flying = false;
        self.flying -= 1;
        self.flying_again -= usize::from(line.failures > 0);
    }

    /// After one is done: the next one of the customer, if there is one.
    fn go_on(&mut self, customer: u32) {
        let Some(line) = self.lines.get(&customer) else {
            return;
        };
        if line.flying || line.parking {
            return;
        }
        if !line.queue.is_empty() {
            match line.failures {
                0 => self.ready.push_back(customer),
                _ => self.ready_again.push_back(customer),
            }
        } else if line.more {
            self.queue_left(customer);
        } else {
            self.lines.remove(&customer);
        }
    }

    fn queue_left(&mut self, customer: u32) {
        match self.lines.get(&customer).map(|line| line.failures) {
            Some(0) => self.left.push_back(customer),
            Some(_) => self.left_again.push_back(customer),
            None => {}
        }
    }

    /// From this row on the customer's rows stay in the store until then.
    fn hold(&mut self, customer: u32, id: i64, until: Instant) {
        if let Some(line) = self.lines.get_mut(&customer) {
            let freed: usize = line.queue.iter().map(|(_, row)| row.bytes).sum();
            self.bytes -= freed;
            self.queued -= line.queue.len();
            line.queue = VecDeque::new();
            line.taken = id - 1;
            line.more = true;
            self.held.insert((until, customer));
        }
    }

    fn end_pauses(&mut self, now: Instant) {
        while let Some((until, customer)) = self.held.first().copied() {
            if until > now {
                return;
            }
            self.held.remove(&(until, customer));
            if let Some(line) = self.lines.get_mut(&customer) {
                // It is a repetition, whoever made the first attempt.
                line.failures = line.failures.max(1);
            }
            self.queue_left(customer);
        }
    }
}

#[cfg(test)]
#[path = "../delivery_tests.rs"]
mod tests;
