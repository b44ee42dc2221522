//! Which claimed messages this process has in hand, and whether older ones still wait in the store.
//! Stores nothing: `db/message.rs` does. Keeps a retried request from being sent twice, and the order per recipient.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Claimed messages in memory at a time; what is accepted beyond that waits in the store.
pub const IN_HAND_MAX: usize = 512;
/// So many more to customers who have written lately, so that a full hand does not shut them out.
pub const REPLIES_IN_HAND_MAX: usize = 64;

#[derive(Debug)]
struct State {
    in_hand: HashSet<String>,
    /// Those of them that were claimed before older ones, for customers who have written lately.
    replies: HashSet<String>,
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
            replies: HashSet::new(),
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

    /// The same for one that was claimed before older ones.
    pub fn take_reply(&self, id: &str) -> bool {
        let mut state = self.state();
        let new = state.in_hand.insert(id.to_owned());
        if new {
            state.replies.insert(id.to_owned());
        }
        new
    }

    /// How many more may be claimed in the order of all. Those that go before have room of their own: neither shuts out the other.
    pub fn room(&self) -> usize {
        let state = self.state();
        IN_HAND_MAX.saturating_sub(state.in_hand.len() - state.replies.len())
    }

    /// How many more may be claimed before older ones.
    pub fn room_for_replies(&self) -> usize {
        REPLIES_IN_HAND_MAX.saturating_sub(self.state().replies.len())
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
            state.replies.remove(id);
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

    /// Goal: neither answers nor campaigns shut out the others. Method: a hand that is full of the one kind, then of both.
    #[test]
    fn each_kind_has_room_of_its_own() {
        let outbox = Outbox::new();
        (0..IN_HAND_MAX).for_each(|n| assert!(outbox.take(&format!("o{n}"))));
        let rooms = || (outbox.room(), outbox.room_for_replies());
        assert_eq!(rooms(), (0, REPLIES_IN_HAND_MAX));
        (0..REPLIES_IN_HAND_MAX).for_each(|n| assert!(outbox.take_reply(&format!("r{n}"))));
        assert!(!outbox.take_reply("o1"), "it is there already");
        assert_eq!(rooms(), (0, 0));
        outbox.put_down(["o1", "o2", "r1"].into_iter());
        assert_eq!(rooms(), (2, 1));
        assert!(
            outbox.len() < 2 * IN_HAND_MAX,
            "the sender's queue takes all"
        );
    }

    #[test]
    fn a_message_is_in_hand_once() {
        let outbox = Outbox::new();
        assert!(outbox.take("a") && !outbox.take("a"));
        outbox.put_down(["a"].into_iter());
        assert!(!outbox.has("a") && outbox.take("a"));
    }
}
