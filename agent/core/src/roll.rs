//! Who is still a member: a node that has not beaten for a day is left out, whatever the database's clock does meanwhile.
//! An age by the database's clock is believed once, when a row is seen first; from then on the own clock counts. A row that
//! looks a day old at first sight may be that of a live node, if the database's clock has just leapt forward: it is left out
//! only when it has also stayed unchanged for longer than any live node leaves between two beats.

use std::collections::BTreeMap;

use crate::id::NodeId;
use crate::time::{Duration, Instant};

/// Who has not beaten for so long is history, not a member.
pub const GONE_AFTER: Duration = Duration::from_secs(24 * 3600);
/// No live node that reaches the database leaves more between two beats. Host agents beat every 30 s.
pub const BEATS_WITHIN: Duration = Duration::from_secs(90);

/// One row of the node table, as far as it counts here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<'a> {
    pub node: &'a NodeId,
    /// The stamp of its last beat, by the database's clock: only whether it changes counts.
    pub beat: u64,
    /// Its age by the database's clock.
    pub age: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Seen {
    beat: u64,
    since: Instant,
    /// The age that it had when it was seen first; zero once it was seen to beat.
    before: Duration,
}

/// What one reader of the node table remembers of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Roll(BTreeMap<NodeId, Seen>);

impl Roll {
    /// The table was read: says for each row, in the same order, whether it is a member's. Rows that are gone are forgotten.
    pub fn call(&mut self, now: Instant, rows: &[Row<'_>]) -> Vec<bool> {
        let before = std::mem::take(&mut self.0);
        for row in rows {
            let seen = match before.get(row.node) {
                Some(seen) if seen.beat == row.beat => *seen,
                known => Seen {
                    beat: row.beat,
                    since: now,
                    before: known.map_or(row.age, |_| Duration::ZERO),
                },
            };
            self.0.insert(row.node.clone(), seen);
        }
        rows.iter().map(|row| self.member(now, row.node)).collect()
    }

    /// Time since it beat last, by the own clock as far as that reaches; `None`: no such row.
    pub fn age(&self, now: Instant, node: &NodeId) -> Option<Duration> {
        let seen = self.0.get(node)?;
        Some(now.since(seen.since) + seen.before)
    }

    /// Whether it beat within the span, as far as can be known: a row that looks old at first sight may be that of a live node.
    pub fn lately(&self, now: Instant, node: &NodeId, within: Duration) -> bool {
        self.0.get(node).is_some_and(|seen| {
            let watched = now.since(seen.since);
            watched + seen.before < within || watched < BEATS_WITHIN
        })
    }

    fn member(&self, now: Instant, node: &NodeId) -> bool {
        let watched = self
            .0
            .get(node)
            .map_or(Duration::ZERO, |seen| now.since(seen.since));
        self.age(now, node).is_none_or(|age| age < GONE_AFTER) || watched < BEATS_WITHIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = GONE_AFTER;

    fn secs(s: u64) -> Instant {
        Instant::from_millis(s * 1000)
    }

    fn look(roll: &mut Roll, at_s: u64, rows: &[(&NodeId, u64, Duration)]) -> Vec<bool> {
        let rows: Vec<Row<'_>> = rows
            .iter()
            .map(|(node, beat, age)| Row {
                node,
                beat: *beat,
                age: *age,
            })
            .collect();
        roll.call(secs(at_s), &rows)
    }

    /// Goal: a ghost goes, a member stays. Method: one row that never changes, one that beats.
    #[test]
    fn f11_who_has_not_beaten_for_a_day_is_left_out() {
        let (ghost, live) = (NodeId::new("old:coreapp-1"), NodeId::new("new:coreapp-1"));
        let mut roll = Roll::default();
        let at = |s, beat| {
            [
                (&ghost, 1, DAY + Duration::from_secs(s)),
                (&live, beat, Duration::ZERO),
            ]
        };
        assert_eq!(
            look(&mut roll, 0, &at(0, 1)),
            [true, true],
            "not watched yet"
        );
        assert_eq!(look(&mut roll, 89, &at(89, 3)), [true, true]);
        assert_eq!(look(&mut roll, 90, &at(90, 4)), [false, true]);
        // Whoever comes back is a member at once.
        let back = [(&ghost, 2, Duration::ZERO), (&live, 5, Duration::ZERO)];
        assert_eq!(look(&mut roll, 91, &back), [true, true]);
    }

    /// Goal: a leap of the database's clock drives nobody out. Method: it leaps by a year; first a reader that was there
    /// before, while nobody beats, then one that starts right after, while the nodes beat on.
    #[test]
    fn f11_a_leap_of_the_databases_clock_drives_nobody_out() {
        let node = NodeId::new("a:coreapp-1");
        let year = DAY * 365;
        let mut roll = Roll::default();
        assert_eq!(look(&mut roll, 0, &[(&node, 1, Duration::ZERO)]), [true]);
        for s in [1, 60, 3_600, 80_000] {
            assert_eq!(
                look(&mut roll, s, &[(&node, 1, year)]),
                [true],
                "{s} s later"
            );
        }
        assert_eq!(
            look(&mut roll, 86_400, &[(&node, 1, year)]),
            [false],
            "a day by the own clock"
        );
        let mut fresh = Roll::default();
        assert_eq!(look(&mut fresh, 0, &[(&node, 1, year)]), [true]);
        assert_eq!(look(&mut fresh, 30, &[(&node, 2, Duration::ZERO)]), [true]);
        assert_eq!(look(&mut fresh, 200, &[(&node, 2, Duration::ZERO)]), [true]);
    }

    /// Goal: nothing is remembered of rows that are not there. Method: a row goes and comes again.
    #[test]
    fn rows_that_are_gone_are_forgotten() {
        let node = NodeId::new("a:coreapp-1");
        let mut roll = Roll::default();
        look(&mut roll, 0, &[(&node, 1, DAY)]);
        assert_eq!(look(&mut roll, 100, &[]), Vec::<bool>::new());
        assert_eq!(roll, Roll::default());
        assert_eq!(look(&mut roll, 101, &[(&node, 1, DAY)]), [true]);
    }
}
