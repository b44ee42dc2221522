//! What the owner knows of customers who have written lately, and whose messages may wait in the store behind many others.
//! Claims nothing: `claim.rs` does. Reads nothing: `writers.rs` does. Decides nothing: `wa_core::turn` does.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wa_core::time::Instant;
use wa_core::turn::{Queue, Recent};

use crate::sys::clock;

/// Customers whom the store is to be asked about. Messages of more go in the order of all.
const ASK_MAX: usize = 4096;
/// One whose message is not due yet is asked about again after so long.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct State {
    recent: Recent,
    /// The store may have messages for these: asked in turn.
    ask: VecDeque<u32>,
    /// The same customers, and those of `later`.
    known: HashSet<u32>,
    /// It has some that are not due before then.
    later: BTreeSet<(Instant, u32)>,
}

impl State {
    fn ask(&mut self, route: u32) -> bool {
        let new = self.known.len() < ASK_MAX && self.known.insert(route);
        if new {
            self.ask.push_back(route);
        }
        new
    }
}

/// Customers who have written lately, in one tenure.
#[derive(Debug, Default)]
pub struct Replies {
    state: Mutex<State>,
    /// The store finds messages by their customer.
    found: AtomicBool,
}

impl Replies {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A customer wrote so long ago. True: the store is to be asked for what waits for him.
    pub fn heard(&self, route: u32, ago: Duration) -> bool {
        let at = clock::now() - ago;
        let mut state = self.state();
        state.recent.wrote(at, route);
        state.ask(route)
    }

    /// Where a message to this customer belongs.
    pub fn queue(&self, route: u32) -> Queue {
        match self.state().recent.has(clock::now(), route) {
            true => Queue::Replies,
            false => Queue::Others,
        }
    }

    /// Messages to these customers went into the store, behind what waits there.
    pub fn queued(&self, routes: impl Iterator<Item = u32>) {
        let now = clock::now();
        let mut state = self.state();
        for route in routes {
            if state.recent.has(now, route) {
                state.ask(route);
            }
        }
    }

    /// The same, and they are not due yet.
    pub fn put_off(&self, routes: impl Iterator<Item = u32>) {
        let now = clock::now();
        let mut state = self.state();
        for route in routes {
            let has = state.recent.has(now, route);
            if has && state.known.len() < ASK_MAX && state.known.insert(route) {
                state.later.insert((now + AGAIN_AFTER, route));
            }
        }
    }

    /// Takes some whom the store is to be asked about.
    pub fn take(&self, most: usize) -> Vec<u32> {
        let now = clock::now();
        let mut state = self.state();
        while state.later.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, route)) = state.later.pop_first() {
                state.ask.push_back(route);
            }
        }
        let some = state.ask.len().min(most);
        let taken: Vec<u32> = state.ask.drain(..some).collect();
        for route in &taken {
            state.known.remove(route);
        }
        taken
    }

    /// The store may be asked from now on.
    pub fn found(&self) {
        self.found.store(true, Ordering::Relaxed);
    }

    /// The store may be asked.
    pub fn may_ask(&self) -> bool {
        self.found.load(Ordering::Relaxed)
    }

    /// Nothing that is due waits in the store: nobody is to be asked about now.
    pub fn nothing_waits(&self) {
        let mut state = self.state();
        while let Some(route) = state.ask.pop_front() {
            state.known.remove(&route);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the store is asked about those who wrote, once for each reason, and about nobody else; the list has a bound.
    #[test]
    fn who_wrote_is_asked_about() {
        let replies = Replies::default();
        assert_eq!(replies.queue(7), Queue::Others);
        replies.queued([7].into_iter());
        assert_eq!(replies.take(9), [0u32; 0], "he never wrote");
        assert!(replies.heard(7, Duration::ZERO) && !replies.heard(7, Duration::ZERO));
        assert!(replies.heard(8, Duration::from_secs(60)));
        assert_eq!(replies.queue(7), Queue::Replies);
        assert_eq!((replies.take(1), replies.take(9)), (vec![7], vec![8]));
        replies.queued([7, 9].into_iter());
        assert_eq!(replies.take(9), [7]);
        replies.put_off([7, 9].into_iter());
        assert_eq!(replies.take(9), [0u32; 0], "not yet");
        replies.queued([7].into_iter());
        assert_eq!(replies.take(9), [0u32; 0], "behind what is not due");
        replies.heard(1, Duration::ZERO);
        replies.nothing_waits();
        assert_eq!(replies.take(9), [0u32; 0]);
        for route in 0..10_000 {
            replies.heard(route, Duration::ZERO);
        }
        assert_eq!(replies.take(10_000).len(), ASK_MAX - 1, "one comes later");
    }
}
