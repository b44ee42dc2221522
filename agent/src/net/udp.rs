//! The heartbeat socket: its handle, what it answers with, what it dropped, and how a datagram is made and checked.
//! Decides nothing. The thread that sends and answers is in `responder`, the way to the main loop in `inbox`.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};
use wa_core::id::{Epoch, Grant, Incarnation, NodeId, Role, Term};
use wa_core::time::Instant;
use wa_core::wire::{
    Body, DATAGRAM_LEN_MAX, Datagram, Header, Health, MAC_LEN, Report, VERSION_BEFORE, WireError,
    encode,
};

use super::NetError;
pub use super::inbox::{Heard, Inbox};
use super::keys::{Keys, Voice};
use super::responder::{self, Targets};
use crate::metrics::Ticks;
use crate::sys::{clock, socket};

/// Rounds and answers waiting for the main loop; beyond that they are counted and dropped (the sender repeats). Those who
/// only answer hear hardly any.
const BEATS_MAX: usize = 8192;
const BEATS_OF_OTHERS_MAX: usize = 16;
/// Tries to send where an ICMP error of an earlier datagram is reported in place of sending.
const SEND_TRIES: usize = 3;
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
    /// Worst lateness of the thread lately: rounds that left late, datagrams that it left lying.
    lateness_ms: AtomicU32,
    /// How long datagrams lay in the kernel until the thread read them.
    waits: Ticks,
}

pub(super) const NO_REPORT: Report = Report {
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
            waits: Ticks::default(),
        }
    }
}

impl SharedReport {
    /// One whose waits are shown on the page of figures.
    pub fn measured(waits: Ticks) -> Self {
        Self {
            waits,
            ..Self::default()
        }
    }

    /// Worst lateness of the heartbeat thread lately, in milliseconds.
    pub fn lateness_ms(&self) -> u32 {
        self.lateness_ms.load(Ordering::Relaxed)
    }

    pub(super) fn late(&self, lateness_ms: u32) {
        self.lateness_ms.store(lateness_ms, Ordering::Relaxed);
    }

    pub(super) fn waited(&self, span: Duration) {
        self.waits.observe(span);
    }

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
    pub(super) fn load(&self, now: Instant, last: &mut Report) -> Report {
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
    /// By the kernel: kept away by the socket's filter, or no room.
    pub kernel: AtomicU64,
    /// Not dropped by us: ICMP said that a peer's port is shut. A diagnosis, never evidence: anybody can forge it.
    pub refused: AtomicU64,
    /// Floods that shut out strangers for a second.
    pub floods: AtomicU64,
    /// Who sent the last one that counts as `mac` or `version`: most likely a node with another key or build.
    suspect: Mutex<Option<SocketAddr>>,
}

impl Drops {
    /// All that was dropped here; what the kernel kept away is not among it.
    pub fn sum(&self) -> u64 {
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
    let (mut told, mut told_wrong, mut told_floods) = (0, 0, 0);
    loop {
        clock::sleep(TELL_EVERY).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let d = &shared.drops;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let wrong = get(&d.mac) + get(&d.version);
        let floods = get(&d.floods);
        if floods > told_floods {
            tracing::warn!(
                times = floods - told_floods,
                kept_away = get(&d.kernel),
                "the heartbeat port is flooded: only known nodes are heard, strangers may try again each second"
            );
            told_floods = floods;
        }
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

/// A peer to ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub node: NodeId,
    pub address: SocketAddr,
}

pub(super) struct Shared {
    pub socket: UdpSocket,
    identity: Identity,
    sequence: AtomicU64,
    pub stop: AtomicBool,
    pub interval_us: AtomicU64,
    pub targets: ArcSwap<Targets>,
    pub term: AtomicU64,
    pub epoch_high: AtomicU64,
    /// The highest epoch that a ping named since it was asked for last.
    pub told: AtomicU64,
    pub report: Arc<SharedReport>,
    pub drops: Arc<Drops>,
    pub standing: responder::Standing,
}

/// The handle of a heartbeat thread. Dropping it stops the thread.
pub struct Heartbeats {
    shared: Arc<Shared>,
    /// Former targets that the thread may still look at: it must not be the one that frees them.
    retired: Mutex<Vec<Arc<Targets>>>,
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
) -> Result<(Heartbeats, Inbox), NetError> {
    let socket = bind(address).map_err(|source| NetError::of("heartbeats", address, source))?;
    let drops = Arc::<Drops>::default();
    let beats_max = interval.map_or(BEATS_OF_OTHERS_MAX, |_| BEATS_MAX);
    let (outbox, inbox) =
        super::inbox::pair(beats_max, Arc::clone(&drops)).map_err(NetError::Thread)?;
    let shared = Arc::new(Shared {
        socket,
        identity,
        sequence: AtomicU64::new(1),
        stop: AtomicBool::new(false),
        interval_us: AtomicU64::new(interval.map_or(0, micros)),
        targets: ArcSwap::default(),
        term: AtomicU64::new(0),
        epoch_high: AtomicU64::new(0),
        told: AtomicU64::new(0),
        report,
        drops,
        standing: responder::Standing::default(),
    });
    responder::spawn(Arc::clone(&shared), outbox).map_err(NetError::Thread)?;
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(tell_drops(Arc::downgrade(&shared)));
    }
    let retired = Mutex::default();
    Ok((Heartbeats { shared, retired }, inbox))
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
    let socket = socket.into();
    socket::ask_for_details(&socket);
    Ok(socket)
}

impl Heartbeats {
    /// Sends one datagram. Nothing is repeated: whoever needs an answer asks again.
    pub fn send(&self, to: SocketAddr, body: Body) {
        // All words look alike in both versions, and nodes of both understand this one.
        self.shared.send(VERSION_BEFORE, to, body);
    }

    /// Pings exactly these peers from the next round on.
    pub fn set_targets(&self, targets: Vec<Target>) {
        let targets = Targets::new(targets);
        if self.shared.targets.load().same(&targets) {
            return;
        }
        let former = self.shared.targets.swap(Arc::new(targets));
        let mut retired = self
            .retired
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        retired.retain(|targets| Arc::strong_count(targets) > 1);
        retired.push(former);
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

    /// The highest epoch that masters named in their pings since this was asked last; zero: none.
    pub fn told(&self) -> Epoch {
        Epoch(self.shared.told.swap(0, Ordering::Relaxed))
    }

    /// Counters of dropped datagrams.
    pub fn drops(&self) -> &Drops {
        &self.shared.drops
    }

    /// How the thread stands: realtime, and memory that stays.
    pub fn standing(&self) -> &responder::Standing {
        &self.shared.standing
    }

    /// Where the socket is bound.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.shared.socket.local_addr()
    }
}

impl Shared {
    pub fn cluster(&self) -> u64 {
        self.identity.cluster
    }

    /// Sends one datagram in a version that the receiver understands.
    pub fn send(&self, version: u8, to: SocketAddr, body: Body) {
        let voice = Voice::of(self.identity.role, &body);
        let datagram = Datagram {
            version,
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
        for _ in 0..SEND_TRIES {
            match self.socket.send_to(&bytes[..len + MAC_LEN], to) {
                // The ICMP error of an earlier datagram, perhaps to somebody else: this one was not sent yet.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                // A full socket buffer or an unreachable peer is what silence is for.
                _ => return,
            }
        }
    }

    /// Checks a datagram, cheap things first, and cuts the MAC off; counts what it drops. No name is made and no body
    /// read before the MAC is right.
    pub fn open<'a>(&self, bytes: &'a [u8], from: SocketAddr) -> Option<(Header<'a>, &'a [u8])> {
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
        let header = match Header::read(body) {
            Ok(header) => header,
            Err(WireError::Version(_)) => {
                self.drops.suspect(from);
                return drop(&self.drops.version);
            }
            Err(_) => return drop(&self.drops.malformed),
        };
        if header.cluster != self.identity.cluster {
            return drop(&self.drops.foreign);
        }
        let voice = if header.is_nudge() {
            Voice::Nudge
        } else {
            Voice::Role(header.role)
        };
        if !self.identity.keys.verify(header.key_id, voice, body, mac) {
            self.drops.suspect(from);
            return drop(&self.drops.mac);
        }
        // Our own words, sent back by somebody who cannot make his own.
        if header.sender == self.identity.node.as_str() && header.role == self.identity.role {
            return drop(&self.drops.replay);
        }
        Some((header, body))
    }
}

#[cfg(test)]
#[path = "udp_tests.rs"]
mod tests;
