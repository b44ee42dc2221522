//! The heartbeat thread: answers pings, sends rounds, and passes the rest on. Decides nothing.
//! SCHED_FIFO and locked memory where they are allowed; its loop allocates nothing, logs nothing, and waits for nobody: load
//! on the machine or a hung main loop must neither look like death nor hide it.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use wa_core::id::{Epoch, Incarnation, Nonce, Term};
use wa_core::time::Instant;
use wa_core::wire::{Body, Header, Report, VERSION, VERSION_BEFORE};

use super::inbox::{Heard, Outbox};
use super::keys::may_say;
use super::replay::Replays;
use super::sieve::Sieve;
use super::udp::{NO_REPORT, Shared, Target};
use crate::sys::{clock, memory, sched, socket, state};

/// How long the thread sleeps at most before it looks for work.
const IDLE: Duration = Duration::from_millis(100);
/// Pings between two looks at the socket: the answers to a long round must not overflow the kernel's queue.
const BURST: usize = 32;
/// Datagrams read at a time: a flood must not keep the next round from leaving.
const READ_MAX: usize = 256;
/// ICMP errors read at a time.
const REFUSED_MAX: usize = 64;
/// Rounds whose answers still count.
const ROUNDS_KEPT: usize = 4;
/// A peer that answered in the newest version is asked in it alone for so many rounds more. Fewer than make it silent: a
/// node that was put back to the release before must not look dead.
const NEWEST_KEPT: u64 = 2;
/// For how long the worst lateness is told, at least; at most twice as long.
const LATELY: Duration = Duration::from_secs(5);
/// What the thread's stack may take. It is locked, so it should not be large.
const STACK_LEN: usize = 512 << 10;
/// How the thread stands, once it runs.
#[derive(Debug, Default)]
pub struct Standing {
    pub ready: AtomicBool,
    /// It runs under SCHED_FIFO.
    pub realtime: AtomicBool,
    /// Address space that stays in memory once touched, in bytes.
    pub locked_bytes: AtomicU64,
    /// Calls of the allocator by the thread, as of its last turn.
    #[cfg(test)]
    pub allocations: AtomicU64,
}

/// What was asked of one peer. Only the thread looks at these.
#[derive(Debug, Default)]
struct Asked {
    /// Pings that were sent: the nonce (zero: none, or answered) and when.
    rounds: [(AtomicU64, AtomicU64); ROUNDS_KEPT],
    /// The nonce that was answered last.
    answered: AtomicU64,
    /// How many rounds more the peer is taken to speak the newest version, since it last did.
    newest: AtomicU64,
}

/// Whom to ping, by name, with room for what was asked of each.
#[derive(Debug, Default)]
pub(super) struct Targets {
    list: Vec<Target>,
    asked: Vec<Asked>,
}

impl Targets {
    /// Room for all that the thread will note is made here.
    pub fn new(mut list: Vec<Target>) -> Self {
        list.sort_by(|a, b| (&a.node, a.address).cmp(&(&b.node, b.address)));
        list.dedup();
        let asked = list.iter().map(|_| Asked::default()).collect();
        Self { list, asked }
    }

    /// The same peers at the same addresses.
    pub fn same(&self, other: &Self) -> bool {
        self.list == other.list
    }

    /// Takes over what was asked of peers that stay.
    fn inherit(&self, former: &Self) {
        for (target, asked) in former.list.iter().zip(&former.asked) {
            let same = |at: &usize| self.list[*at] == *target;
            let Some(at) = self.of(target.node.as_str()).find(same) else {
                continue;
            };
            for ((nonce, sent), (former_nonce, former_sent)) in
                self.asked[at].rounds.iter().zip(&asked.rounds)
            {
                nonce.store(former_nonce.load(Ordering::Relaxed), Ordering::Relaxed);
                sent.store(former_sent.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            let newest = asked.newest.load(Ordering::Relaxed);
            self.asked[at].newest.store(newest, Ordering::Relaxed);
        }
    }

    /// The places of one node: more than one while its row names them in turn.
    fn of(&self, name: &str) -> std::ops::Range<usize> {
        let from = self.list.partition_point(|t| t.node.as_str() < name);
        let of = |t: &&Target| t.node.as_str() == name;
        from..from + self.list[from..].iter().take_while(of).count()
    }

    fn note(&self, at: usize, round: usize, nonce: Nonce, sent: Instant) {
        let (of_nonce, of_sent) = &self.asked[at].rounds[round % ROUNDS_KEPT];
        of_nonce.store(nonce.0, Ordering::Relaxed);
        of_sent.store(sent.0, Ordering::Relaxed);
    }

    /// When this was asked, if it was and is not answered yet. Looked at before it is taken: a ping that somebody sent on
    /// to another node must not use it up.
    fn take(&self, at: usize, nonce: Nonce) -> Option<Instant> {
        let mut rounds = self.asked[at].rounds.iter();
        let (of_nonce, sent) =
            rounds.find(|(n, _)| n.load(Ordering::Relaxed) == nonce.0 && nonce.0 != 0)?;
        of_nonce.store(0, Ordering::Relaxed);
        self.asked[at].answered.store(nonce.0, Ordering::Relaxed);
        Some(Instant(sent.load(Ordering::Relaxed)))
    }

    /// It spoke the newest version just now.
    fn spoke_newest(&self, at: usize) {
        self.asked[at].newest.store(NEWEST_KEPT, Ordering::Relaxed);
    }

    /// In which versions a ping goes to it: the newest one; and as long as it does not answer in that, which a node of the
    /// release before cannot, the one before as well.
    fn versions(&self, at: usize) -> &'static [u8] {
        let left = self.asked[at].newest.load(Ordering::Relaxed);
        self.asked[at]
            .newest
            .store(left.saturating_sub(1), Ordering::Relaxed);
        if left > 0 || VERSION == VERSION_BEFORE {
            &[VERSION]
        } else {
            &[VERSION, VERSION_BEFORE]
        }
    }

    /// The second answer to a ping that went out in two versions.
    fn answered_already(&self, at: usize, nonce: Nonce) -> bool {
        self.asked[at].answered.load(Ordering::Relaxed) == nonce.0 && nonce.0 != 0
    }
}

/// Worst lateness of the last seconds.
#[derive(Debug)]
struct Lateness {
    since: Instant,
    worst: Duration,
    before: Duration,
}

impl Lateness {
    fn note(&mut self, now: Instant, lateness: Duration) -> Duration {
        if now.since(self.since) >= LATELY {
            (self.since, self.before, self.worst) = (now, self.worst, Duration::ZERO);
        }
        self.worst = self.worst.max(lateness);
        self.worst.max(self.before)
    }
}

/// Starts the thread.
pub(super) fn spawn(shared: Arc<Shared>, outbox: Outbox) -> std::io::Result<()> {
    let thread = std::thread::Builder::new()
        .name(sched::HEARTBEATS.into())
        .stack_size(STACK_LEN);
    thread.spawn(move || {
        let (sieve, now) = (Sieve::new(&shared.socket, shared.cluster()), clock::now());
        let targets = shared.targets.load_full();
        let thread = Thread {
            shared,
            outbox,
            targets,
            replays: Replays::default(),
            sieve,
            report: NO_REPORT,
            next_round: now,
            round: 0,
            lateness: Lateness {
                since: now,
                worst: Duration::ZERO,
                before: Duration::ZERO,
            },
        };
        prepare(&thread.shared.standing);
        thread.run();
    })?;
    Ok(())
}

struct Thread {
    shared: Arc<Shared>,
    outbox: Outbox,
    targets: Arc<Targets>,
    replays: Replays,
    sieve: Sieve,
    /// What the last answer said.
    report: Report,
    next_round: Instant,
    round: usize,
    lateness: Lateness,
}

impl Thread {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Acquire) && !self.outbox.closed() {
            let interval = Duration::from_micros(self.shared.interval_us.load(Ordering::Acquire));
            let mut wait = IDLE;
            self.sieve.tick(clock::now(), &self.shared.socket);
            if interval > Duration::ZERO {
                let now = clock::now();
                // A shorter interval holds at once, not after the old one ran out.
                self.next_round = self.next_round.min(now + interval);
                if now >= self.next_round {
                    // Answers that lie there came in time, however late this thread is: they go before the round.
                    self.read();
                    self.leave(now, interval);
                }
                wait = self.next_round.since(clock::now()).min(IDLE);
            }
            self.sleep(wait);
            #[cfg(test)]
            self.shared.standing.allocations.store(
                crate::sys::alloc_count::calls_of_this_thread(),
                Ordering::Release,
            );
        }
    }

    /// Waits for a datagram or until the next round; during a flood for the end of the window.
    fn sleep(&mut self, wait: Duration) {
        let now = clock::now();
        if let Some(ends) = self.sieve.window_ends(now) {
            let _ = ppoll(&mut [], Some(ends.since(now).min(wait).into()), None);
            return;
        }
        let mut fds = [PollFd::new(self.shared.socket.as_fd(), PollFlags::POLLIN)];
        if !matches!(ppoll(&mut fds, Some(wait.into()), None), Ok(n) if n > 0) {
            return;
        }
        let said = fds[0].revents().unwrap_or(PollFlags::empty());
        if said.contains(PollFlags::POLLERR) {
            let refused = socket::refused(&self.shared.socket, REFUSED_MAX) as u64;
            self.shared
                .drops
                .refused
                .fetch_add(refused, Ordering::Relaxed);
        }
        self.read();
    }

    /// Reads what waits, up to a bound.
    fn read(&mut self) {
        let mut buffer = [0u8; 1024];
        for _ in 0..READ_MAX {
            let Some(arrived) = socket::receive(&self.shared.socket, &mut buffer) else {
                return;
            };
            let now = clock::now();
            if let Some(dropped) = arrived.dropped {
                self.shared
                    .drops
                    .kernel
                    .store(dropped.into(), Ordering::Relaxed);
            }
            let useful = self.datagram(&buffer[..arrived.len], arrived.from, now - arrived.waited);
            if useful {
                self.sieve.proved(now, arrived.from);
                self.shared.report.waited(arrived.waited);
                self.late(now, arrived.waited);
            } else if self.sieve.useless(now) {
                if self.sieve.shut(now, &self.shared.socket) {
                    self.shared.drops.floods.fetch_add(1, Ordering::Relaxed);
                }
                return;
            }
        }
    }

    fn late(&mut self, now: Instant, lateness: Duration) {
        let worst = self.lateness.note(now, lateness).as_millis();
        self.shared
            .report
            .late(u32::try_from(worst).unwrap_or(u32::MAX));
    }

    /// Sends a round of pings.
    fn leave(&mut self, now: Instant, interval: Duration) {
        let lateness = now.since(self.next_round);
        let late = lateness > interval / 2;
        self.next_round = if late {
            now + interval
        } else {
            self.next_round + interval
        };
        self.late(now, lateness);
        self.tell(Heard::Round { late, lateness });
        self.round = self.round.wrapping_add(1);
        let newest = self.shared.targets.load();
        if !Arc::ptr_eq(&newest, &self.targets) {
            newest.inherit(&self.targets);
            // The former ones are freed by who replaced them.
            self.targets = Arc::clone(&newest);
        }
        drop(newest);
        let term = Term(self.shared.term.load(Ordering::Relaxed));
        let epoch_high = Epoch(self.shared.epoch_high.load(Ordering::Relaxed));
        for at in 0..self.targets.list.len() {
            let (nonce, sent) = (Nonce(state::random_u64()), clock::now());
            self.targets.note(at, self.round, nonce, sent);
            let ping = Body::Ping {
                nonce,
                sent_at_ns: sent.0,
                term,
                epoch_high,
            };
            for version in self.targets.versions(at) {
                let address = self.targets.list[at].address;
                self.shared.send(*version, address, ping.clone());
            }
            if at % BURST == BURST - 1 {
                self.read();
            }
        }
    }

    /// Takes one datagram; false when it was of no use.
    fn datagram(&mut self, bytes: &[u8], address: SocketAddr, arrived: Instant) -> bool {
        let Some((header, body)) = self.shared.open(bytes, address) else {
            return false;
        };
        if !header.is_beat() {
            return self.words(&header, body, address);
        }
        let Ok(beat) = header.body() else {
            self.shared.drops.malformed.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        if !may_say(header.role, &beat) {
            self.shared.drops.role.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        match beat {
            // A replayed ping is answered too: its answer echoes an old nonce, which nobody waits for. It is of no use all
            // the same, so that many of them are a flood.
            Body::Ping {
                nonce,
                sent_at_ns,
                epoch_high,
                ..
            } => {
                self.shared.told.fetch_max(epoch_high.0, Ordering::Relaxed);
                let report = self.shared.report.load(clock::now(), &mut self.report);
                self.shared.send(
                    header.version,
                    address,
                    Body::Answer {
                        nonce,
                        sent_at_ns,
                        report,
                    },
                );
                self.fresh(&header)
            }
            Body::Answer { nonce, report, .. } => self.answered(&header, nonce, report, arrived),
            // The main loop's: whoever calls hands them on.
            Body::Opinions { .. }
            | Body::Nudge(_)
            | Body::Fence { .. }
            | Body::Receipt(_)
            | Body::Ended { .. }
            | Body::Quiesce { .. }
            | Body::Quiesced { .. }
            | Body::Ask { .. } => false,
        }
    }

    fn fresh(&mut self, header: &Header<'_>) -> bool {
        self.replays.fresh(
            clock::now(),
            header.sender,
            header.incarnation,
            header.sequence,
        )
    }

    fn answered(
        &mut self,
        header: &Header<'_>,
        nonce: Nonce,
        report: Report,
        arrived: Instant,
    ) -> bool {
        let mut places = self.targets.of(header.sender);
        let asked = places.find_map(|at| Some((at, self.targets.take(at, nonce)?)));
        let Some((at, sent)) = asked else {
            let twice = |at| self.targets.answered_already(at, nonce);
            if header.version != VERSION && self.targets.of(header.sender).any(twice) {
                return self.fresh(header);
            }
            self.shared.drops.replay.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        if header.version == VERSION {
            self.targets.spoke_newest(at);
        }
        let incarnation: Incarnation = header.incarnation;
        self.replays
            .proved(clock::now(), header.sender, incarnation, header.sequence);
        self.tell(Heard::Answered {
            node: self.targets.list[at].node.clone(),
            incarnation,
            report,
            rtt: arrived.since(sent),
            arrived,
        });
        true
    }

    fn words(&mut self, header: &Header<'_>, body: &[u8], address: SocketAddr) -> bool {
        let fresh = self.fresh(header);
        if !fresh {
            self.shared.drops.replay.fetch_add(1, Ordering::Relaxed);
        } else if !self.outbox.words(body, address) {
            self.shared.drops.queue_full.fetch_add(1, Ordering::Relaxed);
        }
        fresh
    }

    fn tell(&self, heard: Heard) {
        if !self.outbox.beat(heard) {
            self.shared.drops.queue_full.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// SCHED_FIFO and locked memory, as far as they are allowed. What is not is told once: the thread goes on without.
fn prepare(standing: &Standing) {
    let raised = sched::raise_this_thread(sched::Urgency::Heartbeats);
    match &raised {
        Ok(()) => standing.realtime.store(true, Ordering::Relaxed),
        Err(error) => {
            tracing::info!(%error, "the heartbeat thread runs at normal priority: under load it may be late; \
            `wa-agent doctor` says what this machine can sustain")
        }
    }
    let locked = memory::lock_for_this_thread();
    standing.locked_bytes.store(locked.bytes, Ordering::Relaxed);
    if let Some((left, error)) = locked.left {
        tracing::debug!(%error, locked = locked.bytes, left, "not all memory can be locked: LimitMEMLOCK= is smaller");
    }
    standing.ready.store(true, Ordering::Release);
}
