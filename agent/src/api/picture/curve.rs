//! What small curves over the last minutes show: the points, and what goes into them.
//! Draws nothing and reads no clock: who measures says when.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use wa_core::time::Instant;

use crate::api::control::ClusterStatus;

/// How far back a curve reaches, and how close its points are.
pub const REACH: Duration = Duration::from_secs(15 * 60);
pub const EVERY: Duration = Duration::from_secs(5);
/// A curve has no more points than this.
pub const POINTS_MAX: usize = (REACH.as_secs() / EVERY.as_secs()) as usize;
/// Curves of one picture: a cluster of 64 nodes with three each, and as many again.
const CURVES_MAX: usize = 400;

/// What a curve shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Time left on the primary master's lease, in milliseconds.
    LeaseMargin,
    /// Since the owner of a shard renewed, in milliseconds.
    RenewalAge,
    /// Since a node answered a heartbeat, in milliseconds.
    HeartbeatAge,
    /// Round trip of a node's last heartbeat, in microseconds.
    ReplyTime,
    /// How many a second, in thousandths.
    Rate(Counted),
}

/// What all coreapps count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counted {
    Accepted,
    Sent,
    Failed,
    Ambiguous,
    Outbox,
    Callbacks,
    Parked,
}

impl Counted {
    /// All of them, as they are shown.
    pub const ALL: [Self; 7] = [
        Self::Accepted,
        Self::Sent,
        Self::Failed,
        Self::Ambiguous,
        Self::Outbox,
        Self::Callbacks,
        Self::Parked,
    ];

    /// The figure that a coreapp tells.
    pub fn figure(self) -> &'static str {
        match self {
            Self::Accepted => "wa_messages_accepted_total",
            Self::Sent => "wa_messages_sent_total",
            Self::Failed => "wa_messages_failed_total",
            Self::Ambiguous => "wa_messages_ambiguous_total",
            Self::Outbox => "wa_outbox_depth",
            Self::Callbacks => "wa_webhook_depth",
            Self::Parked => "wa_webhooks_parked",
        }
    }

    /// It only grows, and has a rate.
    pub fn is_counter(self) -> bool {
        match self {
            Self::Accepted | Self::Sent | Self::Failed | Self::Ambiguous => true,
            Self::Outbox | Self::Callbacks | Self::Parked => false,
        }
    }
}

/// One curve: what it shows, and of whom.
pub type Name = (Measure, String);

/// All curves of one picture.
#[derive(Debug, Clone, Default)]
pub struct Curves {
    points: BTreeMap<Name, VecDeque<Option<u64>>>,
    last: Option<Instant>,
}

impl Curves {
    /// Takes one measurement of everything, unless the last one is too fresh. Who is not among them has a gap, and is
    /// forgotten when nothing but gaps is left.
    pub fn take(&mut self, now: Instant, measured: impl IntoIterator<Item = (Name, u64)>) {
        let due = self.last.is_none_or(|last| now.since(last) >= EVERY);
        if !due {
            return;
        }
        // Gaps of the time in which nobody measured, for example while the machine was suspended.
        let missed = self.last.map_or(0, |last| {
            let steps = now.since(last).as_millis() / EVERY.as_millis();
            usize::try_from(steps)
                .unwrap_or(POINTS_MAX)
                .clamp(1, POINTS_MAX)
                - 1
        });
        self.last = Some(now);
        let mut measured: BTreeMap<Name, u64> = measured.into_iter().collect();
        for (name, points) in &mut self.points {
            points.extend(std::iter::repeat_n(None, missed));
            points.push_back(measured.remove(name));
            while points.len() > POINTS_MAX {
                points.pop_front();
            }
        }
        self.points
            .retain(|_, points| points.iter().any(Option::is_some));
        for (name, value) in measured {
            if self.points.len() < CURVES_MAX {
                self.points.insert(name, VecDeque::from([Some(value)]));
            }
        }
    }

    /// How far back the longest one goes by now.
    pub fn reach(&self) -> Duration {
        let longest = self.points.values().map(VecDeque::len).max().unwrap_or(0);
        EVERY * u32::try_from(longest).unwrap_or(u32::MAX)
    }

    /// The points of one curve, the newest last; empty: nothing was measured.
    pub fn points(&self, measure: Measure, of: &str) -> Vec<Option<u64>> {
        let found = self.points.get(&(measure, of.to_owned()));
        found.map_or_else(Vec::new, |points| points.iter().copied().collect())
    }
}

/// What a master's answer adds to the curves.
pub fn measured(status: &ClusterStatus) -> Vec<(Name, u64)> {
    let margin = status.lease_margin_ms;
    let margin = margin.map(|ms| ((Measure::LeaseMargin, String::new()), ms));
    let shards = status.shards.iter().filter_map(|shard| {
        let name = (Measure::RenewalAge, shard.shard.to_string());
        Some((name, shard.renewal_age_ms?))
    });
    let ages = status.nodes.iter().filter_map(|node| {
        let name = (Measure::HeartbeatAge, node.node.clone());
        Some((name, node.heartbeat_age_ms?))
    });
    let replies = status.nodes.iter().filter_map(|node| {
        let name = (Measure::ReplyTime, node.node.clone());
        Some((name, node.reply_us?))
    });
    let all = margin.into_iter().chain(shards);
    all.chain(ages).chain(replies).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(1_000_000 + seconds * 1000)
    }

    fn one(of: &str) -> Name {
        (Measure::HeartbeatAge, of.to_owned())
    }

    /// Goal: a curve holds the last 15 minutes, whatever comes. Method: a day of measurements, once a second.
    #[test]
    fn a_curve_is_bounded() {
        let mut curves = Curves::default();
        for second in 0..86_400 {
            curves.take(at(second), [(one("a"), second)]);
        }
        let points = curves.points(Measure::HeartbeatAge, "a");
        assert_eq!(points.len(), 180);
        assert_eq!(points.last(), Some(&Some(86_395)));
        assert_eq!(points.first(), Some(&Some(86_395 - 179 * 5)));
    }

    /// Goal: who is not measured has a gap, and is forgotten after 15 minutes. Method: a node that leaves.
    #[test]
    fn who_left_is_forgotten() {
        let mut curves = Curves::default();
        curves.take(at(0), [(one("a"), 1), (one("b"), 1)]);
        curves.take(at(5), [(one("b"), 2)]);
        assert_eq!(curves.points(Measure::HeartbeatAge, "a"), [Some(1), None]);
        for second in (10..15 * 60 + 5).step_by(5) {
            curves.take(at(second), [(one("b"), 2)]);
        }
        assert!(curves.points(Measure::HeartbeatAge, "a").is_empty());
    }

    /// Goal: time in which nobody measured is a gap of its length. Method: a minute without a measurement.
    #[test]
    fn a_pause_is_a_gap() {
        let mut curves = Curves::default();
        curves.take(at(0), [(one("a"), 1)]);
        curves.take(at(60), [(one("a"), 1)]);
        let points = curves.points(Measure::HeartbeatAge, "a");
        assert_eq!(points.len(), 13);
        assert_eq!(points.iter().flatten().count(), 2);
        curves.take(at(1_000_000), [(one("a"), 1)]);
        assert_eq!(curves.points(Measure::HeartbeatAge, "a").len(), 180);
    }

    /// Goal: no number of names fills the memory. Method: a thousand nodes.
    #[test]
    fn many_names_are_bounded() {
        let mut curves = Curves::default();
        curves.take(at(0), (0..1000).map(|n| (one(&n.to_string()), 1)));
        assert_eq!(curves.points.len(), CURVES_MAX);
    }
}
