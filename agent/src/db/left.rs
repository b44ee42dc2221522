//! What an earlier owner left that later messages of the same customers must wait behind: read at the begin of a tenure.
//! Changes nothing, and decides nothing: `coreapp/line.rs` does.

use std::time::Duration;

use wa_core::id::Ownership;

use super::due::MESSAGE_PAUSE_MAX_MS;
use super::{Db, DbError, number, on_pool, text};

/// A message of unknown fate, or one that was put off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Number of its row, in the order of acceptance.
    pub seq: i64,
    pub id: String,
    /// The customer's hash.
    pub route: u32,
    /// Until it is due; `None`: its fate is not known.
    pub due_in: Option<Duration>,
}

impl Db {
    /// Messages of the slice that are of unknown fate, or that an earlier owner was sending and are marked so in a moment; and those
    /// that were put off and are not due yet. At most `limit` of each sort: of the first those that are so since the latest moment,
    /// whose later ones wait; of the put off those that are due soonest. Ranges of one index.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn left_behind(
        &self,
        own: &Ownership,
        shard_count: u16,
        limit: u32,
    ) -> Result<Vec<Left>, DbError> {
        let part = |name: &str, wait: &str, which: String| {
            format!(
                "SELECT * FROM (SELECT seq, id, CAST(recipient_hash AS {int}) AS route, {wait} AS wait_ms FROM message \
                 WHERE {which} LIMIT {limit}) {name}",
                int = self.int()
            )
        };
        let slice = format!("recipient_hash % {} = {}", shard_count.max(1), own.shard.0);
        let (epoch, grant) = (number(own.epoch.0), number(own.grant.0));
        let parts = [
            part(
                "sending",
                "-1",
                format!("state=1 AND (claim_epoch<>{epoch} OR claim_grant<>{grant}) AND {slice}"),
            ),
            part(
                "doubtful",
                "-1",
                format!("state=2 AND {slice} ORDER BY next_ms DESC"),
            ),
            // What was never tried is due from the moment on in which it was accepted.
            part(
                "late",
                "next_ms-{now}",
                format!(
                    "state=0 AND next_ms>{{now}} AND next_ms<={{now}}+{MESSAGE_PAUSE_MAX_MS} AND next_ms<>accepted_ms AND {slice} \
                     ORDER BY next_ms"
                ),
            ),
        ];
        let sql = text(self, &parts.join(" UNION ALL "));
        let rows: Vec<(i64, String, i64, i64)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        let each = rows.into_iter().map(|(seq, id, route, wait_ms)| Left {
            seq,
            id,
            route: u32::try_from(route).unwrap_or(0),
            due_in: u64::try_from(wait_ms).ok().map(Duration::from_millis),
        });
        Ok(each.collect())
    }
}
