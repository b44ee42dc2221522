//! What the loop knows of rows that operators and the API write: never older than what a verb has answered.
//! Reads nothing itself.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;

use tokio::sync::oneshot;
use wa_core::detector::Intervals;
use wa_core::id::ShardId;
use wa_core::judgement::Kind;
use wa_core::registration::Told;
use wa_core::time::Instant;

use crate::api::control::StoredSwitchover;

/// Until when failover is paused, by shard; `None` stands for all.
pub type Pauses = BTreeMap<Option<ShardId>, Instant>;

/// What was read of a stored row.
#[derive(Debug)]
pub enum RowRead {
    /// The pauses, by shard, and until when.
    Pauses(Pauses),
    /// The switchovers that wait, the next one first.
    Planned(Vec<StoredSwitchover>),
    /// What is to be told of the registration of the number.
    Registration(Option<Told>),
    /// What is to be told of the certificate of the public port that was sent.
    Certificate(Option<(Kind, String)>),
    /// The intervals of the application settings, and their version.
    Settings { intervals: Intervals, version: u64 },
}

/// One reading.
#[derive(Debug)]
pub struct Reading {
    /// Before it was asked for. A verb's own reading begins after its write is committed.
    pub begun: Instant,
    pub what: RowRead,
}

/// The newest reading of one row.
#[derive(Debug, Default)]
pub struct Known<T> {
    begun: Option<Instant>,
    value: T,
}

impl<T> Known<T> {
    /// The value to be replaced, unless what is known was read later: a reading that was under way while a verb wrote
    /// would take back what the verb has answered.
    pub fn older_than(&mut self, begun: Instant) -> Option<&mut T> {
        if self.begun.is_some_and(|known| known > begun) {
            return None;
        }
        self.begun = Some(begun);
        Some(&mut self.value)
    }
}

impl<T> Deref for Known<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Who waits for a reading, of the shard map or the node table, that begins after the question. One is read after the other.
#[derive(Debug, Default)]
pub struct ReadWaiters {
    begun: u64,
    ended: u64,
    waiting: VecDeque<(u64, oneshot::Sender<bool>)>,
}

impl ReadWaiters {
    /// A reading begins.
    pub fn begins(&mut self) {
        self.begun += 1;
    }

    /// A reading ended; whether it brought anything.
    pub fn ends(&mut self, read: bool) {
        self.ended += 1;
        while let Some((_, waiter)) = self
            .waiting
            .pop_front_if(|(wanted, _)| *wanted <= self.ended)
        {
            // Who no longer waits has its deadline behind it.
            let _ = waiter.send(read);
        }
    }

    /// Answered by the first reading that begins from now on.
    pub fn wait(&mut self, waiter: oneshot::Sender<bool>) {
        self.waiting.push_back((self.begun + 1, waiter));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    /// Goal: what a verb wrote and read back is not replaced by a reading that had begun before.
    /// Method: the three readings in the order in which they can arrive.
    #[test]
    fn a_reading_that_began_earlier_takes_nothing_back() {
        let mut known = Known::<u8>::default();
        *known.older_than(at(10)).expect("the first") = 1;
        *known.older_than(at(30)).expect("the verb's own") = 2;
        assert_eq!(known.older_than(at(20)), None, "begun before the verb's");
        assert_eq!(*known, 2);
        assert!(
            known.older_than(at(30)).is_some(),
            "as new as what is known"
        );
    }

    /// Goal: a reading that was under way when the question came does not answer it; the next one does.
    #[test]
    fn only_a_later_reading_of_the_map_answers() {
        let mut waiters = ReadWaiters::default();
        waiters.begins();
        let (sender, mut answer) = oneshot::channel();
        waiters.wait(sender);
        waiters.ends(true);
        assert!(
            answer.try_recv().is_err(),
            "it may not show the verb's write"
        );
        waiters.begins();
        waiters.ends(false);
        assert_eq!(answer.try_recv(), Ok(false), "that one failed, and says so");
    }
}
