//! How long a takeover takes at worst, by class of failure: what `check-config` prints and what the simulator holds it to.
//! Judges no configuration: `config/validate.rs` does.

use crate::detector::Intervals;
use crate::lease::Tolerance;
use crate::time::Duration;

/// The timers that the worst cases follow from.
#[derive(Debug, Clone, Copy)]
pub struct Spans {
    pub intervals: Intervals,
    pub db_unhealthy: Duration,
    pub ttl: Duration,
    pub tolerance: Tolerance,
}

/// A class of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    ProcessKilled,
    ProcessHung,
    HeartbeatsLost,
    MachineLost,
    MasterAndOwnerLost,
    HungOneMaster,
    Switchover,
}

/// All of them, in the order in which they are printed.
pub const FAILURES: [Failure; 7] = [
    Failure::ProcessKilled,
    Failure::ProcessHung,
    Failure::HeartbeatsLost,
    Failure::MachineLost,
    Failure::MasterAndOwnerLost,
    Failure::HungOneMaster,
    Failure::Switchover,
];

impl Failure {
    /// As `check-config` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProcessKilled => "coreapp process killed",
            Self::ProcessHung => "coreapp process hung",
            Self::HeartbeatsLost => "heartbeats lost, owner still renews",
            Self::MachineLost => "machine or network lost",
            Self::MasterAndOwnerLost => "machine of primary master and owner lost",
            Self::HungOneMaster => "one master only, coreapp hung",
            Self::Switchover => "planned switchover",
        }
    }
}

/// Worst-case times for one class of failure, on clocks that run right.
#[derive(Debug, Clone)]
pub struct WorstCase {
    pub class: &'static str,
    /// Until a master knows.
    pub detection: Duration,
    /// Until the old owner is known to be over.
    pub fencing: Duration,
    /// Until the next request is answered.
    pub takeover: Duration,
}

/// Two commits, two nudges, one fsync of the epoch: what a promotion takes on a healthy database.
const PROMOTION: Duration = Duration::from_millis(200);

/// The worst case of one class, with (`true`) or without a living host agent on the owner's machine.
pub fn worst_case(t: &Spans, failure: Failure, host_agent: bool) -> WorstCase {
    let lapse = t.tolerance.challenge(t.ttl) + t.ttl / 3;
    let silence = t.intervals.unhealthy + t.intervals.heartbeat * 2;
    let receipt = t.tolerance.margin + t.intervals.heartbeat;
    // Whichever arrives first settles: the receipt, or the lapse of the old lease.
    let fence = |detection: Duration| {
        let lapsed = lapse.max(detection);
        if host_agent {
            lapsed.min(detection + receipt)
        } else {
            lapsed
        }
    };
    let killed = if host_agent {
        Duration::from_millis(10)
    } else {
        silence
    };
    let (detection, fencing) = match failure {
        Failure::ProcessKilled => (killed, fence(killed)),
        Failure::ProcessHung => (silence, fence(silence)),
        // It goes on renewing until it reads its replacement, and cannot tell us that it did.
        Failure::HeartbeatsLost => (silence, silence + lapse),
        Failure::MachineLost => (silence, lapse.max(silence)),
        Failure::MasterAndOwnerLost => (silence + lapse, silence + lapse * 2),
        Failure::HungOneMaster => (t.db_unhealthy.min(lapse.max(silence)), lapse.max(silence)),
        Failure::Switchover => (Duration::ZERO, t.tolerance.margin),
    };
    WorstCase {
        class: failure.as_str(),
        detection,
        fencing,
        takeover: detection.max(fencing) + PROMOTION,
    }
}

/// What people are told of a pair of intervals in one figure: how long it takes at worst until requests are answered again when
/// the owner's whole machine is lost.
pub fn told(t: &Spans) -> Duration {
    worst_case(t, Failure::MachineLost, false).takeover
}

/// The worst cases of all classes.
pub fn worst_cases(t: &Spans, host_agent: bool) -> Vec<WorstCase> {
    let of = |failure: &Failure| worst_case(t, *failure, host_agent);
    FAILURES.iter().map(of).collect()
}
