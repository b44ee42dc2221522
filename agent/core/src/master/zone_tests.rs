//! Who is chosen when several could be: another machine first, then another zone, then weight, then the name; and what
//! is said of those that cannot be.
//! Moves nothing.

use super::{Config, Event, Fence, Master, NodeRow, Seen, Snapshot};
use crate::detector::Intervals;
use crate::id::{Epoch, Grant, Incarnation, NodeId, Nonce, Role, ShardId, Term};
use crate::lease::Tolerance;
use crate::reason::Reason;
use crate::shard_map::{MasterRow, Phase, ShardRow};
use crate::time::{Drift, Duration, Instant};
use crate::wire::{Health, Report};

pub(super) fn node(name: &str, machine: &str, zone: &str, weight: i32) -> NodeRow {
    NodeRow {
        node: NodeId::new(name),
        role: Role::Coreapp,
        incarnation: Incarnation::default(),
        machine: machine.into(),
        zone: zone.into(),
        beat_age: None,
        draining: false,
        weight,
        home: None,
    }
}

pub(super) fn config() -> Config {
    let ms = Duration::from_millis;
    Config {
        node: NodeId::new("m"),
        incarnation: Incarnation::default(),
        ttl: ms(1000),
        tolerance: Tolerance {
            drift: Drift(100),
            margin: ms(20),
            vm_pause: Duration::ZERO,
        },
        intervals: Intervals {
            heartbeat: ms(50),
            unhealthy: ms(300),
        },
        db_unhealthy: ms(2000),
        fence: Fence::BestEffort,
        shard_count: 1,
        quiesce_max: ms(300),
        flap_max: 3,
        flap_window: ms(600_000),
        seen: Seen::default(),
        seed: 1,
    }
}

pub(super) fn snapshot(nodes: Vec<NodeRow>) -> Snapshot {
    let ttl = Duration::from_millis(1000);
    Snapshot {
        identity: 1,
        made: 0,
        server: Default::default(),
        master: MasterRow {
            holder: None,
            incarnation: Incarnation::default(),
            term: Term(1),
            grant: Grant(1),
            ttl,
            nonce: Nonce(1),
            epoch_high: Epoch(1),
            shard_count: 1,
            generation: Default::default(),
        },
        shards: vec![ShardRow {
            shard: ShardId(0),
            generation: Default::default(),
            phase: Phase::Active,
            owner: Some(NodeId::new("owner")),
            incarnation: Incarnation::default(),
            epoch: Epoch(1),
            grant: Grant(1),
            ttl,
            nonce: Nonce(1),
            previous: Vec::new(),
        }],
        nodes,
    }
}

/// By a master that hears all of them in the best of health.
fn chosen(others: &[NodeRow]) -> Option<String> {
    let mut m = Master::new(Instant::ZERO, config());
    let mut nodes = vec![node("owner", "a", "rack-1", 0)];
    nodes.extend_from_slice(others);
    let map = snapshot(nodes);
    let read = Event::Snapshot(Box::new(map.clone()));
    m.step(Instant::from_millis(1), read, &mut Vec::new());
    for n in &map.nodes {
        let report = Report {
            shard: (n.node.as_str() == "owner").then_some(ShardId(0)),
            epoch: Epoch(1),
            grant: Grant(1),
            epoch_high: Epoch(1),
            health: Health(0b1_1111),
            progress_age_ms: 0,
            lateness_ms: 0,
            in_flight: 0,
        };
        let event = Event::Answered {
            node: n.node.clone(),
            incarnation: n.incarnation,
            asked: Instant::from_millis(2),
            report,
        };
        m.step(Instant::from_millis(2), event, &mut Vec::new());
    }
    let chosen = m.successor(Instant::from_millis(3), &map.shards[0]);
    chosen.map(|n| n.as_str().to_owned())
}

/// Goal: what fails together does not follow itself, however it is weighted. Method: each point decides among nodes that
/// are equal in those before it, and the later points speak for the other.
#[test]
fn another_machine_then_another_zone_then_weight() {
    let all = [
        node("a-same-machine", "a", "rack-2", 100),
        node("b-same-zone", "b", "rack-1", 50),
        node("c-elsewhere", "c", "rack-2", 0),
        node("d-heavier", "d", "rack-3", 1),
        node("e-twin", "e", "rack-4", 1),
    ];
    let best = |count: usize| chosen(&all[..count]).unwrap_or_default();
    assert_eq!(best(1), "a-same-machine", "better than nobody");
    assert_eq!(best(2), "b-same-zone", "machine before zone and weight");
    assert_eq!(best(3), "c-elsewhere", "zone before weight");
    assert_eq!(best(4), "d-heavier", "weight among equals");
    assert_eq!(best(5), "d-heavier", "then the name");
}

/// What a master with `fence` says against each of the nodes, which answer with these health bits (`None`: not at all).
fn against(fence: Fence, others: &[(NodeRow, Option<Health>)]) -> Vec<Vec<Reason>> {
    let mut m = Master::new(Instant::ZERO, Config { fence, ..config() });
    let mut nodes = vec![node("owner", "a", "rack-1", 0)];
    nodes.extend(others.iter().map(|(n, _)| n.clone()));
    let map = snapshot(nodes);
    let read = Event::Snapshot(Box::new(map.clone()));
    m.step(Instant::from_millis(1), read, &mut Vec::new());
    for (n, health) in others {
        let Some(health) = *health else { continue };
        let event = Event::Answered {
            node: n.node.clone(),
            incarnation: n.incarnation,
            asked: Instant::from_millis(2),
            report: Report {
                shard: None,
                epoch: Epoch(0),
                grant: Grant(0),
                epoch_high: Epoch(1),
                health,
                progress_age_ms: 0,
                lateness_ms: 0,
                in_flight: 0,
            },
        };
        m.step(Instant::from_millis(2), event, &mut Vec::new());
    }
    let (now, row) = (Instant::from_millis(3), &map.shards[0]);
    let all = m.candidates(now, row);
    let fit = all.iter().any(|c| c.against.is_empty());
    assert_eq!(m.successor(now, row).is_some(), fit, "one rule for both");
    all.into_iter().map(|c| c.against).collect()
}

/// Goal: each condition that keeps a coreapp out is said by its own name, several together. Method: one node per bit.
#[test]
fn what_keeps_each_candidate_out_has_a_name() {
    let whole = Health(0b1_1111);
    let without = |bit| Some(whole.with(bit, false));
    let with = |bit| Some(whole.with(bit, true));
    let one = |health| (node("c", "b", "rack-2", 0), health);
    let of = |fence, health| against(fence, &[one(health)]).remove(0);
    let required = |health| of(Fence::Required, health);
    assert_eq!(required(Some(whole)), []);
    assert_eq!(required(None), [Reason::NodeSilent]);
    assert_eq!(
        required(without(Health::GATE_ATTESTED)),
        [Reason::GateNotAttested]
    );
    assert_eq!(of(Fence::BestEffort, without(Health::GATE_ATTESTED)), []);
    assert_eq!(
        required(without(Health::DATABASE_OK)),
        [Reason::NodeWithoutDatabase]
    );
    assert_eq!(
        required(without(Health::HIGH_WATER_OK)),
        [Reason::NodeDiskRefuses]
    );
    let newer = Health::STORE_NEWER
        .with(Health::HIGH_WATER_OK, true)
        .with(Health::GATE_ATTESTED, true);
    assert_eq!(required(Some(newer)), [Reason::StoreNewer]);
    assert_eq!(required(with(Health::DRAINING)), [Reason::Draining]);
    assert_eq!(required(with(Health::STOPPING)), [Reason::NodeStopping]);
    // It may have the shard all the same: nobody else is better in this.
    assert_eq!(required(without(Health::UPSTREAM_OK)), []);
    let mut drained = one(Some(Health(0)));
    drained.0.draining = true;
    assert_eq!(
        against(Fence::Required, &[drained]),
        [vec![
            Reason::Draining,
            Reason::NodeWithoutDatabase,
            Reason::NodeDiskRefuses,
            Reason::GateNotAttested,
        ]]
    );
}
