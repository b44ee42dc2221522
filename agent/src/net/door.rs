//! What all ports of one process share about callers who have not shown yet who they are: one room for the bytes of their bodies and long
//! heads, a deadline for these bodies, and the addresses of nodes of this cluster.
//! Checks no credential: handlers, and `deed.rs` for control ports, say who is known.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::Extensions;
use bytes::Bytes;
use futures_util::StreamExt as _;
use wa_core::time::Instant;

use super::places::{Mark, Places, Size, Who};
use super::room::{Full, Room, Taken};
use crate::log::seldom;
use crate::metrics::door::DoorCounts;
use crate::sys::clock;

/// A body of somebody unknown must be here within this time.
pub const UNKNOWN_WITHIN: Duration = Duration::from_secs(10);
/// A body of somebody known is given up without a byte for this long.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// An address from which no node has called for this long is like any other.
const MEMBER_FOR: Duration = Duration::from_secs(3600);
/// Addresses of nodes that are remembered.
const MEMBERS_MAX: usize = 1024;

/// The door of one process.
pub struct Door {
    room: Room,
    members: Mutex<HashMap<IpAddr, Instant>>,
    /// Where nodes of the cluster run, as far as somebody has said so.
    homes: Mutex<Vec<IpAddr>>,
    counts: DoorCounts,
}

impl Door {
    /// Of a process that has heard nobody yet; counts what it does.
    pub fn new(counts: &DoorCounts) -> Arc<Self> {
        Arc::new(Self {
            room: Room::new(counts.bytes.clone()),
            members: Mutex::default(),
            homes: Mutex::default(),
            counts: counts.clone(),
        })
    }

    /// Places for the connections of one of its ports.
    pub fn places(&self, size: Size) -> Arc<Places> {
        Places::new(size, &self.counts)
    }

    fn members(&self) -> MutexGuard<'_, HashMap<IpAddr, Instant>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node has shown the cluster's credential from this address.
    fn member(&self, address: IpAddr) {
        let (mut members, now) = (self.members(), clock::now());
        let address = address.to_canonical();
        if members.len() >= MEMBERS_MAX {
            members.retain(|_, seen| now.since(*seen) < MEMBER_FOR);
        }
        if members.len() < MEMBERS_MAX || members.contains_key(&address) {
            members.insert(address, now);
        }
    }

    /// Who somebody is that has said nothing yet, by his address.
    pub fn who(&self, address: IpAddr) -> Who {
        let seen = self.members().get(&address.to_canonical()).copied();
        let lately = seen.is_some_and(|seen| clock::now().since(seen) < MEMBER_FOR);
        if lately {
            Who::Member
        } else if self.homes().contains(&address.to_canonical()) {
            Who::Home
        } else {
            Who::Stranger
        }
    }

    fn homes(&self) -> MutexGuard<'_, Vec<IpAddr>> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are the addresses of all nodes: connections from there have kept places, too. So many of one address as of a stranger's: a
    /// proxy may run there that nobody has listed.
    pub fn at_home(&self, mut addresses: Vec<IpAddr>) {
        addresses.truncate(MEMBERS_MAX);
        *self.homes() = addresses.iter().map(IpAddr::to_canonical).collect();
    }

    /// Room for one more step of a head.
    pub async fn step(&self, source: IpAddr, mut taken: Taken) -> (Taken, Result<(), Full>) {
        let len = taken.bytes() + 1;
        let got = self.room.take(source, &mut taken, len).await;
        (taken, got)
    }

    /// What a proxy's head has taken, for the client that it names; `None`: that one has its part, and the request is refused.
    pub fn head_of(&self, client: IpAddr, head: Taken) -> Option<Taken> {
        let got = self.room.hand_over(client, head).ok();
        if got.is_none() {
            self.refuse(client, Refused::NoRoom);
        }
        got
    }

    /// Counts and tells that bytes of somebody unknown were refused.
    pub fn refuse(&self, source: IpAddr, why: Refused) {
        self.counts.refused.inc();
        match why {
            Refused::NoRoom => seldom!(tracing::warn!(
                %source,
                "the memory for requests whose senders are not known yet is full; one was answered 503, or closed in the middle of its head. \
                 One address may have a quarter of it. See who sends so much, and block that address"
            )),
            Refused::Late => {
                tracing::debug!(%source, "a head or a body came too slowly and was given up")
            }
        }
    }

    /// Bytes that are free for bodies of strangers.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.room.free()
    }
}

/// Why a body did not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Too many bytes of strangers are in memory.
    NoRoom,
    /// It came too slowly.
    Late,
}

/// How one request stands: it comes with it as an extension, and whoever has checked its credential says so here.
#[derive(Clone)]
pub struct Entry(Arc<Standing>);

struct Standing {
    door: Arc<Door>,
    /// The client, also behind a listed proxy.
    source: IpAddr,
    /// The other end of the connection.
    peer: IpAddr,
    connection: Option<Mark>,
    state: Mutex<Stand>,
}

#[derive(Default)]
struct Stand {
    known: bool,
    /// Room of the head, and of the body.
    head: Taken,
    taken: Taken,
    refused: Option<Refused>,
}

impl Entry {
    /// The same, with the room that its head has. It is free again once the sender is known or the request is over.
    pub fn with_head(self, head: Taken) -> Self {
        self.state().head = head;
        self
    }

    /// Of a request whose sender is not known.
    pub fn new(door: &Arc<Door>, source: IpAddr, peer: IpAddr, connection: Option<Mark>) -> Self {
        Self(Arc::new(Standing {
            door: Arc::clone(door),
            source,
            peer,
            connection,
            state: Mutex::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, Stand> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its sender has shown who it is: its bytes are no stranger's from now on.
    pub fn known(&self) {
        let mut state = self.state();
        state.known = true;
        let taken = (
            std::mem::take(&mut state.head),
            std::mem::take(&mut state.taken),
        );
        drop(state);
        drop(taken);
        if let Some(connection) = &self.0.connection {
            connection.known();
        }
    }

    /// The same, and its sender is a node of this cluster, or an operator.
    pub fn node(&self) {
        self.known();
        self.0.door.member(self.0.peer);
    }

    /// Why its body did not come in, if that was refused here.
    pub fn refused(&self) -> Option<Refused> {
        self.state().refused
    }

    fn is_known(&self) -> bool {
        self.state().known
    }

    fn refuse(&self, why: Refused) {
        self.state().refused = Some(why);
        self.0.door.refuse(self.0.source, why);
    }

    /// Room for `len` bytes in all.
    async fn weigh(&self, len: usize) -> Result<(), Refused> {
        let mut taken = std::mem::take(&mut self.state().taken);
        let got = self.0.door.room.take(self.0.source, &mut taken, len).await;
        let mut state = self.state();
        if !state.known {
            state.taken = taken;
        }
        got.map_err(|_| Refused::NoRoom)
    }

    /// A request's body, which takes room until its sender is known, and comes in time.
    pub fn guard(&self, body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        let arriving = Arriving {
            entry: self.clone(),
            body: body.into_data_stream(),
            began: clock::now(),
            len: 0,
        };
        let next = async |mut arriving: Arriving| {
            let chunk = arriving.next().await?;
            Some((chunk, arriving))
        };
        Body::from_stream(futures_util::stream::unfold(arriving, next))
    }
}

struct Arriving {
    entry: Entry,
    body: axum::body::BodyDataStream,
    began: Instant,
    len: usize,
}

impl Arriving {
    async fn next(&mut self) -> Option<Result<Bytes, axum::Error>> {
        let known = self.entry.is_known();
        let within = if known {
            SILENCE_MAX
        } else {
            UNKNOWN_WITHIN.saturating_sub(clock::now().since(self.began))
        };
        let chunk = match tokio::time::timeout(within, self.body.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(other) => return other,
            Err(_) => return Some(Err(self.refuse(Refused::Late))),
        };
        self.len += chunk.len();
        if !known && let Err(why) = self.entry.weigh(self.len).await {
            return Some(Err(self.refuse(why)));
        }
        Some(Ok(chunk))
    }

    fn refuse(&self, why: Refused) -> axum::Error {
        self.entry.refuse(why);
        axum::Error::new(std::io::Error::other("the body was given up"))
    }
}

/// This request has shown the cluster's credential.
pub fn known_node(extensions: &Extensions) {
    if let Some(entry) = extensions.get::<Entry>() {
        entry.node();
    }
}

/// What a server does around each request, for tests that have no server.
#[cfg(test)]
pub async fn around(
    axum::extract::State(door): axum::extract::State<Arc<Door>>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> axum::response::Response {
    let peer = request
        .extensions()
        .get::<axum::extract::ConnectInfo<std::net::SocketAddr>>()
        .map_or(IpAddr::from([127, 0, 0, 1]), |info| info.0.ip());
    let entry = Entry::new(&door, peer, peer, None);
    let mut request = request.map(|body| entry.guard(body));
    request.extensions_mut().insert(entry.clone());
    next.run(request).await
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
