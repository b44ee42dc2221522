//! Goal: a receipt counts only from the host agent that can know it. Method: one receipt, against rows and heartbeats that are right,
//! and wrong in one point each.

use super::*;
use crate::id::{Epoch, Grant, Nonce, ShardId};
use crate::master::Event;
use crate::master::zone_tests::{config, node, snapshot};
use crate::time::{Duration, Instant};
use crate::wire::{Health, Report};

const HOME: Home = Home {
    machine: 1,
    boot: 10,
};
const COPY: Home = Home {
    machine: 1,
    boot: 20,
};

fn start(counter: u64) -> Incarnation {
    Incarnation { counter, random: 9 }
}

fn row(name: &str, role: Role, counter: u64, home: Option<Home>) -> NodeRow {
    NodeRow {
        role,
        incarnation: start(counter),
        home,
        ..node(name, "a", "", 0)
    }
}

/// The host agent, and the coreapp.
fn rows(host: Option<Home>, coreapp: Option<Home>) -> Vec<NodeRow> {
    vec![
        row("a:host-1", Role::Host, 5, host),
        row("a:coreapp-1", Role::Coreapp, 7, coreapp),
    ]
}

fn receipt(home: Home, counter: u64) -> Receipt {
    Receipt {
        machine_id: home.machine,
        boot_id: home.boot,
        invocation: 0,
        node: NodeId::new("a:coreapp-1"),
        incarnation: start(counter),
        shard: ShardId(0),
        epoch: Epoch(1),
        grant: Grant(1),
        seal: Epoch(2),
        nonce: Nonce(0),
        sealed: true,
        cgroup_empty: true,
    }
}

fn master(readings: &[Vec<NodeRow>]) -> Master {
    let mut m = Master::new(Instant::ZERO, config());
    for rows in readings {
        let read = Event::Snapshot(Box::new(snapshot(rows.clone())));
        m.step(Instant::ZERO, read, &mut Vec::new());
    }
    m
}

fn counts(m: &Master, sender: &str, counter: u64, receipt: &Receipt) -> bool {
    m.witnessed(&(NodeId::new(sender), start(counter)), receipt)
}

#[test]
fn only_the_host_agent_of_its_machine_counts() {
    let both = rows(Some(HOME), Some(HOME));
    let m = master(std::slice::from_ref(&both));
    let own = receipt(HOME, 7);
    assert!(counts(&m, "a:host-1", 5, &own));
    assert!(
        !counts(&m, "a:host-1", 6, &own),
        "another start of the host agent"
    );
    assert!(!counts(&m, "b:host-1", 5, &own), "nobody knows it");
    assert!(!counts(&m, "a:coreapp-1", 7, &own), "no host agent");
    assert!(
        !counts(&m, "a:host-1", 5, &receipt(COPY, 7)),
        "another boot"
    );
    let other = Home { machine: 2, ..HOME };
    assert!(
        !counts(&m, "a:host-1", 5, &receipt(other, 7)),
        "another machine"
    );
    assert!(
        !counts(&m, "a:host-1", 5, &receipt(HOME, 6)),
        "a start that nobody knows"
    );
    let elsewhere = NodeRow {
        machine: "b".into(),
        ..row("b:host-1", Role::Host, 5, Some(HOME))
    };
    let m = master(&[[both, vec![elsewhere]].concat()]);
    assert!(!counts(&m, "b:host-1", 5, &own), "of another machine");
    assert!(
        !counts(&Master::new(Instant::ZERO, config()), "a:host-1", 5, &own),
        "no rows yet"
    );
}

#[test]
fn what_a_start_said_first_is_believed() {
    let copied = vec![
        row("a:host-1", Role::Host, 6, Some(COPY)),
        row("a:coreapp-1", Role::Coreapp, 8, Some(COPY)),
    ];
    let m = master(&[rows(Some(HOME), Some(HOME)), copied.clone()]);
    assert!(
        !counts(&m, "a:host-1", 6, &receipt(COPY, 7)),
        "the copy, of its original"
    );
    assert!(
        counts(&m, "a:host-1", 6, &receipt(COPY, 8)),
        "the copy, of itself"
    );
    // A master that has not seen the original believes the copy nothing about it.
    assert!(!counts(
        &master(&[copied]),
        "a:host-1",
        6,
        &receipt(COPY, 7)
    ));
}

#[test]
fn releases_that_say_no_home_are_judged_by_machine_and_start() {
    let m = master(&[rows(None, None)]);
    assert!(counts(&m, "a:host-1", 5, &receipt(HOME, 7)));
    assert!(counts(&m, "a:host-1", 5, &receipt(HOME, 6)));
    let m = master(&[rows(None, Some(HOME))]);
    assert!(counts(&m, "a:host-1", 5, &receipt(HOME, 7)));
    assert!(!counts(&m, "a:host-1", 5, &receipt(COPY, 7)));
}

/// Goal: in the middle of an upgrade the death of a start of the release before is still told. Method: its row named no home, and the
/// next start has written over it.
#[test]
fn a_start_of_the_release_before_is_known_after_the_next_one() {
    let next = vec![
        row("a:host-1", Role::Host, 5, Some(HOME)),
        row("a:coreapp-1", Role::Coreapp, 8, Some(HOME)),
    ];
    let m = master(&[rows(Some(HOME), None), next]);
    assert!(counts(&m, "a:host-1", 5, &receipt(HOME, 7)));
    assert!(
        !counts(&m, "a:host-1", 5, &receipt(COPY, 7)),
        "the host agent's own boot is another"
    );
    assert!(
        !counts(&m, "a:host-1", 5, &receipt(HOME, 6)),
        "a start that no row named"
    );
}

#[test]
fn heartbeats_name_the_same_start() {
    let mut m = master(&[rows(Some(HOME), Some(HOME))]);
    let mut hear = |ms: u64, counter: u64| {
        let asked = Instant::ZERO + Duration::from_millis(ms);
        let report = Report {
            shard: None,
            epoch: Epoch(0),
            grant: Grant(0),
            epoch_high: Epoch(0),
            health: Health(0),
            progress_age_ms: 0,
            lateness_ms: 0,
            in_flight: 0,
        };
        let heard = Event::Answered {
            node: NodeId::new("a:host-1"),
            incarnation: start(counter),
            asked,
            report,
        };
        m.step(asked + Duration::from_millis(1), heard, &mut Vec::new());
        counts(&m, "a:host-1", 5, &receipt(HOME, 7))
    };
    assert!(hear(10, 5));
    assert!(!hear(20, 6), "another start came after it");
    assert!(!hear(30, 5), "two answer under one name");
}
