//! What the measurement of many rows prints: a table for people, and the same as JSON.
//! Measures nothing.

use std::time::Duration;

use serde::Serialize;

use super::owner::{PHASES, Tenure};

/// What the full store keeps of the empty one's pace.
const KEPT: f64 = 0.8;
/// The phases that are judged, the first of them.
const JUDGED: usize = 2;
/// Rows that a statement may read more on the full store: what was finished a moment ago is among its first.
const MORE_ROWS: u64 = 1000;

/// One phase: what it does in a second, by round.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Pace {
    pub phase: &'static str,
    pub empty: Vec<u64>,
    pub full: Vec<u64>,
    pub empty_median: u64,
    pub full_median: u64,
    pub ratio: f64,
}

impl Pace {
    /// One round.
    pub fn note(&mut self, full: bool, rate: f64) {
        let of = if full {
            &mut self.full
        } else {
            &mut self.empty
        };
        of.push(rate.round() as u64);
    }

    fn judged(mut self, phase: &'static str) -> Self {
        self.phase = phase;
        (self.empty_median, self.full_median) = (median(&self.empty), median(&self.full));
        let ratio = self.full_median as f64 / self.empty_median.max(1) as f64;
        self.ratio = (ratio * 100.0).round() / 100.0;
        self
    }
}

/// One question, on the store without finished rows and on the one with all: microseconds and rows, by round.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Scan {
    pub what: &'static str,
    pub few_us: Vec<u64>,
    pub full_us: Vec<u64>,
    pub few_rows: Vec<u64>,
    pub full_rows: Vec<u64>,
    /// It reads no more rows for all that is finished.
    pub bounded: bool,
    #[serde(skip)]
    tenure: bool,
}

/// Takes one round of answers over.
pub fn note(scans: &mut Vec<Scan>, full: bool, seen: Vec<(Tenure, Duration, Option<u64>)>) {
    for (what, took, read) in seen {
        let at = scans.iter().position(|scan| scan.what == what.as_str());
        let at = at.unwrap_or_else(|| {
            scans.push(Scan {
                what: what.as_str(),
                tenure: reads_only_unfinished(what),
                ..Scan::default()
            });
            scans.len() - 1
        });
        let scan = &mut scans[at];
        let (us, rows) = match full {
            true => (&mut scan.full_us, &mut scan.full_rows),
            false => (&mut scan.few_us, &mut scan.few_rows),
        };
        us.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        rows.extend(read);
    }
}

/// The others look at finished rows, so many and no more: they have a bound of their own.
fn reads_only_unfinished(what: Tenure) -> bool {
    match what {
        Tenure::HalfSent
        | Tenure::InHand
        | Tenure::Fresh
        | Tenure::Newer
        | Tenure::Overdue
        | Tenure::Unknown
        | Tenure::Depth
        | Tenure::Waiting
        | Tenure::Pending
        | Tenure::Unplaced
        | Tenure::Kept
        | Tenure::Bodies
        | Tenure::EventBodies
        | Tenure::Events
        | Tenure::Ids => true,
        Tenure::NewestIds | Tenure::Receipts | Tenure::Oldest | Tenure::Counted => false,
    }
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Report {
    pub messages: u64,
    pub database: &'static str,
    pub filled_s: u64,
    pub bytes: u64,
    pub paces: Vec<Pace>,
    pub scans: Vec<Scan>,
    pub held: bool,
}

impl Report {
    /// From what was measured.
    pub fn of(
        (messages, server): (u64, bool),
        (filled_s, bytes): (u64, u64),
        paces: Vec<Pace>,
        mut scans: Vec<Scan>,
    ) -> Self {
        let paces: Vec<Pace> = paces
            .into_iter()
            .zip(PHASES)
            .map(|(pace, phase)| pace.judged(phase))
            .collect();
        for scan in &mut scans {
            let bound = median(&scan.few_rows) + MORE_ROWS;
            scan.bounded = median(&scan.full_rows) <= bound;
        }
        let kept = paces.iter().take(JUDGED).all(|pace| pace.ratio >= KEPT);
        let bounded = scans.iter().all(|scan| scan.bounded || !scan.tenure);
        Self {
            messages,
            database: if server { "mariadb" } else { "embedded" },
            filled_s,
            bytes,
            paces,
            scans,
            held: kept && bounded,
        }
    }

    /// The table.
    pub fn print(&self) {
        eprintln!(
            "{} messages, 1 % of them not finished, three statuses each; {}; filled in {} s, {:.1} GB of disk",
            self.messages,
            match self.database {
                "mariadb" =>
                    "MariaDB, buffer pool 2 GB, log 1 GB, innodb_flush_log_at_trx_commit=1",
                other => other,
            },
            self.filled_s,
            self.bytes as f64 / 1e9
        );
        eprintln!(
            "  a second, median of {} rounds   empty      full   ratio",
            { self.paces.first().map_or(0, |pace| pace.full.len()) }
        );
        for pace in &self.paces {
            eprintln!(
                "  {:<30} {:>8} {:>9} {:>7.2}",
                pace.phase, pace.empty_median, pace.full_median, pace.ratio
            );
        }
        eprintln!("  ms, rows read                                unfinished only      full store");
        for scan in &self.scans {
            eprintln!(
                "  {:<44} {:>8.1} {:>8} {:>8.1} {:>8}{}",
                scan.what,
                median(&scan.few_us) as f64 / 1000.0,
                shown(&scan.few_rows),
                median(&scan.full_us) as f64 / 1000.0,
                shown(&scan.full_rows),
                match (scan.bounded, scan.tenure) {
                    (true, _) => "",
                    (false, true) => "  reads finished rows",
                    (false, false) => "  reads some finished rows",
                }
            );
        }
        eprintln!(
            "{}",
            match self.held {
                true =>
                    "held: intake and claim keep four fifths, and no scan depends on what is finished",
                false =>
                    "NOT held: intake or claim keep less than four fifths, or a scan depends on what is finished",
            }
        );
    }
}

fn shown(rows: &[u64]) -> String {
    match rows.is_empty() {
        true => "-".into(),
        false => median(rows).to_string(),
    }
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(full: f64, full_rows: u64) -> Report {
        let mut pace = Pace::default();
        pace.note(false, 1000.0);
        pace.note(true, full);
        let mut scans = Vec::new();
        let us = Duration::from_micros(5);
        note(&mut scans, false, vec![(Tenure::Fresh, us, Some(10))]);
        note(&mut scans, true, vec![(Tenure::Fresh, us, Some(full_rows))]);
        Report::of((200, true), (1, 1), vec![pace; 4], scans)
    }

    /// Goal: a full store that is too slow, or through which a takeover goes, is not held. Method: one figure of each wrong.
    #[test]
    fn slow_and_scanning_stores_are_not_held() {
        assert!(report(800.0, 10).held);
        assert!(!report(790.0, 10).held, "slow");
        assert!(!report(800.0, 20_000).held, "scans");
        assert_eq!(report(900.0, 10).paces[0].ratio, 0.9);
    }
}
