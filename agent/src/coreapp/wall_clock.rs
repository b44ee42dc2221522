//! Watches the wall clock of the database, by which rows become due and old: when it is set back, what waits is due at once;
//! when it leaps ahead, nothing is deleted for being old. Measured against this machine's boot clock, which is never set.

use std::sync::Arc;
use std::time::Duration;

use wa_core::time::Instant;

use super::node::Node;
use super::work::Work;
use crate::db::{Db, DbError};
use crate::sys::clock;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// A look whose answer takes longer says nothing exact.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// Less than this is the running of two clocks, or the time that an answer takes.
const BACK_MIN_MS: i64 = 1000;
/// A leap that makes rows older than they are by so much.
const AHEAD_MIN_MS: i64 = 60_000;

/// What the clock did between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    None,
    /// By so many milliseconds.
    Back(i64),
    Ahead(i64),
}

/// How far the database's clock is ahead of this machine's boot clock, in milliseconds.
fn lead(database_ms: u64, asked: Instant, answered: Instant) -> i64 {
    let middle = asked + answered.since(asked) / 2;
    let wide = i128::from(database_ms) - i128::from(middle.as_millis());
    i64::try_from(wide).unwrap_or(i64::MAX)
}

fn step(before: Option<i64>, now: i64) -> Step {
    let Some(moved) = before.map(|before| now.saturating_sub(before)) else {
        return Step::None;
    };
    if moved <= -BACK_MIN_MS {
        Step::Back(moved.saturating_neg())
    } else if moved >= AHEAD_MIN_MS {
        Step::Ahead(moved)
    } else {
        Step::None
    }
}

/// Watches until the tenure ends. `keep` is for how long rows are kept.
pub async fn watch(node: Arc<Node>, work: Arc<Work>, keep: Duration) {
    let (mut before, mut fresh) = (None, false);
    loop {
        // Not at once: the first moments of a tenure belong to messages.
        clock::sleep(EVERY).await;
        if let Some(db) = node.db()
            && let Err(error) = look(&node, &work, &db, keep, (&mut before, &mut fresh)).await
        {
            tracing::debug!(error = %error.brief(), "the database's clock cannot be read; retrying in {EVERY:?}");
        }
    }
}

async fn look(
    node: &Node,
    work: &Work,
    db: &Db,
    keep: Duration,
    (before, fresh): (&mut Option<i64>, &mut bool),
) -> Result<(), DbError> {
    if !*fresh {
        node.in_turn(db.make_fresh_due(&work.own, work.shard_count))
            .await?;
        *fresh = true;
    }
    let asked = clock::now();
    let database_ms = db.now_ms().await?;
    let answered = clock::now();
    if answered.since(asked) > ANSWER_MAX {
        return Ok(());
    }
    let now = lead(database_ms, asked, answered);
    match step(*before, now) {
        Step::None => {}
        Step::Back(ms) => {
            // Before the step is forgotten: a failure is tried again at the next look.
            let rows = node
                .in_turn(db.make_due(&work.own, work.shard_count))
                .await?;
            tracing::warn!(shard = %work.own.shard, rows, "the database's clock went back by {ms} ms; what waited for its time is tried now");
            work.claim_wanted.notify_one();
            work.webhook_wanted.notify_one();
        }
        Step::Ahead(ms) => {
            node.spared.until(answered + keep);
            tracing::warn!(shard = %work.own.shard, "the database's clock leapt ahead by {ms} ms; old rows are kept for {keep:?}, because they may be younger than they look");
        }
    }
    *before = Some(now);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal (F12): steps are told from the running of clocks, both ways, and the first look is none.
    #[test]
    fn f12_steps_of_the_databases_clock_are_seen() {
        assert_eq!(step(None, 7), Step::None);
        assert_eq!(step(Some(0), 900), Step::None);
        assert_eq!(step(Some(0), -999), Step::None);
        assert_eq!(step(Some(0), -3_600_000), Step::Back(3_600_000));
        assert_eq!(step(Some(0), -1000), Step::Back(1000));
        assert_eq!(step(Some(0), 59_999), Step::None);
        assert_eq!(step(Some(0), 60_000), Step::Ahead(60_000));
        assert_eq!(step(Some(i64::MAX), i64::MIN), Step::Back(i64::MAX));
    }

    /// Goal: the time that the answer took is no step, and absurd clocks do no harm.
    #[test]
    fn the_lead_is_taken_in_the_middle_of_a_look() {
        let (asked, answered) = (Instant::from_millis(1000), Instant::from_millis(1200));
        assert_eq!(lead(5000, asked, answered), 3900);
        assert_eq!(lead(0, asked, answered), -1100);
        assert_eq!(lead(u64::MAX, asked, answered), i64::MAX);
    }
}
