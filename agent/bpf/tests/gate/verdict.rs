//! Verdicts packet by packet, by test runs of the program in a process of the unit: no network, no other packets, and the
//! counters say why. A test run's socket carries no stamp; what only a stamped socket meets is in `hole.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::actor::Actor;
use crate::on_a_rig;
use crate::rig::{Raw, Rig, in_a_while, now_ns};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

/// A segment: `words` is the header's length in 32-bit words.
fn tcp(flags: u8, words: u8, payload: usize) -> Vec<u8> {
    let mut segment = vec![0u8; usize::from(words) * 4 + payload];
    segment[..4].copy_from_slice(&[0x9c, 0x40, 0x01, 0xbb]);
    segment[12] = words << 4;
    segment[13] = flags;
    segment
}

fn ethernet(kind: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(kind.to_be_bytes());
    frame.extend(packet);
    frame
}

/// `fragment`: the third word's second half, flags and offset.
fn four(to: &str, protocol: u8, fragment: u16, inside: &[u8]) -> Vec<u8> {
    let to: std::net::Ipv4Addr = to.parse().expect("an address");
    let length = u16::try_from(20 + inside.len()).expect("short");
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 192, 0, 2, 1]);
    packet.extend(to.octets());
    packet.extend(inside);
    ethernet(0x0800, &packet)
}

fn six(to: &str, protocol: u8, inside: &[u8]) -> Vec<u8> {
    let to: std::net::Ipv6Addr = to.parse().expect("an address");
    let length = u16::try_from(inside.len()).expect("short");
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([protocol, 64]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend(to.octets());
    packet.extend(inside);
    ethernet(0x86dd, &packet)
}

/// What to tell an actor so that it runs the program on this frame.
pub fn run_command(rig: &Rig, repeat: u32, frame: &[u8]) -> String {
    let hexadecimal: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    let program = rig.pin("prog/wa_egress");
    format!("run {} {repeat} {hexadecimal}", program.display())
}

pub fn frame_for_bench(name: &str) -> Vec<u8> {
    match name {
        "payload" => four(UPSTREAM, TCP, 0, &tcp(ACK | PSH, 5, 200)),
        "reset" => four(UPSTREAM, TCP, 0, &tcp(RST, 5, 0)),
        "exempt4" => four(NEAR, TCP, 0, &tcp(ACK | PSH, 5, 200)),
        "exempt6" => six(NEAR6, TCP, &tcp(ACK | PSH, 5, 200)),
        other => panic!("{other}"),
    }
}

/// Runs the program on the frame in the actor's cgroup; the one counter that moved.
fn reason(rig: &Rig, actor: &mut Actor, frame: &[u8]) -> &'static str {
    let before = rig.gate.counters().expect("counters");
    let verdict = actor.good(&run_command(rig, 1, frame));
    let now = rig.gate.counters().expect("counters").since(&before);
    let moved: Vec<_> = now.named().filter(|(_, n)| *n > 0).collect();
    let [(name, 1)] = moved[..] else {
        panic!("{verdict}: {moved:?}");
    };
    let passed = verdict.starts_with("1 ");
    assert_eq!(
        passed,
        name.starts_with("passed_"),
        "{name} and verdict {verdict}"
    );
    name
}

const UPSTREAM: &str = "198.51.100.7";
const UPSTREAM6: &str = "2001:db8:9::7";
const NEAR: &str = "10.9.8.7";
const NEAR6: &str = "fd12::7";

const DROPPED: &str = "dropped_unstamped";
const RESET: &str = "passed_rst";
const EXEMPT: &str = "passed_exempt";

/// Segments to the upstream: flags, words of the header, bytes of payload, fragment, and what becomes of them.
#[rustfmt::skip]
const SEGMENTS: &[(&str, u8, u8, usize, u16, &str)] = &[
    ("payload", ACK | PSH, 5, 9, 0, DROPPED),
    ("opening", SYN, 10, 0, 0, DROPPED),
    ("opening with data", SYN, 5, 9, 0, DROPPED),
    ("acknowledgement", ACK, 5, 0, 0, DROPPED),
    ("end", FIN | ACK, 5, 0, 0, DROPPED),
    ("reset", RST, 5, 0, 0, RESET),
    ("reset, acknowledging", RST | ACK, 5, 0, 0, RESET),
    ("reset with options", RST | ACK, 8, 0, 0, RESET),
    ("reset with payload", RST | ACK, 5, 1, 0, DROPPED),
    ("reset and opening", RST | SYN, 5, 0, 0, DROPPED),
    ("reset and end", RST | FIN, 5, 0, 0, DROPPED),
    ("reset as first fragment", RST, 5, 0, 0x2000, DROPPED),
    ("reset as later fragment", RST, 5, 0, 0x0010, DROPPED),
    ("reset that may not be cut", RST, 5, 0, 0x4000, RESET),
];

/// Everything else: destination, protocol, and what becomes of a packet that nothing but its destination can save.
#[rustfmt::skip]
const DESTINATIONS: &[(&str, &str, u8, &str)] = &[
    ("datagram", UPSTREAM, UDP, DROPPED),
    ("ping", UPSTREAM, ICMP, DROPPED),
    ("exempt", NEAR, TCP, EXEMPT),
    ("datagram, exempt", NEAR, UDP, EXEMPT),
    ("first of the exempt", "10.0.0.0", UDP, EXEMPT),
    ("last of the exempt", "10.255.255.255", UDP, EXEMPT),
    ("below the exempt", "9.255.255.255", UDP, DROPPED),
    ("beyond the exempt", "11.0.0.0", UDP, DROPPED),
    ("everybody", "255.255.255.255", UDP, DROPPED),
    ("group", "224.0.0.251", UDP, DROPPED),
    ("6: datagram", UPSTREAM6, UDP, DROPPED),
    ("6: exempt", NEAR6, TCP, EXEMPT),
    ("6: an exempt address in other clothes", "::ffff:10.9.8.7", UDP, DROPPED),
];

fn frames() -> Vec<(String, Vec<u8>, &'static str)> {
    let mut rows = Vec::new();
    for &(name, flags, words, payload, fragment, expected) in SEGMENTS {
        let segment = tcp(flags, words, payload);
        rows.push((
            name.to_owned(),
            four(UPSTREAM, TCP, fragment, &segment),
            expected,
        ));
        if fragment == 0 {
            rows.push((
                format!("6: {name}"),
                six(UPSTREAM6, TCP, &segment),
                expected,
            ));
        }
    }
    for &(name, to, protocol, expected) in DESTINATIONS {
        let packet = if to.contains(':') {
            six(to, protocol, &tcp(SYN, 5, 9))
        } else {
            four(to, protocol, 0, &tcp(SYN, 5, 9))
        };
        rows.push((name.to_owned(), packet, expected));
    }
    let reset = tcp(RST, 5, 0);
    let like_one = four(UPSTREAM, UDP, 0, &reset);
    rows.push((
        "looks like a reset, is a datagram".to_owned(),
        like_one,
        DROPPED,
    ));
    let behind = [&[TCP, 0, 1, 4, 0, 0, 0, 0][..], &reset].concat();
    rows.push((
        "6: reset behind a header".to_owned(),
        six(UPSTREAM6, 0, &behind),
        DROPPED,
    ));
    rows.push((
        "another protocol".to_owned(),
        ethernet(0x0806, &[0; 46]),
        "dropped_malformed",
    ));
    rows
}

#[test]
fn packets_of_a_socket_without_a_stamp() {
    on_a_rig(|| {
        let mut rig = Rig::new();
        let (cgroup, _, mut map) = rig.unit("one");
        let exempt = ["10.0.0.0/8", "fd00::/8"].map(|n| n.parse().unwrap());
        rig.gate.set_exempt(&exempt).unwrap();
        map.open(1, in_a_while()).unwrap();
        let mut actor = Actor::inside(&cgroup);
        for (name, frame, expected) in frames() {
            assert_eq!(reason(&rig, &mut actor, &frame), expected, "{name}");
        }
    });
}

/// What the entry says, with stamps left aside.
#[test]
fn entries_in_every_state() {
    on_a_rig(|| {
        let mut rig = Rig::naive(&["NAIVE_NO_STAMP"]);
        let payload = four(UPSTREAM, TCP, 0, &tcp(ACK | PSH, 5, 9));
        let bare = rig.cgroup("bare");
        let (cgroup, id, _) = rig.unit("one");
        let entry = Raw::map(&rig.gate.unit(id).unwrap());
        assert_eq!(
            reason(&rig, &mut Actor::inside(&bare), &payload),
            "dropped_no_unit"
        );
        let mut actor = Actor::inside(&cgroup);
        let mut now = |epoch: u64, deadline: u64, rig: &Rig| {
            entry.write(epoch, deadline);
            reason(rig, &mut actor, &payload)
        };
        assert_eq!(now(5, 0, &rig), "dropped_no_tenure");
        assert_eq!(now(5, now_ns() - 1, &rig), "dropped_lapsed");
        assert_eq!(now(5, 1, &rig), "dropped_lapsed");
        assert_eq!(now(5, in_a_while(), &rig), "passed_tenure");
        assert_eq!(now(5, u64::MAX, &rig), "dropped_too_far");
        assert_eq!(now(5, now_ns() + 130_000_000_000, &rig), "dropped_too_far");
        assert_eq!(now(0, in_a_while(), &rig), "dropped_sealed");
        rig.gate.seal(id, 5).unwrap();
        assert_eq!(now(5, in_a_while(), &rig), "passed_tenure");
        assert_eq!(now(4, in_a_while(), &rig), "dropped_sealed");
        rig.gate.seal(id, 6).unwrap();
        assert_eq!(now(5, in_a_while(), &rig), "dropped_sealed");
        assert_eq!(now(6, in_a_while(), &rig), "passed_tenure");
        rig.gate.set_max_ttl(Duration::from_secs(1)).unwrap();
        assert_eq!(now(6, in_a_while(), &rig), "dropped_too_far");
        rig.gate.set_max_ttl(Duration::from_secs(120)).unwrap();
        assert_eq!(rig.gate.seal_all().unwrap(), 1);
        assert_eq!(now(u64::MAX - 1, in_a_while(), &rig), "dropped_sealed");
        rig.gate.remove_unit(id).unwrap();
        assert_eq!(now(6, in_a_while(), &rig), "dropped_no_unit");
    });
}

/// An entry flips between two states, neither of which may send: a live epoch without a deadline, and a sealed epoch
/// with one. Whoever takes the epoch of the first with the deadline of the second lets packets out. Answers how many got
/// out and how many were torn, over the test runs that it takes to see either, or `rounds` of them.
fn flip(rig: &mut Rig, rounds: usize) -> (u64, u64) {
    let (cgroup, id, _) = rig.unit("one");
    rig.gate.seal(id, 2).unwrap();
    let entry = Raw::map(&rig.gate.unit(id).unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let flips = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            while !stop.load(Ordering::Relaxed) {
                entry.write(2, 0);
                entry.write(1, now_ns() + 60_000_000_000);
            }
        }
    });
    let payload = four(UPSTREAM, TCP, 0, &tcp(ACK | PSH, 5, 9));
    let command = run_command(rig, 5000, &payload);
    let mut actor = Actor::inside(&cgroup);
    let mut seen = (0, 0);
    for _ in 0..rounds {
        actor.good(&command);
        let counted = rig.gate.counters().unwrap();
        seen = (
            counted.get("passed_tenure").unwrap(),
            counted.get("dropped_torn").unwrap(),
        );
        if seen.0 > 0 {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    flips.join().unwrap();
    seen
}

#[test]
fn an_entry_read_while_it_changes() {
    on_a_rig(|| {
        let mut naive = Rig::naive(&["NAIVE_NO_STAMP", "NAIVE_READ_ONCE", "WIDEN"]);
        let (passed, _) = flip(&mut naive, 500);
        assert!(passed > 0, "the hole");
    });
    on_a_rig(|| {
        let mut rig = Rig::naive(&["NAIVE_NO_STAMP", "WIDEN"]);
        let (passed, torn) = flip(&mut rig, 40);
        assert_eq!(passed, 0);
        assert!(torn > 0, "no read met a change: this shows nothing");
    });
}
