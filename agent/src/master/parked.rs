//! Parked webhooks on the primary master: tried again or deleted, in small commits.
//! Judges nothing: the operator does.

use std::time::Duration;

use wa_core::time::Instant;

use super::record;
use crate::api::parked::{Answer, What, Wish};
use crate::db::{Db, DbError};
use crate::sys::clock;

/// Rows of one commit.
const COMMIT_LEN: u32 = 500;
/// How long one call goes on; whoever asks asks again for the rest.
const WORK_WITHIN: Duration = Duration::from_millis(1500);
/// Ids of one request.
const IDS_MAX: usize = 10_000;

/// For a master that is not primary.
pub fn elsewhere() -> Answer {
    Answer {
        elsewhere: true,
        message: "this master is not primary (1017); ask the primary master".into(),
        ..Answer::default()
    }
}

fn refused(message: String) -> Answer {
    Answer {
        message,
        ..Answer::default()
    }
}

/// Does what is asked, as far as there is time.
///
/// # Errors
/// When the database does not answer.
pub async fn carry_out(db: &Db, wish: &Wish) -> Result<Answer, DbError> {
    if wish.ids.len() > IDS_MAX {
        return Ok(refused(format!(
            "name at most {IDS_MAX} numbers at once, or all of them with --all"
        )));
    }
    let last = db.parked_last().await?;
    let upto = wish.upto.or(last);
    if wish.dry_run {
        if let Some(missing) = missing(db, wish).await? {
            return Ok(refused(format!(
                "no parked webhook has the number {missing}; wa-agent webhooks list shows those that are parked"
            )));
        }
        let done = match wish.ids.len() {
            0 => db.parked_count(None).await?,
            some => some as u64,
        };
        return Ok(Answer {
            accepted: true,
            done,
            upto,
            ..Answer::default()
        });
    }
    let began = clock::now();
    let (done, more) = work(db, wish, upto, began).await?;
    if done > 0 {
        let (what, of) = match wish.what {
            What::Retry => ("webhooks-retry", "are delivered again"),
            What::Purge => ("webhooks-purge", "are deleted"),
        };
        let words = (wish.reason.as_deref(), wish.by.as_deref());
        let said = format!("{done} parked webhooks {of}");
        record::journal(words, &said);
        record::record(db, what, (None, &done.to_string()), words, &said).await?;
    }
    Ok(Answer {
        accepted: true,
        done,
        more,
        upto,
        ..Answer::default()
    })
}

/// One of the numbers that is not parked.
async fn missing(db: &Db, wish: &Wish) -> Result<Option<i64>, DbError> {
    if wish.ids.is_empty() {
        return Ok(None);
    }
    let limit = u32::try_from(IDS_MAX).unwrap_or(u32::MAX);
    let there = db.parked_ids(&wish.ids, None, limit).await?;
    let mut ids = wish.ids.iter().copied();
    Ok(ids.find(|id| !there.contains(id)))
}

async fn work(
    db: &Db,
    wish: &Wish,
    upto: Option<i64>,
    began: Instant,
) -> Result<(u64, bool), DbError> {
    let mut done = 0;
    loop {
        let ids = db.parked_ids(&wish.ids, upto, COMMIT_LEN).await?;
        if ids.is_empty() {
            return Ok((done, false));
        }
        if clock::now().since(began) >= WORK_WITHIN {
            return Ok((done, true));
        }
        db.unpark(wish.what, &ids).await?;
        done += ids.len() as u64;
    }
}
