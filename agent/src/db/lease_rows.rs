//! Statements on lease rows that several steps of `lease.rs` have in common.
//! Carries nothing out.

use wa_core::id::{Grant, ShardId, Term};

use super::write::Write;

/// The name of a shard's row.
pub(super) fn shard_name(shard: ShardId) -> String {
    format!("shard-{}", shard.0)
}

/// The check of the term is a write (rule 5.9).
pub(super) fn master_touch(term: Term, term_grant: Grant) -> Write {
    Write::new("UPDATE lease SET touch=touch+1 WHERE name='master' AND token=? AND grant_id=?")
        .numbers(&[term.0, term_grant.0])
}

/// A row under the map generation of the master row; one that is there already stays as it is.
pub(super) fn insert_shard(shard: u16, previous: &str, term: (Term, Grant)) -> [Write; 2] {
    let lease = Write::new(
        "INSERT {ignore} INTO lease (name, shard, owner, inc_counter, inc_random, token, grant_id, nonce, ttl_ms, phase, \
         generation, epoch_high, shard_count, touch, previous) SELECT ?, ?, '', 0, 0, 0, 0, 0, 0, 'free', m.generation, 0, 0, 0, ? \
         FROM lease m WHERE m.name='master' AND m.token=? AND m.grant_id=?",
    )
    .text(&shard_name(ShardId(shard)))
    .numbers(&[u64::from(shard)])
    .text(previous)
    .numbers(&[term.0.0, term.1.0])
    .optional();
    let guard = Write::new(
        "INSERT {ignore} INTO shard_guard (shard, epoch, grant_id, touch) SELECT ?, 0, 0, 0 \
         FROM lease m WHERE m.name='master' AND m.token=? AND m.grant_id=?",
    )
    .numbers(&[u64::from(shard), term.0.0, term.1.0])
    .optional();
    [lease, guard]
}
