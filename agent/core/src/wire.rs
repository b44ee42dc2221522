//! The datagrams between masters, coreapps and host agents: layout, encoding, decoding.
//! Signs nothing and sends nothing: `net/udp` adds the 16-byte MAC and owns the sockets.
//!
//! Layout, little-endian: magic `WA`, version, body kind, cluster id (u64), key id (u8), role (u8), incarnation
//! (u64, u64), sequence (u64), sender name (u8 length, bytes), then the body's fields in the order of the type.

use crate::id::{Epoch, Grant, Incarnation, NODE_ID_LEN_MAX, NodeId, Nonce, Role, ShardId, Term};
use crate::plausible::COUNT_MAX;

/// The newest version that we speak. We also understand [`VERSION_BEFORE`]; anything else is counted, not taken for
/// silence. A node of the release before knows only its own: pings go to it in that version (`net/responder.rs`).
#[cfg(not(feature = "previous"))]
pub const VERSION: u8 = 2;
/// Of the release before, built to be upgraded under traffic by a test.
#[cfg(feature = "previous")]
pub const VERSION: u8 = 1;
/// The version before: the same layout without `Report::in_flight`. All bodies but answers look alike in both.
pub const VERSION_BEFORE: u8 = 1;
/// Longest datagram, MAC included, in bytes (design 6).
pub const DATAGRAM_LEN_MAX: usize = 512;
/// Bytes of the MAC that follows the encoded datagram.
pub const MAC_LEN: usize = 16;
/// Most peers that one opinion datagram names; a master sends several when it watches more.
pub const OPINIONS_MAX: usize = 6;

/// Bytes of the shortest header: no sender name.
pub const HEADER_LEN_MIN: usize = 39;

const MAGIC: [u8; 2] = *b"WA";

/// Health bits of a node, as its answers carry them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Health(pub u32);

impl Health {
    pub const DATABASE_OK: Self = Self(1);
    pub const UPSTREAM_OK: Self = Self(1 << 1);
    pub const MEDIA_OK: Self = Self(1 << 2);
    /// The highest epoch obeyed can be written to the local disk.
    pub const HIGH_WATER_OK: Self = Self(1 << 3);
    pub const GATE_ATTESTED: Self = Self(1 << 4);
    /// An operator made the node ineligible.
    pub const DRAINING: Self = Self(1 << 5);
    /// The process got SIGTERM.
    pub const STOPPING: Self = Self(1 << 6);
    /// Intake is held and nothing is in flight.
    pub const QUIESCED: Self = Self(1 << 7);
    /// The store holds unfinished messages in a form that this release cannot read. Set beside a [`Self::DATABASE_OK`] that is
    /// not: masters of a release before this bit keep out such a node, too.
    pub const STORE_NEWER: Self = Self(1 << 8);

    const NAMES: [(Self, &'static str); 9] = [
        (Self::DATABASE_OK, "database"),
        (Self::UPSTREAM_OK, "upstream"),
        (Self::MEDIA_OK, "media"),
        (Self::HIGH_WATER_OK, "high-water"),
        (Self::GATE_ATTESTED, "gate"),
        (Self::DRAINING, "draining"),
        (Self::STOPPING, "stopping"),
        (Self::QUIESCED, "quiesced"),
        (Self::STORE_NEWER, "store-newer"),
    ];

    /// All bits of `other` are set.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// With the bits of `other` set or cleared.
    #[must_use]
    pub fn with(self, other: Self, on: bool) -> Self {
        Self(if on {
            self.0 | other.0
        } else {
            self.0 & !other.0
        })
    }

    /// The words of the bits that are set, for `status`.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .iter()
            .filter(move |(bit, _)| self.has(*bit))
            .map(|(_, word)| *word)
    }
}

/// What a node says of itself in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Report {
    /// The shard of the tenure that it holds, if any.
    pub shard: Option<ShardId>,
    pub epoch: Epoch,
    pub grant: Grant,
    /// Highest epoch that it ever obeyed.
    pub epoch_high: Epoch,
    pub health: Health,
    /// Age of the last progress of the main loop, in milliseconds: a live thread cannot hide a hung process.
    pub progress_age_ms: u32,
    /// Worst lateness of its own timers lately, in milliseconds.
    pub lateness_ms: u32,
    /// Upstream requests in flight. Since version 2.
    pub in_flight: u32,
}

/// What one master thinks of one peer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Opinion {
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// It missed as many on-time rounds as make it silent.
    pub silent: bool,
}

/// A statement by a host agent that stays true for ever and settles exactly one grant (design 7).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt {
    pub machine_id: u128,
    pub boot_id: u128,
    /// systemd's InvocationID of the unit, or a random number per process where there is no systemd.
    pub invocation: u128,
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub shard: ShardId,
    /// Zero: the host agent does not know of a tenure; the receipt is news of a death and settles nothing.
    pub epoch: Epoch,
    pub grant: Grant,
    /// The seal in the kernel after the fence; zero without a gate.
    pub seal: Epoch,
    /// Nonce of the request; zero for an obituary.
    pub nonce: Nonce,
    /// The epoch is sealed in the kernel.
    pub sealed: bool,
    /// The unit's cgroup is empty: no process of that invocation is left.
    pub cgroup_empty: bool,
}

/// What a nudge asks the receiver to read again. It never carries the value itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Nudge {
    ShardMap = 1,
    Settings = 2,
}

/// The body of a datagram.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Body {
    /// Master to everyone it watches.
    Ping {
        nonce: Nonce,
        sent_at_ns: u64,
        term: Term,
        epoch_high: Epoch,
    },
    /// Echoes the nonce and the sender's boot time of the ping.
    Answer {
        nonce: Nonce,
        sent_at_ns: u64,
        report: Report,
    },
    /// Master to the other masters. `term` is the sender's when it is primary, else zero.
    Opinions {
        term: Term,
        lateness_ms: u32,
        heard: u16,
        of: u16,
        opinions: Vec<Opinion>,
    },
    /// Read again.
    Nudge(Nudge),
    /// Primary master to a host agent: make sure that this ownership is over, answer with a receipt.
    Fence {
        term: Term,
        node: NodeId,
        incarnation: Incarnation,
        shard: ShardId,
        epoch: Epoch,
        grant: Grant,
        nonce: Nonce,
    },
    /// Host agent to masters.
    Receipt(Receipt),
    /// Former owner to masters: gate shut, sockets aborted, senders joined.
    Ended {
        shard: ShardId,
        epoch: Epoch,
        grant: Grant,
    },
    /// Primary master to the owner: hold the intake and finish what is in flight (on), or go on (off).
    Quiesce {
        shard: ShardId,
        epoch: Epoch,
        grant: Grant,
        on: bool,
    },
    /// Owner to masters: nothing is in flight any more.
    Quiesced {
        shard: ShardId,
        epoch: Epoch,
        grant: Grant,
    },
    /// Owner to masters: please move this ownership, I am about to stop.
    Ask {
        shard: ShardId,
        epoch: Epoch,
        grant: Grant,
    },
}

/// A datagram without its MAC.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Datagram {
    pub version: u8,
    pub cluster: u64,
    pub key_id: u8,
    pub role: Role,
    pub sender: NodeId,
    pub incarnation: Incarnation,
    pub sequence: u64,
    pub body: Body,
}

/// Why a datagram was not understood. Each is counted, none is an answer or a silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WireError {
    /// Not ours at all.
    Magic,
    /// Ours, of a version that this build does not know.
    Version(u8),
    /// Ends too early, or goes on too long.
    Length,
    /// A field has a value that the layout does not allow.
    Field,
    /// A number that nothing counts up to ([`COUNT_MAX`]): a start, a sequence, the epoch of an ownership.
    Implausible,
}

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Magic => f.write_str("not a wa-agent datagram"),
            Self::Version(v) => write!(f, "wire version {v} is unknown"),
            Self::Length => f.write_str("wrong length"),
            Self::Field => f.write_str("a field is out of range"),
            Self::Implausible => f.write_str("a number that nothing counts up to"),
        }
    }
}

impl std::error::Error for WireError {}

/// Writes `datagram` to the front of `out` and returns its length, MAC not included.
///
/// # Panics
/// When it does not fit: names and opinion counts are bounded so that every datagram of this type does.
pub fn encode(datagram: &Datagram, out: &mut [u8; DATAGRAM_LEN_MAX]) -> usize {
    let mut w = Writer {
        out: &mut out[..DATAGRAM_LEN_MAX - MAC_LEN],
        len: 0,
    };
    w.bytes(&MAGIC);
    w.u8(datagram.version);
    w.u8(kind_of(&datagram.body));
    w.u64(datagram.cluster);
    w.u8(datagram.key_id);
    w.u8(datagram.role as u8);
    w.incarnation(datagram.incarnation);
    w.u64(datagram.sequence);
    w.node(&datagram.sender);
    write_body(&mut w, datagram.version, &datagram.body);
    w.len
}

fn kind_of(body: &Body) -> u8 {
    match body {
        Body::Ping { .. } => 1,
        Body::Answer { .. } => 2,
        Body::Opinions { .. } => 3,
        Body::Nudge(_) => 4,
        Body::Fence { .. } => 5,
        Body::Receipt(_) => 6,
        Body::Ended { .. } => 7,
        Body::Quiesce { .. } => 8,
        Body::Quiesced { .. } => 9,
        Body::Ask { .. } => 10,
    }
}

fn write_body(w: &mut Writer<'_>, version: u8, body: &Body) {
    match body {
        Body::Ping {
            nonce,
            sent_at_ns,
            term,
            epoch_high,
        } => w.u64s(&[nonce.0, *sent_at_ns, term.0, epoch_high.0]),
        Body::Answer {
            nonce,
            sent_at_ns,
            report,
        } => {
            w.u64s(&[nonce.0, *sent_at_ns]);
            write_report(w, version, report);
        }
        Body::Opinions {
            term,
            lateness_ms,
            heard,
            of,
            opinions,
        } => {
            w.u64(term.0);
            w.u32(*lateness_ms);
            w.u16(*heard);
            w.u16(*of);
            write_opinions(w, opinions);
        }
        Body::Nudge(nudge) => w.u8(*nudge as u8),
        Body::Fence {
            term,
            node,
            incarnation,
            shard,
            epoch,
            grant,
            nonce,
        } => {
            w.u64(term.0);
            w.node(node);
            w.incarnation(*incarnation);
            w.ownership(*shard, *epoch, *grant);
            w.u64(nonce.0);
        }
        Body::Receipt(receipt) => write_receipt(w, receipt),
        Body::Ended { .. } | Body::Quiesced { .. } | Body::Ask { .. } | Body::Quiesce { .. } => {
            write_owned(w, body);
        }
    }
}

/// The bodies that name an ownership and nothing else, or one flag.
fn write_owned(w: &mut Writer<'_>, body: &Body) {
    match body {
        Body::Ended {
            shard,
            epoch,
            grant,
        }
        | Body::Quiesced {
            shard,
            epoch,
            grant,
        }
        | Body::Ask {
            shard,
            epoch,
            grant,
        } => w.ownership(*shard, *epoch, *grant),
        Body::Quiesce {
            shard,
            epoch,
            grant,
            on,
        } => {
            w.ownership(*shard, *epoch, *grant);
            w.u8(u8::from(*on));
        }
        // Written by who calls.
        Body::Ping { .. }
        | Body::Answer { .. }
        | Body::Opinions { .. }
        | Body::Nudge(_)
        | Body::Fence { .. }
        | Body::Receipt(_) => {}
    }
}

fn write_opinions(w: &mut Writer<'_>, opinions: &[Opinion]) {
    let shown = &opinions[..opinions.len().min(opinions_that_fit(opinions))];
    w.u8(shown.len() as u8);
    for opinion in shown {
        w.node(&opinion.node);
        w.incarnation(opinion.incarnation);
        w.u8(u8::from(opinion.silent));
    }
}

/// Opinions are cut to what surely fits behind the header; the sender splits longer lists itself.
fn opinions_that_fit(opinions: &[Opinion]) -> usize {
    let mut room = 300usize;
    let mut fit = 0;
    for opinion in opinions.iter().take(OPINIONS_MAX) {
        let need = 1 + opinion.node.as_str().len().min(NODE_ID_LEN_MAX) + 17;
        if need > room {
            break;
        }
        room -= need;
        fit += 1;
    }
    fit
}

fn write_report(w: &mut Writer<'_>, version: u8, report: &Report) {
    w.u16(report.shard.map_or(u16::MAX, |shard| shard.0));
    for value in [report.epoch.0, report.grant.0, report.epoch_high.0] {
        w.u64(value);
    }
    w.u32(report.health.0);
    w.u32(report.progress_age_ms);
    w.u32(report.lateness_ms);
    if version >= 2 {
        w.u32(report.in_flight);
    }
}

fn write_receipt(w: &mut Writer<'_>, receipt: &Receipt) {
    for id in [receipt.machine_id, receipt.boot_id, receipt.invocation] {
        w.bytes(&id.to_le_bytes());
    }
    w.node(&receipt.node);
    w.incarnation(receipt.incarnation);
    w.ownership(receipt.shard, receipt.epoch, receipt.grant);
    w.u64(receipt.seal.0);
    w.u64(receipt.nonce.0);
    w.u8(u8::from(receipt.sealed) | (u8::from(receipt.cgroup_empty) << 1));
}

/// What stands before the body, and the body unread: enough to check a MAC before any name is made.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    pub version: u8,
    kind: u8,
    pub cluster: u64,
    pub key_id: u8,
    pub role: Role,
    pub incarnation: Incarnation,
    pub sequence: u64,
    pub sender: &'a str,
    body: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads the header of a datagram whose MAC was already cut off. Allocates nothing.
    ///
    /// # Errors
    /// [`WireError`]; any bytes at all are safe to pass in.
    pub fn read(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut r = Reader { bytes };
        if r.array::<2>().map_err(|_| WireError::Magic)? != MAGIC {
            return Err(WireError::Magic);
        }
        let version = r.u8()?;
        if version != VERSION && version != VERSION_BEFORE {
            return Err(WireError::Version(version));
        }
        Ok(Self {
            version,
            kind: r.u8()?,
            cluster: r.u64()?,
            key_id: r.u8()?,
            role: Role::from_u8(r.u8()?).ok_or(WireError::Field)?,
            incarnation: r.incarnation()?,
            sequence: r.counted()?,
            sender: r.name()?,
            body: r.bytes,
        })
    }

    /// A nudge: every role knows its key.
    pub fn is_nudge(&self) -> bool {
        self.kind == 4
    }

    /// A ping or an answer: its body is read without allocating.
    pub fn is_beat(&self) -> bool {
        self.kind <= 2
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn body(&self) -> Result<Body, WireError> {
        let mut r = Reader { bytes: self.body };
        let body = read_body(&mut r, self.version, self.kind)?;
        if r.bytes.is_empty() {
            Ok(body)
        } else {
            Err(WireError::Length)
        }
    }
}

/// Reads a datagram whose MAC was already cut off.
///
/// # Errors
/// [`WireError`]; any bytes at all are safe to pass in.
pub fn decode(bytes: &[u8]) -> Result<Datagram, WireError> {
    let header = Header::read(bytes)?;
    Ok(Datagram {
        version: header.version,
        cluster: header.cluster,
        key_id: header.key_id,
        role: header.role,
        sender: NodeId::new(header.sender),
        incarnation: header.incarnation,
        sequence: header.sequence,
        body: header.body()?,
    })
}

fn read_body(r: &mut Reader<'_>, version: u8, kind: u8) -> Result<Body, WireError> {
    Ok(match kind {
        1 => Body::Ping {
            nonce: Nonce(r.u64()?),
            sent_at_ns: r.u64()?,
            term: Term(r.u64()?),
            epoch_high: Epoch(r.u64()?),
        },
        2 => Body::Answer {
            nonce: Nonce(r.u64()?),
            sent_at_ns: r.u64()?,
            report: read_report(r, version)?,
        },
        3 => read_opinions(r)?,
        4 => Body::Nudge(match r.u8()? {
            1 => Nudge::ShardMap,
            2 => Nudge::Settings,
            _ => return Err(WireError::Field),
        }),
        5 => {
            let (term, node, incarnation) = (Term(r.u64()?), r.node()?, r.incarnation()?);
            let (shard, epoch, grant) = r.ownership()?;
            Body::Fence {
                term,
                node,
                incarnation,
                shard,
                epoch,
                grant,
                nonce: Nonce(r.u64()?),
            }
        }
        6 => Body::Receipt(read_receipt(r)?),
        7..=10 => {
            let (shard, epoch, grant) = r.ownership()?;
            match kind {
                7 => Body::Ended {
                    shard,
                    epoch,
                    grant,
                },
                8 => Body::Quiesce {
                    shard,
                    epoch,
                    grant,
                    on: r.flags(1)? == 1,
                },
                9 => Body::Quiesced {
                    shard,
                    epoch,
                    grant,
                },
                _ => Body::Ask {
                    shard,
                    epoch,
                    grant,
                },
            }
        }
        _ => return Err(WireError::Field),
    })
}

fn read_opinions(r: &mut Reader<'_>) -> Result<Body, WireError> {
    let (term, lateness_ms) = (Term(r.u64()?), r.u32()?);
    let (heard, of) = (r.u16()?, r.u16()?);
    let count = usize::from(r.u8()?);
    if count > OPINIONS_MAX {
        return Err(WireError::Field);
    }
    let mut opinions = Vec::with_capacity(count);
    for _ in 0..count {
        opinions.push(Opinion {
            node: r.node()?,
            incarnation: r.incarnation()?,
            silent: r.flags(1)? == 1,
        });
    }
    Ok(Body::Opinions {
        term,
        lateness_ms,
        heard,
        of,
        opinions,
    })
}

fn read_report(r: &mut Reader<'_>, version: u8) -> Result<Report, WireError> {
    let shard = r.u16()?;
    Ok(Report {
        shard: (shard != u16::MAX).then_some(ShardId(shard)),
        epoch: Epoch(r.u64()?),
        grant: Grant(r.u64()?),
        epoch_high: Epoch(r.u64()?),
        health: Health(r.u32()?),
        progress_age_ms: r.u32()?,
        lateness_ms: r.u32()?,
        in_flight: if version >= 2 { r.u32()? } else { 0 },
    })
}

fn read_receipt(r: &mut Reader<'_>) -> Result<Receipt, WireError> {
    let machine_id = u128::from_le_bytes(r.array()?);
    let boot_id = u128::from_le_bytes(r.array()?);
    let invocation = u128::from_le_bytes(r.array()?);
    let (node, incarnation) = (r.node()?, r.incarnation()?);
    let (shard, epoch, grant) = r.ownership()?;
    let (seal, nonce, flags) = (Epoch(r.u64()?), Nonce(r.u64()?), r.flags(3)?);
    let (sealed, cgroup_empty) = (flags & 1 == 1, flags & 2 == 2);
    Ok(Receipt {
        machine_id,
        boot_id,
        invocation,
        node,
        incarnation,
        shard,
        epoch,
        grant,
        seal,
        nonce,
        sealed,
        cgroup_empty,
    })
}

struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.out[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
    fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }
    fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }
    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }
    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }
    fn u64s(&mut self, values: &[u64]) {
        for value in values {
            self.u64(*value);
        }
    }
    fn incarnation(&mut self, incarnation: Incarnation) {
        self.u64(incarnation.counter);
        self.u64(incarnation.random);
    }
    fn ownership(&mut self, shard: ShardId, epoch: Epoch, grant: Grant) {
        self.u16(shard.0);
        self.u64(epoch.0);
        self.u64(grant.0);
    }
    fn node(&mut self, node: &NodeId) {
        let name = &node.as_str().as_bytes()[..node.as_str().len().min(NODE_ID_LEN_MAX)];
        self.u8(name.len() as u8);
        self.bytes(name);
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (front, rest) = self.bytes.split_at_checked(len).ok_or(WireError::Length)?;
        self.bytes = rest;
        Ok(front)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.take(N)?.try_into().map_err(|_| WireError::Length)
    }
    fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }
    fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    fn flags(&mut self, mask: u8) -> Result<u8, WireError> {
        let flags = self.u8()?;
        if flags & !mask != 0 {
            Err(WireError::Field)
        } else {
            Ok(flags)
        }
    }
    fn incarnation(&mut self) -> Result<Incarnation, WireError> {
        Ok(Incarnation {
            counter: self.counted()?,
            random: self.u64()?,
        })
    }
    /// What an answer says of epochs is weighed by the core, which names the node; the rest counts nowhere so far.
    fn counted(&mut self) -> Result<u64, WireError> {
        let number = self.u64()?;
        if number >= COUNT_MAX {
            return Err(WireError::Implausible);
        }
        Ok(number)
    }
    fn ownership(&mut self) -> Result<(ShardId, Epoch, Grant), WireError> {
        let shard = ShardId(self.u16()?);
        Ok((shard, Epoch(self.counted()?), Grant(self.u64()?)))
    }
    fn name(&mut self) -> Result<&'a str, WireError> {
        let len = usize::from(self.u8()?);
        if len > NODE_ID_LEN_MAX {
            return Err(WireError::Field);
        }
        std::str::from_utf8(self.take(len)?).map_err(|_| WireError::Field)
    }
    fn node(&mut self) -> Result<NodeId, WireError> {
        Ok(NodeId::new(self.name()?))
    }
}
