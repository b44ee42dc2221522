//! A database that was put back to an older state while the same owner and the same master went on: no epoch and no term shows
//! it, only the beats of the nodes do. Reads no clock; its reader says what the database's clock says.
//!
//! A server that lags behind, asked once, shows older beats as well. So nothing is said before two nodes have beaten again, and
//! none of them has come back with the very beat that was known.

use std::collections::BTreeMap;

use crate::id::NodeId;
use crate::time::{Duration, Instant};

/// So many nodes have to agree: one alone may have asked another server, whose clock is behind.
const NODES: usize = 2;
/// For so long it is a problem; then it is history.
pub const TOLD_FOR: Duration = Duration::from_secs(3600);

/// One row of the node table, in milliseconds of the database's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub node: NodeId,
    /// When it beat last.
    pub beat_ms: u64,
    /// The time of the read.
    pub clock_ms: u64,
}

/// What one reader of the node table remembers of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewind {
    beats: BTreeMap<NodeId, u64>,
    clock_ms: u64,
    /// Who went back, and from which beat.
    back: BTreeMap<NodeId, u64>,
    /// How many of them have beaten again since.
    again: usize,
    by_ms: u64,
    told: Option<(Instant, Duration)>,
}

impl Rewind {
    /// The table was read. Says once, when it is certain, how much of the database's time is gone, at least.
    pub fn saw(&mut self, now: Instant, rows: &[Row]) -> Option<Duration> {
        // The same in every row: all of them are of one read.
        let clock = rows.iter().map(|row| row.clock_ms).max()?;
        // After a clock that was set back, beats are lower, and nothing is lost.
        if clock < self.clock_ms {
            *self = Self {
                told: self.told,
                ..Self::default()
            };
        }
        self.clock_ms = clock;
        for row in rows {
            let before = self.beats.insert(row.node.clone(), row.beat_ms);
            if let Some(before) = before {
                self.compare(row, before);
            }
        }
        self.beats
            .retain(|node, _| rows.iter().any(|row| row.node == *node));
        self.back
            .retain(|node, _| rows.iter().any(|row| row.node == *node));
        if self.again < NODES {
            return None;
        }
        let by = Duration::from_millis(self.by_ms);
        self.forget();
        self.told = Some((now, by));
        Some(by)
    }

    /// How much is gone, while that is a problem.
    pub fn told(&self, now: Instant) -> Option<Duration> {
        let (at, by) = self.told?;
        (now.since(at) < TOLD_FOR).then_some(by)
    }

    fn compare(&mut self, row: &Row, before: u64) {
        if row.beat_ms < before {
            let known = self.back.entry(row.node.clone()).or_insert(before);
            *known = before.max(*known);
            self.by_ms = self.by_ms.max(*known - row.beat_ms);
        } else if row.beat_ms > before
            && let Some(known) = self.back.remove(&row.node)
        {
            if row.beat_ms == known {
                // It was a look at a server that lags behind.
                self.forget();
            } else {
                self.again += 1;
            }
        }
    }

    fn forget(&mut self) {
        self.back.clear();
        self.again = 0;
        self.by_ms = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads tables of `(beat, beat)` of two nodes, a second apart by both clocks, from 100 s on; says what came of the last.
    fn read(rewind: &mut Rewind, clocks_ms: &[u64], tables: &[(u64, u64)]) -> Option<Duration> {
        let mut said = None;
        for (at, (one, other)) in tables.iter().enumerate() {
            let at = u64::try_from(at).expect("small");
            let clock = clocks_ms.first().copied().unwrap_or(110_000 + at * 1000);
            let row = |name: &str, beat: u64| Row {
                node: NodeId::new(name),
                beat_ms: beat,
                clock_ms: clock,
            };
            let rows = [row("a:coreapp-1", *one), row("a:master-1", *other)];
            said = rewind.saw(Instant::from_millis(at * 1000), &rows);
        }
        said
    }

    /// Goal: a restored dump is told once, with how much is gone, for an hour; before two nodes have beaten again it is not
    /// certain. Method: tables by hand.
    #[test]
    fn a_restored_dump_is_told() {
        let mut rewind = Rewind::default();
        let back = [(90_000, 95_000), (40_000, 45_000), (102_000, 45_000)];
        assert_eq!(read(&mut rewind, &[], &back), None);
        let both = [&back[..], &[(102_000, 103_000)]].concat();
        let mut rewind = Rewind::default();
        assert_eq!(read(&mut rewind, &[], &both), Some(Duration::from_secs(50)));
        assert!(rewind.told(Instant::from_millis(5_000)).is_some());
        assert_eq!(rewind.told(Instant::from_millis(3_604_000)), None);
        let beats_on = [&both[..], &[(104_000, 104_000)]].concat();
        assert_eq!(read(&mut Rewind::default(), &[], &beats_on), None, "once");
    }

    /// Goal: beats that go on, a look at a server that lags, one node alone, and a clock that is set back are no rewind.
    /// Method: tables by hand.
    #[test]
    fn what_is_no_rewind_is_not_told() {
        let quiet = [(90_000, 95_000), (101_000, 95_000), (101_000, 102_500)];
        let lags = [
            (90_000, 95_000),
            (80_000, 85_000),
            (90_000, 95_000),
            (102_000, 103_000),
        ];
        let alone = [
            (90_000, 95_000),
            (80_000, 95_000),
            (102_000, 95_000),
            (102_000, 103_000),
        ];
        for tables in [&quiet[..], &lags, &alone] {
            let mut rewind = Rewind::default();
            assert_eq!(read(&mut rewind, &[], tables), None, "{tables:?}");
            assert_eq!(rewind.told(Instant::ZERO), None, "{tables:?}");
        }
        let mut rewind = Rewind::default();
        assert_eq!(read(&mut rewind, &[200_000], &[(190_000, 195_000)]), None);
        assert_eq!(read(&mut rewind, &[50_000], &[(49_000, 49_500)]), None);
        assert_eq!(read(&mut rewind, &[52_000], &[(51_000, 51_500)]), None);
        assert_eq!(rewind.told(Instant::ZERO), None, "the clock was set back");
        assert_eq!(rewind.saw(Instant::ZERO, &[]), None, "no table");
    }
}
