//! The line of messages that wait to be sent, one at a time to each recipient.
//! Sends nothing: `sender.rs` does.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use wa_core::outcome::{Limit, Outcome};
use wa_core::pace::{PAIR_EVERY, Pairs, Rate};
use wa_core::time::Instant;

use super::attempt::{Attempt, FILE_DELAY_MS};
use crate::db::due::MESSAGE_PAUSE_MAX_MS;
use crate::db::message::Claimed;

/// What waits to be sent: one message at a time to each recipient, so that its order is kept.
pub struct Line {
    pub ready: VecDeque<Claimed>,
    /// Customers, by their hash, with a message ready or on its way, and what waits behind it.
    behind: HashMap<u32, VecDeque<Claimed>>,
    /// The number's limit.
    pub rate: Rate,
    /// The buckets of customers.
    pairs: Pairs,
    /// Messages that were put off for their customer's bucket and have their turns: their ids.
    booked: HashSet<String>,
    /// Customers whose earlier message is of unknown fate or put off: its id, and until when others wait behind it.
    blocked: HashMap<u32, (String, Instant)>,
    /// Messages that wait for the one that they name, and until when others wait behind them at most.
    naming: HashMap<String, Instant>,
    /// Messages whose files are on the way, in the order in which they are tried again. They keep their customers' lines.
    parked: VecDeque<(Instant, Claimed)>,
}

/// Messages that are parked, with those behind them: more go back into the store, so that others find room.
const PARKED_MAX: usize = 128;

/// Customers whose messages wait behind one.
const BLOCKED_MAX: usize = 4096;
/// Messages of one customer that are looked at together.
const TOGETHER: u32 = 128;
/// Messages that are known to have a turn. More are taken for new ones.
const BOOKED_MAX: usize = 65_536;

/// Messages that go back into the store, each for so many ms.
pub type Back = Vec<(Claimed, u64)>;

impl Line {
    /// An empty line of a number that takes so many messages per second, and so many at once to one customer.
    pub fn new(per_second: u32, pair_burst: u32) -> Self {
        Self {
            ready: VecDeque::new(),
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
                late.extend(self.behind.remove(&route).unwrap_or_default());
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
    pub fn block(&mut self, route: u32, id: &str, until: Instant) {
        if self.blocked.len() < BLOCKED_MAX || self.blocked.contains_key(&route) {
            self.blocked.insert(route, (id.to_owned(), until));
            self.behind.entry(route).or_default();
        } else {
            self.next_of(route);
        }
    }

    /// The same for a message that waits for the one that it names, but no longer than `longest` in all, however often it is put
    /// off: that one may have come behind it.
    pub fn block_once(
        &mut self,
        now: Instant,
        route: u32,
        id: &str,
        span: Duration,
        longest: Duration,
    ) {
        if self.naming.len() >= BLOCKED_MAX {
            // Those that are forgotten may wait once more.
            self.naming.clear();
        }
        let end = *self.naming.entry(id.to_owned()).or_insert(now + longest);
        match end > now {
            true => self.block(route, id, end.min(now + span)),
            false => self.next_of(route),
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
        let over = self.blocked.iter().filter(|(_, (_, until))| *until <= now);
        let over: Vec<u32> = over.map(|(route, _)| *route).collect();
        for route in over {
            self.blocked.remove(&route);
            self.next_of(route);
        }
        let next = self.blocked.values().map(|(_, until)| *until).min();
        next.map(|until| until.since(now))
    }

    /// What waits behind blocked messages beyond the bound: it waits in the store for as long.
    pub fn too_many_blocked(&mut self, now: Instant) -> Back {
        let waits = |line: &Self, route: &u32| line.behind.get(route).map_or(0, VecDeque::len);
        let load: usize = self.blocked.keys().map(|route| waits(self, route)).sum();
        let mut back = Vec::new();
        if load > PARKED_MAX {
            for (route, (_, until)) in &self.blocked {
                let wait = delay_ms(until.since(now));
                let late = self.behind.get_mut(route).map(std::mem::take);
                back.extend(late.into_iter().flatten().map(|message| (message, wait)));
            }
        }
        back
    }

    /// Behind what waits for the same recipient.
    pub fn place(&mut self, message: Claimed) {
        let route = message.route();
        if self
            .blocked
            .get(&route)
            .is_some_and(|(id, _)| *id == message.id)
        {
            // It goes first; the others stay behind it.
            self.blocked.remove(&route);
            self.ready.push_back(message);
            return;
        }
        if let Some(behind) = self.behind.get_mut(&message.route()) {
            behind.push_back(message);
        } else {
            self.behind.insert(message.route(), VecDeque::new());
            self.ready.push_back(message);
        }
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
            self.ready.push_back(message);
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
            let rest = self.behind.remove(&message.route()).unwrap_or_default();
            back.push(message);
            back.extend(rest);
        }
        back
    }

    /// A message of the recipient is done: the next one may go.
    pub fn next_of(&mut self, route: u32) {
        match self.behind.get_mut(&route).and_then(VecDeque::pop_front) {
            Some(next) => self.ready.push_back(next),
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
        for message in parked.chain(std::mem::take(&mut self.ready)) {
            let rest = self.behind.remove(&message.route()).unwrap_or_default();
            all.push(message);
            all.extend(rest);
        }
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
mod tests {
    use super::*;
    use crate::db::message::Finished;
    use wa_core::hold::Sort;

    fn route(recipient: &str) -> u32 {
        u32::from(recipient.as_bytes()[0])
    }

    fn message(id: &str, recipient: &str) -> Claimed {
        Claimed {
            id: id.into(),
            recipient: recipient.into(),
            recipient_hash: i64::from(route(recipient)),
            form: 1,
            payload: String::new(),
            attempts: 0,
            age_ms: 0,
            doubt: 0,
            claimed: Instant::default(),
        }
    }

    /// Goal: one message at a time to a recipient, in order; others are not kept waiting.
    #[test]
    fn recipients_queue_behind_themselves_only() {
        let mut line = Line::new(80, 45);
        for (id, to) in [("1", "a"), ("2", "a"), ("3", "b"), ("4", "a")] {
            line.place(message(id, to));
        }
        let ids = |line: &Line| line.ready.iter().map(|m| m.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&line), ["1", "3"]);
        line.ready.clear();
        line.next_of(route("a"));
        assert_eq!(ids(&line), ["2"]);
        line.next_of(route("b"));
        let left: Vec<String> = line.take_all().into_iter().map(|m| m.id).collect();
        assert_eq!(left, ["2", "4"]);
        line.next_of(route("a"));
        assert!(line.behind.is_empty());
    }

    /// Goal: a message whose file is on the way is overtaken by none of its customer's, and holds up nobody else; what is parked
    /// has a bound. Method: one customer with a file and a text, another without; then many.
    #[test]
    fn a_parked_message_keeps_its_customers_line() {
        let ids = |line: &Line| line.ready.iter().map(|m| m.id.clone()).collect::<Vec<_>>();
        let (now, later) = (
            Instant::from_millis(10),
            Instant::from_millis(10 + FILE_DELAY_MS),
        );
        let mut line = Line::new(80, 45);
        line.place(message("file", "a"));
        let file = line.ready.pop_front().expect("ready");
        line.park(now, file);
        line.place(message("text", "a"));
        line.place(message("other", "b"));
        assert_eq!(ids(&line), ["other"]);
        assert_eq!(line.unpark(now), Some(Duration::from_millis(FILE_DELAY_MS)));
        assert_eq!(ids(&line), ["other"]);
        assert_eq!(line.unpark(later), None);
        assert_eq!(ids(&line), ["other", "file"]);
        line.ready.clear();
        line.next_of(route("a"));
        assert_eq!(ids(&line), ["text"]);
        assert!(line.too_many_parked().is_empty());

        let mut line = Line::new(80, 45);
        line.place(message("file", "a"));
        let file = line.ready.pop_front().expect("ready");
        line.park(now, file);
        for n in 0..PARKED_MAX {
            line.place(message(&n.to_string(), "a"));
        }
        let back = line.too_many_parked();
        assert_eq!((back.len(), &*back[0].id), (PARKED_MAX + 1, "file"));
        line.place(message("next", "a"));
        assert_eq!(ids(&line), ["next"], "the line is free again");
        let file = line.ready.pop_front().expect("ready");
        line.park(now, file);
        assert_eq!(line.take_all().len(), 1, "a hold takes what is parked");
    }

    /// Goal: one customer that is refused holds up nobody else, is tried seldom, and keeps its order. Method: 10,000 others and 100
    /// messages to the one, an hour of the line's own time, with a store that gives back what is due.
    #[test]
    fn one_refused_customer_among_ten_thousand() {
        let mut line = Line::new(1000, 45);
        let mut store: Vec<(Instant, u32, Claimed)> = Vec::new();
        for n in 0..10_100u32 {
            // Every hundredth is for the one.
            let one = n % 100 == 0 && n / 100 < 100;
            let to = if one { "a" } else { "b" };
            let mut message = message(&format!("{n}"), to);
            if !one {
                message.recipient_hash = i64::from(1_000_000 + n);
            }
            store.push((Instant::ZERO, n, message));
        }
        let (mut others, mut tries, mut last) = (0, 0, 0);
        let mut order = Vec::new();
        for ms in 0..3_600_000u64 {
            let now = Instant::from_millis(1000 + ms);
            // As the claimer does: what is due, by its due time and its number.
            store.sort_by_key(|(due, seq, _)| (*due, *seq));
            let due = store.partition_point(|(due, ..)| *due <= now).min(256);
            for (_, _, message) in store.drain(..due) {
                line.place(message);
            }
            let mut back = Vec::new();
            while line.rate.wait(now, 1).is_none() {
                let Some(next) = line.ready.pop_front() else {
                    break;
                };
                let one = next.recipient == "a";
                let message = match line.admit(now, next) {
                    Ok(message) => message,
                    Err(late) => {
                        back.extend(late);
                        continue;
                    }
                };
                let _ = line.rate.take(now, 1);
                if !one {
                    others += 1;
                    last = ms;
                    line.next_of(message.route());
                    continue;
                }
                tries += 1;
                // The customer is refused for ten minutes.
                if ms < 600_000 {
                    let (wait, late) = line.refused(now, &message);
                    line.next_of(message.route());
                    back.push((message, wait));
                    back.extend(late);
                } else {
                    line.pairs.taken(message.route());
                    order.push(message.id.parse::<u32>().expect("a number"));
                    line.next_of(message.route());
                }
            }
            for (message, wait) in back {
                let seq = message.id.parse().expect("a number");
                store.push((now + Duration::from_millis(wait), seq, message));
            }
            if store.is_empty() && line.ready.is_empty() {
                break;
            }
        }
        assert_eq!(others, 10_000);
        assert!(last < 11_500, "the others took {last} ms");
        assert!(tries < 110, "{tries} tries for 100 messages");
        assert_eq!(order.len(), 100);
        assert!(order.is_sorted(), "{order:?}");
    }

    /// Goal: later messages of a customer wait behind one of unknown fate, no longer than they must, and nobody else does; what waits
    /// has a bound. Method: one that comes back, and one that does not.
    #[test]
    fn later_ones_wait_behind_one_of_unknown_fate() {
        let at = Instant::from_millis;
        let ids = |line: &Line| line.ready.iter().map(|m| m.id.clone()).collect::<Vec<_>>();
        let mut line = Line::new(80, 45);
        line.place(message("1", "a"));
        line.place(message("2", "a"));
        let first = line.ready.pop_front().expect("ready");
        line.block(first.route(), &first.id, at(5000));
        line.place(message("3", "a"));
        line.place(message("other", "b"));
        assert_eq!(ids(&line), ["other"]);
        line.ready.clear();
        assert_eq!(line.unblock(at(4000)), Some(Duration::from_millis(1000)));
        // It is sent again, and they go behind it.
        line.place(first.clone());
        assert_eq!(ids(&line), ["1"]);
        assert_eq!(line.unblock(at(9000)), None);
        line.ready.clear();
        line.next_of(route("a"));
        assert_eq!(ids(&line), ["2"]);
        // It does not come back.
        line.ready.clear();
        line.block(route("a"), "2", at(9000));
        assert_eq!(line.unblock(at(9000)), None);
        assert_eq!(ids(&line), ["3"]);
        line.ready.clear();
        line.block(route("a"), "3", at(9000));
        for n in 0..=PARKED_MAX {
            line.place(message(&format!("m{n}"), "a"));
        }
        let back = line.too_many_blocked(at(8000));
        assert_eq!((back.len(), back[0].1), (PARKED_MAX + 1, 1000));
        line.unblock(at(9000));
        assert!(!line.behind.contains_key(&route("a")), "nothing is left");
    }

    /// Goal: an answer that waits for a message cannot keep it from going. Method: the message was put off for longer than others wait
    /// behind it; its answer is tried every few seconds meanwhile. Both go, the message first, and what came after them last.
    #[test]
    fn an_answer_lets_the_message_pass_that_it_names() {
        let at = Instant::from_millis;
        let longest = Duration::from_secs(6);
        let mut line = Line::new(80, 45);
        let (mut sent, mut due) = (Vec::new(), vec![(0, message("answer", "a"))]);
        due.push((3000, message("named", "a")));
        due.push((3500, message("later", "a")));
        for ms in (0..60_000).step_by(100) {
            line.unblock(at(ms));
            let (now_due, rest): (Vec<_>, Vec<_>) = due.into_iter().partition(|(at, _)| *at <= ms);
            due = rest;
            for (_, message) in now_due {
                line.place(message);
            }
            while let Some(next) = line.ready.pop_front() {
                if next.id == "answer" && !sent.contains(&"named".to_owned()) {
                    line.block_once(at(ms), next.route(), &next.id, longest, longest);
                    due.push((ms + 4000, next));
                } else {
                    line.found(&next.id);
                    line.next_of(next.route());
                    sent.push(next.id);
                }
            }
        }
        let place = |id: &str| sent.iter().position(|sent| sent == id);
        assert_eq!(sent.len(), 3, "{sent:?}");
        assert!(place("named") < place("answer"), "{sent:?}");
        assert!(line.naming.is_empty() && line.behind.is_empty());
    }

    /// Goal: how often one message was tried says nothing of the number. Method: a message with many tries behind it is refused once.
    #[test]
    fn a_messages_past_is_not_the_numbers() {
        let mut line = Line::new(80, 45);
        let mut old = message("1", "a");
        old.attempts = 1000;
        let mut refused = Attempt::new(old, Finished::Retry { delay_ms: 60_000 });
        refused.came = Some((Sort::Other, Outcome::Rejected(Limit::Number)));
        let now = Instant::from_millis(1000);
        let pause = line.note(now, &refused, 0);
        assert_eq!(pause, Some(Duration::from_secs(1)));
        assert_eq!(line.rate.wait(now, 1), pause);
        refused.asked = Some(Duration::from_secs(5));
        assert_eq!(line.note(now, &refused, 0), refused.asked, "its own word");
    }

    /// Goal: a hold gives back what stands behind a message on its way, and the recipient goes on afterwards.
    #[test]
    fn a_hold_leaves_only_what_is_on_its_way() {
        let mut line = Line::new(80, 45);
        line.place(message("1", "a"));
        line.place(message("2", "a"));
        line.ready.clear();
        assert_eq!(line.take_all().len(), 1);
        line.place(message("3", "a"));
        assert!(line.ready.is_empty());
        line.next_of(route("a"));
        assert_eq!(line.ready.len(), 1);
    }
}
