//! The promises as functions that judge what happened, at each step of a world. They know everything, and change nothing.
//! S1 is judged by packets at the hook: who sent, in which order, under which ownership. What nodes believe is no evidence.

use std::collections::BTreeMap;

use wa_core::id::{Epoch, Grant, Ownership};

use crate::database::Database;

/// What the packets so far say.
#[derive(Debug, Clone, Default)]
pub struct Judge {
    /// Ownerships whose packets passed and that nobody has followed yet.
    sending: Vec<Ownership>,
    /// Those that somebody followed: who, and when (ms).
    over: BTreeMap<(Epoch, Grant), (Ownership, u64)>,
}

/// How a person would call it.
pub fn short(own: &Ownership) -> String {
    format!(
        "shard {} epoch {} of {}",
        own.shard,
        own.epoch,
        own.owner.host()
    )
}

/// Two ownerships may not both send: one shard, or slices of different shard counts, which overlap.
pub fn exclude(db: &Database, a: &Ownership, b: &Ownership) -> bool {
    a.shard == b.shard || db.generation_of(a) != db.generation_of(b)
}

/// S1: a packet that carries bytes or opens a connection passed the hook. The packets of each ownership are one run:
/// none may come after the first one of another ownership of the same recipients, and none without any ownership.
pub fn invariant_s1(
    judge: &mut Judge,
    db: &Database,
    now_ms: u64,
    own: Option<&Ownership>,
) -> Result<bool, String> {
    let Some(own) = own else {
        return Err("a packet passed the gate without any tenure".into());
    };
    if judge.sending.contains(own) {
        return Ok(false);
    }
    if let Some((by, since)) = judge.over.get(&(own.epoch, own.grant)) {
        return Err(format!(
            "a packet of {} passed the gate, after {} had begun to send at {since} ms",
            short(own),
            short(by)
        ));
    }
    let (ended, going): (Vec<_>, Vec<_>) = std::mem::take(&mut judge.sending)
        .into_iter()
        .partition(|other| exclude(db, other, own));
    judge.sending = going;
    judge.sending.push(own.clone());
    for before in ended {
        let name = (before.epoch, before.grant);
        judge.over.insert(name, (own.clone(), now_ms));
    }
    Ok(true)
}

/// S2: no two ownerships share (epoch, grant).
pub fn invariant_s2(db: &Database) -> Result<(), String> {
    if db.named_twice {
        return Err("S2: two ownerships share epoch and grant".into());
    }
    Ok(())
}

/// S2: a node never obeys a lower epoch than it has obeyed.
pub fn invariant_s2_obeys(node: &str, before: Epoch, epoch: Epoch) -> Result<(), String> {
    if epoch < before {
        return Err(format!("S2: {node} obeys {epoch} after a higher one"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wa_core::id::{Incarnation, NodeId, ShardId};

    fn own(shard: u16, epoch: u64) -> Ownership {
        Ownership {
            shard: ShardId(shard),
            epoch: Epoch(epoch),
            grant: Grant(epoch),
            owner: NodeId::new("c1:coreapp-1"),
            incarnation: Incarnation::default(),
        }
    }

    /// Goal: the judge of S1 can say no. Method: runs of packets, the last of which is wrong.
    #[test]
    fn a_run_of_packets_that_was_followed_never_goes_on() {
        let db = Database::default();
        let mut judge = Judge::default();
        let mut pass = |own: Option<&Ownership>| invariant_s1(&mut judge, &db, 7, own);
        assert_eq!(pass(Some(&own(0, 1))), Ok(true));
        assert_eq!(pass(Some(&own(1, 2))), Ok(true));
        assert_eq!(pass(Some(&own(0, 1))), Ok(false));
        assert_eq!(pass(Some(&own(0, 3))), Ok(true));
        assert_eq!(pass(Some(&own(1, 2))), Ok(false));
        assert!(pass(Some(&own(0, 1))).is_err_and(|why| why.contains("at 7 ms")));
        assert!(pass(None).is_err());
        assert!(invariant_s2_obeys("c1", Epoch(5), Epoch(4)).is_err());
    }
}
