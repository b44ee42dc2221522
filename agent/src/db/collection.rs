//! Garbage collection: which runs were asked for (table `collection`; a part that is told has no shards any more), and what is
//! old enough to go.
//! Deletes no row of the map of ids (`message_id`), whatever becomes of the messages.

use wa_core::id::Ownership;

use super::{Db, DbError, number, on_pool, text, unsigned};

/// What is collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Messages,
    Media,
}

impl Kind {
    /// The word in the rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "message",
            Self::Media => "media",
        }
    }
}

/// One coreapp's part of a run that begins, and the slice of messages that it is to collect; `None` for one that owns none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub node: String,
    pub shard: Option<u16>,
}

/// A part of a run that is not told yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    pub kind: Kind,
    /// Whose part it is; whoever owns its shard carries it out.
    pub node: String,
    pub run: u64,
    pub shard: Option<u16>,
    /// Of how many shards.
    pub shard_count: u16,
    /// What was deleted so far.
    pub deleted: u64,
}

impl Running {
    /// The shard whose owner carries it out, now that there are so many of them.
    pub fn carried_out_by(&self, shard_count: u16) -> u16 {
        self.shard.unwrap_or(0) % shard_count.max(1)
    }

    fn is(&self, db: &Db) -> String {
        format!(
            "kind={} AND node={} AND run={}",
            db.quote(self.kind.as_str()),
            db.quote(&self.node),
            number(self.run)
        )
    }
}

/// A message, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Old {
    pub seq: i64,
    pub recipient_hash: u32,
    /// Finished, and for longer than it is kept.
    pub over: bool,
    /// It was accepted so lately that none behind it can be over.
    pub young: bool,
}

/// Tries of a statement that another one was in the way of.
const TRIES_MAX: u32 = 8;

type RunningRow = (String, String, i64, i64, i64, i64);

impl Db {
    /// Begins a run of these parts, unless one of its kind is under way. The nodes of the run that is under way now.
    ///
    /// # Errors
    /// When the database does not answer: whether a run began is unknown then.
    pub async fn begin_collection(
        &self,
        kind: Kind,
        run: (u64, u16),
        parts: &[Part],
    ) -> Result<Vec<String>, DbError> {
        for _ in 0..TRIES_MAX {
            match self.try_begin_collection(kind, run, parts).await {
                // Two webapps at once: the next try sees the other's rows.
                Err(DbError::Sqlx(error)) if super::is_busy(&error) => {}
                done => return done,
            }
        }
        Err(DbError::Conflict)
    }

    async fn try_begin_collection(
        &self,
        kind: Kind,
        (run, shard_count): (u64, u16),
        parts: &[Part],
    ) -> Result<Vec<String>, DbError> {
        let rows: Vec<String> = parts
            .iter()
            .map(|part| {
                let shard = part.shard.map_or(-1, i32::from);
                format!("SELECT {} AS n, {shard} AS s", self.quote(&part.node))
            })
            .collect();
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let kind = kind.as_str();
        // What is told stays until the next run: whoever asks again meanwhile is answered the same.
        let clean = "DELETE FROM collection WHERE kind=? AND shard_count=0 AND \
             (SELECT c.n FROM (SELECT COUNT(*) AS n FROM collection WHERE kind=? AND shard_count>0) c)=0";
        let insert = text(
            self,
            &format!(
                "INSERT {{ignore}} INTO collection (kind, node, run, shard, shard_count, deleted, begun_ms) \
                 SELECT ?, v.n, ?, v.s, ?, 0, {{now}} FROM ({}) v \
                 WHERE NOT EXISTS (SELECT 1 FROM collection c WHERE c.kind=? AND c.shard_count>0)",
                rows.join(" UNION ALL ")
            ),
        );
        let select = "SELECT node FROM collection WHERE kind=? ORDER BY node";
        let (begun, nodes): (u64, Vec<(String,)>) = on_pool!(self, pool => {
            sqlx::query(clean).bind(kind).bind(kind).execute(&mut *pool).await?;
            let done = sqlx::query(insert)
                .bind(kind)
                .bind(number(run))
                .bind(i64::from(shard_count))
                .bind(kind)
                .execute(&mut *pool)
                .await?;
            let nodes = sqlx::query_as(select).bind(kind).fetch_all(pool).await?;
            (done.rows_affected(), nodes)
        });
        // What began just now may be over already.
        Ok(match begun > 0 || nodes.is_empty() {
            true => parts.iter().map(|part| part.node.clone()).collect(),
            false => nodes.into_iter().map(|(node,)| node).collect(),
        })
    }

    /// All parts that are not told yet.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn collections(&self) -> Result<Vec<Running>, DbError> {
        let int = self.int();
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT kind, node, run, CAST(shard AS {int}), CAST(shard_count AS {int}), deleted FROM collection \
             WHERE shard_count>0 ORDER BY kind, node"
        ));
        let rows: Vec<RunningRow> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        let small = |n: i64| u16::try_from(n).ok();
        let running = |(kind, node, run, shard, count, deleted): RunningRow| {
            let kinds = [Kind::Messages, Kind::Media];
            Some(Running {
                // A kind of a newer release is its own business.
                kind: kinds.into_iter().find(|known| known.as_str() == kind)?,
                node,
                run: unsigned(run),
                shard: small(shard),
                shard_count: small(count).unwrap_or(1),
                deleted: unsigned(deleted),
            })
        };
        Ok(rows.into_iter().filter_map(running).collect())
    }

    /// Messages behind this number, oldest first. Numbers grow with the time of acceptance.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn oldest_messages(
        &self,
        behind: i64,
        keep_ms: u64,
        limit: u32,
    ) -> Result<Vec<Old>, DbError> {
        let int = self.int();
        let sql = text(
            self,
            &format!(
                "SELECT seq, CAST(recipient_hash AS {int}), \
                 CAST(CASE WHEN state>=3 AND finished_ms<{{now}}-? THEN 1 ELSE 0 END AS {int}), \
                 CAST(CASE WHEN accepted_ms>={{now}}-? THEN 1 ELSE 0 END AS {int}) \
                 FROM message WHERE seq>? ORDER BY seq LIMIT ?"
            ),
        );
        let rows: Vec<(i64, i64, i64, i64)> = on_pool!(self, pool => {
            sqlx::query_as(sql)
                .bind(number(keep_ms))
                .bind(number(keep_ms))
                .bind(behind)
                .bind(i64::from(limit))
                .fetch_all(pool)
                .await?
        });
        let old = |(seq, hash, over, young): (i64, i64, i64, i64)| Old {
            seq,
            recipient_hash: u32::try_from(hash).unwrap_or(0),
            over: over != 0,
            young: young != 0,
        };
        Ok(rows.into_iter().map(old).collect())
    }

    /// Deletes these messages, where they are finished, and counts them for the part that they are deleted for. How many;
    /// `None`: stale, nothing was done.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn delete_messages(
        &self,
        own: &Ownership,
        seqs: &[i64],
        part: Option<&Running>,
    ) -> Result<Option<u64>, DbError> {
        if seqs.is_empty() {
            return Ok(Some(0));
        }
        let seqs: Vec<String> = seqs.iter().map(ToString::to_string).collect();
        let delete = format!(
            "DELETE FROM message WHERE seq IN ({}) AND state>=3",
            seqs.join(",")
        );
        self.delete_and_count(own, delete, part).await
    }

    /// Deletes the row of a file that was not used for `keep_ms`, as above. Its bytes are still there. 0: it was used meanwhile.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn delete_unused_medium(
        &self,
        own: &Ownership,
        (id, keep_ms): (&str, u64),
        part: Option<&Running>,
    ) -> Result<Option<u64>, DbError> {
        let now = self.now_sql();
        let delete = format!(
            "DELETE FROM media WHERE id={} AND created_ms<{now}-{keep_ms} AND cloud_ms<{now}-{keep_ms}",
            self.quote(id)
        );
        self.delete_and_count(own, delete, part).await
    }

    async fn delete_and_count(
        &self,
        own: &Ownership,
        delete: String,
        part: Option<&Running>,
    ) -> Result<Option<u64>, DbError> {
        let rows = if self.embedded() {
            "changes()"
        } else {
            "ROW_COUNT()"
        };
        let mut statements = vec![delete];
        statements.extend(part.map(|part| {
            format!(
                "UPDATE collection SET deleted=deleted+{rows} WHERE {}",
                part.is(self)
            )
        }));
        let counts = self.guarded(own, &statements).await?;
        Ok(counts.map(|counts| counts.first().copied().unwrap_or(0)))
    }

    /// Counts files without a row that were deleted for a part. False: stale, nothing was counted.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn count_collected(
        &self,
        own: &Ownership,
        part: &Running,
        more: u64,
    ) -> Result<bool, DbError> {
        let update = format!(
            "UPDATE collection SET deleted=deleted+{} WHERE {}",
            number(more),
            part.is(self)
        );
        Ok(self.guarded(own, &[update]).await?.is_some())
    }

    /// Ends a part and queues the callback that tells it, in one commit: it is told once, whoever ends it. Without a payload nobody
    /// is told. False: stale, or the part is not as it was read; nothing was done.
    ///
    /// # Errors
    /// When the database does not answer: read the part again.
    pub async fn end_collection(
        &self,
        own: &Ownership,
        part: &Running,
        payload: Option<&str>,
    ) -> Result<bool, DbError> {
        let key = format!("gc:{}:{}:{}", part.kind.as_str(), part.run, part.node);
        let (ignore, alive) = if self.embedded() {
            ("OR IGNORE", "")
        } else {
            ("IGNORE", " AND {alive}")
        };
        let as_read = format!(
            "{} AND shard_count>0 AND deleted={}",
            part.is(self),
            number(part.deleted)
        );
        let tell = payload.map(|payload| {
            format!(
                "INSERT {ignore} INTO webhook (event_key, recipient_hash, payload, next_ms) \
                 SELECT {}, {}, {}, {} FROM collection WHERE {as_read}{alive}",
                self.quote(&super::together::stored_key(&key)),
                // Any number of the shard's slice: its owner delivers.
                part.shard.unwrap_or(0),
                self.quote(payload),
                self.now_sql()
            )
        });
        let end = format!("UPDATE collection SET shard_count=0 WHERE {as_read}");
        let mut statements: Vec<String> = tell.into_iter().collect();
        statements.push(end);
        let counts = self.guarded(own, &statements).await?;
        Ok(counts.is_some_and(|counts| counts.last().is_some_and(|rows| *rows > 0)))
    }

    /// Ids of files behind this one, in their order, and whether each was not used for `keep_ms`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn media_unused(
        &self,
        behind: &str,
        keep_ms: u64,
        limit: u32,
    ) -> Result<Vec<(String, bool)>, DbError> {
        let sql = text(
            self,
            &format!(
                "SELECT id, CAST(CASE WHEN created_ms<{{now}}-? AND cloud_ms<{{now}}-? THEN 1 ELSE 0 END AS {}) \
                 FROM media WHERE id>? ORDER BY id LIMIT ?",
                self.int()
            ),
        );
        let rows: Vec<(String, i64)> = on_pool!(self, pool => {
            sqlx::query_as(sql)
                .bind(number(keep_ms))
                .bind(number(keep_ms))
                .bind(behind)
                .bind(i64::from(limit))
                .fetch_all(pool)
                .await?
        });
        Ok(rows
            .into_iter()
            .map(|(id, unused)| (id, unused != 0))
            .collect())
    }
}
