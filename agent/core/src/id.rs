//! The names of things, each a type of its own so that a term cannot be taken for an epoch.
//! Makes none of them up: random parts come in from the driver.

use std::fmt;
use std::sync::Arc;

/// Longest node name on the wire and in the database, in bytes.
pub const NODE_ID_LEN_MAX: usize = 96;

/// One running role instance: `hostname:role-instance`, for example `core1.example:coreapp-1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub Arc<str>);

impl NodeId {
    /// Names a node; the caller has checked that the name is at most [`NODE_ID_LEN_MAX`] bytes.
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host name: what stands before the last colon. Nodes of one machine share it.
    pub fn host(&self) -> &str {
        self.0.rsplit_once(':').map_or(&self.0, |(host, _)| host)
    }
}

/// Tables by name are looked up without making a name. Order and equality are those of the text.
impl std::borrow::Borrow<str> for NodeId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One start of one process. `counter` is persisted and grows; `random` separates clones of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Incarnation {
    pub counter: u64,
    pub random: u64,
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:016x}", self.counter, self.random)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number!(
    /// Grows with every acquisition of the master lease.
    Term(u64)
);
number!(
    /// The fencing token of one ownership of a shard, drawn from one cluster-wide counter.
    Epoch(u64)
);
number!(
    /// Random number beside an epoch (or term): a rewound counter cannot name two owners alike.
    Grant(u64)
);
number!(
    /// Random number that every renewal, heartbeat and fence request carries fresh.
    Nonce(u64)
);
number!(
    /// A slice of recipients, 0 .. shard count.
    ShardId(u16)
);
number!(
    /// Generation of the shard map: grows when the shard count changes.
    Generation(u32)
);

impl Epoch {
    /// The epoch after this one; `None` where numbers end (see [`crate::plausible`]: nothing that counts comes there).
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl Term {
    /// The term after this one; `None` where numbers end (see [`crate::plausible`]: nothing that counts comes there).
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    Master = 1,
    Coreapp = 2,
    Webapp = 3,
    Host = 4,
}

impl Role {
    /// The word used in node names, configuration and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Coreapp => "coreapp",
            Self::Webapp => "webapp",
            Self::Host => "host",
        }
    }

    /// The role of a wire or row number; `None` when the number is unknown.
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Master,
            2 => Self::Coreapp,
            3 => Self::Webapp,
            4 => Self::Host,
            _ => return None,
        })
    }
}

/// One ownership of one shard, named so that no other ownership ever has the same name (promise S2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ownership {
    pub shard: ShardId,
    pub epoch: Epoch,
    pub grant: Grant,
    pub owner: NodeId,
    pub incarnation: Incarnation,
}

/// Next value of a splitmix64 sequence, below 2^63 so that every database column holds it.
/// Nonces and grants come from here; the seed comes from the operating system, through the driver.
pub fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> 1
}
