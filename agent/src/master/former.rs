//! Where nodes were before their rows named another place. A copy of a machine takes the row over; its original still answers
//! where it was, and is to be asked there.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use wa_core::id::NodeId;
use wa_core::time::Instant;

/// The places of all nodes, as their rows showed them.
#[derive(Debug, Clone, Default)]
pub struct Former {
    now: BTreeMap<NodeId, SocketAddr>,
    /// Where else a node was, and until when it is asked there.
    before: BTreeMap<NodeId, (SocketAddr, Instant)>,
}

impl Former {
    /// The rows show these places. Where they show another one than the last time, that is kept until `until`.
    pub fn note<'a>(
        &mut self,
        until: Instant,
        places: impl Iterator<Item = (&'a NodeId, SocketAddr)>,
    ) {
        let places: BTreeMap<NodeId, SocketAddr> =
            places.map(|(node, at)| (node.clone(), at)).collect();
        for (node, at) in &places {
            if let Some(was) = self.now.get(node).filter(|was| *was != at) {
                self.before.insert(node.clone(), (*was, until));
            }
        }
        self.before.retain(|node, _| places.contains_key(node));
        self.now = places;
    }

    /// Where else the node is asked now.
    pub fn of(&self, node: &NodeId, now: Instant) -> Option<SocketAddr> {
        let (at, until) = self.before.get(node)?;
        (now < *until && self.now.get(node) != Some(at)).then_some(*at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: while two machines write one row in turn, each is asked all the time; who moved is asked in the former place for a
    /// while only.
    #[test]
    fn the_place_before_is_asked_too() {
        let node = NodeId::new("a:coreapp-1");
        let at = |n: u16| SocketAddr::from(([10, 0, 0, 1], n));
        let time = Instant::from_millis;
        let mut former = Former::default();
        former.note(time(100), [(&node, at(1))].into_iter());
        assert_eq!(former.of(&node, time(0)), None);
        former.note(time(100), [(&node, at(2))].into_iter());
        former.note(time(200), [(&node, at(2))].into_iter());
        assert_eq!(former.of(&node, time(99)), Some(at(1)));
        assert_eq!(former.of(&node, time(100)), None, "it has moved");
        former.note(time(200), [(&node, at(1))].into_iter());
        assert_eq!(former.of(&node, time(150)), Some(at(2)), "in turn");
        former.note(time(300), [].into_iter());
        assert_eq!(former.of(&node, time(150)), None, "no row, no place");
    }
}
