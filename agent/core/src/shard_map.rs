//! The shard map: which node owns which slice of recipients, as the lease rows say it.
//! Decides nothing: `failover.rs` changes it, `db/lease.rs` stores it.

use crate::id::{Epoch, Generation, Grant, Incarnation, NodeId, Nonce, ShardId, Term};
use crate::time::Duration;

/// Shard counts that the API allows.
pub const SHARD_COUNTS: [u16; 6] = [1, 2, 4, 8, 16, 32];

/// Where a shard's ownership stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nobody owns the shard: new cluster, or released. Earlier owners may still be unsettled in `previous`.
    Free,
    /// An owner is named but may not act: earlier owners are not settled yet.
    Handover,
    /// The owner may renew and act.
    Active,
}

impl Phase {
    /// The word in the row.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Handover => "handover",
            Self::Active => "active",
        }
    }

    /// Reads the word in the row.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "free" => Self::Free,
            "handover" => Self::Handover,
            "active" => Self::Active,
            _ => return None,
        })
    }
}

/// An ownership that was replaced and is not known to be over yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Previous {
    pub shard: ShardId,
    pub owner: NodeId,
    pub incarnation: Incarnation,
    pub epoch: Epoch,
    pub grant: Grant,
    /// Its own ttl: the successor's may be shorter (attack 11 iii).
    pub ttl: Duration,
    /// The nonce of its last renewal that the replacing transaction found.
    pub nonce: Nonce,
}

/// One shard's lease row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShardRow {
    pub shard: ShardId,
    pub generation: Generation,
    pub phase: Phase,
    /// Named in `Handover` and `Active`; `None` in `Free`.
    pub owner: Option<NodeId>,
    pub incarnation: Incarnation,
    pub epoch: Epoch,
    pub grant: Grant,
    pub ttl: Duration,
    /// Fresh at each renewal.
    pub nonce: Nonce,
    pub previous: Vec<Previous>,
}

/// The master's lease row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MasterRow {
    /// `None` when released or never taken.
    pub holder: Option<NodeId>,
    pub incarnation: Incarnation,
    pub term: Term,
    pub grant: Grant,
    pub ttl: Duration,
    pub nonce: Nonce,
    /// The cluster-wide epoch counter: the highest epoch ever given out.
    pub epoch_high: Epoch,
    /// How many shards the newest generation has.
    pub shard_count: u16,
    pub generation: Generation,
}

/// The shard that a recipient belongs to: FNV-1a (64 bit) of the digits, modulo the count.
/// The reference client's hash is not documented; ours is fixed for ever because rows store the hash.
pub fn shard_of(recipient_hash: u32, count: u16) -> ShardId {
    ShardId(u16::try_from(recipient_hash % u32::from(count.max(1))).unwrap_or(0))
}

/// Hash of a recipient's digits that rows store, so that a change of the shard count moves no row.
pub fn recipient_hash(recipient: &str) -> u32 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in recipient.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // Fold: the low bits of FNV alone are weak for digit strings.
    let folded = (hash >> 32) ^ (hash & 0xffff_ffff);
    u32::try_from(folded & 0x7fff_ffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_spread_over_all_shards() {
        let mut seen = [0u32; 32];
        for n in 0..32_000 {
            seen[usize::from(shard_of(recipient_hash(&format!("4477009{n:05}")), 32).0)] += 1;
        }
        assert!(seen.iter().all(|&n| (800..1200).contains(&n)), "{seen:?}");
    }
}
