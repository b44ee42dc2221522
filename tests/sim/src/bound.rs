//! L4: one failure of one class in a healthy cluster, at a moment that the seed draws; the takeover is within the bound that
//! `check-config` prints. Knows no protocol: it breaks, waits and looks at a watch.

use wa_core::id::splitmix;
use wa_core::lease::Tolerance;
use wa_core::master;
use wa_core::time::{Drift, Duration};
use wa_core::worst_case::{FAILURES, Failure, Spans, worst_case};

use crate::fault::Fault;
use crate::node::TTL;
use crate::world::{MS, Sim, What};

/// What a seed of this kind breaks.
#[derive(Debug, Clone, Copy)]
pub struct Single {
    failure: Failure,
    /// Clocks run right: the bound is the printed one. Otherwise they are off by up to ρ, and so is every wait.
    exact: bool,
    /// How much of the bound a takeover may use.
    percent: u64,
}

impl Sim {
    /// A healthy cluster in which one thing breaks.
    pub fn single(seed: u64) -> Self {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1ee7;
        let failure = FAILURES[(splitmix(&mut random) % FAILURES.len() as u64) as usize];
        let masters = match failure {
            Failure::HungOneMaster => 1,
            Failure::MasterAndOwnerLost => 2 + (splitmix(&mut random) % 2) as usize,
            Failure::HeartbeatsLost | Failure::ProcessHung | Failure::MachineLost => 2,
            _ => 1 + (splitmix(&mut random) % 3) as usize,
        };
        let mut sim = Self::bare(masters, 3, random);
        let exact = splitmix(&mut sim.random).is_multiple_of(2);
        for node in &mut sim.nodes {
            if !exact {
                node.rate = 900 + splitmix(&mut sim.random) % 201;
            }
            node.offset = splitmix(&mut sim.random) % (1 << 40);
        }
        // Nothing else goes wrong: statements take their few milliseconds, datagrams arrive.
        (sim.quiet, sim.single) = (
            true,
            Some(Single {
                failure,
                exact,
                percent: 100,
            }),
        );
        sim.hosts = splitmix(&mut sim.random).is_multiple_of(2);
        for index in 0..sim.nodes.len() {
            let at = sim.below(300) * MS;
            sim.push(at, index, What::Start);
        }
        sim
    }

    /// The same, held to a part of its bound.
    #[must_use]
    pub fn with_bound_percent(mut self, percent: u64) -> Self {
        if let Some(single) = &mut self.single {
            single.percent = percent;
        }
        self
    }

    fn spans(&self) -> Spans {
        Spans {
            intervals: self.intervals,
            db_unhealthy: Duration::from_millis(2500),
            ttl: TTL,
            tolerance: Tolerance {
                drift: Drift::KERNEL_LIMIT,
                margin: Duration::from_millis(20),
                vm_pause: Duration::ZERO,
            },
        }
    }

    /// The printed bound for what this seed breaks, and in ns of real time what clocks that are wrong make of it.
    fn bound(&self, single: Single) -> (Duration, u64) {
        let printed = worst_case(&self.spans(), single.failure, self.hosts).takeover;
        let nanos = u64::try_from(printed.as_nanos()).unwrap_or(u64::MAX);
        let real = if single.exact { nanos } else { nanos * 10 / 9 };
        (printed, real * single.percent / 100)
    }

    /// Plays such a seed.
    pub(crate) fn play_single(&mut self, single: Single) -> Result<(), String> {
        let at = (5000 + self.below(2000)) * MS;
        while self.now < at {
            self.one_event()?.ok_or("nothing left to do")?;
        }
        let owner = (self.masters..self.nodes.len()).find(|node| self.live(*node).is_some());
        let Some(owner) = owner else {
            return Err("L3: a quiet cluster is not served after 5 s".into());
        };
        self.break_it(single.failure, owner);
        let began = self.now;
        let (printed, bound) = self.bound(single);
        let class = single.failure.as_str();
        self.count(&format!("single: {class}"));
        let anew = |sim: &Self| {
            (sim.masters..sim.nodes.len()).any(|node| node != owner && sim.live(node).is_some())
        };
        while self.now < began + 20 * bound && !anew(self) {
            self.one_event()?.ok_or("nothing left to do")?;
        }
        let took = self.now - began;
        self.longest(single, took);
        if took <= bound {
            return Ok(());
        }
        let hosts = if self.hosts { "with" } else { "without" };
        let clocks = if single.exact { "right" } else { "wrong" };
        Err(format!(
            "L4: {class}, {hosts} host agents, clocks {clocks}: {} ms, printed {} ms",
            took / MS,
            printed.as_millis()
        ))
    }

    /// Remembers the longest takeover of a class, in parts of a hundred of its bound.
    fn longest(&mut self, single: Single, took: u64) {
        let (_, bound) = self.bound(single);
        let part = took * 100 / bound.max(1);
        let key = format!("longest, % of the bound: {}", single.failure.as_str());
        let longest = self.counts.entry(key).or_default();
        *longest = part.max(*longest);
    }

    fn break_it(&mut self, failure: Failure, owner: usize) {
        let nodes = self.nodes.len();
        let primary = (0..self.masters).find(|m| self.is_primary(*m)).unwrap_or(0);
        let others = |node: usize| (0..nodes).filter(move |other| *other != node);
        match failure {
            Failure::ProcessKilled => self.crash(owner, None),
            Failure::ProcessHung | Failure::HungOneMaster => self.fault(Fault::Pause(owner)),
            Failure::HeartbeatsLost => {
                for other in others(owner) {
                    self.fault(Fault::Cut(owner, other));
                    self.fault(Fault::Cut(other, owner));
                }
            }
            Failure::MachineLost => self.lose(owner),
            Failure::MasterAndOwnerLost => {
                self.lose(owner);
                self.lose(primary);
            }
            Failure::Switchover => {
                let shard = wa_core::id::ShardId(0);
                self.command(&master::Command::Switchover { shard, to: None });
            }
        }
    }

    /// A machine is gone: it neither hears nor says anything, and nobody gives a receipt for it.
    fn lose(&mut self, node: usize) {
        self.fault(Fault::Freeze(node));
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.fault(Fault::Cut(node, other));
            self.fault(Fault::Cut(other, node));
        }
        self.fault(Fault::CutDatabase(node));
    }
}
