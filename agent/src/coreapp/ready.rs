//! Messages that may go now: two queues, whose turns `wa_core::turn` gives.
//! Sends nothing: `sender.rs` does.

use std::collections::VecDeque;

use wa_core::turn::{Queue, Turns};

use crate::db::message::Claimed;

/// One message at most of each customer.
#[derive(Default)]
pub struct Ready {
    /// To customers who have written lately.
    replies: VecDeque<Claimed>,
    others: VecDeque<Claimed>,
    turns: Turns,
}

impl Ready {
    /// Behind those of its queue.
    pub fn push(&mut self, message: Claimed, to: Queue) {
        match to {
            Queue::Replies => self.replies.push_back(message),
            Queue::Others => self.others.push_back(message),
        }
    }

    /// This customer has written: its message goes with the answers.
    pub fn hurry(&mut self, route: u32) {
        let at = self.others.iter().position(|one| one.route() == route);
        if let Some(message) = at.and_then(|at| self.others.remove(at)) {
            self.replies.push_back(message);
        }
    }

    /// The one whose turn it is.
    pub fn pop_front(&mut self) -> Option<Claimed> {
        let (replies, others) = (!self.replies.is_empty(), !self.others.is_empty());
        match self.turns.next(replies, others)? {
            Queue::Replies => self.replies.pop_front(),
            Queue::Others => self.others.pop_front(),
        }
    }

    /// Nothing may go.
    pub fn is_empty(&self) -> bool {
        self.replies.is_empty() && self.others.is_empty()
    }

    /// All of them; none is left.
    pub fn take_all(&mut self) -> Vec<Claimed> {
        let replies = std::mem::take(&mut self.replies).into_iter();
        replies.chain(std::mem::take(&mut self.others)).collect()
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.replies.len() + self.others.len()
    }

    /// All of them, answers first.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = &Claimed> {
        self.replies.iter().chain(&self.others)
    }

    #[cfg(test)]
    pub fn clear(&mut self) {
        self.take_all();
    }
}
