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
    /// How many on-time rounds must stay unanswered: unhealthy / heartbeat, at least 3 (design 4).
    pub fn rounds(&self) -> u32 {
        let rounds = self.unhealthy.as_nanos() / self.heartbeat.as_nanos().max(1);
        u32::try_from(rounds).unwrap_or(u32::MAX).max(3)
    }
}

/// Starts of one node that are remembered: the newest, and those that were heard before it or beside it.
const STARTS_MAX: usize = 4;

/// What one start of a node has shown by heartbeats.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Start {
    pub incarnation: Incarnation,
    pub report: Report,
    /// Arrival of its newest answer.
    pub heard_at: Instant,
    /// When the first of the unanswered rounds was counted.
    pub silent_since: Option<Instant>,
    /// Arrival of its first answer: it lived at this moment or before.
    first: Instant,
    /// When the newest ping left that it answered: it lived at this moment or later.
    lived: Instant,
    missed: u32,
    asked: bool,
    answered: bool,
}

impl Start {
    /// It left as many on-time rounds unanswered as make it silent.
    pub fn silent(&self, intervals: &Intervals) -> bool {
        self.missed >= intervals.rounds()
    }

    /// It answers, but its main loop has made no progress for unhealthy_interval.
    pub fn gray(&self, intervals: &Intervals) -> bool {
        !self.silent(intervals) && stuck(&self.report, intervals)
    }

    /// The report, as long as it is not silent and its main loop makes progress.
    pub fn fresh(&self, intervals: &Intervals) -> Option<&Report> {
        (!self.silent(intervals) && !self.gray(intervals)).then_some(&self.report)
    }

    /// It lived after the other had been heard, and the other was not heard to live after it: no counter on a disk says
    /// which start came later, an answer to a ping of ours does.
    fn follows(&self, other: &Self) -> bool {
        self.lived > other.first && other.lived <= self.first
    }

    /// Each lived after the other had been heard: they run side by side.
    fn beside(&self, other: &Self) -> bool {
        self.lived > other.first && other.lived > self.first
    }

    fn round(&mut self, now: Instant) {
        if self.asked && !self.answered {
            self.missed = self.missed.saturating_add(1);
            self.silent_since.get_or_insert(now);
        }
        self.asked = true;
        self.answered = false;
    }

    fn answer(&mut self, now: Instant, asked: Instant, report: Report) {
        if asked <= self.lived {
            // It answered a later ping already: this one was long on its way, and says nothing about now.
            return;
        }
        self.report = report;
        self.heard_at = now;
        self.lived = asked;
        self.missed = 0;
        self.answered = true;
        self.silent_since = None;
    }
}

/// What is known of one node by heartbeats.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The newest start first, the others in no order.
    starts: Vec<Start>,
    /// On-time rounds since this node is watched or the intervals changed: what a start has missed that was never heard.
    rounds: u32,
    asked: bool,
}

impl Peer {
    /// The newest start that was heard.
    pub fn newest(&self) -> Option<&Start> {
        self.starts.first()
    }

    /// A start that was heard not long ago.
    pub fn start(&self, incarnation: Incarnation) -> Option<&Start> {
        let mut starts = self.starts.iter();
        starts.find(|start| start.incarnation == incarnation)
    }

    /// Name of the newest start.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.newest().map(|start| start.incarnation)
    }

    /// What the newest start said last.
    pub fn report(&self) -> Option<&Report> {
        self.newest().map(|start| &start.report)
    }

    /// Arrival of the newest start's newest answer.
    pub fn heard_at(&self) -> Option<Instant> {
        self.newest().map(|start| start.heard_at)
    }

    /// The newest start's report, as long as it is not silent and its main loop makes progress.
    pub fn fresh(&self, intervals: &Intervals) -> Option<&Report> {
        self.newest()?.fresh(intervals)
    }

    /// It left as many on-time rounds unanswered as make it silent, whatever its start.
    pub fn silent(&self, intervals: &Intervals) -> bool {
        match self.newest() {
            Some(start) => start.silent(intervals),
            None => self.rounds >= intervals.rounds(),
        }
    }

    /// The same of one start, also of one that was never heard.
    pub fn start_silent(&self, incarnation: Incarnation, intervals: &Intervals) -> bool {
        match self.start(incarnation) {
            Some(start) => start.silent(intervals),
            None => self.rounds >= intervals.rounds(),
        }
    }

    /// It answers, but its main loop has made no progress for unhealthy_interval.
    pub fn gray(&self, intervals: &Intervals) -> bool {
        self.newest().is_some_and(|start| start.gray(intervals))
    }

    /// All health bits of `bits` are set in its newest report.
    pub fn has(&self, bits: Health) -> bool {
        self.report().is_some_and(|report| report.health.has(bits))
    }

    /// Another start answers in the place of this one: the process is gone. Both are asked first: a copy of a machine that is
    /// heard for the first time says nothing about the original.
    pub fn replaced(&self, incarnation: Incarnation) -> bool {
        let Some(newest) = self.newest().filter(|n| n.incarnation != incarnation) else {
            return false;
        };
        let asked = !guard::on(Guard::BothAreAsked);
        match self.start(incarnation) {
            Some(old) => newest.follows(old) && (old.missed > 0 || asked),
            // Never heard here: what is left are the numbers on its disk, which are right as long as nobody changes it.
            None => {
                let twice = newest.lived > newest.first || asked;
                newest.incarnation.counter > incarnation.counter && twice
            }
        }
    }

    /// Another start that answers beside the newest one: the name is used twice, as by a copy of a machine.
    pub fn twin(&self, intervals: &Intervals) -> Option<&Start> {
        let (newest, others) = self.starts.split_first()?;
        let mut others = others.iter();
        let lives = |start: &Start| !start.silent(intervals);
        others.find(|other| lives(newest) && lives(other) && newest.beside(other))
    }

    /// Takes in an answer to a ping that left at `asked`. What is new about who answers.
    fn answered(
        &mut self,
        now: Instant,
        asked: Instant,
        incarnation: Incarnation,
        report: Report,
        intervals: &Intervals,
    ) -> Option<Change> {
        let known = self
            .starts
            .iter()
            .position(|start| start.incarnation == incarnation);
        let at = known.unwrap_or_else(|| {
            self.starts.truncate(STARTS_MAX - 1);
            self.starts.push(Start {
                incarnation,
                report,
                heard_at: now,
                silent_since: None,
                first: now,
                lived: asked,
                missed: 0,
                asked: self.asked,
                answered: true,
            });
            self.starts.len() - 1
        });
        if known.is_some() {
            self.starts[at].answer(now, asked, report);
        }
        if at == 0 {
            return None;
        }
        let (newest, start) = (&self.starts[0], &self.starts[at]);
        // Of two that run side by side the one that was heard stays, until it is silent.
        let instead = newest.silent(intervals) && start.lived > newest.heard_at;
        let follows = start.follows(newest);
        if !follows && !instead && guard::on(Guard::OldStartIsNoSign) {
            return None;
        }
        let before = newest.incarnation;
        // The one that was the newest comes next: it is the last to be forgotten.
        self.starts[..=at].rotate_right(1);
        if !follows {
            return None;
        }
        Some(if incarnation.counter > before.counter {
            Change::Restarted
        } else {
            Change::OtherDisk
        })
    }
}

/// What an answer shows beside life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A newer start of the node answers.
    Restarted,
    /// A newer start of the node answers, and its number is no higher than that of the one before: its disk is another one,
    /// or an older state of it.
    OtherDisk,
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
            peers.insert(node.clone(), self.peers.remove(node).unwrap_or_default());
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
            if peer.asked {
                peer.rounds = peer.rounds.saturating_add(1);
            }
            peer.asked = true;
            for start in &mut peer.starts {
                start.round(now);
            }
        }
    }

    /// An authentic answer arrived, to a ping of ours that left at `asked`. What is new about the node's starts.
    pub fn answered(
        &mut self,
        now: Instant,
        asked: Instant,
        node: &NodeId,
        incarnation: Incarnation,
        report: Report,
    ) -> Option<Change> {
        let peer = self.peers.get_mut(node)?;
        peer.answered(now, asked.min(now), incarnation, report, &self.intervals)
    }

    /// A change of intervals restarts every silence count (attack 28).
    pub fn set_intervals(&mut self, intervals: Intervals) {
        if self.intervals != intervals {
            self.intervals = intervals;
            if !guard::on(Guard::IntervalsRestartCounts) {
                return;
            }
            for peer in self.peers.values_mut() {
                (peer.rounds, peer.asked) = (0, false);
                for start in &mut peer.starts {
                    (start.missed, start.asked, start.silent_since) = (0, false, None);
                }
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

    fn start(counter: u64, random: u64) -> Incarnation {
        Incarnation { counter, random }
    }

    /// One node, one master that pings it each 50 ms.
    struct Line(Detector, NodeId, u64);

    impl Line {
        fn new() -> Self {
            let (mut detector, node) = watched();
            detector.round(Instant::ZERO, false);
            Self(detector, node, 0)
        }

        /// A round leaves; these answer it, 1 ms later each.
        fn round(&mut self, who: &[Incarnation]) -> Option<Change> {
            self.2 += 50;
            self.0.round(Instant::from_millis(self.2), false);
            let mut change = None;
            for (after, start) in (1..).zip(who) {
                change = self.answer(self.2 + after, self.2, *start).or(change);
            }
            change
        }

        /// An answer arrives to a ping that left at `asked`.
        fn answer(&mut self, at: u64, asked: u64, start: Incarnation) -> Option<Change> {
            let (at, asked) = (Instant::from_millis(at), Instant::from_millis(asked));
            self.0.answered(at, asked, &self.1, start, report())
        }

        fn peer(&self) -> &Peer {
            &self.0.peers[&self.1]
        }

        fn twin(&self) -> Option<Incarnation> {
            let twin = self.peer().twin(&self.0.intervals);
            twin.map(|start| start.incarnation)
        }
    }

    /// Attack 10. Goal: late words of a start that is over are no sign of life, whatever its number. Method: the process is
    /// started again, and answers of before arrive all the time while nobody answers what is asked now.
    #[test]
    fn an_answer_of_an_older_start_is_no_sign_of_life() {
        for (old, new) in [
            (start(1, 9), start(2, 8)),
            (start(7, 9), start(1, 8)),
            (start(7, 9), start(7, 8)),
        ] {
            let mut line = Line::new();
            line.round(&[old]);
            assert!(line.round(&[new]).is_some(), "started again");
            assert_eq!(line.peer().incarnation(), Some(new));
            for _ in 0..7 {
                line.round(&[]);
                let at = line.2 + 1;
                assert_eq!(line.answer(at, 50, old), None);
            }
            assert_eq!(line.peer().incarnation(), Some(new));
            assert!(line.0.silent(&line.1));
        }
    }

    /// Goal: who has a new or an older disk is heard at once, and the start before it is known to be over as soon as it left
    /// a ping unanswered. Method: numbers that fall, stay, and grow.
    #[test]
    fn the_order_of_starts_is_that_of_their_answers() {
        for (before, counter, change) in [
            (7, 1, Change::OtherDisk),
            (7, 7, Change::OtherDisk),
            (7, 8, Change::Restarted),
        ] {
            let (old, new) = (start(before, 9), start(counter, 8));
            let mut line = Line::new();
            line.round(&[old]);
            line.round(&[old]);
            assert_eq!(line.round(&[new]), Some(change));
            assert_eq!(line.peer().incarnation(), Some(new));
            assert!(!line.peer().replaced(old), "it may answer yet");
            assert_eq!(line.round(&[new]), None);
            assert!(line.peer().replaced(old));
            assert!(!line.peer().replaced(new));
            assert_eq!(line.twin(), None);
        }
    }

    /// Goal: two that run side by side are told apart from one that was started again, and the first keeps its place until it
    /// is silent. Method: both answer every round; then only the second.
    #[test]
    fn two_living_starts_are_known_as_two() {
        let (old, copy) = (start(7, 9), start(8, 8));
        let mut line = Line::new();
        line.round(&[old]);
        line.round(&[copy, old]);
        line.round(&[old, copy]);
        line.round(&[copy, old]);
        let both = [line.peer().incarnation(), line.twin()];
        assert!(both.contains(&Some(old)) && both.contains(&Some(copy)));
        assert!(!line.peer().replaced(old) && !line.peer().replaced(copy));
        for _ in 0..7 {
            line.round(&[old]);
        }
        assert_eq!(line.peer().incarnation(), Some(old), "the copy is gone");
        assert_eq!(line.twin(), None);
        assert!(!line.0.silent(&line.1));
    }

    /// Goal: what is remembered of a node has a bound, and the newest two stay.
    #[test]
    fn starts_are_forgotten() {
        let mut line = Line::new();
        for counter in 1..100 {
            line.round(&[start(counter, counter)]);
        }
        assert!(line.peer().starts.len() <= STARTS_MAX);
        assert_eq!(line.peer().incarnation(), Some(start(99, 99)));
        assert!(line.peer().start(start(98, 98)).is_some());
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
