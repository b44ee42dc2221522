//! Which datagrams were seen before: a window of sequence numbers per sender and incarnation.
//! Answers do not come here: the nonce that they echo is fresh, which says more.

use std::collections::BTreeMap;
use std::time::Duration;

use wa_core::id::{Incarnation, NodeId};
use wa_core::time::Instant;

/// Senders that are remembered. Only authentic names come here, so this bounds mistakes, not attacks.
const SENDERS_MAX: usize = 16_384;
/// A sender that was not heard for so long may start again with a lower counter: its state directory was lost.
const FORGET: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Window {
    incarnation: Incarnation,
    /// Highest sequence number seen.
    top: u64,
    /// Bit n: `top - n` was seen.
    seen: u64,
    heard_at: Instant,
}

/// The windows of all senders.
#[derive(Debug, Default)]
pub struct Replays(BTreeMap<NodeId, Window>);

impl Replays {
    /// Notes a datagram; false when it was seen before, is too old to know, or is of an earlier start of its sender.
    pub fn fresh(
        &mut self,
        now: Instant,
        node: &str,
        incarnation: Incarnation,
        sequence: u64,
    ) -> bool {
        let Some(window) = self.0.get_mut(node) else {
            self.begin(now, node, incarnation, sequence);
            return true;
        };
        if window.incarnation != incarnation {
            let later = incarnation.counter > window.incarnation.counter;
            if later || now.since(window.heard_at) > FORGET {
                self.begin(now, node, incarnation, sequence);
                return true;
            }
            return false;
        }
        if sequence > window.top {
            let ahead = sequence - window.top;
            window.seen = window
                .seen
                .checked_shl(u32::try_from(ahead).unwrap_or(u32::MAX))
                .unwrap_or(0)
                | 1;
            window.top = sequence;
        } else {
            let behind = window.top - sequence;
            if behind >= 64 || window.seen & (1 << behind) != 0 {
                return false;
            }
            window.seen |= 1 << behind;
        }
        window.heard_at = now;
        true
    }

    /// A fresh answer proved that this is the sender's running incarnation, whatever its counter says.
    pub fn proved(&mut self, now: Instant, node: &str, incarnation: Incarnation, sequence: u64) {
        if self
            .0
            .get(node)
            .is_none_or(|window| window.incarnation != incarnation)
        {
            self.begin(now, node, incarnation, sequence);
        }
    }

    fn begin(&mut self, now: Instant, node: &str, incarnation: Incarnation, sequence: u64) {
        if self.0.len() >= SENDERS_MAX {
            self.0
                .retain(|_, window| now.since(window.heard_at) <= FORGET);
        }
        if self.0.len() < SENDERS_MAX || self.0.contains_key(node) {
            let window = Window {
                incarnation,
                top: sequence,
                seen: 1,
                heard_at: now,
            };
            self.0.insert(NodeId::new(node), window);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(counter: u64) -> Incarnation {
        Incarnation {
            counter,
            random: counter ^ 0x5a,
        }
    }

    /// Goal: each number once, in whatever order the network delivers within the window.
    #[test]
    fn a_number_is_fresh_once() {
        let (mut replays, node, now) = (Replays::default(), "a:master-1", Instant::from_millis(1));
        let mut fresh = |sequence| replays.fresh(now, node, start(1), sequence);
        assert!(fresh(10) && fresh(12) && fresh(11) && fresh(5));
        assert!(!fresh(10) && !fresh(11) && !fresh(12) && !fresh(5));
        assert!(fresh(100));
        assert!(!fresh(36), "64 behind: too old to know");
        assert!(fresh(37));
        assert!(fresh(u64::MAX) && !fresh(u64::MAX) && !fresh(100));
    }

    /// Goal: an earlier start of a sender is a replay; a lost counter heals by an answer or after a minute.
    #[test]
    fn an_earlier_incarnation_is_a_replay() {
        let (mut replays, node) = (Replays::default(), "a:master-1");
        let at = Instant::from_millis;
        assert!(replays.fresh(at(0), node, start(7), 1));
        assert!(replays.fresh(at(0), node, start(8), 1));
        assert!(!replays.fresh(at(1), node, start(7), 2));
        assert!(!replays.fresh(at(60_000), node, start(1), 1));
        assert!(
            replays.fresh(at(60_001), node, start(1), 1),
            "a new disk starts at one"
        );
        replays.proved(at(60_002), node, start(0), 9);
        assert!(replays.fresh(at(60_003), node, start(0), 10));
        assert!(!replays.fresh(at(60_003), node, start(0), 9));
    }
}
