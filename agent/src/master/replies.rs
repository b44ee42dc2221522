//! How long nodes took to answer their last heartbeats, for people who look. Judges nobody.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use wa_core::id::NodeId;

/// Nodes that are remembered at most.
const LEN_MAX: usize = 1024;

/// The newest round trip of each node.
#[derive(Debug, Default)]
pub struct Replies(Mutex<BTreeMap<NodeId, Duration>>);

impl Replies {
    /// A node answered after this time.
    pub fn took(&self, node: &NodeId, rtt: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = all.get_mut(node) {
            *last = rtt;
        } else if all.len() < LEN_MAX {
            all.insert(node.clone(), rtt);
        }
    }

    /// The last round trip of a node, in microseconds; `None`: it never answered.
    pub fn of(&self, node: &NodeId) -> Option<u64> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rtt = all.get(node)?;
        u64::try_from(rtt.as_micros()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the newest round trip counts, and no number of names fills the memory. Method: one node twice, then too many.
    #[test]
    fn the_newest_reply_is_told() {
        let replies = Replies::default();
        let node = NodeId::new("a:coreapp-1");
        assert_eq!(replies.of(&node), None);
        replies.took(&node, Duration::from_micros(7));
        replies.took(&node, Duration::from_micros(9));
        assert_eq!(replies.of(&node), Some(9));
        for n in 0..2 * LEN_MAX {
            replies.took(&NodeId::new(&format!("b:coreapp-{n}")), Duration::ZERO);
        }
        assert_eq!(replies.0.lock().expect("whole").len(), LEN_MAX);
    }
}
