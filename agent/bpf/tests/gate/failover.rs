//! Attack on S1 as packets show it: two units in turn, hundreds of failovers in which the old owner is frozen, killed, cut
//! off or wakes up at a random moment, and a capture at the upstream. Nothing of an epoch may come after the first packet
//! of a later one.
//!
//! The lease arithmetic is `wa_core::lease::Tolerance`, the gate is the real one; the senders (`sender.rs`) respect nothing.
//! Each connection's source port tells its epoch, so that retransmissions and openings count as well as payload. Nothing
//! is judged by time: only the order in which packets arrive.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::sys::signal::Signal;
use socket2::{Domain, Protocol, Socket, Type};
use wa_core::lease::Tolerance;
use wa_core::time::Drift;

use crate::actor::Actor;
use crate::on_a_rig;
use crate::rig::{Rig, now_ns, sh, wait};

pub const TTL: Duration = Duration::from_millis(150);
/// ε: what a packet may take from the hook to the wire.
pub const MARGIN: Duration = Duration::from_millis(20);
const UPSTREAM: ([u8; 4], u16) = ([10, 77, 1, 2], 7000);
const FAILOVERS: usize = 200;

fn tolerance() -> Tolerance {
    Tolerance {
        drift: Drift::KERNEL_LIMIT,
        margin: MARGIN,
        vm_pause: Duration::ZERO,
    }
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).expect("short")
}

/// Nanoseconds that a holder may count on after it sent a renewal.
pub fn hold() -> u64 {
    nanoseconds(tolerance().hold(TTL))
}

/// Nanoseconds for which a challenger must see a lease unchanged.
fn challenge() -> u64 {
    nanoseconds(tolerance().challenge(TTL))
}

/// The source port of an epoch's connection number `again`.
pub fn port_of(epoch: u64, again: u16) -> u16 {
    10_000 + u16::try_from(epoch).expect("few failovers") * 4 + again
}

/// SplitMix64: choices that can be made again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// A packet at the upstream that opens or carries something.
#[derive(Debug, Clone, Copy)]
struct Seen {
    epoch: u64,
    opens: bool,
    /// When the capture read it: for the eye, not for the judgement.
    at_ns: u64,
}

/// The upstream's end of the cable: a network of its own, somebody who accepts and reads, and a capture.
struct Upstream {
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// Takes a frame apart; `None`: nothing of ours, or neither payload nor an opening.
fn dissect(frame: &[u8]) -> Option<Seen> {
    let packet = frame.get(14..)?;
    if packet.first()? >> 4 != 4 || *packet.get(9)? != 6 {
        return None;
    }
    let header = usize::from(packet[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let tcp = packet.get(header..)?;
    if u16::from_be_bytes([*tcp.get(2)?, *tcp.get(3)?]) != UPSTREAM.1 {
        return None;
    }
    let source = u16::from_be_bytes([tcp[0], tcp[1]]);
    let opens = tcp.get(13)? & 2 != 0;
    let payload = total.checked_sub(header + usize::from(tcp[12] >> 4) * 4)?;
    let epoch = u64::from(source.checked_sub(10_000)?) / 4;
    // The payload says its epoch too: whole records, where they are not cut.
    let text = &tcp[usize::from(tcp[12] >> 4) * 4..];
    if payload >= 8 && text.len() >= 8 && text[7] == b';' {
        let says = std::str::from_utf8(&text[..7])
            .ok()
            .and_then(|t| t.parse().ok());
        assert_eq!(says, Some(epoch), "a connection carries its own epoch");
    }
    (opens || payload > 0).then(|| Seen {
        epoch,
        opens,
        at_ns: now_ns(),
    })
}

impl Upstream {
    /// Makes the cable between the calling thread's network and a new one.
    fn new() -> Upstream {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let (cable, has_cable) = std::sync::mpsc::sync_channel::<()>(1);
        let thread = std::thread::spawn({
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            move || {
                unshare(CloneFlags::CLONE_NEWNET).expect("a network of its own");
                ready.send(nix::unistd::gettid()).expect("somebody waits");
                has_cable.recv().expect("a cable comes");
                sh("ip addr add 10.77.1.2/24 dev up1; ip link set up1 up");
                let capture = Socket::new(
                    Domain::PACKET,
                    Type::RAW,
                    Some(Protocol::from(i32::from(0x0800_u16.to_be()))),
                )
                .expect("a capture");
                capture
                    .set_recv_buffer_size(64 << 20)
                    .expect("a large buffer");
                capture
                    .set_read_timeout(Some(Duration::from_millis(50)))
                    .expect("a deadline");
                let listener =
                    std::net::TcpListener::bind(SocketAddr::from(UPSTREAM)).expect("an address");
                listener.set_nonblocking(true).expect("a socket");
                let reader = std::thread::spawn({
                    let stop = Arc::clone(&stop);
                    move || read_all(&listener, &stop)
                });
                ready.send(nix::unistd::gettid()).expect("somebody waits");
                let mut frame = [0u8; 2048];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(n) = (&capture).read(&mut frame)
                        && let Some(packet) = dissect(&frame[..n])
                    {
                        seen.lock().expect("nobody panicked").push(packet);
                    }
                }
                assert_eq!(
                    lost(&capture),
                    0,
                    "the capture missed packets: this shows nothing"
                );
                reader.join().expect("the reader ends");
            }
        });
        let other = is_ready.recv().expect("a network");
        sh(&format!(
            "ip link add up0 type veth peer name up1 netns {other} && ip addr add 10.77.1.1/24 dev up0 && ip link set up0 up"
        ));
        cable.send(()).expect("somebody waits");
        is_ready.recv().expect("an upstream");
        Upstream {
            seen,
            stop,
            threads: vec![thread],
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("nobody panicked").clone()
    }

    fn has(&self, epoch: u64) -> bool {
        self.seen
            .lock()
            .expect("nobody panicked")
            .iter()
            .any(|s| s.epoch == epoch && !s.opens)
    }

    /// Everything that arrived, in order.
    fn end(mut self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("the capture is whole");
        }
        self.seen()
    }
}

fn lost(capture: &Socket) -> u32 {
    // struct tpacket_stats: packets, drops.
    let mut counts = [0u32; 2];
    let mut length = u32::try_from(size_of_val(&counts)).expect("short");
    // SAFETY: the kernel writes at most `length` bytes to `counts`.
    let done = unsafe {
        nix::libc::getsockopt(
            capture.as_raw_fd(),
            nix::libc::SOL_PACKET,
            nix::libc::PACKET_STATISTICS,
            counts.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    assert_eq!(done, 0, "statistics of the capture");
    counts[1]
}

fn read_all(listener: &std::net::TcpListener, stop: &AtomicBool) {
    let mut streams = Vec::new();
    let mut block = vec![0u8; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true).expect("a socket");
            streams.push(stream);
        }
        streams.retain_mut(|stream| match stream.read(&mut block) {
            Ok(n) => n > 0,
            Err(e) => e.kind() == std::io::ErrorKind::WouldBlock,
        });
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Frozen,
    Killed,
    CutOff,
    /// Frozen, and wakes up while its successor starts.
    Resumed,
}

const FAULTS: [Fault; 4] = [Fault::Frozen, Fault::Killed, Fault::CutOff, Fault::Resumed];

struct Unit {
    cgroup: u64,
    actor: Actor,
    frozen: bool,
    input: Vec<u8>,
}

/// The master, the database and the host agent in one: renewals come in, failovers go out.
struct Master {
    rig: Rig,
    units: [Unit; 2],
    made: usize,
    /// Who owns, under which epoch, and when the last renewal came in.
    owner: usize,
    epoch: u64,
    renewed_at: u64,
    cut: bool,
}

impl Master {
    fn new(rig: Rig) -> Master {
        let mut rig = rig;
        let units = [0, 1].map(|made| unit(&mut rig, made, 1));
        Master {
            rig,
            units,
            made: 2,
            owner: 1,
            epoch: 0,
            renewed_at: 0,
            cut: false,
        }
    }

    /// Takes renewals in and answers those of the owner.
    fn serve(&mut self, span: u64) {
        let end = now_ns() + span;
        loop {
            for at in [0, 1] {
                for (epoch, sent) in self.units[at].renewals() {
                    if at == self.owner && epoch == self.epoch && !self.cut {
                        self.renewed_at = now_ns();
                        self.units[at].tell(&format!("held {epoch} {sent}"));
                    }
                }
            }
            if now_ns() >= end {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Grants the next epoch to the other unit.
    fn grant(&mut self) {
        self.owner = 1 - self.owner;
        self.epoch += 1;
        self.cut = false;
        self.renewed_at = now_ns();
        let unit = &mut self.units[self.owner];
        if std::mem::take(&mut unit.frozen) {
            unit.actor.signal(Signal::SIGCONT);
        }
        unit.tell(&format!("grant {}", self.epoch));
    }

    /// The owner fails; the other follows when the old lease is over, or when its epoch is sealed.
    fn fail_over(&mut self, fault: Fault, sealed: bool, moment: u64) {
        let old = self.owner;
        self.serve(moment);
        match fault {
            Fault::Frozen | Fault::Resumed => {
                self.units[old].actor.signal(Signal::SIGSTOP);
                self.units[old].frozen = true;
            }
            Fault::Killed => {
                let fresh = unit(&mut self.rig, self.made, self.epoch + 1);
                self.made += 1;
                let dead = std::mem::replace(&mut self.units[old], fresh);
                dead.actor.kill();
                if sealed {
                    self.rig
                        .gate
                        .remove_unit(dead.cgroup)
                        .expect("an entry less");
                }
            }
            Fault::CutOff => self.cut = true,
        }
        if sealed {
            if fault != Fault::Killed {
                self.rig
                    .gate
                    .seal(self.units[old].cgroup, self.epoch + 1)
                    .expect("a seal");
            }
            self.serve_nobody(nanoseconds(MARGIN));
        } else {
            // What was in flight is taken in first; from the last answer on nothing may have changed.
            self.serve(0);
            self.cut = true;
            let over = self.renewed_at + challenge();
            self.serve_nobody(over.saturating_sub(now_ns()));
        }
        self.grant();
        if fault == Fault::Resumed {
            self.serve(moment / 4);
            self.units[old].frozen = false;
            self.units[old].actor.signal(Signal::SIGCONT);
        }
    }

    fn serve_nobody(&mut self, span: u64) {
        self.cut = true;
        self.serve(span);
    }
}

impl Unit {
    fn tell(&mut self, line: &str) {
        // One that was killed does not listen.
        let _ = writeln!(self.actor.stream(), "{line}");
    }

    fn renewals(&mut self) -> Vec<(u64, u64)> {
        let mut block = [0u8; 512];
        while let Ok(n) = self.actor.stream().read(&mut block) {
            if n == 0 {
                break;
            }
            self.input.extend_from_slice(&block[..n]);
        }
        let mut found = Vec::new();
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).into_owned();
            let words: Vec<&str> = line.trim_end().split(' ').collect();
            let number = |at: usize| words[at].parse::<u64>().expect("a number");
            found.push((number(1), number(2)));
        }
        found
    }
}

/// A unit with a sender in it.
fn unit(rig: &mut Rig, number: usize, seal: u64) -> Unit {
    let cgroup = rig.cgroup(&format!("sender{number}"));
    let id = wa_bpf::cgroup_id(&cgroup).expect("it was just made");
    let fd = rig.gate.make_unit(id, seal).expect("an entry");
    let mut actor = Actor::inside(&cgroup);
    actor.hand("serve 10.77.1.2:7000", &fd);
    actor.stream().set_nonblocking(true).expect("a socket");
    Unit {
        cgroup: id,
        actor,
        frozen: false,
        input: Vec::new(),
    }
}

/// What a run showed.
struct Shown {
    /// Packets of an epoch after the first of a later one.
    late: usize,
    packets: usize,
    /// Failovers with payload on both sides.
    good: usize,
    faults: BTreeMap<(Fault, bool), usize>,
    /// For each late packet: its epoch and kind, how its owner failed, and how long after its successor's first it came.
    stories: Vec<String>,
}

fn run(mut rig: Rig, failovers: usize, seed: u64) -> Shown {
    one_processor();
    let mut dice = Dice(seed);
    let upstream = Upstream::new();
    rig.gate.judge_devices().expect("the cable has a judge");
    let mut master = Master::new(rig);
    let mut faults = BTreeMap::new();
    let mut failed = Vec::new();
    master.grant();
    for n in 0..failovers {
        let epoch = master.epoch;
        // It really sends before it fails. A sender that lapsed on a busy machine is followed all the same.
        let end = now_ns() + 3_000_000_000;
        while !upstream.has(epoch) && now_ns() < end {
            master.serve(2_000_000);
        }
        let fault = FAULTS[usize::try_from(dice.below(4)).expect("small")];
        let sealed = dice.below(2) == 0;
        let moment = dice.below(nanoseconds(TTL) / 2);
        master.fail_over(fault, sealed, moment);
        *faults.entry((fault, sealed)).or_insert(0) += 1;
        failed.push((fault, sealed));
        assert_eq!(master.epoch, u64::try_from(n).expect("few") + 2);
    }
    let last = master.epoch;
    wait(|| {
        master.serve(2_000_000);
        upstream.has(last)
    });
    // The capture ends first. With the master its pins go, and the gate with them: what dead senders have left in the
    // kernel would leave then, as after the removal of the package.
    let seen = upstream.end();
    drop(master);
    let stories = late(&seen, &failed);
    let sent = |epoch: u64| seen.iter().any(|s| s.epoch == epoch && !s.opens);
    let good = (1..last)
        .filter(|epoch| sent(*epoch) && sent(epoch + 1))
        .count();
    Shown {
        late: stories.len(),
        packets: seen.len(),
        good,
        faults,
        stories,
    }
}

/// The packets of an epoch that came after the first of a later one, each with its story.
fn late(seen: &[Seen], failed: &[(Fault, bool)]) -> Vec<String> {
    let mut stories = Vec::new();
    let mut newest: Option<Seen> = None;
    for packet in seen {
        match newest {
            Some(first) if packet.epoch < first.epoch => {
                let owner = usize::try_from(packet.epoch)
                    .ok()
                    .and_then(|e| failed.get(e - 1));
                let after = (packet.at_ns - first.at_ns) / 1000;
                stories.push(format!(
                    "{packet:?}, whose owner was {owner:?} (sealed), {after} us after the first of {}",
                    first.epoch
                ));
            }
            Some(first) if packet.epoch == first.epoch => {}
            _ => newest = Some(*packet),
        }
    }
    stories
}

/// One processor for the calling thread and whatever it starts: what passes the hook there reaches the other end of the
/// cable in the same order, acknowledged and sent again or not.
fn one_processor() {
    let mut first = CpuSet::new();
    first.set(0).expect("there is a first processor");
    sched_setaffinity(nix::unistd::Pid::from_raw(0), &first).expect("one processor");
}

fn seed() -> u64 {
    let given = std::env::var("WA_GATE_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    given.unwrap_or_else(now_ns)
}

#[test]
fn no_packet_of_an_epoch_after_the_first_of_the_next() {
    on_a_rig(|| {
        let seed = seed();
        println!("WA_GATE_SEED={seed}");
        let shown = run(Rig::new(), FAILOVERS + 5, seed);
        let line = format!(
            "{} packets, {} failovers with payload on both sides, {:?}",
            shown.packets, shown.good, shown.faults
        );
        let _ = writeln!(std::io::stdout(), "{line}");
        assert_eq!(shown.late, 0, "seed {seed}: {line}: {:?}", shown.stories);
        assert!(shown.good >= FAILOVERS, "seed {seed}: {line}");
        for fault in FAULTS {
            let each: usize = [true, false]
                .iter()
                .filter_map(|sealed| shown.faults.get(&(fault, *sealed)))
                .sum();
            assert!(each >= 20, "seed {seed}: {line}");
        }
    });
}

/// The capture can see it: without stamps, what an owner has kept from its last tenure leaves under its next.
#[test]
fn without_stamps_old_packets_are_seen() {
    on_a_rig(|| {
        let seed = seed();
        println!("WA_GATE_SEED={seed}");
        let shown = run(Rig::naive(&["NAIVE_NO_STAMP", "NAIVE_NO_WIRE"]), 12, seed);
        assert!(
            shown.late > 0,
            "seed {seed}: {} packets and no hole",
            shown.packets
        );
    });
}
