//! The line of messages that wait to be sent, one at a time to each recipient.
//! Sends nothing: `sender.rs` does.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use wa_core::outcome::{Limit, Outcome};
use wa_core::time::Instant;

use super::attempt::{Attempt, FILE_DELAY_MS, PAIR_DELAY};
use crate::db::message::{Claimed, Finished};

/// What waits to be sent: one message at a time to each recipient, so that its order is kept.
#[derive(Default)]
pub struct Line {
    pub ready: VecDeque<Claimed>,
    /// Customers, by their hash, with a message ready or on its way, and what waits behind it.
    behind: HashMap<u32, VecDeque<Claimed>>,
    /// Customers that the upstream wants to be left alone for a while.
    pub spared: HashMap<u32, Instant>,
    /// The whole number sends too fast.
    pub paused_until: Instant,
    /// Messages whose files are on the way, in the order in which they are tried again. They keep their customers' lines.
    parked: VecDeque<(Instant, Claimed)>,
}

/// Messages that are parked, with those behind them: more go back into the store, so that others find room.
const PARKED_MAX: usize = 128;

impl Line {
    /// Behind what waits for the same recipient.
    pub fn place(&mut self, message: Claimed) {
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

    /// Limits that an answer told.
    pub fn note(&mut self, now: Instant, attempt: &Attempt) {
        let Some((_, Outcome::Rejected(limit))) = attempt.came else {
            return;
        };
        match (limit, &attempt.to) {
            (Limit::Number, Finished::Retry { delay_ms }) => {
                self.paused_until = now + Duration::from_millis(*delay_ms);
            }
            (Limit::Pair, _) => {
                self.spared.retain(|_, until| *until > now);
                self.spared
                    .insert(attempt.message.route(), now + PAIR_DELAY);
            }
            // Only a retry says for how long.
            (
                Limit::Number,
                Finished::Sent { .. } | Finished::Failed { .. } | Finished::Ambiguous,
            ) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut line = Line::default();
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
        let mut line = Line::default();
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

        let mut line = Line::default();
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

    /// Goal: a hold gives back what stands behind a message on its way, and the recipient goes on afterwards.
    #[test]
    fn a_hold_leaves_only_what_is_on_its_way() {
        let mut line = Line::default();
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
