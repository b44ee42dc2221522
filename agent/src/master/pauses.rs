//! The pauses that operators asked for: kept in a row, read back by every master, told to the core when they change.
//! Which pause is allowed is in `operate.rs`.

use std::time::Duration;

use wa_core::id::ShardId;
use wa_core::master::Command;
use wa_core::time::Instant;

use super::fresh::{self, Pauses, Reading};
use crate::api::control::StoredPause;
use crate::db::setting::Change;
use crate::db::{Db, DbError};
use crate::member::settings::{self, Stored, StoredPauses};
use crate::sys::clock;

/// Readings of one pause differ by the time that they take; less than this is no change.
const SAME_WITHIN: Duration = Duration::from_secs(2);

/// Writes a pause in place of the one that there was; without a span: ends that one.
///
/// # Errors
/// When the database does not answer, or the row changes all the time.
pub async fn store(db: &Db, shard: Option<u16>, for_ms: Option<u64>) -> Result<(), DbError> {
    let now = db.now_ms().await?;
    let changed = settings::change(db, |stored| {
        let mut row = known(stored);
        row.pauses
            .retain(|p| p.shard != shard && p.left_ms(now).is_some());
        row.pauses.extend(for_ms.map(|span| StoredPause {
            shard,
            until_ms: now.saturating_add(span),
            for_ms: span,
        }));
        Ok::<_, DbError>(Change::Write(row, ()))
    });
    changed.await?
}

fn known(stored: Stored<StoredPauses>) -> StoredPauses {
    stored.value.unwrap_or_else(|error| {
        tracing::error!(%error, "the stored pauses cannot be read; type wa-agent resume");
        StoredPauses::default()
    })
}

/// The pauses as this machine's clock sees them.
///
/// # Errors
/// When the database does not answer.
pub async fn read(db: &Db) -> Result<Reading, DbError> {
    let begun = clock::now();
    let stored = settings::read::<StoredPauses>(db).await?;
    let mut read = Pauses::new();
    if stored.version > 0 {
        let (now_ms, now) = (db.now_ms().await?, clock::now());
        let left = |p: &StoredPause| p.left_ms(now_ms).map(Duration::from_millis);
        let row = known(stored);
        let live = row.pauses.iter().filter_map(|p| Some((p, left(p)?)));
        read.extend(live.map(|(p, left)| (p.shard.map(ShardId), now + left)));
    }
    Ok(Reading {
        begun,
        what: fresh::RowRead::Pauses(read),
    })
}

/// What the core is told when the pauses were read again.
pub fn changes(known: &mut Pauses, read: Pauses) -> Vec<Command> {
    let ended = known.keys().filter(|key| !read.contains_key(key));
    let ended = ended.map(|key| Command::Pause {
        shard: *key,
        until: None,
    });
    let begun = read.iter().filter(|(key, until)| {
        let same = |old: &Instant| old.since(**until).max(until.since(*old)) < SAME_WITHIN;
        !known.get(key).is_some_and(same)
    });
    let begun = begun.map(|(key, until)| Command::Pause {
        shard: *key,
        until: Some(*until),
    });
    let commands = ended.chain(begun).collect();
    *known = read;
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every reading of the same row tells the core nothing new; what begins, moves or ends is told once.
    #[test]
    fn only_changes_reach_the_core() {
        let at = |ms| Instant::ZERO + Duration::from_millis(ms);
        let mut known = Pauses::new();
        let one = |until| Pauses::from([(Some(ShardId(0)), until)]);
        assert_eq!(changes(&mut known, one(at(60_000))).len(), 1);
        assert_eq!(changes(&mut known, one(at(60_004))), []);
        let longer = changes(&mut known, one(at(90_000)));
        assert!(
            matches!(&longer[..], [Command::Pause { until: Some(_), .. }]),
            "{longer:?}"
        );
        let over = changes(&mut known, Pauses::new());
        assert!(
            matches!(&over[..], [Command::Pause { until: None, .. }]),
            "{over:?}"
        );
        assert_eq!(changes(&mut known, Pauses::new()), []);
    }

    /// Goal (F12): a pause lasts no longer than it was asked for, wherever the database's clock is set; a row that does not say
    /// for how long has the longest there is.
    #[test]
    fn f12_a_pause_ends_though_the_clock_was_set_back() {
        let pause = |for_ms| StoredPause {
            shard: None,
            until_ms: 100_000_000,
            for_ms,
        };
        let minutes = 60_000;
        let asked = pause(30 * minutes);
        let at = |left| asked.left_ms(100_000_000 - left);
        assert_eq!(at(30 * minutes), Some(30 * minutes));
        assert_eq!(at(30 * minutes + 900), Some(30 * minutes + 900));
        assert_eq!(at(90 * minutes), None, "set back by an hour");
        assert_eq!(asked.left_ms(100_000_000), None);
        assert_eq!(asked.left_ms(u64::MAX), None);
        let old = pause(0);
        assert_eq!(old.left_ms(100_000_000 - 90 * minutes), Some(90 * minutes));
        assert_eq!(old.left_ms(0), None);
    }

    #[test]
    fn rubbish_in_the_row_is_no_pause() {
        let parse = |text| known(Stored::of(1, text)).pauses;
        assert_eq!(parse("rubbish"), []);
        assert_eq!(parse("{}"), []);
        let good = parse(r#"{"pauses":[{"shard":null,"until_ms":7}]}"#);
        assert_eq!(
            good,
            [StoredPause {
                shard: None,
                until_ms: 7,
                for_ms: 0,
            }]
        );
    }
}
