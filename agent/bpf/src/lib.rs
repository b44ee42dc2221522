//! The gate: kernel programs on the coreapps' cgroup that let no packet to a gated destination out without a live tenure.
//! Decides nothing about who has a tenure, reads no clock, destroys no socket, and knows no role: `wa-host` loads it and
//! seals, a coreapp stores its deadline.
//!
//! # What it promises
//! For every socket of the IPv4 and IPv6 families that was made in the slice: a packet that carries payload or opens a
//! connection leaves for a destination outside the exempt networks only while
//! `now < deadline ≤ now + max_ttl` on CLOCK_BOOTTIME, `epoch ≥ seal`, and the socket was connected under this very epoch
//! by this very unit. Judged twice: when the packet has its route (after netfilter, so what counts is the address that is
//! really on it), and at the egress of the device, after the queue in which it waits for its neighbour's address. No
//! entry, no stamp, a torn read, an unknown protocol, a device without a judge: drop. Nobody has to be alive for that:
//! programs, links and maps are pinned.
//!
//! # Sides
//! - [`Gate`]: the host agent, with CAP_BPF and CAP_NET_ADMIN. CAP_SYS_ADMIN is not needed: everything is opened by its pin.
//! - [`UnitMap`]: the coreapp, with nothing but a descriptor that the host agent handed over.
//!
//! # Considered ways around it
//! - **IPv6** and IPv4 in IPv6 clothes: judged alike. **Unconnected UDP**: only to exempt networks; `sendto` says EPERM.
//! - **Raw sockets**: `socket()` says EPERM in the slice.
//! - **Packet sockets** (AF_PACKET) meet no cgroup hook. Blocked by the unit: no CAP_NET_RAW, and
//!   `RestrictAddressFamilies=` without AF_PACKET. AF_XDP and AF_VSOCK likewise.
//! - **A socket made outside** and used inside: `connect` and `sendto` say EPERM (the hooks of the root). One that was
//!   already *connected* outside and arrives over a Unix socket, by inheritance or from systemd's descriptor store meets
//!   no hook at all: the kernel looks for programs where the socket was made. Not possible to block without LSM programs;
//!   the coreapp accepts no descriptors but its own, the units pass none for upstream, and the host agent can see such a
//!   socket by its cgroup (`ss --cgroup`).
//! - **A socket of another unit** of the slice, passed on: it carries the other unit's stamp or none; dropped.
//! - **A local proxy** dials upstream on behalf of whoever asks, from outside the slice. Whatever can be reached is
//!   reached: so loopback and the cluster's networks must hold no such proxy. The check of the configuration refuses
//!   exempt networks that hold the upstream's address or a configured proxy; a proxy that nobody configured is found by nobody.
//! - **Tunnels**: a packet that IPsec encapsulates is judged by the address of the gateway. What a tunnel holds back (WireGuard
//!   until its handshake is done, a program behind a tun device) has been judged when it entered: not covered.
//! - **Queues of the device** itself: its queueing discipline and ring come after the last judge. They lose what they hold
//!   when the carrier goes; a link that is overloaded for longer than `margin` (a shaper, pause frames) is not covered.
//! - **Sub-cgroups** of a unit have no entry of their own: closed.
//! - **Root** can detach everything. [`Gate::attest`] finds that within a second, and nothing prevents it.

mod attest;
mod counter;
mod gate;
mod layout;
mod network;
mod place;
mod unit;
mod wire;

// bpf(2) for the crate, its tests and its bench; not an interface for others.
#[doc(hidden)]
pub mod syscall;

use std::io;
use std::path::PathBuf;

pub use attest::{Attestation, AttestedProgram, Broken};
pub use counter::Counters;
pub use gate::{Gate, UnitState, available};
pub use network::{Network, NotANetwork};
pub use place::cgroup_id;
pub use unit::{Spent, UnitMap};
pub use wire::Unjudged;

/// An object is in this build: clang was there.
pub const COMPILED: bool = cfg!(wa_bpf_object);

#[cfg(wa_bpf_object)]
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/gate.bpf.o"));
#[cfg(not(wa_bpf_object))]
static OBJECT: &[u8] = &[];

/// Why something about the gate did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "this build has no kernel gate: clang was missing when it was compiled; install a package, or build again with clang and libbpf-dev"
    )]
    NotCompiled,
    #[error(
        "the kernel does not take the gate ({what}); it needs Linux 5.15 or later and CAP_BPF with CAP_NET_ADMIN"
    )]
    Load {
        what: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{0} is not on a BPF file system: type `mount -t bpf bpf /sys/fs/bpf`")]
    NotBpffs(PathBuf),
    #[error("{0} is not in a cgroup2 hierarchy")]
    NotCgroup2(PathBuf),
    #[error("{0}: someone else changes the gate and does not come to an end")]
    Busy(PathBuf),
    #[error("cgroup {0} has no entry at the gate")]
    NoUnit(u64),
    #[error("the descriptor is no unit's map of the gate")]
    NotAUnit(#[source] io::Error),
    #[error("cannot {what}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot {what}")]
    Map {
        what: &'static str,
        #[source]
        source: aya::maps::MapError,
    },
    #[error("the kernel holds seal {found} for cgroup {cgroup} after {wanted} was written")]
    NotSealed {
        cgroup: u64,
        wanted: u64,
        found: u64,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }

    pub(crate) fn map(what: &'static str) -> impl FnOnce(aya::maps::MapError) -> Error {
        move |source| Error::Map { what, source }
    }

    pub(crate) fn load(
        what: &str,
    ) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Error {
        let what = what.to_owned();
        move |source| Error::Load { what, source }
    }
}
