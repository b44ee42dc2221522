//! What the gate costs: nanoseconds for each verdict by test runs, and throughput with and without it side by side.
//! Run by `cargo xtask bench gate`; judges nothing.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

use wa_bpf::UnitMap;

use crate::actor::Actor;
use crate::on_a_rig;
use crate::rig::{Rig, in_a_while};
use crate::verdict::{frame_for_bench, run_command};
use crate::wire::{PEER, Peer};

const REPEAT: u32 = 2_000_000;
const ROUNDS: usize = 7;
const ROUND_MS: u64 = 700;

/// Mean nanoseconds of one run of a variant's program on a frame, least of three.
fn cost(defines: &[&str], frame: &str, prepare: fn(&mut Rig, &mut UnitMap)) -> u32 {
    let mut rig = if defines.is_empty() {
        Rig::new()
    } else {
        Rig::naive(defines)
    };
    let (cgroup, _, mut map) = rig.unit("one");
    rig.gate
        .set_exempt(&["10.0.0.0/8", "fd00::/8", "127.0.0.0/8", "::1"].map(|n| n.parse().unwrap()))
        .unwrap();
    map.open(1, in_a_while()).unwrap();
    prepare(&mut rig, &mut map);
    let mut actor = Actor::inside(&cgroup);
    let command = run_command(&rig, REPEAT, &frame_for_bench(frame));
    let runs = (0..3).map(|_| {
        let answer = actor.good(&command);
        answer
            .split(' ')
            .nth(1)
            .and_then(|ns| ns.parse().ok())
            .expect("nanoseconds")
    });
    runs.min().expect("three")
}

type Row = (
    &'static str,
    &'static [&'static str],
    &'static str,
    fn(&mut Rig, &mut UnitMap),
);

/// The last column of a row does what must be done before.
const ROWS: &[Row] = &[
    (
        "test run alone (a program that passes all)",
        &["NAIVE_OPEN"],
        "payload",
        |_, _| {},
    ),
    (
        "passed: live tenure (entry only, no stamp)",
        &["NAIVE_NO_STAMP"],
        "payload",
        |_, _| {},
    ),
    (
        "passed: live tenure and stamp",
        &["NAIVE_CLAIM"],
        "payload",
        |_, _| {},
    ),
    ("passed: exempt, IPv4", &[], "exempt4", |_, _| {}),
    ("passed: exempt, IPv6", &[], "exempt6", |_, _| {}),
    ("passed: reset", &[], "reset", |_, _| {}),
    ("dropped: no stamp", &[], "payload", |_, _| {}),
    (
        "dropped: lapsed",
        &["NAIVE_NO_STAMP"],
        "payload",
        |_, map| {
            map.extend(1, 1).expect("it is open");
        },
    ),
];

/// Bytes that an actor sends in one round.
fn blast(actor: &mut Actor, size: usize) -> u64 {
    let answer = actor.good(&format!("blast a {ROUND_MS} {size}"));
    answer.parse().expect("bytes")
}

fn swallow_tcp() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("an address");
    let address = listener.local_addr().expect("it listens").to_string();
    std::thread::spawn(move || {
        let mut threads = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("somebody connects");
            threads.push(std::thread::spawn(move || {
                let mut block = vec![0u8; 1 << 20];
                while stream.read(&mut block).is_ok_and(|n| n > 0) {}
            }));
        }
    });
    address
}

fn swallow_udp() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("an address");
    let address = socket.local_addr().expect("it is bound").to_string();
    std::thread::spawn(move || {
        let mut block = [0u8; 2048];
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a deadline");
        while socket.recv(&mut block).is_ok() {}
    });
    address
}

/// Sends in turn from inside and outside the gate; the median of each, in bytes for a round.
fn side_by_side(kind: &str, size: usize) -> (u64, u64) {
    let mut rig = Rig::new();
    let to = if kind == "tcp" {
        swallow_tcp()
    } else {
        swallow_udp()
    };
    let (cgroup, _, mut map) = rig.unit("one");
    map.open(1, in_a_while()).unwrap();
    let mut actors = [Actor::inside(&cgroup), Actor::start()];
    for actor in &mut actors {
        actor.good(&format!("socket a 4 {kind}"));
        actor.good(&format!("connect a {to}"));
    }
    let mut rounds = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (actor, bytes) in actors.iter_mut().zip(&mut rounds) {
            bytes.push(blast(actor, size));
        }
    }
    let [with, without] = rounds.map(|mut bytes| {
        bytes.sort_unstable();
        bytes[bytes.len() / 2]
    });
    (with, without)
}

/// Runs and nanoseconds of a program since it was loaded, as the kernel counts them while it is asked to.
fn spent(pin: &Path) -> (u64, u64) {
    let program = wa_bpf::syscall::get(pin).expect("it is pinned");
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()));
    let text = text.expect("the kernel tells");
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok())
            .expect("it counts")
    };
    (number("run_cnt:"), number("run_time_ns:"))
}

/// Mean nanoseconds of each program that judges packets, while a stamped socket sends datagrams through a cable.
fn both_judges() -> [(&'static str, u64); 2] {
    let mut rig = Rig::new();
    let peer = Peer::new();
    rig.gate.judge_devices().expect("the cable has a judge");
    let (cgroup, _, mut map) = rig.unit("one");
    map.open(1, in_a_while()).unwrap();
    let mut actor = Actor::inside(&cgroup);
    actor.good("socket a 4 udp");
    actor.good(&format!("connect a {PEER}"));
    let _counting = wa_bpf::syscall::count_time().expect("the kernel counts");
    let each = ["wa_egress", "wa_wire"].map(|name| {
        let pin = rig.pin(&format!("prog/{name}"));
        let before = spent(&pin);
        for _ in 0..ROUNDS {
            blast(&mut actor, 64);
        }
        let after = spent(&pin);
        let runs = after.0 - before.0;
        assert!(runs > 10_000, "{name} ran {runs} times");
        (name, (after.1 - before.1) / runs)
    });
    drop(peer);
    each
}

#[test]
#[ignore = "a measurement: cargo xtask bench gate"]
fn table() {
    on_a_rig(|| {
        let mut text = String::from("\n| verdict | ns per packet |\n|---|---:|\n");
        for (name, defines, frame, prepare) in ROWS {
            let (defines, frame, prepare) = (*defines, *frame, *prepare);
            let ns = std::thread::spawn(move || cost(defines, frame, prepare))
                .join()
                .expect("a figure");
            writeln!(text, "| {name} | {ns} |").expect("a string grows");
        }
        text += "\n| through loopback, median of 7 rounds in turn | with the gate | without | ratio |\n|---|---:|---:|---:|\n";
        for (name, kind, size) in [
            ("TCP, writes of 64 KiB, MB/s", "tcp", 65_536),
            ("TCP, writes of 200 bytes, MB/s", "tcp", 200),
            ("UDP, 64 bytes, thousand packets/s", "udp", 64),
        ] {
            let (with, without) = std::thread::spawn(move || side_by_side(kind, size))
                .join()
                .expect("a figure");
            let unit = |bytes: u64| {
                let divisor = if kind == "tcp" {
                    1000
                } else {
                    u64::try_from(size).expect("small")
                };
                bytes / divisor / ROUND_MS
            };
            let percent = with * 100 / without.max(1);
            writeln!(
                text,
                "| {name} | {} | {} | {}.{:02} |",
                unit(with),
                unit(without),
                percent / 100,
                percent % 100
            )
            .expect("a string grows");
        }
        text += "\n| datagrams of a live tenure through a cable, by the kernel's statistics (its own clock reads included) | ns per packet |\n|---|---:|\n";
        let judges = std::thread::spawn(both_judges).join().expect("figures");
        for (name, ns) in judges {
            writeln!(text, "| {name} | {ns} |").expect("a string grows");
        }
        writeln!(std::io::stdout(), "{text}").expect("somebody reads");
    });
}
