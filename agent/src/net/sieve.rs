//! What the kernel keeps away from a heartbeat thread: what cannot be ours, and, during a flood, who is not known.
//! Judges by prefix and address only. Everything that passes is still checked by its MAC.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use wa_core::time::Instant;
use wa_core::wire::{DATAGRAM_LEN_MAX, HEADER_LEN_MIN, MAC_LEN};

/// Senders of fresh datagrams that are remembered. More of them, and nobody can be shut out: see [`Sieve::shut`].
const KNOWN_MAX: usize = 64;
/// A sender that was not heard for so long is no longer known.
const FORGET: Duration = Duration::from_secs(60);
/// For how long a flood shuts out strangers; then they may try again.
const SHUT_FOR: Duration = Duration::from_secs(1);
/// In each window so many datagrams may be of no use: rubbish, forged, replayed.
const WINDOW: Duration = Duration::from_millis(10);
const USELESS_MAX: u32 = 400;

// Classic BPF, linux/filter.h. Offsets count from the UDP header.
const LD_W_ABS: u16 = 0x20;
const LD_H_ABS: u16 = 0x28;
const LD_LEN: u16 = 0x80;
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const RET: u16 = 0x06;
/// SKF_NET_OFF: from here on offsets count from the IP header.
const NET: u32 = 0xfff0_0000;
const UDP_HEADER: u32 = 8;
const PASS: u32 = u32::MAX;
const DROP: u32 = 0;

/// The filter of one socket, and who is known on it.
pub(super) struct Sieve {
    cluster: u64,
    six: bool,
    known: [Option<(SocketAddr, Instant)>; KNOWN_MAX],
    /// More senders than are remembered.
    crowded_at: Option<Instant>,
    shut_until: Option<Instant>,
    window_from: Instant,
    useless: u32,
    /// Kept, so that nothing is allocated during a flood.
    program: Vec<SockFilter>,
}

impl Sieve {
    /// For this socket, and in force from now on where the kernel has such filters.
    pub fn new(socket: &UdpSocket, cluster: u64) -> Self {
        let mut sieve = Self {
            cluster,
            six: socket.local_addr().is_ok_and(|at| at.is_ipv6()),
            known: [None; KNOWN_MAX],
            crowded_at: None,
            shut_until: None,
            window_from: Instant::ZERO,
            useless: 0,
            program: Vec::with_capacity(16 + KNOWN_MAX * 5),
        };
        sieve.open(socket);
        sieve
    }

    /// A fresh, authentic datagram came from there.
    pub fn proved(&mut self, now: Instant, from: SocketAddr) {
        let mut free = None;
        for (at, entry) in self.known.iter_mut().enumerate() {
            match entry {
                Some((known, heard_at)) if *known == from => {
                    *heard_at = now;
                    return;
                }
                Some((_, heard_at)) if now.since(*heard_at) <= FORGET => {}
                _ => free = free.or(Some(at)),
            }
        }
        match free {
            Some(at) => self.known[at] = Some((from, now)),
            None => self.crowded_at = Some(now),
        }
    }

    /// A datagram was of no use. True when the window's share is used up: read no more before [`Sieve::window_ends`].
    pub fn useless(&mut self, now: Instant) -> bool {
        if now.since(self.window_from) >= WINDOW {
            (self.window_from, self.useless) = (now, 0);
        }
        self.useless += 1;
        self.useless >= USELESS_MAX
    }

    /// When the window with the flood is over; `None` while there is none.
    pub fn window_ends(&self, now: Instant) -> Option<Instant> {
        let ends = self.window_from + WINDOW;
        (self.useless >= USELESS_MAX && now < ends).then_some(ends)
    }

    /// Lets only those in who are known, for a second: a flood from elsewhere then costs this process nothing. False when
    /// that is in force already, or cannot be: nobody is known yet, or too many are.
    pub fn shut(&mut self, now: Instant, socket: &UdpSocket) -> bool {
        let crowded = self.crowded_at.is_some_and(|at| now.since(at) <= FORGET);
        let fresh = |entry: &Option<(SocketAddr, Instant)>| {
            entry.is_some_and(|(_, at)| now.since(at) <= FORGET)
        };
        if self.shut_until.is_some() || crowded || self.six || !self.known.iter().any(fresh) {
            return false;
        }
        self.program.clear();
        self.prefix();
        for (address, _) in self
            .known
            .iter()
            .flatten()
            .filter(|(_, at)| now.since(*at) <= FORGET)
        {
            let IpAddr::V4(ip) = address.ip() else {
                continue;
            };
            self.program.extend([
                // Source address, source port.
                SockFilter::new(LD_W_ABS, 0, 0, NET + 12),
                SockFilter::new(JEQ, 0, 3, u32::from(ip)),
                SockFilter::new(LD_H_ABS, 0, 0, 0),
                SockFilter::new(JEQ, 0, 1, u32::from(address.port())),
                SockFilter::new(RET, 0, 0, PASS),
            ]);
        }
        self.program.push(SockFilter::new(RET, 0, 0, DROP));
        if SockRef::from(socket).attach_filter(&self.program).is_err() {
            return false;
        }
        self.shut_until = Some(now + SHUT_FOR);
        true
    }

    /// Lets everybody try again once the second is over.
    pub fn tick(&mut self, now: Instant, socket: &UdpSocket) {
        if self.shut_until.is_some_and(|until| now >= until) {
            self.open(socket);
        }
    }

    fn open(&mut self, socket: &UdpSocket) {
        self.program.clear();
        self.prefix();
        self.program.push(SockFilter::new(RET, 0, 0, PASS));
        // Without it every datagram is looked at by the thread: slower, and just as safe.
        let _ = SockRef::from(socket).attach_filter(&self.program);
        self.shut_until = None;
    }

    /// Drops what is too short or too long, has another magic, or names another cluster.
    fn prefix(&mut self) {
        let cluster = self.cluster.to_le_bytes();
        let word = |at: usize| {
            u32::from_be_bytes([
                cluster[at],
                cluster[at + 1],
                cluster[at + 2],
                cluster[at + 3],
            ])
        };
        let shortest = UDP_HEADER + (HEADER_LEN_MIN + MAC_LEN) as u32;
        let too_long = UDP_HEADER + DATAGRAM_LEN_MAX as u32 + 1;
        self.program.extend([
            SockFilter::new(LD_LEN, 0, 0, 0),
            SockFilter::new(JGE, 0, 7, shortest),
            SockFilter::new(JGE, 6, 0, too_long),
            SockFilter::new(LD_H_ABS, 0, 0, UDP_HEADER),
            SockFilter::new(JEQ, 0, 4, u32::from(u16::from_be_bytes(*b"WA"))),
            SockFilter::new(LD_W_ABS, 0, 0, UDP_HEADER + 4),
            SockFilter::new(JEQ, 0, 2, word(0)),
            SockFilter::new(LD_W_ABS, 0, 0, UDP_HEADER + 8),
            SockFilter::new(JEQ, 1, 0, word(4)),
            SockFilter::new(RET, 0, 0, DROP),
        ]);
    }
}
