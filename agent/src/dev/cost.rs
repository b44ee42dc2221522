//! Processor time of a running cluster, by kind of process, over restarts; and what other work the machine did meanwhile.
//! Decides nothing: measurements print it.

use std::collections::BTreeMap;
use std::time::Duration;

use wa_core::time::Instant;

use super::cluster::Cluster;
use crate::sys::{clock, process};

/// What this process is called, apart from its lanes.
pub const OWN: &str = "simulator";
/// How the threads of lanes are named.
const LANE: &str = "lane-";

/// A runtime of its own with one thread, so that its processor time can be told from that of the rest of this process.
pub struct Lane(Option<tokio::runtime::Runtime>);

impl Lane {
    /// A lane with this name, of at most ten letters: the kernel cuts longer names.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub fn new(name: &str) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(format!("{LANE}{name}"))
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Where its tasks are started.
    pub fn handle(&self) -> &tokio::runtime::Handle {
        self.0
            .as_ref()
            .expect("it runs until it is dropped")
            .handle()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Waiting for its tasks is not allowed among tasks.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Counts processor time from its first look on. A process that was started anew in between goes on where the old one was.
#[derive(Debug, Default)]
pub struct Meter {
    began: Option<(Instant, Duration)>,
    /// By kind and id: what was seen last.
    last: BTreeMap<(String, u32), Duration>,
    spent: BTreeMap<String, Duration>,
}

/// Cores that were busy on average.
#[derive(Debug, Clone, Default)]
pub struct Cores {
    /// By kind of process, to hundredths.
    pub by_kind: BTreeMap<String, f64>,
    /// Of processes that are none of ours.
    pub others: f64,
}

impl Meter {
    /// Looks at all processes. What a process uses between the last look and its end is not counted: look often.
    pub async fn look(&mut self, cluster: &Cluster) {
        let first = self.began.is_none();
        if first {
            self.began = Some((clock::now(), process::busy().unwrap_or_default()));
        }
        for one in cluster.processes.values() {
            let pid = one.pid().and_then(|pid| u32::try_from(pid.as_raw()).ok());
            self.note(first, one.role.as_str(), pid);
        }
        if let Some(server) = &cluster.server {
            self.note(first, "mariadbd", server.pid().await);
        }
        let mut lanes = Duration::ZERO;
        for (tid, name, time) in process::threads() {
            if let Some(lane) = name.strip_prefix(LANE) {
                self.add(first, lane, tid, time);
                lanes += time;
            }
        }
        let own = std::process::id();
        if let Some(all) = process::cpu_time(own) {
            self.add(first, OWN, own, all.saturating_sub(lanes));
        }
    }

    fn note(&mut self, first: bool, kind: &str, pid: Option<u32>) {
        if let Some((pid, time)) = pid.and_then(|pid| Some((pid, process::cpu_time(pid)?))) {
            self.add(first, kind, pid, time);
        }
    }

    fn add(&mut self, first: bool, kind: &str, id: u32, time: Duration) {
        let before = self.last.insert((kind.to_owned(), id), time);
        // Whoever came later has used all of it since then.
        let before = before.unwrap_or(if first { time } else { Duration::ZERO });
        *self.spent.entry(kind.to_owned()).or_default() += time.saturating_sub(before);
    }

    /// What was busy since the first look.
    pub fn cores(&self) -> Cores {
        let Some((began, busy_before)) = self.began else {
            return Cores::default();
        };
        let took = clock::now().since(began).as_secs_f64().max(0.001);
        let share = |time: Duration| (time.as_secs_f64() / took * 100.0).round() / 100.0;
        let spent: Duration = self.spent.values().sum();
        let busy = process::busy()
            .unwrap_or_default()
            .saturating_sub(busy_before);
        Cores {
            by_kind: (self.spent.iter())
                .map(|(kind, time)| (kind.clone(), share(*time)))
                .collect(),
            others: share(busy.saturating_sub(spent)),
        }
    }
}

impl Cores {
    /// What held it back, as far as the figures show.
    pub fn limit(&self) -> String {
        let all = std::thread::available_parallelism().map_or(1, usize::from);
        let sum: f64 = self.by_kind.values().sum();
        let most = self.by_kind.iter().max_by(|a, b| a.1.total_cmp(b.1));
        let most = most.map_or("", |(kind, _)| kind);
        let busy = format!(
            "{sum:.2} of {all} cores busy, most of it in {most}; {:.2} cores busy with other work",
            self.others
        );
        if sum + self.others > all as f64 * 0.85 {
            format!("limited by the processors: {busy}")
        } else {
            format!("limited by waiting, for the disk or for an answer: {busy}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what was used before the first look does not count, and a process that was killed and started anew counts on.
    /// Method: one id that grows, one that comes later.
    #[test]
    fn restarts_do_not_hide_what_was_used() {
        let s = Duration::from_secs;
        let mut meter = Meter::default();
        meter.add(true, "coreapp", 1, s(100));
        meter.add(false, "coreapp", 1, s(103));
        meter.add(false, "coreapp", 2, s(4));
        meter.add(false, "coreapp", 2, s(5));
        assert_eq!(meter.spent["coreapp"], s(8));
    }

    #[test]
    fn the_limit_is_named() {
        let cores = |used: f64, others: f64| Cores {
            by_kind: BTreeMap::from([("mariadbd".to_owned(), used)]),
            others,
        };
        let all = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        assert!(
            cores(all, 0.0)
                .limit()
                .starts_with("limited by the processors")
        );
        assert!(cores(0.1, all).limit().contains("processors"));
        assert!(cores(0.1, 0.0).limit().starts_with("limited by waiting"));
    }
}
