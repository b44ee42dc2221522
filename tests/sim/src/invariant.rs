//! The promises as functions that judge what happened, at each step of a world. They know everything, and change nothing.
//! S1 is judged by packets at the hook: who sent, in which order, under which ownership. What nodes believe is no evidence.

use std::collections::{BTreeMap, BTreeSet};

use wa_core::id::{Epoch, Grant, Ownership};
use wa_core::message::MessageState;
use wa_core::shard_map::Phase;
use wa_core::time::Duration;

use crate::database::{Database, Rows};
use crate::message::{Id, Message, Receipt, Tables};

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

/// What the outside knows of one message.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// A client was answered 2xx.
    pub answered: bool,
    /// How often the upstream has got it.
    pub received: u32,
    /// How often it was decided to send it again, since no receipt had come.
    pub settled: u32,
    /// How often a database that lost commits changed its row.
    pub rewinds: u32,
    /// The commit that accepted it was lost with a database: the store voids the promise, not the cluster.
    pub lost: bool,
    /// A database that lost commits changed its row.
    pub rewound: bool,
    /// When a client asked for it first, and was answered 2xx first, ms.
    pub asked_ms: Option<u64>,
    pub answered_ms: Option<u64>,
    /// Who accepted it.
    pub accepted_by: Option<Grant>,
    /// A claim of it was taken back whose outcome nobody learned.
    pub limbo: bool,
    /// It was found new by a commit, since the database last lost one.
    pub accepted: bool,
}

/// S3, at the answer: what is answered 2xx is in the store, with that body.
pub fn invariant_s3_answered(
    known: &Known,
    tables: &Tables,
    id: Id,
    body: u64,
) -> Result<(), String> {
    match tables.messages.get(&id) {
        Some(row) if row.body == body => Ok(()),
        Some(_) => Err(format!(
            "S4: message {id} was answered 2xx with another body"
        )),
        None if known.lost => Ok(()),
        None => Err(format!(
            "S3: message {id} was answered 2xx and is not stored"
        )),
    }
}

/// S3, at every commit: no row is lost, and what is final was sent, or is told.
pub fn invariant_s3(
    known: &BTreeMap<Id, Known>,
    told: &BTreeSet<(Id, u8)>,
    tables: &Tables,
) -> Result<(), String> {
    for (id, known) in known.iter().filter(|(_, k)| k.answered && !k.lost) {
        let Some(row) = tables.messages.get(id) else {
            return Err(format!("S3: message {id} is gone"));
        };
        let failed = (*id, MessageState::Failed as u8);
        match row.state {
            MessageState::Sent | MessageState::Delivered | MessageState::Read
                if known.received == 0 =>
            {
                return Err(format!("S3: message {id} counts as sent and never was"));
            }
            MessageState::Failed
                if !tables.webhooks.contains_key(&failed) && !told.contains(&failed) =>
            {
                return Err(format!("S3: message {id} failed and nobody is told"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// S3, in the end: everything that was answered 2xx has reached the upstream or is reported.
pub fn invariant_s3_in_the_end(
    known: &BTreeMap<Id, Known>,
    told: &BTreeSet<(Id, u8)>,
) -> Result<(), (Id, String)> {
    let open = known.iter().find(|(id, k)| {
        let failed = (**id, MessageState::Failed as u8);
        k.answered && !k.lost && k.received == 0 && !told.contains(&failed)
    });
    match open {
        Some((id, _)) => Err((*id, format!("S3: message {id} was never sent nor reported"))),
        None => Ok(()),
    }
}

/// S4, at the commit: one id is accepted once.
pub fn invariant_s4(known: &Known, id: Id) -> Result<(), String> {
    if known.accepted {
        return Err(format!("S4: message {id} was accepted twice"));
    }
    Ok(())
}

/// S4, at the upstream: a message that may have arrived is sent again only after its window has run out and the setting says so;
/// and not without end (F07). A database that lost commits may have lost that it was sent.
pub fn invariant_s4_sent(known: &Known, id: Id, sends_max: u32) -> Result<(), String> {
    let (times, settled, rewinds) = (known.received, known.settled, known.rewinds);
    if times > 1 + settled + rewinds {
        return Err(format!(
            "S4: message {id} was sent {times} times, and it was decided {settled} times to send it again"
        ));
    }
    if settled >= sends_max + rewinds {
        return Err(format!(
            "S4: it was decided {settled} times to send message {id} again"
        ));
    }
    Ok(())
}

/// Order, at the upstream: a message comes after the one that it names, unless that one will never come.
pub fn invariant_named_first(
    known: &BTreeMap<Id, Known>,
    tables: &Tables,
    id: Id,
) -> Result<(), String> {
    let message = tables.messages.get(&id);
    let Some((message, other)) = message.and_then(|m| Some((m, m.names?))) else {
        return Ok(());
    };
    let moved = |id: &Id| known.get(id).is_some_and(|k| k.rewound);
    let there = known.get(&other).is_some_and(|k| k.received > 0);
    let open = tables.messages.get(&other).is_some_and(|row| {
        row.state != MessageState::Failed
            && row.seq < message.seq
            && row.recipient == message.recipient
    });
    if there || !open || moved(&id) || moved(&other) {
        return Ok(());
    }
    Err(format!(
        "order: message {id} came before message {other}, which it names"
    ))
}

/// S4, at a decision to settle a message of unknown fate: not while the receipts of all that were claimed next to it, on both
/// sides, are outstanding too. `waited`: how long it has, ms, and the longest wait.
pub fn invariant_s4_late(
    tables: &Tables,
    id: Id,
    now_ms: u64,
    (waited_ms, max): (u64, Duration),
) -> Result<(), String> {
    let max_ms = u64::try_from(max.as_millis()).unwrap_or(u64::MAX);
    let order = tables.messages.get(&id).map_or(0, |m| m.order);
    let expected = |m: &&Message| m.receipt != Receipt::NotExpected;
    let mut all: Vec<&Message> = tables.messages.values().filter(expected).collect();
    all.sort_by_key(|m| m.order);
    let (older, newer) = all.split_at(all.partition_point(|m| m.order <= order));
    let outstanding = |m: &&Message| match m.receipt {
        Receipt::Awaited(since) => now_ms < since + max_ms,
        Receipt::NotExpected | Receipt::Came(_) => false,
    };
    let next = |some: &mut dyn Iterator<Item = &&Message>| {
        some.take(4).filter(|m| outstanding(m)).count() == 4
    };
    if waited_ms < max_ms && next(&mut newer.iter()) && next(&mut older.iter().rev()) {
        return Err(format!(
            "S4: message {id} was settled after {waited_ms} ms, while receipts were late"
        ));
    }
    Ok(())
}

/// In the end no message is of unknown fate.
pub fn invariant_all_settled(tables: &Tables) -> Result<(), String> {
    let open = |m: &Message| m.state == MessageState::Ambiguous;
    match tables.messages.iter().find(|(_, m)| open(m)) {
        Some((id, _)) => Err(format!("S3: nobody settles message {id}")),
        None => Ok(()),
    }
}

/// S5: a write of an owner that the row does not name changes nothing.
pub fn invariant_s5(own: &Ownership, before: &Rows, after: &Rows) -> Result<(), String> {
    let named = before.shards.iter().any(|row| {
        row.shard == own.shard
            && (row.epoch, row.grant) == (own.epoch, own.grant)
            && row.phase != Phase::Free
    });
    if !named && before != after {
        return Err(format!("S5: a stale write of {} changed rows", short(own)));
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
