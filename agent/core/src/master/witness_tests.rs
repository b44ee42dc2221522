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
    m.worth(&(NodeId::new(sender), start(counter)), receipt) == Worth::Counts
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

fn sender(counter: u64) -> Sender {
    (NodeId::new("a:host-1"), start(counter))
}

/// What is decided at a moment.
fn step(m: &mut Master, ms: u64, event: Event) -> Vec<Reason> {
    let mut actions = Vec::new();
    let now = Instant::ZERO + Duration::from_millis(ms);
    m.step(now, event, &mut actions);
    let decided = actions.into_iter().filter_map(|action| match action {
        Action::Decide { reason, .. } => Some(reason),
        _ => None,
    });
    decided.collect()
}

fn read(rows: Vec<NodeRow>) -> Event {
    Event::Snapshot(Box::new(snapshot(rows)))
}

fn dead(m: &Master) -> bool {
    let of = (NodeId::new("a:coreapp-1"), start(7));
    m.obituaries.contains_key(&of)
}

/// Goal: a host agent that was just started again is believed as soon as its row names the start, and nobody calls it a stranger.
/// Method: its receipt comes before the row; once more with a row that never comes.
#[test]
fn a_receipt_waits_for_the_row_of_who_sent_it() {
    let next = vec![
        row("a:host-1", Role::Host, 6, Some(HOME)),
        row("a:coreapp-1", Role::Coreapp, 7, Some(HOME)),
    ];
    let receipt = || Event::Receipt(sender(6), receipt(HOME, 7));
    let mut m = master(&[rows(Some(HOME), Some(HOME))]);
    assert!(step(&mut m, 100, receipt()).is_empty() && !dead(&m));
    let soon = Instant::ZERO + Duration::from_millis(100);
    assert!(m.read_at <= soon, "rows are read at once");
    assert!(step(&mut m, 200, receipt()).is_empty(), "said again");
    assert_eq!(m.witnesses.kept.len(), 1);
    assert!(step(&mut m, 300, read(next)).is_empty() && dead(&m));
    assert!(m.witnesses.kept.is_empty());

    let mut m = master(&[rows(Some(HOME), Some(HOME))]);
    step(&mut m, 100, receipt());
    step(&mut m, 4000, receipt());
    step(&mut m, 5000, read(rows(Some(HOME), Some(HOME))));
    assert_eq!(m.witnesses.kept.len(), 1, "its time does not begin anew");
    let said = step(&mut m, 5100, Event::Tick);
    assert_eq!(said, [Reason::ReceiptOfStranger]);
    assert!(m.witnesses.kept.is_empty() && !dead(&m));
}

/// Goal: the same for heartbeats, where the row came first. Method: the old start was heard last; then the new one answers.
#[test]
fn a_receipt_waits_for_the_heartbeat_of_who_sent_it() {
    let answer = |ms: u64, node: &str, counter: u64| Event::Answered {
        node: NodeId::new(node),
        incarnation: start(counter),
        asked: Instant::ZERO + Duration::from_millis(ms),
        report: Report {
            shard: None,
            epoch: Epoch(0),
            grant: Grant(0),
            epoch_high: Epoch(0),
            health: Health(0),
            progress_age_ms: 0,
            lateness_ms: 0,
            in_flight: 0,
        },
    };
    let next = vec![
        row("a:host-1", Role::Host, 6, Some(HOME)),
        row("a:coreapp-1", Role::Coreapp, 7, Some(HOME)),
    ];
    let mut m = master(&[rows(Some(HOME), Some(HOME))]);
    step(&mut m, 11, answer(10, "a:host-1", 5));
    step(&mut m, 20, read(next));
    step(&mut m, 30, Event::Receipt(sender(6), receipt(HOME, 7)));
    assert!(!dead(&m));
    step(&mut m, 41, answer(40, "a:coreapp-1", 7));
    assert!(!dead(&m), "another node answers");
    assert!(step(&mut m, 51, answer(50, "a:host-1", 6)).is_empty());
    assert!(dead(&m));
}

/// Goal: what can never count does not wait, and newer rows that show a stranger end the wait. Method: a copy's host agent, before and
/// after its row.
#[test]
fn a_stranger_is_not_believed_later() {
    let copied = vec![
        row("a:host-1", Role::Host, 6, Some(COPY)),
        row("a:coreapp-1", Role::Coreapp, 8, Some(COPY)),
    ];
    let of_copy = || Event::Receipt(sender(6), receipt(COPY, 7));
    let mut m = master(&[rows(Some(HOME), Some(HOME))]);
    assert!(step(&mut m, 100, of_copy()).is_empty());
    let said = step(&mut m, 200, read(copied));
    assert_eq!(said, [Reason::ReceiptOfStranger]);
    assert!(step(&mut m, 300, of_copy()).is_empty(), "said once");
    assert!(m.witnesses.kept.is_empty() && !dead(&m));
}

/// Goal: what waits has a bound, in all and of one host agent, and what was said is forgotten oldest first. Method: more of each.
#[test]
fn what_waits_and_what_was_said_has_a_bound() {
    let mut m = master(&[rows(Some(HOME), Some(HOME))]);
    let now = Instant::ZERO;
    for n in 0..200 {
        m.keep(now, &sender(6), &receipt(HOME, n));
    }
    assert_eq!(m.witnesses.kept.len(), KEPT_OF_ONE_MAX);
    for n in 0..200 {
        let other = (NodeId::new(&format!("b{n}:host-1")), start(1));
        m.keep(now, &other, &receipt(HOME, 7));
    }
    assert_eq!(m.witnesses.kept.len(), KEPT_MAX);
    let mut said = |name: &str| {
        let mut actions = Vec::new();
        let from = (NodeId::new(name), start(1));
        m.pass_over(&from, &receipt(HOME, 7), &mut actions);
        !actions.is_empty()
    };
    assert!(said("z:host-1"));
    for n in 0..SAID_MAX - 1 {
        assert!(said(&format!("b{n}:host-1")));
    }
    assert!(!said("z:host-1"), "the last by name is not the oldest");
    assert!(said("a:host-1"), "one more than there is room for");
    assert!(
        !said("b0:host-1") && said("z:host-1"),
        "the oldest was forgotten"
    );
}

/// Goal: instances of one machine may call it by different words. Method: the word of one instance; then homes that are not known, and
/// another host's host agent in the same boot.
#[test]
fn words_for_a_machine_may_differ_where_homes_agree() {
    let called = |word: &str, n: NodeRow| NodeRow {
        machine: word.into(),
        ..n
    };
    let [host, coreapp] = [
        row("a:host-1", Role::Host, 5, Some(HOME)),
        called("rack-7", row("a:coreapp-1", Role::Coreapp, 7, Some(HOME))),
    ];
    let m = master(&[vec![host.clone(), coreapp.clone()]]);
    assert!(counts(&m, "a:host-1", 5, &receipt(HOME, 7)));
    assert!(!counts(&m, "a:host-1", 5, &receipt(COPY, 7)));
    let unknown = NodeRow {
        home: None,
        ..coreapp.clone()
    };
    let m = master(&[vec![host, unknown]]);
    assert!(!counts(&m, "a:host-1", 5, &receipt(HOME, 7)));
    let other = row("b:host-1", Role::Host, 5, Some(HOME));
    let m = master(&[vec![other, coreapp]]);
    assert!(!counts(&m, "b:host-1", 5, &receipt(HOME, 7)));
}
