//! The evidence that this master has now, for the judgement: rows with the age of the read, leases with the time since they
//! changed, heartbeats, the words of owners. Every age is by the own CLOCK_BOOTTIME. Judges nothing itself.

use std::time::Duration;

use wa_core::id::Role;
use wa_core::judgement::{self, Database, Evidence, MasterLease, Node, Problem, Shard, Word};
use wa_core::shard_map::{Phase, ShardRow};

use super::view::View;
use super::{fit, nodes, told};
use crate::api::control::NodeStatus;

/// A read that is older than this says nothing about now: by then a lease that it showed may be over.
fn fresh_for(view: &View<'_>) -> Duration {
    let timers = &view.settings.timers;
    timers
        .tolerance
        .challenge(timers.lease_ttl)
        .max(Duration::from_secs(1))
}

/// What is wrong, the worst first, as this master sees it now.
pub fn problems(view: &View<'_>) -> Vec<Problem> {
    judgement::judge(&gather(view, &nodes::all(view)))
}

/// Everything that this master knows.
pub fn gather(view: &View<'_>, nodes: &[NodeStatus]) -> Evidence {
    Evidence {
        database: Some(database(view)),
        master: view.core.map().map(|_| lease(view)),
        shards: shards(view),
        nodes: Some(asked(view, nodes)),
        words: words(view),
        refused: None,
        masters_mute: false,
        told: told::told(view, nodes),
    }
}

/// How the database answers this master.
pub fn database(view: &View<'_>) -> Database {
    let (core, now) = (view.core, view.now);
    Database {
        read_age: core.answered_at().map(|at| now.since(at)),
        fresh_for: fresh_for(view),
        read_error: view.reads.as_ref().map(|failing| failing.error.clone()),
        writes: view.writes.clone(),
    }
}

/// The master lease as this master sees it.
pub fn lease(view: &View<'_>) -> MasterLease {
    let (core, now) = (view.core, view.now);
    let row = core.map().map(|map| &map.master);
    let tolerance = &view.settings.timers.tolerance;
    MasterLease {
        holder: row
            .and_then(|row| row.holder.as_ref())
            .map(|node| node.as_str().into()),
        own: core.primary(now).is_some(),
        unchanged: core.lease_seen().map(|since| now.since(since)),
        over_after: tolerance.challenge(row.map_or(Duration::ZERO, |row| row.ttl)),
    }
}

/// Who holds the master lease, while it lives as far as this master can see.
pub fn primary_master(view: &View<'_>) -> Option<String> {
    let (database, lease) = (database(view), lease(view));
    let fresh = database
        .read_age
        .is_some_and(|age| age <= database.fresh_for);
    let alive = lease.unchanged.is_none_or(|age| age <= lease.over_after);
    lease.holder.filter(|_| lease.own || fresh && alive)
}

fn shards(view: &View<'_>) -> Vec<Shard> {
    let core = view.core;
    let count = core.map().map_or(0, |m| m.master.shard_count);
    let rows = core.map().map(|m| m.shards.as_slice()).unwrap_or_default();
    let rows = rows.iter().filter(|row| row.shard.0 < count);
    rows.map(|row| shard(view, row)).collect()
}

fn shard(view: &View<'_>, row: &ShardRow) -> Shard {
    let (core, now) = (view.core, view.now);
    let standby = core.successor(now, row).is_some();
    let owner = row.owner.as_ref();
    Shard {
        shard: row.shard.0,
        owner: owner.map(|node| node.as_str().into()),
        active: row.phase == Phase::Active,
        why: core
            .verdict_reason(row.shard)
            .map(|reason| reason.name().into()),
        unchanged: core.renewal_seen(row).map(|since| now.since(since)),
        over_after: view.settings.timers.tolerance.challenge(row.ttl),
        mute_for: owner.and_then(|node| view.table.mute_for(node.as_str(), now)),
        standby,
        unfit: match standby {
            true => Vec::new(),
            false => fit::unfit(view, row),
        },
    }
}

/// Who is asked for heartbeats, this master included.
fn asked(view: &View<'_>, nodes: &[NodeStatus]) -> Vec<Node> {
    let roles = &view.table.nodes;
    let role = |name: &str| {
        let mut all = roles.iter().map(|n| &n.registration);
        all.find(|r| r.node.as_str() == name).map(|r| r.role)
    };
    let asked = nodes.iter().filter_map(|n| Some((n, role(&n.node)?)));
    asked
        .filter(|(_, role)| *role != Role::Webapp)
        .map(|(n, role)| Node {
            node: n.node.clone(),
            role,
            answers: n.healthy,
            twice: n.twice.clone(),
        })
        .collect()
}

/// What owners say of their work.
fn words(view: &View<'_>) -> Vec<Word> {
    let words = &view.table.words;
    let of_owner = words.iter().filter_map(|(node, heard)| {
        let (at, answer) = heard.answer.as_ref()?;
        let work = answer.work.clone()?;
        Some(work.evidence(node, answer.shard.unwrap_or(0), view.now.since(*at)))
    });
    of_owner.collect()
}
