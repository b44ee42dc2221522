//! Is a peer silent? Counts on-time heartbeat rounds that it left unanswered.
//!
//! Intuition: the master's own clock says nothing about a peer; only a ping that left in time and stayed unanswered does.
//! Model: a round is one ping to every peer. A late round (the master itself was slow) neither counts nor resets.
//! Rejected: a bare "last heard" age: one late wake-up of the master would then look like the death of everybody.

use std::collections::BTreeMap;

use crate::guard::{self, Guard};
use crate::id::{Incarnation, NodeId};
use crate::time::{Duration, Instant};
use crate::wire::{Health, Report};

/// The two intervals that a settings change moves together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Intervals {
    pub heartbeat: Duration,
    pub unhealthy: Duration,
}

impl Intervals {
    /// How many on-time rounds must stay unanswered: unhealthy / heartbeat, at least 3 (design, timers).
    pub fn rounds(&self) -> u32 {
        let rounds = self.unhealthy.as_nanos() / self.heartbeat.as_nanos().max(1);
        u32::try_from(rounds).unwrap_or(u32::MAX).max(3)
    }
}

/// What is known of one peer by heartbeats.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    pub incarnation: Incarnation,
    pub report: Option<Report>,
    /// Arrival of its newest answer.
    pub heard_at: Option<Instant>,
    /// When the first of the unanswered rounds was counted.
    pub silent_since: Option<Instant>,
    missed: u32,
    asked: bool,
    answered: bool,
}

impl Peer {
    fn new() -> Self {
        Self {
            incarnation: Incarnation::default(),
            report: None,
            heard_at: None,
            silent_since: None,
            missed: 0,
            asked: false,
            answered: false,
        }
    }

    /// The report, as long as the peer is not silent and its main loop makes progress.
    pub fn fresh(&self, intervals: &Intervals) -> Option<&Report> {
        self.report
            .as_ref()
            .filter(|report| !self.silent(intervals) && !stuck(report, intervals))
    }

    /// It left as many on-time rounds unanswered as make it silent.
    pub fn silent(&self, intervals: &Intervals) -> bool {
        self.missed >= intervals.rounds()
    }

    /// It answers, but its main loop has made no progress for unhealthy_interval.
    pub fn gray(&self, intervals: &Intervals) -> bool {
        !self.silent(intervals)
            && self
                .report
                .as_ref()
                .is_some_and(|report| stuck(report, intervals))
    }

    /// All health bits of `bits` are set in its newest report.
    pub fn has(&self, bits: Health) -> bool {
        self.report
            .as_ref()
            .is_some_and(|report| report.health.has(bits))
    }
}

fn stuck(report: &Report, intervals: &Intervals) -> bool {
    u128::from(report.progress_age_ms) >= intervals.unhealthy.as_millis().max(250)
}

/// All peers of one master.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Detector {
    pub intervals: Intervals,
    pub peers: BTreeMap<NodeId, Peer>,
    /// Rounds in a row that were late.
    pub late_rounds: u32,
}

impl Detector {
    /// Knows nobody.
    pub fn new(intervals: Intervals) -> Self {
        Self {
            intervals,
            peers: BTreeMap::new(),
            late_rounds: 0,
        }
    }

    /// Watches exactly these nodes.
    pub fn watch<'a>(&mut self, nodes: impl Iterator<Item = &'a NodeId>) {
        let mut peers = BTreeMap::new();
        for node in nodes {
            peers.insert(
                node.clone(),
                self.peers.remove(node).unwrap_or_else(Peer::new),
            );
        }
        self.peers = peers;
    }

    /// A round of pings leaves now. A late one is skipped.
    pub fn round(&mut self, now: Instant, late: bool) {
        if late && guard::on(Guard::LateRoundSkipped) {
            self.late_rounds = self.late_rounds.saturating_add(1);
            return;
        }
        self.late_rounds = 0;
        for peer in self.peers.values_mut() {
            if peer.asked && !peer.answered {
                peer.missed = peer.missed.saturating_add(1);
                peer.silent_since.get_or_insert(now);
            }
            peer.asked = true;
            peer.answered = false;
        }
    }

    /// An authentic answer arrived. True when it came from a newer start of the node than heard before.
    pub fn answered(
        &mut self,
        now: Instant,
        node: &NodeId,
        incarnation: Incarnation,
        report: Report,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(node) else {
            return false;
        };
        if incarnation.counter < peer.incarnation.counter && guard::on(Guard::OldStartIsNoSign) {
            return false;
        }
        let restarted = peer.incarnation != incarnation && peer.heard_at.is_some();
        peer.incarnation = incarnation;
        peer.report = Some(report);
        peer.heard_at = Some(now);
        peer.missed = 0;
        peer.answered = true;
        peer.silent_since = None;
        restarted
    }

    /// A change of intervals restarts every silence count (attack 28).
    pub fn set_intervals(&mut self, intervals: Intervals) {
        if self.intervals != intervals {
            self.intervals = intervals;
            if !guard::on(Guard::IntervalsRestartCounts) {
                return;
            }
            for peer in self.peers.values_mut() {
                peer.missed = 0;
                peer.asked = false;
                peer.silent_since = None;
            }
        }
    }

    /// The peer is known and silent.
    pub fn silent(&self, node: &NodeId) -> bool {
        self.peers
            .get(node)
            .is_some_and(|peer| peer.silent(&self.intervals))
    }

    /// This master's own timers were late for unhealthy_interval: it abstains.
    pub fn impaired(&self) -> bool {
        self.late_rounds >= self.intervals.rounds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            shard: None,
            epoch: Default::default(),
            grant: Default::default(),
            epoch_high: Default::default(),
            health: Health(0),
            progress_age_ms: 0,
            lateness_ms: 0,
            in_flight: 0,
        }
    }

    fn watched() -> (Detector, NodeId) {
        let node = NodeId::new("a:coreapp-1");
        let mut detector = Detector::new(Intervals {
            heartbeat: Duration::from_millis(50),
            unhealthy: Duration::from_millis(300),
        });
        detector.watch([&node].into_iter());
        (detector, node)
    }

    /// Goal: only on-time unanswered rounds make silence. Method: late rounds between them change nothing.
    #[test]
    fn late_rounds_neither_count_nor_reset() {
        let (mut detector, node) = watched();
        for round in 0..6 {
            detector.round(Instant::from_millis(round * 50), false);
        }
        assert!(!detector.silent(&node), "five unanswered rounds of six");
        for round in 6..20 {
            detector.round(Instant::from_millis(round * 50), true);
        }
        assert!(!detector.silent(&node));
        assert!(detector.impaired());
        detector.round(Instant::from_millis(1000), false);
        assert!(detector.silent(&node));
    }

    #[test]
    fn an_answer_of_an_older_start_is_no_sign_of_life() {
        let (mut detector, node) = watched();
        let (old, new) = (
            Incarnation {
                counter: 1,
                random: 9,
            },
            Incarnation {
                counter: 2,
                random: 8,
            },
        );
        assert!(!detector.answered(Instant::ZERO, &node, old, report()));
        assert!(
            detector.answered(Instant::ZERO, &node, new, report()),
            "restarted"
        );
        detector.round(Instant::from_millis(50), false);
        detector.answered(Instant::from_millis(51), &node, old, report());
        for round in 2..9 {
            detector.round(Instant::from_millis(round * 50), false);
        }
        assert!(detector.silent(&node));
    }

    #[test]
    fn shrinking_the_intervals_starts_the_count_afresh() {
        let (mut detector, node) = watched();
        for round in 0..6 {
            detector.round(Instant::from_millis(round * 50), false);
        }
        let faster = Intervals {
            heartbeat: Duration::from_millis(10),
            unhealthy: Duration::from_millis(30),
        };
        detector.set_intervals(faster);
        detector.round(Instant::from_millis(310), false);
        assert!(!detector.silent(&node));
    }
}
