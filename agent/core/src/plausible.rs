//! Which numbers can be true: counters grow one by one, so nothing legal lies far beyond what the rows say.
//! Changes nothing: who finds a number implausible ignores it, and names where it came from.
//!
//! Files rot, rows are edited by hand, nodes have faults. A counter that took over 2^64 − 1 once would begin again at 0,
//! and every lower epoch would live again (promise S2). So each number is weighed where it comes in.

use crate::guard::{self, Guard};
use crate::id::{Epoch, Term};
use crate::shard_map::{MasterRow, ShardRow};
use crate::time::Duration;

/// How far a counter can be ahead of another reading of it: 2^40 steps. A step is a committed transaction; at a thousand
/// of them a second this is 34 years, so no node was away for so long.
pub const LEAP_MAX: u64 = 1 << 40;

/// The end of all counters: every number is below 2^61. A database column holds 2^63 − 1, and what follows from a number that is only just
/// plausible (a step, a seal, a leap) has to fit as well.
pub const COUNT_MAX: u64 = 1 << 61;

/// The longest lease that a configuration may ask for.
pub const TTL_MAX: Duration = Duration::from_secs(60);

/// A counter that was read as `known` can have come to `heard` by legal steps, or been there before.
pub fn follows(known: u64, heard: u64) -> bool {
    heard < COUNT_MAX && heard <= known.saturating_add(LEAP_MAX)
}

/// As [`follows`], for what other nodes and files say of epochs and terms.
pub fn heard(known: u64, heard: u64) -> bool {
    follows(known, heard) || !guard::on(Guard::HeardIsPlausible)
}

/// Two places that copy no number from each other, unless it is plausible, name about the same one. Nothing rots twice to that: they
/// are believed, whatever the rest says. A number near the end of all counters is not: nothing could follow it.
pub fn agree(one: u64, other: u64) -> bool {
    let near = one.abs_diff(other) <= LEAP_MAX && one.max(other) < COUNT_MAX - LEAP_MAX;
    near && guard::on(Guard::AgreedIsBelieved)
}

/// A row's epoch can be true: the counter in the master's row grows with every grant, in the same transaction.
pub fn row(master: &MasterRow, row: &ShardRow) -> bool {
    let counter = master.epoch_high.0;
    let beside = follows(counter, row.epoch.0) || counter >= COUNT_MAX && row.epoch.0 < COUNT_MAX;
    beside || !guard::on(Guard::RowIsPlausible)
}

/// The counter can be true: the newest grant is in a row, and an adopted database raises it by a leap at most.
pub fn counter(master: &MasterRow, shards: &[ShardRow]) -> bool {
    follows(highest(master, shards), master.epoch_high.0) || !guard::on(Guard::RowIsPlausible)
}

fn highest(master: &MasterRow, shards: &[ShardRow]) -> u64 {
    let good = shards.iter().filter(|shard| row(master, shard));
    good.map(|shard| shard.epoch.0).max().unwrap_or(0)
}

/// The highest epoch that the rows can have given out.
pub fn shown(master: &MasterRow, shards: &[ShardRow]) -> Epoch {
    let highest = highest(master, shards);
    Epoch(if counter(master, shards) {
        highest.max(master.epoch_high.0)
    } else {
        highest
    })
}

/// The row's term can be true. `known`: the highest that was heard of; zero for a master that has just begun.
pub fn term(known: Term, row: Term) -> bool {
    follows(known.0.max(LEAP_MAX), row.0) || !guard::on(Guard::RowIsPlausible)
}

/// What the next term must be above. In the place of a term that cannot be true stands one that is above all that were:
/// nobody remembers which came last.
pub fn term_before(known: Term, row: Term) -> Term {
    if term(known, row) {
        known.max(row)
    } else {
        known.max(Term(LEAP_MAX))
    }
}

/// The length of a lease as a row says it, for who waits for its end. One that nobody may ask for may hide any other.
pub fn ttl(owned: bool, ttl: Duration) -> Duration {
    if ttl > TTL_MAX || owned && ttl.is_zero() {
        TTL_MAX
    } else {
        ttl
    }
}

/// The rows that an owner may believe: it does not obey an epoch that nobody can have given out.
pub fn credible(master: &MasterRow, shards: &[ShardRow]) -> Vec<ShardRow> {
    let good = shards.iter().filter(|shard| row(master, shard));
    good.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Grant, Nonce, ShardId};
    use crate::shard_map::Phase;

    fn rows(counter: u64, epochs: &[u64]) -> (MasterRow, Vec<ShardRow>) {
        let master = MasterRow {
            holder: None,
            incarnation: Default::default(),
            term: Term(1),
            grant: Grant(1),
            ttl: Duration::from_secs(1),
            nonce: Nonce(1),
            epoch_high: Epoch(counter),
            shard_count: 1,
            generation: Default::default(),
        };
        let shard = |epoch: &u64| ShardRow {
            shard: ShardId(0),
            generation: Default::default(),
            phase: Phase::Active,
            owner: None,
            incarnation: Default::default(),
            epoch: Epoch(*epoch),
            grant: Grant(1),
            ttl: Duration::from_secs(1),
            nonce: Nonce(1),
            previous: Vec::new(),
        };
        (master, epochs.iter().map(shard).collect())
    }

    /// Goal: whichever single number of the rows rots, upwards or to the last bit, the others say what it was; numbers
    /// that only lag or lead by legal steps are believed. Method: every case by its numbers.
    #[test]
    fn one_rotten_number_is_found_by_the_others() {
        let far = LEAP_MAX + 100;
        for (counter, epochs, shown_, wrong_rows, counter_right) in [
            (0, &[][..], 0, 0, true),
            (12, &[10, 12][..], 12, 0, true),
            (10, &[12][..], 12, 0, true),
            (LEAP_MAX + 12, &[12][..], LEAP_MAX + 12, 0, true),
            (far, &[12][..], 12, 0, false),
            (u64::MAX, &[12, 7][..], 12, 0, false),
            (i64::MAX as u64, &[12][..], 12, 0, false),
            (12, &[far + 12][..], 12, 1, true),
            (12, &[u64::MAX, 11][..], 12, 1, true),
            (u64::MAX, &[u64::MAX][..], 0, 1, false),
            (u64::MAX, &[u64::MAX, 9][..], 9, 1, false),
        ] {
            let (master, shards) = rows(counter, epochs);
            let case = format!("counter {counter}, rows {epochs:?}");
            assert_eq!(shown(&master, &shards), Epoch(shown_), "{case}");
            let wrong = shards.iter().filter(|shard| !row(&master, shard)).count();
            assert_eq!(wrong, wrong_rows, "{case}");
            assert_eq!(super::counter(&master, &shards), counter_right, "{case}");
        }
    }

    /// Goal: no sum of plausible numbers leaves what a database column or a kernel map holds.
    #[test]
    fn what_follows_from_plausible_numbers_fits() {
        assert!(i64::try_from(COUNT_MAX + LEAP_MAX + 1).is_ok());
        assert!(!follows(COUNT_MAX, COUNT_MAX) && follows(COUNT_MAX, COUNT_MAX - 1));
        assert!(!follows(u64::MAX, u64::MAX) && follows(5, 5 + LEAP_MAX));
        assert_eq!(Epoch(u64::MAX).next(), None);
        assert_eq!(Term(u64::MAX).next(), None);
    }

    /// Goal: two places may differ by legal steps, in either direction; what leaves no room for a step is agreed on by nobody.
    #[test]
    fn two_places_agree_within_legal_steps() {
        let far = 752_026_448_132_782;
        assert!(agree(far, far) && agree(far, far + LEAP_MAX) && agree(far + 1, far));
        assert!(!agree(far, far + LEAP_MAX + 1) && !agree(far, 5));
        assert!(!agree(COUNT_MAX - LEAP_MAX, COUNT_MAX - LEAP_MAX));
        assert!(!agree(u64::MAX, u64::MAX));
    }

    /// Goal: terms grow, also where the row's is gone. Method: a term that a master knows, one that nobody knows.
    #[test]
    fn a_term_is_above_all_that_were() {
        assert_eq!(term_before(Term(7), Term(9)), Term(9));
        assert_eq!(term_before(Term(9), Term(7)), Term(9));
        assert_eq!(term_before(Term(7), Term(u64::MAX)), Term(LEAP_MAX));
        assert_eq!(term_before(Term(0), Term(COUNT_MAX)), Term(LEAP_MAX));
        let next = Term(LEAP_MAX + 1);
        assert!(term(Term(0), next) && term(next, next));
        assert_eq!(term_before(next, Term(u64::MAX)), next);
    }

    #[test]
    fn a_lease_of_no_possible_length_is_waited_for_like_the_longest() {
        let ms = Duration::from_millis;
        assert_eq!(ttl(true, ms(1000)), ms(1000));
        assert_eq!(ttl(false, ms(0)), ms(0));
        assert_eq!(ttl(true, ms(0)), TTL_MAX);
        assert_eq!(ttl(true, Duration::from_millis(u64::MAX)), TTL_MAX);
    }
}
