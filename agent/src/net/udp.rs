//! The heartbeat socket: one thread of its own that answers pings, sends rounds, and passes the rest on.
//! Decides nothing. Load on the async runtime cannot look like death here; the answer says how old its progress is.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;
use wa_core::id::{Epoch, Grant, Incarnation, NodeId, Nonce, Role, Term};
use wa_core::time::Instant;
use wa_core::wire::{
    Body, DATAGRAM_LEN_MAX, Datagram, Health, MAC_LEN, Report, VERSION, WireError, decode, encode,
};

use super::NetError;
use super::keys::{Keys, Voice, may_say};
use super::replay::Replays;
use crate::sys::{clock, state};

/// Datagrams waiting for the main loop; beyond that they are counted and dropped (the sender repeats).
const QUEUE_LEN: usize = 16_384;
/// How long the thread sleeps at most before it looks for work.
const IDLE: Duration = Duration::from_millis(100);
/// Pings between two looks at the socket: the answers to a long round must not overflow the kernel's queue.
const BURST: usize = 32;
/// Datagrams read at a time: a flood must not keep the next round from leaving.
const READ_MAX: usize = 256;
/// How often what was dropped is told to people.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Who sends on this socket.
#[derive(Clone)]
pub struct Identity {
    pub cluster: u64,
    pub node: NodeId,
    pub role: Role,
    pub incarnation: Incarnation,
    pub keys: Keys,
}

/// What the thread answers pings with. The main loop stores, the thread reads and never waits for it.
#[derive(Debug)]
pub struct SharedReport {
    report: Mutex<Report>,
    progress_at: AtomicU64,
    lateness_ms: AtomicU32,
}

const NO_REPORT: Report = Report {
    shard: None,
    epoch: Epoch(0),
    grant: Grant(0),
    epoch_high: Epoch(0),
    health: Health(0),
    progress_age_ms: 0,
    lateness_ms: 0,
    in_flight: 0,
};

impl Default for SharedReport {
    fn default() -> Self {
        Self {
            report: Mutex::new(NO_REPORT),
            progress_at: AtomicU64::new(clock::now().0),
            lateness_ms: AtomicU32::new(0),
        }
    }
}

impl SharedReport {
    /// The main loop made progress and says what it is doing.
    pub fn store(&self, report: Report) {
        *self
            .report
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = report;
        self.progress();
    }

    /// The main loop made progress.
    pub fn progress(&self) {
        self.progress_at.store(clock::now().0, Ordering::Release);
    }

    /// The report for an answer. `last` is what the thread read before: a main loop that was preempted
    /// in the middle of a store must not hold up the answer.
    fn load(&self, now: Instant, last: &mut Report) -> Report {
        match self.report.try_lock() {
            Ok(report) => *last = *report,
            Err(TryLockError::Poisoned(poisoned)) => *last = *poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {}
        }
        let age = now.since(Instant(self.progress_at.load(Ordering::Acquire)));
        Report {
            progress_age_ms: u32::try_from(age.as_millis()).unwrap_or(u32::MAX),
            lateness_ms: self.lateness_ms.load(Ordering::Relaxed),
            ..*last
        }
    }
}

/// Counters of what was not understood or not wanted.
#[derive(Debug, Default)]
pub struct Drops {
    pub malformed: AtomicU64,
    pub version: AtomicU64,
    pub mac: AtomicU64,
    pub foreign: AtomicU64,
    pub role: AtomicU64,
    pub replay: AtomicU64,
    pub queue_full: AtomicU64,
    /// Who sent the last one that counts as `mac` or `version`: most likely a node with another key or build.
    suspect: Mutex<Option<SocketAddr>>,
}

impl Drops {
    fn sum(&self) -> u64 {
        let all = [
            &self.malformed,
            &self.version,
            &self.mac,
            &self.foreign,
            &self.role,
            &self.replay,
            &self.queue_full,
        ];
        all.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn suspect(&self, address: SocketAddr) {
        if let Ok(mut suspect) = self.suspect.try_lock() {
            *suspect = Some(address);
        }
    }
}

/// Says what was dropped, apart from the heartbeat thread: writing a log line may block.
async fn tell_drops(shared: Weak<Shared>) {
    let (mut told, mut told_wrong) = (0, 0);
    loop {
        clock::sleep(TELL_EVERY).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let d = &shared.drops;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let wrong = get(&d.mac) + get(&d.version);
        if wrong > told_wrong {
            let from = d.suspect.lock().ok().and_then(|suspect| *suspect);
            tracing::warn!(count = wrong - told_wrong, from = ?from,
                "ignoring heartbeats that do not verify: is the cluster key, and the release, the same there?");
        } else if d.sum() > told {
            tracing::debug!(drops = ?d, "ignoring datagrams");
        }
        (told, told_wrong) = (d.sum(), wrong);
    }
}

/// What the thread tells the main loop.
#[derive(Debug)]
pub enum Heard {
    /// A round of pings left.
    Round { late: bool, lateness: Duration },
    /// A ping of ours was answered.
    Answered {
        node: NodeId,
        incarnation: Incarnation,
        report: Report,
        rtt: Duration,
    },
    /// Anything else that is authentic.
    Body {
        from: NodeId,
        role: Role,
        incarnation: Incarnation,
        address: SocketAddr,
        body: Body,
    },
}

/// A peer to ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub node: NodeId,
    pub address: SocketAddr,
}

struct Shared {
    socket: UdpSocket,
    identity: Identity,
    sequence: AtomicU64,
    stop: AtomicBool,
    interval_us: AtomicU64,
    targets: ArcSwap<Vec<Target>>,
    term: AtomicU64,
    epoch_high: AtomicU64,
    report: Arc<SharedReport>,
    drops: Drops,
}

/// The handle of a heartbeat thread. Dropping it stops the thread.
pub struct Heartbeats {
    shared: Arc<Shared>,
}

impl Drop for Heartbeats {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

/// Binds the socket and starts the thread. `interval`: of ping rounds, for masters; `None` only answers.
///
/// # Errors
/// [`NetError`] when the port is taken or the thread cannot start.
pub fn start(
    identity: Identity,
    address: SocketAddr,
    interval: Option<Duration>,
    report: Arc<SharedReport>,
) -> Result<(Heartbeats, mpsc::Receiver<Heard>), NetError> {
    let socket = bind(address).map_err(|source| NetError::of("heartbeats", address, source))?;
    let (sender, receiver) = mpsc::channel(QUEUE_LEN);
    let shared = Arc::new(Shared {
        socket,
        identity,
        sequence: AtomicU64::new(1),
        stop: AtomicBool::new(false),
        interval_us: AtomicU64::new(interval.map_or(0, micros)),
        targets: ArcSwap::default(),
        term: AtomicU64::new(0),
        epoch_high: AtomicU64::new(0),
        report,
        drops: Drops::default(),
    });
    let of_thread = Arc::clone(&shared);
    std::thread::Builder::new()
        .name("heartbeats".into())
        .spawn(move || {
            Thread {
                shared: of_thread,
                sender,
                pings: BTreeMap::new(),
                replays: Replays::default(),
                report: NO_REPORT,
                next_round: Instant::ZERO,
            }
            .run()
        })
        .map_err(NetError::Thread)?;
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(tell_drops(Arc::downgrade(&shared)));
    }
    Ok((Heartbeats { shared }, receiver))
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let domain = if address.is_ipv4() {
        Domain::IPV4
    } else {
        Domain::IPV6
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    // DSCP CS6 and priority 6: heartbeats go before bulk traffic where the network honours it; never fatal.
    if address.is_ipv4() {
        let _ = socket.set_tos_v4(0xc0);
    } else {
        let _ = socket.set_tclass_v6(0xc0);
    }
    #[cfg(target_os = "linux")]
    let _ = socket.set_priority(6);
    socket.set_recv_buffer_size(1 << 20).ok();
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

impl Heartbeats {
    /// Sends one datagram. Nothing is repeated: whoever needs an answer asks again.
    pub fn send(&self, to: SocketAddr, body: Body) {
        self.shared.send(to, body);
    }

    /// Pings exactly these peers from the next round on.
    pub fn set_targets(&self, targets: Vec<Target>) {
        self.shared.targets.store(Arc::new(targets));
    }

    /// The peers that are pinged.
    pub fn targets(&self) -> Arc<Vec<Target>> {
        self.shared.targets.load_full()
    }

    /// Changes the interval of the rounds.
    pub fn set_interval(&self, interval: Duration) {
        self.shared
            .interval_us
            .store(micros(interval), Ordering::Release);
    }

    /// What pings say: the own term (zero when not primary) and the highest epoch known.
    pub fn set_pings(&self, term: Term, epoch_high: Epoch) {
        self.shared.term.store(term.0, Ordering::Relaxed);
        self.shared
            .epoch_high
            .store(epoch_high.0, Ordering::Relaxed);
    }

    /// Counters of dropped datagrams.
    pub fn drops(&self) -> &Drops {
        &self.shared.drops
    }
}

impl Shared {
    fn send(&self, to: SocketAddr, body: Body) {
        let voice = Voice::of(self.identity.role, &body);
        let datagram = Datagram {
            version: VERSION,
            cluster: self.identity.cluster,
            key_id: self.identity.keys.id(),
            role: self.identity.role,
            sender: self.identity.node.clone(),
            incarnation: self.identity.incarnation,
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed),
            body,
        };
        let mut bytes = [0u8; DATAGRAM_LEN_MAX];
        let len = encode(&datagram, &mut bytes);
        let mac = self.identity.keys.mac(voice, &bytes[..len]);
        bytes[len..len + MAC_LEN].copy_from_slice(&mac);
        // A full socket buffer or an unreachable peer is what silence is for.
        let _ = self.socket.send_to(&bytes[..len + MAC_LEN], to);
    }

    /// Checks and reads a datagram; counts what it drops.
    fn open(&self, bytes: &[u8], from: SocketAddr) -> Option<Datagram> {
        let drop = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
            None
        };
        let Some((body, mac)) = bytes
            .len()
            .checked_sub(MAC_LEN)
            .filter(|_| bytes.len() <= DATAGRAM_LEN_MAX)
            .map(|at| bytes.split_at(at))
        else {
            return drop(&self.drops.malformed);
        };
        let datagram = match decode(body) {
            Ok(datagram) => datagram,
            Err(WireError::Version(_)) => {
                self.drops.suspect(from);
                return drop(&self.drops.version);
            }
            Err(_) => return drop(&self.drops.malformed),
        };
        if datagram.cluster != self.identity.cluster {
            return drop(&self.drops.foreign);
        }
        let keys = &self.identity.keys;
        let voice = Voice::of(datagram.role, &datagram.body);
        if !keys.verify(datagram.key_id, voice, body, mac) {
            self.drops.suspect(from);
            return drop(&self.drops.mac);
        }
        // Our own words, sent back by somebody who cannot make his own.
        if datagram.sender == self.identity.node && datagram.role == self.identity.role {
            return drop(&self.drops.replay);
        }
        if !may_say(datagram.role, &datagram.body) {
            return drop(&self.drops.role);
        }
        Some(datagram)
    }
}

struct Thread {
    shared: Arc<Shared>,
    sender: mpsc::Sender<Heard>,
    /// Nonces of the pings of the last rounds: an answer to any other is a replay.
    pings: BTreeMap<Nonce, (NodeId, Instant)>,
    replays: Replays,
    /// What the last answer said.
    report: Report,
    next_round: Instant,
}

impl Thread {
    fn run(mut self) {
        raise_priority();
        self.next_round = clock::now();
        while !self.shared.stop.load(Ordering::Acquire) && !self.sender.is_closed() {
            let interval = Duration::from_micros(self.shared.interval_us.load(Ordering::Acquire));
            let mut wait = IDLE;
            if interval > Duration::ZERO {
                let now = clock::now();
                // A shorter interval holds at once, not after the old one ran out.
                self.next_round = self.next_round.min(now + interval);
                if now >= self.next_round {
                    self.round(now, interval);
                }
                wait = self.next_round.since(clock::now()).min(IDLE);
            }
            if readable(&self.shared.socket, wait) {
                self.read();
            }
        }
    }

    /// Reads what waits, up to a bound.
    fn read(&mut self) {
        let mut buffer = [0u8; 2048];
        for _ in 0..READ_MAX {
            match recv_now(&self.shared.socket, &mut buffer) {
                Some((len, from)) => self.datagram(&buffer[..len], from),
                None => break,
            }
        }
    }

    fn round(&mut self, now: Instant, interval: Duration) {
        let lateness = now.since(self.next_round);
        let late = lateness > interval / 2;
        self.next_round = if late {
            now + interval
        } else {
            self.next_round + interval
        };
        self.shared.report.lateness_ms.store(
            u32::try_from(lateness.as_millis()).unwrap_or(u32::MAX),
            Ordering::Relaxed,
        );
        self.tell(Heard::Round { late, lateness });
        let oldest = now - interval * 4;
        self.pings.retain(|_, (_, sent)| *sent > oldest);
        let term = Term(self.shared.term.load(Ordering::Relaxed));
        let epoch_high = Epoch(self.shared.epoch_high.load(Ordering::Relaxed));
        let targets = self.shared.targets.load_full();
        for burst in targets.chunks(BURST) {
            for target in burst {
                let nonce = Nonce(state::random_u64());
                let sent = clock::now();
                self.pings.insert(nonce, (target.node.clone(), sent));
                self.shared.send(
                    target.address,
                    Body::Ping {
                        nonce,
                        sent_at_ns: sent.0,
                        term,
                        epoch_high,
                    },
                );
            }
            self.read();
        }
    }

    fn datagram(&mut self, bytes: &[u8], address: SocketAddr) {
        let Some(datagram) = self.shared.open(bytes, address) else {
            return;
        };
        let now = clock::now();
        match datagram.body {
            // A replayed ping is answered too: its answer echoes an old nonce, which nobody waits for.
            Body::Ping {
                nonce, sent_at_ns, ..
            } => {
                let report = self.shared.report.load(now, &mut self.report);
                self.shared.send(
                    address,
                    Body::Answer {
                        nonce,
                        sent_at_ns,
                        report,
                    },
                );
            }
            Body::Answer { nonce, report, .. } => {
                // Looked at before it is taken: a ping that somebody sent on to another node must not use it up.
                let asked = self
                    .pings
                    .get(&nonce)
                    .filter(|(node, _)| *node == datagram.sender);
                let Some(rtt) = asked.map(|(_, sent)| now.since(*sent)) else {
                    self.shared.drops.replay.fetch_add(1, Ordering::Relaxed);
                    return;
                };
                self.pings.remove(&nonce);
                let (node, incarnation) = (datagram.sender, datagram.incarnation);
                self.replays
                    .proved(now, &node, incarnation, datagram.sequence);
                self.tell(Heard::Answered {
                    node,
                    incarnation,
                    report,
                    rtt,
                });
            }
            body => {
                let (from, incarnation) = (datagram.sender, datagram.incarnation);
                if !self
                    .replays
                    .fresh(now, &from, incarnation, datagram.sequence)
                {
                    self.shared.drops.replay.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                self.tell(Heard::Body {
                    from,
                    role: datagram.role,
                    incarnation,
                    address,
                    body,
                });
            }
        }
    }

    fn tell(&self, heard: Heard) {
        if self.sender.try_send(heard).is_err() {
            self.shared.drops.queue_full.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// SCHED_FIFO where it is allowed: CPU load must not look like death. EPERM is normal without the right.
fn raise_priority() {
    if let Err(error) = crate::sys::sched::raise_this_thread() {
        tracing::debug!(%error, "the heartbeat thread runs at normal priority");
    }
}

fn readable(socket: &UdpSocket, wait: Duration) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd as _;
    let timeout = PollTimeout::try_from(wait.min(IDLE).as_micros().div_ceil(1000))
        .unwrap_or(PollTimeout::ZERO);
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, timeout), Ok(n) if n > 0)
}

/// The socket is non-blocking: `None` when nothing waits.
fn recv_now(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
    socket.recv_from(buffer).ok()
}

#[cfg(test)]
#[path = "udp_tests.rs"]
mod tests;
