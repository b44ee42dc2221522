//! What every picture of the cluster shows, on a page of the console as in a terminal: how a node stands, which machine it is on,
//! its curves, and what its death would mean. Pure: draws nothing, asks nobody.

/// The points of the small curves.
pub mod curve;
/// What would happen if a node died now.
pub mod death;

use std::collections::BTreeMap;

use super::control::{ClusterStatus, NodeStatus};

/// How a node stands, what is worst first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeState {
    /// Two starts answer under this name.
    Twice,
    /// It does not answer heartbeats.
    Silent,
    /// It owns these shards.
    Owner(Vec<u16>),
    /// It is the primary master.
    Primary,
    /// A coreapp that owns nothing.
    Backup,
    /// Up, and no more is to be said.
    Up,
}

impl NodeState {
    /// As a master tells it.
    pub fn of(status: &ClusterStatus, node: &NodeStatus) -> Self {
        let shards = status.shards.iter();
        let owned = shards.filter(|shard| shard.owner.as_deref() == Some(&node.node));
        let owned: Vec<u16> = owned.map(|shard| shard.shard).collect();
        if node.twice.is_some() {
            Self::Twice
        } else if !node.healthy {
            Self::Silent
        } else if !owned.is_empty() {
            Self::Owner(owned)
        } else if status.primary_master.as_deref() == Some(&node.node) {
            Self::Primary
        } else if node.role == "coreapp" {
            Self::Backup
        } else {
            Self::Up
        }
    }

    /// Something is wrong with it.
    pub fn wrong(&self) -> bool {
        match self {
            Self::Twice | Self::Silent => true,
            Self::Owner(_) | Self::Primary | Self::Backup | Self::Up => false,
        }
    }
}

/// The machine of a node: its name begins with it.
pub fn machine_of(node: &str) -> &str {
    node.rsplit_once(':').map_or(node, |(machine, _)| machine)
}

/// Nodes by machine.
pub fn by_machine(nodes: &[NodeStatus]) -> BTreeMap<&str, Vec<&NodeStatus>> {
    let mut machines: BTreeMap<&str, Vec<&NodeStatus>> = BTreeMap::new();
    for node in nodes {
        machines
            .entry(machine_of(&node.node))
            .or_default()
            .push(node);
    }
    machines
}

/// A span of milliseconds, as people say it in a sentence.
pub fn span(ms: u64) -> String {
    match ms {
        0..=9_999 => format!("{ms} ms"),
        10_000..=119_999 => format!("{} s", ms / 1000),
        120_000..=7_199_999 => format!("{} min", ms / 60_000),
        7_200_000..=172_799_999 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: spans are short, whatever their length. Method: a table.
    #[test]
    fn spans_are_said() {
        for (ms, said) in [
            (0, "0 ms"),
            (9_999, "9999 ms"),
            (10_000, "10 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h"),
            (172_800_000, "2 d"),
        ] {
            assert_eq!(span(ms), said);
        }
    }

    /// Goal: a machine is what stands before the last colon. Method: a table.
    #[test]
    fn nodes_name_their_machine() {
        for (node, machine) in [
            ("a.example:coreapp-1", "a.example"),
            ("[::1]:master-1", "[::1]"),
            ("odd", "odd"),
            ("", ""),
        ] {
            assert_eq!(machine_of(node), machine);
        }
    }
}
