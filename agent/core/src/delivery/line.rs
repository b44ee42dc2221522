//! What is known of one customer's webhooks.
//! Orders no customers: `delivery` does.

use std::collections::VecDeque;

use super::Row;
use crate::time::Instant;

/// One customer with something that is not delivered. It is in one place: on its way, ready, left in the store, held, or
/// waiting for what is put aside to be recorded.
#[derive(Debug)]
pub struct Line<B> {
    /// Rows in memory by their ids, and until when each is to wait.
    pub queue: VecDeque<(Instant, Row<B>)>,
    /// One of them is on its way.
    pub flying: bool,
    /// One of them was put aside, which is not recorded yet.
    pub parking: bool,
    /// Rows up to here are in memory, on their way, or done.
    pub taken: i64,
    /// There may be rows behind that in the store.
    pub more: bool,
    /// Failures in a row, as far as this owner knows.
    pub failures: u32,
}

impl<B> Line<B> {
    /// All of it is in the store, behind this id.
    pub fn behind(taken: i64) -> Self {
        Self {
            queue: VecDeque::new(),
            flying: false,
            parking: false,
            taken,
            more: true,
            failures: 0,
        }
    }

    /// Behind those in memory.
    pub fn push(&mut self, now: Instant, row: Row<B>) {
        self.taken = row.id;
        self.queue.push_back((now + row.wait, row));
    }

    /// The lowest id that is not done. Of one that is on its way the next one is near enough.
    pub fn first(&self) -> i64 {
        self.queue
            .front()
            .map_or(self.taken.saturating_add(1), |(_, row)| row.id)
    }
}
