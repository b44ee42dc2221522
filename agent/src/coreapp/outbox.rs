//! Which claimed messages this process has in hand, and whether older ones still wait in the store.
//! Stores nothing: `db/message.rs` does. Keeps a retried request from being sent twice, and the order per recipient.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Claimed messages in memory at a time; what is accepted beyond that waits in the store.
pub const IN_HAND_MAX: usize = 512;

#[derive(Debug)]
struct State {
    in_hand: HashSet<String>,
    /// Messages wait in the store: newer ones must queue up behind them.
    backlog: bool,
    /// Grows with each group that was stored unclaimed, before and after its commit.
    version: u64,
}

/// The outbox of one tenure as this process sees it.
#[derive(Debug)]
pub struct Outbox(Mutex<State>);

impl Outbox {
    /// Starts behind whatever an earlier owner left.
    pub fn new() -> Self {
        Self(Mutex::new(State {
            in_hand: HashSet::new(),
            backlog: true,
            version: 0,
        }))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a group of `len` new messages may be claimed as it is accepted; if not, it will queue.
    pub fn claim_at_once(&self, len: usize) -> bool {
        let mut state = self.state();
        let room = state.in_hand.len() + len <= IN_HAND_MAX;
        if state.backlog || !room {
            state.backlog = true;
            state.version += 1;
            return false;
        }
        true
    }

    /// A group that queued is committed: the claimer must look again.
    pub fn queued(&self) {
        let mut state = self.state();
        state.backlog = true;
        state.version += 1;
    }

    /// To be taken before a claim and handed to [`Self::claimed_all`] after it.
    pub fn version(&self) -> u64 {
        self.state().version
    }

    /// A claim found less than it asked for: nothing waits, unless something was queued meanwhile.
    pub fn claimed_all(&self, version: u64) {
        let mut state = self.state();
        if state.version == version {
            state.backlog = false;
        }
    }

    /// Messages known to wait in the store.
    pub fn backlog(&self) -> bool {
        self.state().backlog
    }

    /// Takes a message in hand. False: it is there already.
    pub fn take(&self, id: &str) -> bool {
        self.state().in_hand.insert(id.to_owned())
    }

    /// This process has the message.
    pub fn has(&self, id: &str) -> bool {
        self.state().in_hand.contains(id)
    }

    /// The outcome of a message is recorded.
    pub fn put_down<'a>(&self, ids: impl Iterator<Item = &'a str>) {
        let mut state = self.state();
        for id in ids {
            state.in_hand.remove(id);
        }
    }

    /// How many are in hand.
    pub fn len(&self) -> usize {
        self.state().in_hand.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nothing overtakes a queued message. Method: the commit of a queued group lands around a claim.
    #[test]
    fn a_claim_that_raced_a_commit_does_not_end_the_backlog() {
        let outbox = Outbox::new();
        let before = outbox.version();
        outbox.claimed_all(before);
        assert!(outbox.claim_at_once(1));
        assert!(!outbox.claim_at_once(IN_HAND_MAX + 1));
        let during = outbox.version();
        outbox.queued();
        outbox.claimed_all(during);
        assert!(outbox.backlog() && !outbox.claim_at_once(1));
    }

    #[test]
    fn a_message_is_in_hand_once() {
        let outbox = Outbox::new();
        assert!(outbox.take("a") && !outbox.take("a"));
        outbox.put_down(["a"].into_iter());
        assert!(!outbox.has("a") && outbox.take("a"));
    }
}
