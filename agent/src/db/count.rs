//! Counts for `/v1/stats/db`. What grows with the past is counted one by one up to [`EXACT_LEN`] rows, and estimated beyond that:
//! no count reads more rows for all that is finished.
//! Changes nothing.

use std::collections::BTreeMap;

use super::{Db, DbError, on_pool, unsigned};

/// Rows that are counted one by one.
pub const EXACT_LEN: i64 = 50_000;
/// Where there may be more, they are counted in windows that lie evenly between the first number and the last one.
const WINDOWS: i64 = 50;
const WINDOW_LEN: i64 = EXACT_LEN / WINDOWS;

/// Numbers from one up to another, and for how many times as many they speak.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Window {
    from: i64,
    to: i64,
    weight: f64,
}

/// Of the numbers from the first to the last one.
fn windows(first: i64, last: i64) -> Vec<Window> {
    let span = last - first + 1;
    let window = |from: i64, next: i64, len: i64| {
        let to = next.min(from + len);
        let weight = (next - from) as f64 / (to - from).max(1) as f64;
        Window { from, to, weight }
    };
    if span <= EXACT_LEN {
        return vec![window(first, last + 1, EXACT_LEN)];
    }
    // Divided first: the product of large numbers is none.
    let edge = |n: i64| first + span / WINDOWS * n + span % WINDOWS * n / WINDOWS;
    let each = (0..WINDOWS).map(|n| window(edge(n), edge(n + 1), WINDOW_LEN));
    each.collect()
}

/// What the windows say of all.
fn estimate(counted: impl Iterator<Item = (f64, i64)>) -> u64 {
    let sum: f64 = counted.map(|(weight, n)| weight * n as f64).sum();
    sum.round() as u64
}

/// What is counted for the documented names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages by type.
    pub messages: Vec<(String, u64)>,
    /// Messages for which a receipt came.
    pub receipts: u64,
    pub pending_messages: u64,
    pub pending_callbacks: u64,
    /// Events of the upstream that no owner has worked off.
    pub pending_events: u64,
}

/// Rows by which a slice is estimated.
const SAMPLE_LEN: u64 = 20_000;

/// Number of a window, type, rows, and those of them for which a receipt came.
type Kind = (i64, String, i64, i64);

fn weight(windows: &[Window], n: i64) -> f64 {
    let window = usize::try_from(n).ok().and_then(|n| windows.get(n));
    window.map_or(0.0, |window| window.weight)
}

impl Db {
    /// Counts them.
    ///
    /// # Errors
    /// When the database does not answer, or not in time.
    pub async fn documented_counts(&self) -> Result<Counts, DbError> {
        let (messages, receipts) = self.messages_and_receipts().await?;
        let waiting = "SELECT (SELECT COUNT(*) FROM message WHERE state<3), (SELECT COUNT(*) FROM inbox WHERE processed=0)";
        let waiting: (i64, i64) =
            on_pool!(self, pool => sqlx::query_as(waiting).fetch_one(pool).await?);
        Ok(Counts {
            messages,
            receipts,
            pending_messages: unsigned(waiting.0),
            pending_callbacks: self.about("webhook", "id").await?,
            pending_events: unsigned(waiting.1),
        })
    }

    /// The lowest and the highest number of a table; `None`: it is empty.
    async fn ends(&self, table: &str, number: &str) -> Result<Option<(i64, i64)>, DbError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT (SELECT MIN({number}) FROM {table}), (SELECT MAX({number}) FROM {table})"
        ));
        let ends: (Option<i64>, Option<i64>) =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_one(pool).await?);
        Ok(ends.0.zip(ends.1))
    }

    /// How many rows a table has whose key is a number that grows.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn about(&self, table: &str, number: &str) -> Result<u64, DbError> {
        // Few rows may lie far apart: one that is old, and all others new.
        let few = sqlx::AssertSqlSafe(format!(
            "SELECT COUNT(*) FROM (SELECT 1 FROM {table} LIMIT {}) few",
            EXACT_LEN + 1
        ));
        let few: (i64,) = on_pool!(self, pool => sqlx::query_as(few).fetch_one(pool).await?);
        let Some((first, last)) = self
            .ends(table, number)
            .await?
            .filter(|_| few.0 > EXACT_LEN)
        else {
            return Ok(unsigned(few.0));
        };
        let windows = windows(first, last);
        let one = |(n, Window { from, to, .. }): (usize, &Window)| {
            format!(
                "SELECT {n} AS n, COUNT(*) AS c FROM {table} WHERE {number}>={from} AND {number}<{to}"
            )
        };
        let all: Vec<String> = windows.iter().enumerate().map(one).collect();
        let sql = sqlx::AssertSqlSafe(all.join(" UNION ALL "));
        let rows: Vec<(i64, i64)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        Ok(estimate(
            rows.iter().map(|(n, c)| (weight(&windows, *n), *c)),
        ))
    }

    /// Messages by type, and those for which a receipt came.
    async fn messages_and_receipts(&self) -> Result<(Vec<(String, u64)>, u64), DbError> {
        let Some((first, last)) = self.ends("message", "seq").await? else {
            return Ok((Vec::new(), 0));
        };
        let windows = windows(first, last);
        let one = |(n, Window { from, to, .. }): (usize, &Window)| {
            format!(
                "SELECT {n} AS n, kind, COUNT(*) AS c, COUNT(CASE WHEN receipt=2 THEN 1 END) AS r FROM message \
                 WHERE seq>={from} AND seq<{to} GROUP BY kind"
            )
        };
        let all: Vec<String> = windows.iter().enumerate().map(one).collect();
        let sql = sqlx::AssertSqlSafe(all.join(" UNION ALL "));
        let rows: Vec<Kind> = on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        let receipts = estimate(rows.iter().map(|row| (weight(&windows, row.0), row.3)));
        let mut kinds: BTreeMap<String, Vec<(f64, i64)>> = BTreeMap::new();
        for (n, kind, count, _) in rows {
            let counted = kinds.entry(kind).or_default();
            counted.push((weight(&windows, n), count));
        }
        let kinds = kinds.into_iter();
        let kinds = kinds.map(|(kind, counted)| (kind, estimate(counted.into_iter())));
        Ok((kinds.collect(), receipts))
    }

    /// What waits in the slice of one shard: messages that are not finished, and events of the inbox. Reads indexes; with several
    /// shards also the first [`SAMPLE_LEN`] rows, by which the slice is estimated where there are more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn waiting_of(&self, shard: u16, shard_count: u16) -> Result<(u64, u64), DbError> {
        let all = "SELECT (SELECT COUNT(*) FROM message WHERE state<3), (SELECT COUNT(*) FROM inbox WHERE processed=0)";
        let all: (i64, i64) = on_pool!(self, pool => sqlx::query_as(all).fetch_one(pool).await?);
        let all = (unsigned(all.0), unsigned(all.1));
        if shard_count <= 1 {
            return Ok(all);
        }
        let slice = |table: &str, waits: &str| {
            format!(
                "SELECT COUNT(*) FROM (SELECT recipient_hash FROM {table} WHERE {waits} LIMIT {SAMPLE_LEN}) sample \
                 WHERE recipient_hash % {shard_count} = {shard}"
            )
        };
        let (messages, events) = (slice("message", "state<3"), slice("inbox", "processed=0"));
        let sql = sqlx::AssertSqlSafe(format!("SELECT ({messages}), ({events})"));
        let of: (i64, i64) = on_pool!(self, pool => sqlx::query_as(sql).fetch_one(pool).await?);
        let part = |of: i64, all: u64| unsigned(of) * all.max(SAMPLE_LEN) / SAMPLE_LEN;
        Ok((part(of.0, all.0), part(of.1, all.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: few rows are counted as they are; of many, wherever they lie, no more are looked at, and what is said is about right.
    /// Method: the windows of spans of every size, and rows that lie densely, thinly, and not at all.
    #[test]
    fn many_rows_are_estimated_and_few_are_counted() {
        for (first, last) in [(1, 1), (7, 50_006), (-3, 10)] {
            let all = windows(first, last);
            assert_eq!(
                (all[0].from, all[0].to, all[0].weight),
                (first, last + 1, 1.0)
            );
            assert_eq!(all.len(), 1);
        }
        for (first, last) in [(1, 50_001), (9, 10_000_000), (1 << 40, 1 << 61)] {
            let all = windows(first, last);
            assert_eq!(all.len(), 50);
            assert!(
                all.iter()
                    .all(|w| w.to - w.from <= WINDOW_LEN && w.weight >= 1.0)
            );
            assert!(all.is_sorted_by_key(|w| w.from) && all[0].from == first);
            let spoken_for: f64 = all.iter().map(|w| w.weight * (w.to - w.from) as f64).sum();
            let span = (last - first + 1) as f64;
            assert!(
                (spoken_for / span - 1.0).abs() < 1e-9,
                "{spoken_for} of {span}"
            );
        }
        // The older half was collected, and of the rest every third number was used.
        let of = |w: &Window| {
            (w.from..w.to)
                .filter(|n| *n > 3_000_000 && n % 3 == 0)
                .count()
        };
        let all = windows(1, 6_000_000);
        let about = estimate(all.iter().map(|w| (w.weight, of(w) as i64)));
        assert!((950_000..1_050_000).contains(&about), "{about}");
    }
}
