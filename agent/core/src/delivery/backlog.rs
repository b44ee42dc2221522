//! How many webhooks wait, without reading all of them again and again.
//! Reads nothing: whoever counts says what was found.

/// Below it everything is counted anew each time, which costs one page.
pub const ANEW_BELOW: u64 = 5_000;

/// Rows up to an id have been counted; what has gone since is taken off, what comes has higher ids and is counted when its turn
/// comes. Above [`ANEW_BELOW`] rows that were passed by are missed, below it the count is exact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backlog {
    upto: i64,
    count: u64,
}

impl Backlog {
    /// How many there are, as far as is known.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Behind which id a round of counting begins.
    pub fn behind(&self) -> i64 {
        match self.count < ANEW_BELOW {
            true => 0,
            false => self.upto,
        }
    }

    /// What the round found that began behind `from`, up to the id `last`.
    pub fn counted(&mut self, from: i64, count: u64, last: i64) {
        let before = if from == 0 { 0 } else { self.count };
        self.count = before + count;
        self.upto = last.max(from);
    }

    /// These are gone.
    pub fn gone(&mut self, ids: impl Iterator<Item = i64>) {
        let known = ids.filter(|id| *id <= self.upto).count() as u64;
        self.count = self.count.saturating_sub(known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a large backlog is counted once, and stays right while rows come and go; a small one is counted anew. Method: a store
    /// that is a range of ids.
    #[test]
    fn what_is_counted_once_stays_counted() {
        let mut backlog = Backlog::default();
        let (mut first, mut last) = (1, 20_000);
        let count = |backlog: &mut Backlog, first: i64, last: i64| {
            let from = backlog.behind();
            let after = from.max(first - 1);
            backlog.counted(from, u64::try_from(last - after).unwrap_or(0), last);
            after
        };
        assert_eq!(count(&mut backlog, first, last), 0);
        assert_eq!(backlog.count(), 20_000);
        for round in 0..10 {
            backlog.gone(first..first + 1000);
            first += 1000;
            let before = last;
            last += 500;
            // Some of those that came are gone before they were counted.
            backlog.gone(before + 1..before + 11);
            assert_eq!(count(&mut backlog, first, last), before, "{round}");
            assert_eq!(backlog.count(), 20_000 - 500 * (round + 1), "{round}");
        }
        backlog.gone(first..first + 12_000);
        first += 12_000;
        assert!(count(&mut backlog, first, last) < last, "anew");
        assert_eq!(
            backlog.count(),
            u64::try_from(last + 1 - first).expect("positive")
        );
        backlog.gone(0..1_000_000);
        assert_eq!(backlog.count(), 0);
    }
}
