//! Switchovers that operators asked for at a time: kept in a row, carried out by whoever is primary master then.
//! By the wall clock of that master, which nothing else is decided by.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::directory::READ_EVERY;
use super::fresh::{Reading, RowRead};
use super::record;
use super::request::Request;
use crate::api::control::{StoredSwitchover, SwitchoverAnswer, SwitchoverRequest};
use crate::db::setting::Change;
use crate::db::{Db, DbError};
use crate::member::settings::{self, Switchovers};
use crate::sys::clock;

/// Furthest ahead that a switchover is kept.
const AHEAD_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Without a primary master for longer than this it is dropped: nobody expects it any more.
const LATE_MAX_MS: u64 = 10 * 60 * 1000;
/// By how much two masters' clocks may differ.
const CLOCKS_MS: u64 = 3600 * 1000;
/// Most switchovers that wait.
const PLANNED_MAX: usize = 64;

/// Those that wait, the next one first.
///
/// # Errors
/// When the database does not answer.
pub async fn read(db: &Db) -> Result<Vec<StoredSwitchover>, DbError> {
    Ok(in_order(settings::read(db).await?))
}

fn in_order(row: settings::Stored<Switchovers>) -> Vec<StoredSwitchover> {
    let Switchovers(mut list) = row.or_default();
    list.sort_by_key(|p| p.at_ms);
    list
}

/// The switchovers that wait.
///
/// # Errors
/// When the database does not answer.
pub async fn reading(db: &Db) -> Result<Reading, DbError> {
    let begun = clock::now();
    let planned = read(db).await?;
    Ok(Reading {
        begun,
        what: RowRead::Planned(planned),
    })
}

/// When the wish means, in milliseconds since 1970 by this master's wall clock; `None`: now.
///
/// # Errors
/// The sentence for the operator.
pub fn time_of(wish: &SwitchoverRequest, now_ms: u64) -> Result<Option<u64>, String> {
    let at_ms = match (wish.in_ms, wish.at_ms) {
        (None, None) => return Ok(None),
        (Some(span), _) => now_ms.saturating_add(span),
        (None, Some(at)) => at,
    };
    let shown = text(at_ms);
    if at_ms <= now_ms {
        return Err(format!(
            "{shown} is past by the clock of this master, where it is {}",
            text(now_ms)
        ));
    }
    if at_ms - now_ms > u64::try_from(AHEAD_MAX.as_millis()).unwrap_or(u64::MAX) {
        return Err(format!("{shown} is more than a week ahead"));
    }
    Ok(Some(at_ms))
}

/// The last moment that the format can say: the end of the year 9999.
const SHOWN_MAX_MS: u64 = 253_402_300_799_000;

/// RFC 3339, whole seconds.
pub fn text(at_ms: u64) -> String {
    let at = std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(at_ms.min(SHOWN_MAX_MS));
    humantime::format_rfc3339_seconds(at).to_string()
}

/// Keeps a switchover in place of the one that the shard had; without a time: forgets that one. Says what was done.
///
/// # Errors
/// When the database does not answer, or the row changes all the time.
pub async fn write(
    db: &Db,
    wish: &SwitchoverRequest,
    at_ms: Option<u64>,
) -> Result<Result<String, String>, DbError> {
    let changed = settings::change(db, |row| {
        let (list, said) = with(in_order(row), wish, at_ms)?;
        Ok::<_, String>(if wish.dry_run {
            Change::Keep(said)
        } else {
            Change::Write(Switchovers(list), said)
        })
    });
    let said = match changed.await? {
        Ok(said) if !wish.dry_run => said,
        refused_or_dry => return Ok(refused_or_dry),
    };
    let what = if at_ms.is_some() {
        "switchover-at"
    } else {
        "switchover-cancel"
    };
    let subject = at_ms.map_or_else(String::new, text);
    let asked = (wish.reason.as_deref(), wish.by.as_deref());
    record::record(db, what, (Some(wish.shard), &subject), asked, &said).await?;
    record::journal(asked, &said);
    Ok(Ok(said))
}

/// The list with the wish in it, or without what it cancels, and what that comes to; else why not.
fn with(
    mut list: Vec<StoredSwitchover>,
    wish: &SwitchoverRequest,
    at_ms: Option<u64>,
) -> Result<(Vec<StoredSwitchover>, String), String> {
    let (before, shard) = (list.len(), wish.shard);
    list.retain(|p| p.shard != shard);
    let said = match at_ms {
        None if list.len() == before => {
            return Err(format!("no switchover of shard {shard} is planned"));
        }
        None => format!("the planned switchover of shard {shard} is cancelled"),
        Some(at_ms) => {
            list.push(StoredSwitchover {
                shard,
                to: wish.to.clone(),
                at_ms,
                reason: wish.reason.clone(),
                by: wish.by.clone(),
            });
            let to = wish.to.as_deref().unwrap_or("whoever is best then");
            format!(
                "shard {shard} will be moved to {to} at {} (cancel: wa-agent switchover --shard {shard} --cancel)",
                text(at_ms)
            )
        }
    };
    if list.len() > PLANNED_MAX {
        return Err(format!("{PLANNED_MAX} switchovers are planned already"));
    }
    Ok((list, said))
}

/// What a control call about a time comes to; the loop's own answer says whether the shard could be moved now.
pub async fn answer(
    db: &Db,
    wish: &SwitchoverRequest,
    mut answer: SwitchoverAnswer,
) -> SwitchoverAnswer {
    let at_ms = match time_of(wish, clock::wall_ms()) {
        Ok(at_ms) => at_ms,
        Err(why) => {
            (answer.accepted, answer.message) = (false, why);
            return answer;
        }
    };
    (answer.accepted, answer.message) = match write(db, wish, at_ms).await {
        Ok(Ok(said)) => (true, said),
        Ok(Err(why)) => (false, why),
        Err(error) => (
            false,
            format!("nothing was written: {}; try again", error.brief()),
        ),
    };
    answer
}

/// Takes out of the row what is due: only one master can, and each is carried out once at most. The second list is what
/// nobody was there for in time.
///
/// # Errors
/// When the database does not answer.
pub async fn take_due(
    db: &Db,
    now_ms: u64,
) -> Result<(Vec<StoredSwitchover>, Vec<StoredSwitchover>), DbError> {
    let changed = settings::change(db, |row| {
        let (due, later): (Vec<_>, Vec<_>) =
            in_order(row).into_iter().partition(|p| over(p, now_ms));
        Ok::<_, DbError>(if due.is_empty() {
            Change::Keep(due)
        } else {
            Change::Write(Switchovers(later), due)
        })
    });
    let due = changed.await??;
    Ok(due.into_iter().partition(|p| !missed(p, now_ms)))
}

/// It waits no longer. Nobody can have asked for a time that lies further ahead than the longest: the clock was set back, by
/// more than what two masters' clocks may differ.
fn over(p: &StoredSwitchover, now_ms: u64) -> bool {
    let ahead = u64::try_from(AHEAD_MAX.as_millis()).unwrap_or(u64::MAX);
    p.at_ms <= now_ms || p.at_ms - now_ms > ahead.saturating_add(CLOCKS_MS)
}

/// It is not carried out any more: it comes as a surprise.
fn missed(p: &StoredSwitchover, now_ms: u64) -> bool {
    p.at_ms > now_ms || now_ms - p.at_ms > LATE_MAX_MS
}

/// Switchovers whose time has come.
pub async fn carry_out_due(db: &Db, requests: &mpsc::Sender<Request>) {
    let Ok((due, missed)) = take_due(db, clock::wall_ms()).await else {
        return;
    };
    for p in missed {
        let said = "nobody was primary master at that time, or the clock was set; it is dropped";
        let asked = (p.reason.as_deref(), p.by.as_deref());
        let _ = record::record(db, "switchover-missed", (Some(p.shard), ""), asked, said).await;
        record::journal(asked, said);
    }
    for p in due {
        let wish = SwitchoverRequest {
            shard: p.shard,
            to: p.to,
            reason: p.reason,
            by: p.by,
            ..SwitchoverRequest::default()
        };
        let (sender, answer) = oneshot::channel();
        let asked = requests
            .send(Request::Switchover(wish.clone(), sender))
            .await;
        if asked.is_err() {
            return;
        }
        let Ok(Ok(answer)) = tokio::time::timeout(READ_EVERY * 4, answer).await else {
            continue;
        };
        let what = if answer.accepted {
            "switchover"
        } else {
            "refused"
        };
        let words = (wish.reason.as_deref(), wish.by.as_deref());
        let subject = answer.to.as_deref().unwrap_or_default();
        let record = record::record(
            db,
            what,
            (Some(wish.shard), subject),
            words,
            &answer.message,
        );
        if let Err(error) = record.await {
            tracing::debug!(error = %error.brief(), "the switchover was not recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(in_ms: Option<u64>, at_ms: Option<u64>) -> SwitchoverRequest {
        SwitchoverRequest {
            shard: 0,
            in_ms,
            at_ms,
            ..SwitchoverRequest::default()
        }
    }

    /// Goal (F12): a clock that was set back or forward by far drops what was planned, and carries out nothing by surprise.
    #[test]
    fn f12_a_clock_that_was_set_moves_no_shard() {
        let at = |at_ms: u64| StoredSwitchover {
            shard: 0,
            to: None,
            at_ms,
            reason: None,
            by: None,
        };
        let (now, day) = (1_800_000_000_000, 86_400_000);
        assert!(!over(&at(now + 7 * day), now), "planned for in a week");
        assert!(over(&at(now), now) && !missed(&at(now), now));
        for set in [at(now + 8 * day), at(now - day)] {
            assert!(over(&set, now) && missed(&set, now));
        }
    }

    /// Goal: a time is in the future and within a week; a span counts by the master's clock.
    #[test]
    fn times_are_bounded() {
        let now = 1_800_000_000_000;
        assert_eq!(time_of(&wish(None, None), now), Ok(None));
        assert_eq!(time_of(&wish(Some(1800), None), now), Ok(Some(now + 1800)));
        assert_eq!(time_of(&wish(None, Some(now + 5)), now), Ok(Some(now + 5)));
        let past = time_of(&wish(None, Some(now)), now).expect_err("past");
        assert!(
            past.contains("is past") && past.contains("2027-01-15T08:00:00Z"),
            "{past}"
        );
        let far = time_of(&wish(Some(8 * 86_400_000), None), now).expect_err("far");
        assert!(far.contains("a week"), "{far}");
        assert!(time_of(&wish(Some(u64::MAX), None), now).is_err());
    }
}
