//! The known holes of a naive gate: each is there without its guard and closed with it.

use nix::sys::signal::Signal;

use crate::actor::Actor;
use crate::on_a_rig;
use crate::rig::{Rig, Upstream, drain, in_a_while, sh, wait};

/// A socket made before its process joined the unit meets no hook of the slice. Answers what connect said in the unit,
/// and what reached the peer.
fn born_outside(rig: &mut Rig) -> (String, Vec<u8>) {
    let upstream = Upstream::new();
    let (cgroup, _, _) = rig.unit("one");
    let mut actor = Actor::start();
    actor.good("socket a 4 tcp");
    actor.good(&format!("join {}", cgroup.display()));
    let said = actor.tell(&format!("connect a {}", upstream.address));
    if said != "ok" {
        return (said, Vec::new());
    }
    actor.good("send a ungated");
    (said, drain(&mut upstream.accept()).0)
}

#[test]
fn a_socket_from_before_the_unit() {
    on_a_rig(|| {
        let (said, got) = born_outside(&mut Rig::naive(&["NAIVE_NO_BIRTH"]));
        assert_eq!(
            (said.as_str(), got.as_slice()),
            ("ok", b"ungated".as_slice()),
            "the hole"
        );
    });
    on_a_rig(|| {
        let mut rig = Rig::new();
        let before = rig.gate.counters().unwrap();
        let (said, got) = born_outside(&mut rig);
        assert_eq!((said.as_str(), got.as_slice()), ("EPERM", b"".as_slice()));
        let counted = rig.gate.counters().unwrap().since(&before);
        assert_eq!(counted.get("refused_foreign"), Some(1));
    });
}

/// A datagram socket from outside, without a connect.
#[test]
fn a_datagram_socket_from_before_the_unit() {
    on_a_rig(|| {
        let mut rig = Rig::new();
        let (cgroup, _, mut map) = rig.unit("one");
        map.open(1, in_a_while()).unwrap();
        let mut actor = Actor::start();
        actor.good("socket a 4 udp");
        actor.good("socket b 6 udp");
        actor.good("sendto a 127.0.0.1:9 outside");
        actor.good(&format!("join {}", cgroup.display()));
        assert_eq!(actor.tell("sendto a 127.0.0.1:9 x"), "EPERM");
        assert_eq!(actor.tell("sendto b [::1]:9 x"), "EPERM");
        assert_eq!(actor.tell("connect a 127.0.0.1:9"), "EPERM");
    });
}

/// Bytes that the gate held back under epoch 1 are still in the send queue when the unit gets epoch 2. Answers what
/// arrives then.
fn stale(rig: &mut Rig) -> Vec<u8> {
    let upstream = Upstream::new();
    let (cgroup, _, mut map) = rig.unit("one");
    let mut actor = Actor::inside(&cgroup);
    map.open(1, in_a_while()).unwrap();
    actor.good("socket a 4 tcp");
    actor.good(&format!("connect a {}", upstream.address));
    let mut peer = upstream.accept();
    actor.good("send a early");
    assert_eq!(drain(&mut peer).0, b"early");
    map.shut();
    actor.good("send a STALE");
    assert_eq!(drain(&mut peer).0, b"");
    map.open(2, in_a_while()).unwrap();
    // Retransmission comes by itself, within 200 ms doubled a few times.
    let mut got = Vec::new();
    for _ in 0..5 {
        got.extend(drain(&mut peer).0);
    }
    // The unit itself works under the new epoch.
    actor.good("socket b 4 tcp");
    actor.good(&format!("connect b {}", upstream.address));
    actor.good("send b fresh");
    assert_eq!(drain(&mut upstream.accept()).0, b"fresh");
    got
}

#[test]
fn bytes_of_an_old_epoch_after_a_new_grant() {
    on_a_rig(|| {
        assert_eq!(
            stale(&mut Rig::naive(&["NAIVE_NO_STAMP"])),
            b"STALE",
            "the hole"
        );
    });
    on_a_rig(|| assert_eq!(stale(&mut Rig::new()), b""));
}

/// A socket that never asked for an epoch must not get one by its first packet.
#[test]
fn the_first_packet_claims_nothing() {
    let run = |rig: &mut Rig| {
        let upstream = Upstream::new();
        let (cgroup, _, mut map) = rig.unit("one");
        let exempt = ["127.0.0.0/8".parse().unwrap()];
        rig.gate.set_exempt(&exempt).unwrap();
        let mut actor = Actor::inside(&cgroup);
        actor.good("socket a 4 tcp");
        actor.good(&format!("connect a {}", upstream.address));
        let mut peer = upstream.accept();
        // Connected while the network was exempt, and it is not any more.
        rig.gate.set_exempt(&[]).unwrap();
        map.open(1, in_a_while()).unwrap();
        actor.good("send a claimed");
        drain(&mut peer).0
    };
    on_a_rig(move || {
        assert_eq!(
            run(&mut Rig::naive(&["NAIVE_CLAIM"])),
            b"claimed",
            "the hole"
        )
    });
    on_a_rig(move || assert_eq!(run(&mut Rig::new()), b""));
}

/// The gate shuts, the sockets are destroyed: does the peer learn? Answers how the stream ended there.
fn destroyed(rig: &mut Rig) -> &'static str {
    let upstream = Upstream::new();
    let (cgroup, id, mut map) = rig.unit("one");
    let mut actor = Actor::inside(&cgroup);
    map.open(1, in_a_while()).unwrap();
    actor.good("socket a 4 tcp");
    actor.good(&format!("connect a {}", upstream.address));
    let mut peer = upstream.accept();
    actor.good("send a hello");
    assert_eq!(drain(&mut peer), (b"hello".to_vec(), "open"));
    rig.gate.seal(id, 2).unwrap();
    // Without more ado the sender takes its bytes for sent.
    actor.good("send a lost");
    assert_eq!(drain(&mut peer), (Vec::new(), "open"));
    sh(&format!("ss -K dst {} >/dev/null", upstream.address));
    let said = actor.tell("send a told");
    assert!(
        !said.starts_with("ok"),
        "send still reports success: {said}"
    );
    let (got, ended) = drain(&mut peer);
    assert_eq!(got, b"");
    ended
}

#[test]
fn the_peer_and_the_sender_learn_that_it_is_over() {
    on_a_rig(|| {
        assert_eq!(
            destroyed(&mut Rig::naive(&["NAIVE_NO_RST"])),
            "open",
            "the hole: half-open"
        );
    });
    on_a_rig(|| assert_eq!(destroyed(&mut Rig::new()), "reset"));
}

/// A killed process leaves its queue to the kernel. Answers how much of it the peer gets after the death.
fn killed(rig: &mut Rig, settle: impl FnOnce(&mut Rig, u64)) -> (usize, usize) {
    let upstream = Upstream::new();
    let (cgroup, id, mut map) = rig.unit("one");
    let mut actor = Actor::inside(&cgroup);
    map.open(1, in_a_while()).unwrap();
    actor.good("socket a 4 tcp");
    actor.good(&format!("connect a {}", upstream.address));
    let mut peer = upstream.accept();
    // A peer with a small window, so that the queue stays with the sender.
    let queued = actor.good("fill a 8000000").parse::<usize>().unwrap();
    actor.signal(Signal::SIGSTOP);
    settle(rig, id);
    actor.kill();
    assert!(
        wait(|| std::fs::remove_dir(&cgroup).is_ok()),
        "the cgroup is empty"
    );
    (queued, drain(&mut peer).0.len())
}

#[test]
fn what_a_dead_process_has_queued() {
    on_a_rig(|| {
        let (queued, got) = killed(&mut Rig::new(), |_, _| {});
        assert_eq!(
            queued, got,
            "the hole: a death without a seal settles nothing"
        );
    });
    for settle in [
        (|rig: &mut Rig, id| assert_eq!(rig.gate.seal(id, 2).unwrap(), 2)) as fn(&mut Rig, u64),
        |rig, id| rig.gate.remove_unit(id).unwrap(),
    ] {
        on_a_rig(move || {
            let (queued, got) = killed(&mut Rig::new(), settle);
            assert!(got < queued, "{got} of {queued}");
        });
    }
}

/// Two units. The first has a tenure, the second none: does it send, with its own socket and with one of the first?
fn neighbours(rig: &mut Rig) -> (String, Vec<u8>) {
    let upstream = Upstream::new();
    let (one, _, mut map) = rig.unit("one");
    let (two, _, _other) = rig.unit("two");
    map.open(1, in_a_while()).unwrap();
    if let Ok(fd) = rig.gate.make_unit(0, 1) {
        // The shared entry of the naive gate.
        let mut shared = wa_bpf::UnitMap::map(fd).unwrap();
        shared.open(1, in_a_while()).unwrap();
        std::mem::forget(shared);
    }
    let mut first = Actor::inside(&one);
    let mut second = Actor::inside(&two);
    // Made by the first, connected by the second.
    first.good("socket a 4 tcp");
    first.pass("a", &mut second);
    assert_eq!(
        second.tell(&format!("connect a {}", upstream.address)),
        "EPERM"
    );
    second.good("socket b 4 tcp");
    let said = second.tell(&format!("connect b {}", upstream.address));
    if said != "ok" {
        return (said, Vec::new());
    }
    second.good("send b borrowed");
    (said, drain(&mut upstream.accept()).0)
}

#[test]
fn another_units_tenure() {
    on_a_rig(|| {
        let (said, got) = neighbours(&mut Rig::naive(&["NAIVE_SHARED"]));
        assert_eq!(
            (said.as_str(), got.as_slice()),
            ("ok", b"borrowed".as_slice()),
            "the hole"
        );
    });
    on_a_rig(|| assert_eq!(neighbours(&mut Rig::new()).0, "EPERM"));
}

/// A socket that was connected under a tenure and is passed to another unit goes on with the tenure of its maker, and
/// with nothing else: the packet is judged by where the socket was made.
#[test]
fn a_connected_socket_is_judged_by_its_maker() {
    on_a_rig(|| {
        let mut rig = Rig::new();
        let upstream = Upstream::new();
        let (one, id, mut map) = rig.unit("one");
        let (two, _, mut other) = rig.unit("two");
        map.open(1, in_a_while()).unwrap();
        let mut first = Actor::inside(&one);
        let mut second = Actor::inside(&two);
        first.good("socket a 4 tcp");
        first.good(&format!("connect a {}", upstream.address));
        let mut peer = upstream.accept();
        first.pass("a", &mut second);
        first.kill();
        rig.gate.seal(id, 2).unwrap();
        other.open(2, in_a_while()).unwrap();
        second.good("send a late");
        assert_eq!(drain(&mut peer).0, b"");
    });
}

/// Two units under one and the same epoch: a socket of the first is no socket of the second, whoever holds it. Method: it
/// is connected, sent to and written by the second, with the first's tenure alive (its own bytes pass) and over.
#[test]
fn the_same_epoch_of_another_unit_is_another_tenure() {
    on_a_rig(|| {
        let mut rig = Rig::new();
        let upstream = Upstream::new();
        let (one, _, mut map) = rig.unit("one");
        let (two, _, mut other) = rig.unit("two");
        map.open(1, in_a_while()).unwrap();
        other.open(1, in_a_while()).unwrap();
        let mut first = Actor::inside(&one);
        let mut second = Actor::inside(&two);
        first.good("socket a 4 tcp");
        first.good("socket b 4 udp");
        first.good("socket c 4 tcp");
        first.good(&format!("connect c {}", upstream.address));
        let mut peer = upstream.accept();
        for name in ["a", "b", "c"] {
            first.pass(name, &mut second);
        }
        let before = rig.gate.counters().unwrap();
        let connect = format!("connect a {}", upstream.address);
        assert_eq!(second.tell(&connect), "EPERM");
        assert_eq!(second.tell("sendto b 127.0.0.1:9 x"), "EPERM");
        let counted = rig.gate.counters().unwrap().since(&before);
        assert_eq!(counted.get("refused_foreign"), Some(2));
        // The maker's tenure lives: the socket works, whoever writes.
        second.good("send c early");
        assert_eq!(drain(&mut peer).0, b"early");
        map.shut();
        second.good("send c late");
        assert_eq!(drain(&mut peer).0, b"", "by the second's tenure");
        let counted = rig.gate.counters().unwrap().since(&before);
        assert!(counted.dropped() > 0, "{counted:?}");
        // That tenure is alive all the same.
        second.good("socket d 4 tcp");
        second.good(&format!("connect d {}", upstream.address));
        second.good("send d own");
        assert_eq!(drain(&mut upstream.accept()).0, b"own");
    });
}

#[test]
fn raw_sockets_are_refused_and_ping_is_gated() {
    on_a_rig(|| {
        let mut rig = Rig::new();
        let (cgroup, _, _) = rig.unit("one");
        let mut actor = Actor::inside(&cgroup);
        assert_eq!(actor.tell("socket a 4 raw"), "EPERM");
        assert_eq!(actor.tell("socket a 6 raw"), "EPERM");
        actor.good("socket b 4 udp");
        assert_eq!(actor.tell("sendto b 127.0.0.1:9 x"), "EPERM");
        rig.gate
            .set_exempt(&["127.0.0.1".parse().unwrap()])
            .unwrap();
        actor.good("sendto b 127.0.0.1:9 x");
        assert_eq!(actor.tell("sendto b 127.0.0.2:9 x"), "EPERM");
    });
}

/// IPv6, and IPv4 in its clothes.
#[test]
fn both_families_are_judged_alike() {
    on_a_rig(|| {
        let mut rig = Rig::new();
        let (cgroup, _, mut map) = rig.unit("one");
        let six = Upstream::at("[::1]:0");
        let four = Upstream::new();
        let mapped = format!("[::ffff:127.0.0.1]:{}", four.address.port());
        let mut actor = Actor::inside(&cgroup);
        let mut socket = |name: &str, to: &str| {
            actor.good(&format!("socket {name} 6 tcp"));
            let said = actor.tell(&format!("connect {name} {to}"));
            if said == "ok" {
                actor.good(&format!("send {name} hello"));
            }
            said
        };
        assert_eq!(socket("a", &six.address.to_string()), "EPERM");
        assert_eq!(socket("b", &mapped), "EPERM");
        map.open(1, in_a_while()).unwrap();
        assert_eq!(socket("c", &six.address.to_string()), "ok");
        assert_eq!(drain(&mut six.accept()).0, b"hello");
        assert_eq!(socket("d", &mapped), "ok");
        assert_eq!(drain(&mut four.accept()).0, b"hello");
        map.shut();
        rig.gate
            .set_exempt(&["127.0.0.0/8".parse().unwrap()])
            .unwrap();
        assert_eq!(socket("e", &mapped), "ok");
        assert_eq!(drain(&mut four.accept()).0, b"hello");
        assert_eq!(socket("f", &six.address.to_string()), "EPERM");
        rig.gate.set_exempt(&["::1".parse().unwrap()]).unwrap();
        assert_eq!(socket("g", &six.address.to_string()), "ok");
        assert_eq!(drain(&mut six.accept()).0, b"hello");
    });
}

/// A cgroup below a unit's has no entry of its own.
#[test]
fn a_cgroup_below_the_unit_is_closed() {
    on_a_rig(|| {
        let mut rig = Rig::new();
        let (cgroup, _, mut map) = rig.unit("one");
        map.open(1, in_a_while()).unwrap();
        let below = rig.cgroup("one.service/below");
        assert!(below.starts_with(&cgroup));
        let mut actor = Actor::inside(&below);
        actor.good("socket a 4 tcp");
        assert_eq!(actor.tell("connect a 127.0.0.1:9"), "EPERM");
    });
}
