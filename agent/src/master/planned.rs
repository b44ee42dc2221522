//! Switchovers that operators asked for at a time: kept in a row, carried out by whoever is primary master then.
//! By the wall clock of that master, which nothing else is decided by.

use std::time::Duration;

use crate::api::control::{StoredSwitchover, SwitchoverAnswer, SwitchoverRequest};
use crate::db::setting::PLANNED;
use crate::db::{Db, DbError};
use crate::sys::clock;

/// Furthest ahead that a switchover is kept.
const AHEAD_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Without a primary master for longer than this it is dropped: nobody expects it any more.
const LATE_MAX_MS: u64 = 10 * 60 * 1000;
/// Most switchovers that wait.
const PLANNED_MAX: usize = 64;
/// Writers that come between reading and writing are rare: more than this is a fault.
const WRITE_ATTEMPTS: u32 = 8;

/// Those that wait, the next one first.
///
/// # Errors
/// When the database does not answer.
pub async fn read(db: &Db) -> Result<(u64, Vec<StoredSwitchover>), DbError> {
    let (version, text) = db.setting(PLANNED).await?;
    let mut list: Vec<StoredSwitchover> = if version == 0 {
        Vec::new()
    } else {
        serde_json::from_str(&text).unwrap_or_default()
    };
    list.sort_by_key(|p| p.at_ms);
    Ok((version, list))
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
/// When the database does not answer, or too many wait.
pub async fn write(
    db: &Db,
    wish: &SwitchoverRequest,
    at_ms: Option<u64>,
) -> Result<Result<String, String>, DbError> {
    for _ in 0..WRITE_ATTEMPTS {
        let (version, mut list) = read(db).await?;
        let before = list.len();
        list.retain(|p| p.shard != wish.shard);
        let said = match at_ms {
            None if list.len() == before => {
                return Ok(Err(format!(
                    "no switchover of shard {} is planned",
                    wish.shard
                )));
            }
            None => format!(
                "the planned switchover of shard {} is cancelled",
                wish.shard
            ),
            Some(at_ms) => {
                list.push(StoredSwitchover {
                    shard: wish.shard,
                    to: wish.to.clone(),
                    at_ms,
                    reason: wish.reason.clone(),
                    by: wish.by.clone(),
                });
                let to = wish.to.as_deref().unwrap_or("whoever is best then");
                format!(
                    "shard {} will be moved to {to} at {} (cancel: wa-agent switchover --shard {} --cancel)",
                    wish.shard,
                    text(at_ms),
                    wish.shard
                )
            }
        };
        if list.len() > PLANNED_MAX {
            return Ok(Err(format!(
                "{PLANNED_MAX} switchovers are planned already"
            )));
        }
        if wish.dry_run {
            return Ok(Ok(said));
        }
        let value = serde_json::to_string(&list).unwrap_or_default();
        if db.store_setting(PLANNED, version, &value).await? {
            let what = if at_ms.is_some() {
                "switchover-at"
            } else {
                "switchover-cancel"
            };
            let subject = at_ms.map_or_else(String::new, text);
            let asked = (wish.reason.as_deref(), wish.by.as_deref());
            super::operate::record(db, what, (Some(wish.shard), &subject), asked, &said).await?;
            super::operate::journal(asked, &said);
            return Ok(Ok(said));
        }
    }
    Err(DbError::Value(
        "too many switchovers are written at once".into(),
    ))
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
    let (version, list) = read(db).await?;
    let (due, later): (Vec<_>, Vec<_>) = list.into_iter().partition(|p| p.at_ms <= now_ms);
    if due.is_empty() {
        return Ok((due, Vec::new()));
    }
    let value = serde_json::to_string(&later).unwrap_or_default();
    if !db.store_setting(PLANNED, version, &value).await? {
        return Ok((Vec::new(), Vec::new()));
    }
    let missed = |p: &StoredSwitchover| now_ms - p.at_ms > LATE_MAX_MS;
    Ok(due.into_iter().partition(|p| !missed(p)))
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
