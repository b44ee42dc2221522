//! A lease row as the table holds it, and as the core reads it.
//! Weighs no epoch: `wa_core::plausible` does. What leaves no room for a guess is refused here, by row and column.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wa_core::id::{Epoch, Generation, Grant, Incarnation, NodeId, Nonce, ShardId, Term};
use wa_core::shard_map::{MasterRow, Phase, Previous, SHARD_COUNTS, ShardRow};

use super::DbError;

/// Columns of a lease row in the order that [`LeaseRow`] reads them.
pub(super) const COLUMNS: &str = "name, shard, owner, inc_counter, inc_random, token, grant_id, nonce, ttl_ms, phase, \
     generation, epoch_high, shard_count, previous";

/// One row of the table as stored.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct LeaseRow {
    name: String,
    shard: i64,
    owner: String,
    inc_counter: i64,
    inc_random: i64,
    token: i64,
    grant_id: i64,
    nonce: i64,
    ttl_ms: i64,
    phase: String,
    generation: i64,
    epoch_high: i64,
    shard_count: i64,
    previous: String,
}

/// An entry of `previous` as stored.
#[derive(Debug, Serialize, Deserialize)]
struct StoredPrevious {
    shard: u16,
    owner: String,
    counter: u64,
    random: u64,
    epoch: u64,
    grant: u64,
    ttl_ms: u64,
    nonce: u64,
}

pub(super) fn previous_text(previous: &[Previous]) -> String {
    let stored: Vec<StoredPrevious> = previous
        .iter()
        .map(|p| StoredPrevious {
            shard: p.shard.0,
            owner: p.owner.as_str().into(),
            counter: p.incarnation.counter,
            random: p.incarnation.random,
            epoch: p.epoch.0,
            grant: p.grant.0,
            ttl_ms: u64::try_from(p.ttl.as_millis()).unwrap_or(u64::MAX),
            nonce: p.nonce.0,
        })
        .collect();
    serde_json::to_string(&stored).expect("plain numbers and names are JSON")
}

fn previous_list(text: &str) -> Result<Vec<Previous>, DbError> {
    let stored: Vec<StoredPrevious> =
        serde_json::from_str(text).map_err(|e| DbError::Value(format!("lease.previous: {e}")))?;
    let list = stored.into_iter().map(|p| Previous {
        shard: ShardId(p.shard),
        owner: NodeId::new(&p.owner),
        incarnation: Incarnation {
            counter: p.counter,
            random: p.random,
        },
        epoch: Epoch(p.epoch),
        grant: Grant(p.grant),
        ttl: Duration::from_millis(p.ttl_ms),
        nonce: Nonce(p.nonce),
    });
    Ok(list.collect())
}

/// A number that the core weighs (`wa_core::plausible`). A negative one is none that anything counts up to, so it has to
/// stay recognisable, and to come back as it is in the conditions of a step that replaces it.
fn weighed(value: i64) -> u64 {
    value.cast_unsigned()
}

impl LeaseRow {
    fn incarnation(&self) -> Incarnation {
        Incarnation {
            counter: weighed(self.inc_counter),
            random: weighed(self.inc_random),
        }
    }

    /// A number that leaves no room for a guess: other readers would go by other shards, or another map.
    fn small<T: TryFrom<i64>>(&self, column: &str, value: i64) -> Result<T, DbError> {
        T::try_from(value).map_err(|_| self.refused(column, value))
    }

    fn refused(&self, column: &str, value: i64) -> DbError {
        DbError::Value(format!(
            "table lease, row {}: {column} is {value}, which cannot be; write the right number there",
            self.name
        ))
    }

    fn owner(&self) -> Option<NodeId> {
        (!self.owner.is_empty()).then(|| NodeId::new(&self.owner))
    }

    fn master(&self) -> Result<MasterRow, DbError> {
        let shard_count = self.small("shard_count", self.shard_count)?;
        if shard_count != 0 && !SHARD_COUNTS.contains(&shard_count) {
            return Err(self.refused("shard_count", self.shard_count));
        }
        Ok(MasterRow {
            holder: self.owner(),
            incarnation: self.incarnation(),
            term: Term(weighed(self.token)),
            grant: Grant(weighed(self.grant_id)),
            ttl: Duration::from_millis(weighed(self.ttl_ms)),
            nonce: Nonce(weighed(self.nonce)),
            epoch_high: Epoch(weighed(self.epoch_high)),
            shard_count,
            generation: Generation(self.small("generation", self.generation)?),
        })
    }

    fn shard(&self) -> Result<ShardRow, DbError> {
        Ok(ShardRow {
            shard: ShardId(self.small("shard", self.shard)?),
            generation: Generation(self.small("generation", self.generation)?),
            phase: Phase::parse(&self.phase)
                .ok_or_else(|| DbError::Value(format!("lease.phase {:?}", self.phase)))?,
            owner: self.owner(),
            incarnation: self.incarnation(),
            epoch: Epoch(weighed(self.token)),
            grant: Grant(weighed(self.grant_id)),
            ttl: Duration::from_millis(weighed(self.ttl_ms)),
            nonce: Nonce(weighed(self.nonce)),
            previous: previous_list(&self.previous)?,
        })
    }
}

pub(super) fn rows_to_map(rows: Vec<LeaseRow>) -> Result<(MasterRow, Vec<ShardRow>), DbError> {
    let mut master = None;
    let mut shards = Vec::new();
    for row in rows {
        if row.name == "master" {
            master = Some(row.master()?);
        } else {
            shards.push(row.shard()?);
        }
    }
    shards.sort_by_key(|row| row.shard);
    Ok((
        master.ok_or_else(|| DbError::Value("the lease table has no master row".into()))?,
        shards,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> LeaseRow {
        LeaseRow {
            name: name.into(),
            shard: 0,
            owner: String::new(),
            inc_counter: 1,
            inc_random: 1,
            token: 5,
            grant_id: 1,
            nonce: 1,
            ttl_ms: 1000,
            phase: "free".into(),
            generation: 1,
            epoch_high: 5,
            shard_count: 1,
            previous: "[]".into(),
        }
    }

    /// Goal: a number that cannot be is never read as another one: a count of shards, a generation, a shard. Method:
    /// each of them alone; the refusal names row, column and number.
    #[test]
    fn a_number_that_cannot_be_is_refused_by_name() {
        type Rot = fn(&mut LeaseRow);
        let cases: [(&str, Rot); 5] = [
            ("row master: shard_count is 70000", |r| {
                r.shard_count = 70_000
            }),
            ("row master: shard_count is 3", |r| r.shard_count = 3),
            ("row master: generation is -1", |r| r.generation = -1),
            ("row shard-0: shard is 65536", |r| r.shard = 65_536),
            ("row shard-0: generation is 4294967296", |r| {
                r.generation = 1 << 32
            }),
        ];
        for (says, rot) in cases {
            let name = if says.contains("master") {
                "master"
            } else {
                "shard-0"
            };
            let mut rotten = row(name);
            rot(&mut rotten);
            let other = row(if name == "master" {
                "shard-0"
            } else {
                "master"
            });
            let error = rows_to_map(vec![rotten, other])
                .expect_err(says)
                .to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(rows_to_map(vec![row("master"), row("shard-0")]).is_ok());
    }

    /// Goal: a negative epoch is no zero: it is far from every number that counts, and can be named in a condition.
    #[test]
    fn a_negative_number_stays_recognisable() {
        let mut rotten = row("shard-0");
        rotten.token = -1;
        let (_, shards) = rows_to_map(vec![row("master"), rotten]).expect("read");
        assert_eq!(shards[0].epoch, Epoch(u64::MAX));
        assert_eq!(shards[0].epoch.0.cast_signed(), -1);
    }
}
