//! What a measurement prints: a table for people, the same as JSON, and a line now and then while it runs.
//! Measures nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::super::cost::Cores;
use super::judge::{Counts, Queue, Spread, Times};

/// Counters of MariaDB that are shown for each message, by their own names.
const COUNTERS: [(&str, &[&str]); 11] = [
    (
        "statements",
        &[
            "Com_select",
            "Com_insert",
            "Com_insert_select",
            "Com_update",
            "Com_update_multi",
            "Com_delete",
            "Com_delete_multi",
            "Com_replace",
        ],
    ),
    ("selects", &["Com_select"]),
    ("inserts", &["Com_insert", "Com_insert_select"]),
    ("updates", &["Com_update", "Com_update_multi"]),
    ("deletes", &["Com_delete", "Com_delete_multi"]),
    ("commits", &["Com_commit"]),
    (
        "rows read",
        &[
            "Handler_read_first",
            "Handler_read_key",
            "Handler_read_last",
            "Handler_read_next",
            "Handler_read_prev",
            "Handler_read_rnd",
            "Handler_read_rnd_next",
        ],
    ),
    (
        "rows written",
        &["Handler_write", "Handler_update", "Handler_delete"],
    ),
    ("syncs", &["Innodb_data_fsyncs"]),
    ("log bytes", &["Innodb_os_log_written"]),
    ("lock waits", &["Innodb_row_lock_waits"]),
];

/// What was counted by the server, and the processor time, for each message that came to its end.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PerMessage {
    pub messages: u64,
    pub server: BTreeMap<&'static str, f64>,
    /// Microseconds of processor time, by kind of process.
    pub processor_us: BTreeMap<String, f64>,
    pub processor_us_all: f64,
}

impl PerMessage {
    /// Between two looks at the server's counters.
    pub fn of(
        messages: u64,
        before: &BTreeMap<String, u64>,
        after: &BTreeMap<String, u64>,
        cores: &Cores,
        took: Duration,
    ) -> Self {
        let each = messages.max(1) as f64;
        let grown = |name: &str| {
            let (before, after) = (before.get(name).copied(), after.get(name).copied());
            after.unwrap_or(0).saturating_sub(before.unwrap_or(0)) as f64
        };
        let sum = |names: &[&str]| names.iter().map(|name| grown(name)).sum::<f64>();
        let us = |cores: f64| (cores * took.as_secs_f64() * 1e6 / each).round();
        let by_kind = cores.by_kind.iter();
        Self {
            messages,
            server: (COUNTERS.iter())
                .map(|(shown, names)| (*shown, hundredths(sum(names) / each)))
                .collect(),
            processor_us: by_kind.map(|(kind, n)| (kind.clone(), us(*n))).collect(),
            processor_us_all: us(cores.by_kind.values().sum()),
        }
    }
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// One rate, for some time.
#[derive(Debug, Clone, Serialize)]
pub struct Attempt {
    /// Messages a second that were offered.
    pub rate: u32,
    pub seconds: u64,
    /// Owners that were killed meanwhile.
    pub kills: u32,
    /// Flat and good.
    pub held: bool,
    pub queue: Queue,
    pub counts: Counts,
    pub times: Times,
    pub cores: BTreeMap<String, f64>,
    pub cores_of_others: f64,
    pub per_message: PerMessage,
    /// What held it back.
    pub limit: String,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome<'a> {
    pub shards: u16,
    pub coreapps: u16,
    pub webapps: u16,
    pub database: &'a str,
    /// The search for the highest rate, in short runs.
    pub search: &'a [Attempt],
    /// The last run, at full length.
    pub last: &'a Attempt,
    pub passed: bool,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    pub second: u64,
    pub of: u64,
    pub rate: u32,
    pub due: u64,
    pub started: u64,
    pub open: u64,
    pub accepted: u64,
    pub taken: u64,
    pub whole: u64,
    pub kills: u32,
}

impl Look {
    /// Messages that were due by now and are not through. What was refused never comes through.
    pub fn queue(&self) -> u64 {
        let refused = self.started.saturating_sub(self.open + self.accepted);
        self.due.saturating_sub(refused + self.whole)
    }

    /// One line for whoever waits.
    pub fn print(&self, cores: &Cores) {
        let sum: f64 = cores.by_kind.values().sum();
        eprintln!(
            "{:>4} of {} s  {}/s  accepted {}, late to ask {}, not answered {}, not sent yet {}, not told yet {}  cores {sum:.2} ours, {:.2} others  {} killed",
            self.second,
            self.of,
            self.rate,
            self.accepted,
            self.due.saturating_sub(self.started),
            self.open,
            self.accepted.saturating_sub(self.taken),
            self.taken.saturating_sub(self.whole),
            cores.others,
            self.kills
        );
    }
}

/// The table of one run.
pub fn print(run: &Attempt) {
    let (c, q) = (&run.counts, &run.queue);
    eprintln!(
        "{}/s for {} s, {} owners killed: {}",
        run.rate,
        run.seconds,
        run.kills,
        match (run.held, q.flat) {
            (true, _) => "held",
            (false, true) => "NOT HELD: see the counts",
            (false, false) => "NOT HELD: the queue grew",
        }
    );
    eprintln!(
        "  queue     {} at first, {} at last, {} at worst",
        q.first, q.last, q.worst
    );
    eprintln!(
        "  messages  {} requests, {} refused, {} accepted, {} failed, {} lost, {} twice, {} untold, {} double primary",
        c.requests, c.refused, c.accepted, c.failed, c.lost, c.twice, c.untold, c.double_primary
    );
    eprintln!(
        "            {} statuses told again, {} answers lost on the way",
        c.told_again, c.unanswered
    );
    let times = [
        ("request → answer", run.times.answer),
        ("request → upstream", run.times.request_to_upstream),
        ("answer → upstream", run.times.accept_to_upstream),
        ("status → business", run.times.status_to_business),
    ];
    for (what, spread) in times {
        eprintln!("  {what:<20} {}", shown(spread));
    }
    let (kinds, each) = (&run.cores, &run.per_message);
    for (kind, cores) in kinds {
        let us = each.processor_us.get(kind).copied().unwrap_or(0.0);
        eprintln!("  {kind:<20} {cores:>6.2} cores  {us:>8.0} µs a message");
    }
    eprintln!(
        "  {:<20} {:>6.2} cores  {:>8.0} µs a message; {:.2} cores other work",
        "all",
        kinds.values().sum::<f64>(),
        each.processor_us_all,
        run.cores_of_others
    );
    let server: Vec<String> = (each.server.iter())
        .map(|(name, n)| format!("{n} {name}"))
        .collect();
    eprintln!("  MariaDB, a message   {}", server.join(", "));
    eprintln!("  {}", run.limit);
}

fn shown(spread: Spread) -> String {
    let ms = |us: u64| us as f64 / 1000.0;
    format!(
        "p50 {:>8.1} ms  p99 {:>8.1} ms  worst {:>8.1} ms",
        ms(spread.p50_us),
        ms(spread.p99_us),
        ms(spread.worst_us)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is refused is in no queue, and what waits anywhere is. Method: one look with some of each.
    #[test]
    fn a_queue_is_what_is_due_and_not_through() {
        let look = Look {
            due: 100,
            started: 95,
            open: 10,
            accepted: 80,
            taken: 70,
            whole: 60,
            ..Look::default()
        };
        assert_eq!(look.queue(), 35);
    }

    #[test]
    fn costs_are_for_each_message() {
        let counters = |n: u64| {
            let names = ["Com_select", "Com_update", "Com_commit", "Innodb_rows_read"];
            BTreeMap::from(names.map(|name| (name.to_owned(), n)))
        };
        let cores = Cores {
            by_kind: BTreeMap::from([("webapp".to_owned(), 0.5), ("mariadbd".to_owned(), 1.0)]),
            ..Cores::default()
        };
        let took = Duration::from_secs(10);
        let each = PerMessage::of(1000, &counters(500), &counters(2500), &cores, took);
        assert_eq!(
            (each.server["statements"], each.server["commits"]),
            (4.0, 2.0)
        );
        assert_eq!(each.server["lock waits"], 0.0);
        assert_eq!(each.processor_us["webapp"], 5000.0);
        assert_eq!(each.processor_us_all, 15_000.0);
    }
}
