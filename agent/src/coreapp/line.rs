//! The line of messages that wait to be sent, one at a time to each recipient.
//! Sends nothing: `sender.rs` does.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use wa_core::outcome::{Limit, Outcome};
use wa_core::pace::{PAIR_EVERY, Pairs, Rate};
use wa_core::time::Instant;
use wa_core::turn::Queue;

use super::attempt::{Attempt, FILE_DELAY_MS};
use super::ready::Ready;
use super::replies::Replies;
use crate::db::due::MESSAGE_PAUSE_MAX_MS;
use crate::db::left::Left;
use crate::db::message::Claimed;

/// What waits to be sent: one message at a time to each recipient, so that its order is kept.
pub struct Line {
    pub ready: Ready,
    /// Customers who have written lately.
    replies: Arc<Replies>,
    /// Customers, by their hash, with a message ready or on its way, and what waits behind it.
    behind: HashMap<u32, VecDeque<Claimed>>,
    /// The number's limit.
    pub rate: Rate,
    /// The buckets of customers.
    pairs: Pairs,
    /// Messages that were put off for their customer's bucket and have their turns: their ids.
    booked: HashSet<String>,
    /// Customers with messages that are of unknown fate or put off, behind which others wait.
    blocked: HashMap<u32, Block>,
    /// Messages that wait for the one that they name, and until when others wait behind them at most.
    naming: HashMap<String, Instant>,
    /// Messages whose files are on the way, in the order in which they are tried again. They keep their customers' lines.
    parked: VecDeque<(Instant, Claimed)>,
}

/// What others of one customer wait behind.
struct Block {
    /// Messages of unknown fate, or put off: they go before later ones, as they come.
    first: Vec<First>,
    /// One may go before others, or is on its way; these came meanwhile, in the order of acceptance.
    busy: bool,
    came: VecDeque<Came>,
    /// Others wait no longer.
    until: Instant,
    /// What stood behind them went back into the store, and is waited for, too: once, so that nobody waits without end.
    back: bool,
}

/// One of those that go before others.
struct Came {
    message: Claimed,
    /// Others waited for it. Else it was accepted before one of those, and waits itself for those before it.
    awaited: bool,
}

/// A message that later ones wait for.
struct First {
    id: String,
    /// Of its row, where that is known: what was accepted before it does not wait for it.
    seq: Option<i64>,
}

impl First {
    fn of(message: &Claimed) -> Self {
        Self {
            id: message.id.clone(),
            seq: message.seq,
        }
    }
}

impl Block {
    fn new(until: Instant) -> Self {
        Self {
            first: Vec::new(),
            busy: false,
            came: VecDeque::new(),
            until,
            back: false,
        }
    }

    /// Takes a message for which others wait, or that was accepted before one for which they do: before those that came meanwhile and
    /// were accepted later. Gives back any other.
    fn take(&mut self, message: Claimed) -> Option<Claimed> {
        let at = self.first.iter().position(|first| first.id == message.id);
        let awaited = at.map(|at| self.first.remove(at)).is_some();
        let before = |seq: Option<i64>| message.seq.zip(seq).is_some_and(|(it, that)| it < that);
        let mut later = self.first.iter().map(|first| first.seq);
        let later = later.any(before) || self.came.iter().any(|came| before(came.message.seq));
        if !awaited && !later {
            return Some(message);
        }
        let number = |seq: Option<i64>| seq.unwrap_or(i64::MAX);
        let place = number(message.seq);
        let at = (self.came).partition_point(|came| number(came.message.seq) <= place);
        self.came.insert(at, Came { message, awaited });
        None
    }

    /// The first of those that came, if it may go. One that nobody waited for stays behind those that were accepted before it and may
    /// come yet, and keeps those behind it.
    fn next(&mut self) -> Option<Claimed> {
        let came = self.came.front()?;
        let after = |first: &First| first.seq.is_none_or(|that| came.message.seq > Some(that));
        match came.awaited || !self.first.iter().any(after) {
            true => self.came.pop_front().map(|came| came.message),
            false => None,
        }
    }

    /// What came goes back into the store, and is waited for again.
    fn give_back(&mut self) -> VecDeque<Claimed> {
        let came = std::mem::take(&mut self.came).into_iter();
        let came: VecDeque<Claimed> = came.map(|came| came.message).collect();
        self.first.extend(came.iter().map(First::of));
        came
    }
}

/// Messages that are parked, with those behind them: more go back into the store, so that others find room.
const PARKED_MAX: usize = 128;

/// Customers whose messages wait behind one, and messages of each sort that are looked for at the begin of a tenure.
pub const BLOCKED_MAX: usize = 4096;
/// A message that was put off and is due may come so much later: the store is asked every 500 ms, and answers.
pub const COMES_WITHIN: Duration = Duration::from_secs(2);
/// Messages of one customer that are looked at together.
const TOGETHER: u32 = 128;
/// Messages that are known to have a turn. More are taken for new ones.
const BOOKED_MAX: usize = 65_536;

/// Messages that go back into the store, each for so many ms.
pub type Back = Vec<(Claimed, u64)>;

impl Line {
    /// An empty line of a number that takes so many messages per second, and so many at once to one customer.
    pub fn new(per_second: u32, pair_burst: u32, replies: Arc<Replies>) -> Self {
        Self {
            ready: Ready::default(),
            replies,
            behind: HashMap::new(),
            rate: Rate::new(per_second),
            pairs: Pairs::new(pair_burst),
            booked: HashSet::new(),
            blocked: HashMap::new(),
            naming: HashMap::new(),
            parked: VecDeque::new(),
        }
    }

    /// Whether this message may go, as far as its customer is concerned. Else it goes back into the store with what waits behind
    /// it: each for its turn, so that none is looked at before, and none overtakes another.
    pub fn admit(&mut self, now: Instant, message: Claimed) -> Result<Claimed, Back> {
        let route = message.route();
        let booked = self.booked.remove(&message.id);
        match self.pairs.take(now, route, booked) {
            None => Ok(message),
            Some(wait) => {
                let mut late = vec![message];
                late.extend(self.leave(&late[0]));
                Err(self.put_off(now, route, wait, late))
            }
        }
    }

    /// The upstream refused this customer's message as one too many: for how long it waits, and what waits behind it.
    pub fn refused(&mut self, now: Instant, message: &Claimed) -> (u64, Back) {
        let route = message.route();
        let wait = self.pairs.refused(now, route);
        self.book(message);
        self.pairs.book(now, route, wait);
        let behind = self.behind.get_mut(&route).map(std::mem::take);
        let late = behind.unwrap_or_default().into();
        let back = self.put_off(now, route, wait, late);
        (delay_ms(wait), back)
    }

    /// All until the same moment: they are claimed together then, in their order. Those beyond a hundred when the others before
    /// them may be through.
    fn put_off(&mut self, now: Instant, route: u32, wait: Duration, late: Vec<Claimed>) -> Back {
        let mut last = wait;
        let each = late.into_iter().zip(0u32..);
        let back = each
            .map(|(message, n)| {
                last = wait + PAIR_EVERY * (n / TOGETHER * TOGETHER);
                self.book(&message);
                (message, delay_ms(last))
            })
            .collect();
        self.pairs.book(now, route, last);
        back
    }

    fn book(&mut self, message: &Claimed) {
        if self.booked.len() < BOOKED_MAX {
            self.booked.insert(message.id.clone());
        }
    }

    /// Later messages of a customer wait behind this one, which is of unknown fate or put off, at most until then.
    pub fn block(&mut self, message: &Claimed, until: Instant) {
        let route = message.route();
        match self.wait_behind(route, First::of(message), until) {
            true => drop(self.behind.entry(route).or_default()),
            false => self.next_of(route),
        }
    }

    /// False: too many customers wait.
    fn wait_behind(&mut self, route: u32, first: First, until: Instant) -> bool {
        if self.blocked.len() >= BLOCKED_MAX && !self.blocked.contains_key(&route) {
            return false;
        }
        let block = self.blocked.entry(route);
        let block = block.or_insert_with(|| Block::new(until));
        block.first.insert(0, first);
        block.busy = false;
        if until > block.until {
            (block.until, block.back) = (until, false);
        }
        true
    }

    /// At the begin of a tenure: the same for what an earlier owner left. `longest`: nothing waits for longer.
    pub fn inherit(&mut self, now: Instant, left: &[Left], longest: Duration) {
        for one in left {
            let due = one.due_in.map(|due_in| due_in + COMES_WITHIN);
            let until = now + due.map_or(longest, |due| due.min(longest));
            let first = First {
                id: one.id.clone(),
                seq: Some(one.seq),
            };
            if self.wait_behind(one.route, first, until) {
                self.behind.entry(one.route).or_default();
            }
        }
    }

    /// The same for a message that waits for the one that it names, but no longer than `longest` in all, however often it is put
    /// off: that one may have come behind it.
    pub fn block_once(
        &mut self,
        now: Instant,
        message: &Claimed,
        span: Duration,
        longest: Duration,
    ) {
        if self.naming.len() >= BLOCKED_MAX {
            // Those that are forgotten may wait once more.
            self.naming.clear();
        }
        let end = *self
            .naming
            .entry(message.id.clone())
            .or_insert(now + longest);
        match end > now {
            true => self.block(message, end.min(now + span)),
            false => self.next_of(message.route()),
        }
    }

    /// A message does not wait for the one that it names, or not any more.
    pub fn found(&mut self, id: &str) {
        self.naming.remove(id);
    }

    /// A message of this customer had its turn and made no call.
    pub fn no_call(&mut self, route: u32) {
        self.rate.give_back();
        self.pairs.give_back(route);
    }

    /// Customers who have waited for long enough. How long the next one waits.
    pub fn unblock(&mut self, now: Instant) -> Option<Duration> {
        if self.blocked.is_empty() {
            return None;
        }
        let over = self.blocked.iter().filter(|(_, block)| block.until <= now);
        let over: Vec<u32> = over.map(|(route, _)| *route).collect();
        for route in over {
            let Some(mut block) = self.blocked.remove(&route) else {
                continue;
            };
            let behind = self.behind.entry(route).or_default();
            let came = std::mem::take(&mut block.came).into_iter();
            let mut came: VecDeque<Claimed> = came.map(|came| came.message).collect();
            came.append(behind);
            *behind = came;
            // Else they go when that one is through.
            if !block.busy {
                self.next_of(route);
            }
        }
        let next = self.blocked.values().map(|block| block.until).min();
        next.map(|until| until.since(now))
    }

    /// What waits behind blocked messages beyond the bound: it waits in the store for as long, and goes before later ones then.
    pub fn too_many_blocked(&mut self, now: Instant) -> Back {
        let waits = |line: &Self, route: &u32| line.behind.get(route).map_or(0, VecDeque::len);
        let blocked = self.blocked.iter();
        let load: usize = blocked
            .map(|(route, block)| waits(self, route) + block.came.len())
            .sum();
        let mut back = Vec::new();
        if load > PARKED_MAX {
            for (route, block) in &mut self.blocked {
                let wait = delay_ms(block.until.since(now));
                let late = self.behind.get_mut(route).map(std::mem::take);
                let late = late.unwrap_or_default();
                if !late.is_empty() && !block.back {
                    block.back = true;
                    block.until = block.until + COMES_WITHIN;
                    block.first.extend(late.iter().map(First::of));
                }
                back.extend(late.into_iter().map(|message| (message, wait)));
            }
        }
        back
    }

    /// Behind what waits for the same recipient.
    pub fn place(&mut self, message: Claimed) {
        let route = message.route();
        let message = match self.blocked.get_mut(&route) {
            None => message,
            Some(block) => match block.take(message) {
                Some(message) => message,
                None => return self.next_first(route),
            },
        };
        if let Some(behind) = self.behind.get_mut(&route) {
            behind.push_back(message);
            // What stands before an answer is as urgent.
            if self.replies.queue(route) == Queue::Replies {
                self.ready.hurry(route);
            }
        } else {
            self.behind.insert(route, VecDeque::new());
            self.make_ready(message);
        }
    }

    /// The next one of those that go before others, unless one is on its way. The others follow when none is left.
    fn next_first(&mut self, route: u32) {
        let Some(block) = self.blocked.get_mut(&route).filter(|block| !block.busy) else {
            return;
        };
        let Some(message) = block.next() else {
            return;
        };
        block.busy = true;
        if block.first.is_empty() && block.came.is_empty() {
            self.blocked.remove(&route);
        }
        self.make_ready(message);
    }

    /// This message, which might have gone, goes back into the store: what waits behind it.
    fn leave(&mut self, message: &Claimed) -> VecDeque<Claimed> {
        let route = message.route();
        let Some(block) = self.blocked.get_mut(&route) else {
            return self.behind.remove(&route).unwrap_or_default();
        };
        block.busy = false;
        block.first.insert(0, First::of(message));
        let mut rest = block.give_back();
        rest.extend(
            self.behind
                .get_mut(&route)
                .into_iter()
                .flat_map(std::mem::take),
        );
        rest
    }

    fn make_ready(&mut self, message: Claimed) {
        let queue = self.replies.queue(message.route());
        self.ready.push(message, queue);
    }

    /// Its file is on the way: its customer waits for it, and nobody else.
    pub fn park(&mut self, now: Instant, message: Claimed) {
        let again = now + Duration::from_millis(FILE_DELAY_MS);
        self.parked.push_back((again, message));
    }

    /// Those whose time has come are ready again. How long the next one has to wait.
    pub fn unpark(&mut self, now: Instant) -> Option<Duration> {
        while let Some((at, message)) = self.parked.pop_front() {
            if at > now {
                self.parked.push_front((at, message));
                return Some(at.since(now));
            }
            self.make_ready(message);
        }
        None
    }

    /// What is parked beyond the bound, with what waits behind it.
    pub fn too_many_parked(&mut self) -> Vec<Claimed> {
        let behind = |line: &Self, message: &Claimed| {
            line.behind.get(&message.route()).map_or(0, VecDeque::len)
        };
        let parked = self.parked.iter();
        let mut load: usize = parked.map(|(_, message)| 1 + behind(self, message)).sum();
        let mut back = Vec::new();
        while load > PARKED_MAX {
            let Some((_, message)) = self.parked.pop_front() else {
                break;
            };
            load -= 1 + behind(self, &message);
            let rest = self.leave(&message);
            back.push(message);
            back.extend(rest);
        }
        back
    }

    /// A message of the recipient is done: the next one may go.
    pub fn next_of(&mut self, route: u32) {
        if let Some(block) = self.blocked.get_mut(&route) {
            block.busy = false;
            return self.next_first(route);
        }
        match self.behind.get_mut(&route).and_then(VecDeque::pop_front) {
            Some(next) => self.make_ready(next),
            None => {
                self.behind.remove(&route);
            }
        }
    }

    /// Everything that has not been started.
    pub fn take_all(&mut self) -> Vec<Claimed> {
        let mut all: Vec<Claimed> = Vec::new();
        let parked = std::mem::take(&mut self.parked).into_iter();
        let parked = parked.map(|(_, message)| message);
        for message in parked.chain(self.ready.take_all()) {
            let rest = self.leave(&message);
            all.push(message);
            all.extend(rest);
        }
        let came = self.blocked.values_mut();
        all.extend(came.flat_map(Block::give_back));
        // What is left stands behind messages on their way.
        for behind in self.behind.values_mut() {
            all.extend(behind.drain(..));
        }
        all
    }

    /// What an answer says of the limits. For how long the number's messages pause, if they do.
    pub fn note(&mut self, now: Instant, attempt: &Attempt, jitter: u8) -> Option<Duration> {
        match attempt.came {
            Some((_, Outcome::Rejected(Limit::Number))) => {
                Some(self.rate.refused(now, attempt.asked, jitter))
            }
            Some((_, Outcome::Sent)) => {
                self.rate.taken();
                self.pairs.taken(attempt.message.route());
                None
            }
            // Pairs: `refused`.
            Some(_) | None => None,
        }
    }
}

/// No pause is longer than the store believes.
fn delay_ms(wait: Duration) -> u64 {
    let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    ms.min(MESSAGE_PAUSE_MAX_MS - 10_000)
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
