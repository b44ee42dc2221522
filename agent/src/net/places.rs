//! Places for the connections of one port: so many in all, so many of one source, and some that are kept for nodes of the cluster.
//! Where all are taken, the stranger who has shown nothing for the longest gives way to whoever comes. Accepts nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use tokio_util::sync::CancellationToken;

use super::source::network;
use crate::log::seldom;
use crate::metrics::door::{DoorCounts, Why};

/// How many connections a port has places for.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// The port's name in metrics and lines.
    pub port: &'static str,
    pub all: usize,
    /// Of them, for nodes of the cluster, their machines, and listed proxies only.
    pub kept: usize,
    /// Of one source that is neither a node nor a listed proxy, as long as they have shown nothing.
    pub of_one: usize,
    /// Of one such source, in all: customers behind one address are many, and known.
    pub of_one_known: usize,
}

impl Size {
    /// Ports that clients talk to.
    pub const API: Self = Self {
        port: "api",
        all: 4096,
        kept: 512,
        of_one: 1024,
        of_one_known: 2048,
    };
    /// Ports that nodes and operators talk to.
    pub const CONTROL: Self = Self {
        port: "control",
        all: 1024,
        kept: 256,
        of_one: 64,
        of_one_known: 256,
    };
    /// Ports that scrapers and load balancers look at.
    pub const HEALTH: Self = Self {
        port: "health",
        all: 256,
        kept: 64,
        of_one: 32,
        of_one_known: 32,
    };
    /// Coreapps' ports, which webapps forward to.
    pub const OWNER: Self = Self {
        port: "api",
        all: 4096,
        kept: 2048,
        of_one: 256,
        of_one_known: 1024,
    };
}

/// Who has a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Anybody.
    Stranger,
    /// An address where a node of this cluster runs, as the table of nodes says; it has shown nothing itself.
    Home,
    /// A listed proxy: it speaks for many.
    Proxy,
    /// An address from which a node of this cluster has shown the cluster's credential.
    Member,
}

impl Who {
    /// So many of one source may come, and not more.
    fn is_bounded(self) -> bool {
        match self {
            Self::Stranger | Self::Home => true,
            Self::Proxy | Self::Member => false,
        }
    }

    /// Whoever comes ends only connections of its own rank and of those below.
    fn rank(self) -> usize {
        match self {
            Self::Stranger => 0,
            Self::Home => 1,
            Self::Proxy | Self::Member => 2,
        }
    }
}

struct Stand {
    source: IpAddr,
    who: Who,
    end: CancellationToken,
}

/// Connections of one source that has a bound.
#[derive(Default)]
struct OfOne {
    all: usize,
    /// Those that have shown nothing yet, the oldest first.
    unknown: BTreeSet<u64>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    open: BTreeMap<u64, Stand>,
    sources: HashMap<IpAddr, OfOne>,
    /// Those that have shown nothing yet, by rank, the oldest first.
    unknown: [BTreeSet<u64>; 3],
    strangers: usize,
    /// Requests that run for clients behind proxies.
    behind: HashMap<IpAddr, usize>,
}

impl Inner {
    fn unknown(&mut self, who: Who) -> &mut BTreeSet<u64> {
        &mut self.unknown[who.rank()]
    }

    fn add(&mut self, source: IpAddr, who: Who) -> (u64, CancellationToken) {
        let id = self.next;
        self.next += 1;
        let end = CancellationToken::new();
        self.strangers += usize::from(who == Who::Stranger);
        if who.is_bounded() {
            let own = self.sources.entry(source).or_default();
            own.all += 1;
            own.unknown.insert(id);
        }
        self.unknown(who).insert(id);
        let stand = Stand {
            source,
            who,
            end: end.clone(),
        };
        self.open.insert(id, stand);
        (id, end)
    }

    fn remove(&mut self, id: u64) -> Option<Stand> {
        let stand = self.open.remove(&id)?;
        self.unknown(stand.who).remove(&id);
        self.strangers -= usize::from(stand.who == Who::Stranger);
        if stand.who.is_bounded()
            && let Some(own) = self.sources.get_mut(&stand.source)
        {
            own.all -= 1;
            own.unknown.remove(&id);
            if own.all == 0 {
                self.sources.remove(&stand.source);
            }
        }
        Some(stand)
    }

    /// Ends this connection; false: there is none.
    fn end(&mut self, id: Option<u64>) -> bool {
        let stand = id.and_then(|id| self.remove(id));
        stand.is_some_and(|stand| {
            stand.end.cancel();
            true
        })
    }

    /// Connections of a source, those of them that have shown nothing, and the oldest of these.
    fn of(&self, source: IpAddr) -> (usize, usize, Option<u64>) {
        let own = self.sources.get(&source);
        own.map_or((0, 0, None), |own| {
            (own.all, own.unknown.len(), own.unknown.first().copied())
        })
    }

    /// It has shown who it is.
    fn known(&mut self, id: u64) {
        let Some(stand) = self.open.get(&id) else {
            return;
        };
        let (who, source) = (stand.who, stand.source);
        self.unknown(who).remove(&id);
        if let Some(own) = self.sources.get_mut(&source) {
            own.unknown.remove(&id);
        }
    }
}

/// The places of one port.
pub struct Places {
    size: Size,
    inner: Mutex<Inner>,
    open: Gauge,
    counts: DoorCounts,
}

/// A connection's place; it is free again when this is dropped.
pub struct Place {
    places: Arc<Places>,
    id: u64,
    known: Arc<AtomicBool>,
    end: CancellationToken,
}

/// A request that runs for a client behind a proxy.
pub struct Behind {
    places: Arc<Places>,
    source: IpAddr,
}

impl Places {
    /// All are free.
    pub fn new(size: Size, counts: &DoorCounts) -> Arc<Self> {
        for why in Why::ALL {
            // Known to scrapers before the first one.
            counts.of(size.port, why);
        }
        Arc::new(Self {
            size,
            inner: Mutex::default(),
            open: counts.open(size.port),
            counts: counts.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection; `None`: there is none, and nobody who would have to give way.
    pub fn enter(self: &Arc<Self>, address: IpAddr, who: Who) -> Option<Place> {
        let source = network(address);
        let mut inner = self.lock();
        let (own, unknown, oldest) = inner.of(source);
        let over = unknown >= self.size.of_one || own >= self.size.of_one_known;
        if who.is_bounded() && over {
            self.counts.of(self.size.port, Why::Source).inc();
            if !inner.end(oldest) {
                self.refuse_source(address);
                return None;
            }
            self.warn_source(address);
        }
        let full = match who {
            Who::Stranger => inner.strangers >= self.size.all - self.size.kept,
            Who::Home | Who::Proxy | Who::Member => inner.open.len() >= self.size.all,
        };
        if full {
            self.counts.of(self.size.port, Why::Full).inc();
            let ranks = &inner.unknown[..=who.rank()];
            let oldest = ranks.iter().find_map(BTreeSet::first).copied();
            if !inner.end(oldest) {
                self.refuse_full(address);
                return None;
            }
            self.warn_full();
        }
        let (id, end) = inner.add(source, who);
        drop(inner);
        self.open.inc();
        Some(Place {
            places: Arc::clone(self),
            id,
            known: Arc::default(),
            end,
        })
    }

    fn warn_full(&self) {
        let Size { port, all, .. } = self.size;
        seldom!(tracing::warn!(
            port,
            all,
            "all connections that this port may have are taken; for each new one, the oldest that has shown no credential is ended. \
             See who opens them (ss -tn) and block them, or list your proxies in [webapp] trusted_proxies"
        ));
    }

    fn refuse_full(&self, address: IpAddr) {
        let Size { port, all, .. } = self.size;
        self.counts.of(port, Why::Refused).inc();
        seldom!(tracing::warn!(
            port,
            all,
            source = %address,
            "all connections that this port may have are taken by callers with a good credential; a new connection was closed. \
             See who keeps so many (ss -tn), or run another webapp"
        ));
    }

    fn warn_source(&self, address: IpAddr) {
        let Size { port, of_one, .. } = self.size;
        seldom!(tracing::warn!(
            port,
            of_one,
            source = %address,
            "one address has as many connections to this port as it may have; for each new one, its oldest that has shown no \
             credential is ended. If it is a proxy of yours, list it in [webapp] trusted_proxies"
        ));
    }

    fn refuse_source(&self, address: IpAddr) {
        let Size {
            port, of_one_known, ..
        } = self.size;
        self.counts.of(port, Why::Refused).inc();
        seldom!(tracing::warn!(
            port,
            of_one_known,
            source = %address,
            "one address has as many connections with a good credential to this port as it may have; a new one was closed. Let its \
             clients keep fewer connections, or use another webapp, too. If it is a proxy of yours, list it in [webapp] trusted_proxies"
        ));
    }

    /// A request for a client behind a proxy, who may have as many at a time as it may have connections; `None`: it has them.
    pub fn ask(self: &Arc<Self>, client: IpAddr) -> Option<Behind> {
        let source = network(client);
        let mut inner = self.lock();
        let running = inner.behind.entry(source).or_default();
        if *running >= self.size.of_one {
            drop(inner);
            self.counts.of(self.size.port, Why::Source).inc();
            self.warn_source(client);
            return None;
        }
        *running += 1;
        Some(Behind {
            places: Arc::clone(self),
            source,
        })
    }

    /// A connection was ended because it did not read.
    pub fn unread(&self) {
        self.counts.of(self.size.port, Why::Unread).inc();
    }
}

impl Place {
    /// Is cancelled when this connection has to give way.
    pub fn end(&self) -> CancellationToken {
        self.end.clone()
    }

    /// What marks it as known.
    pub fn mark(&self) -> Mark {
        Mark {
            places: Arc::clone(&self.places),
            id: self.id,
            known: Arc::clone(&self.known),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It may have been ended before.
        self.places.lock().remove(self.id);
        self.places.open.dec();
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        let mut inner = self.places.lock();
        if let Some(running) = inner.behind.get_mut(&self.source) {
            *running -= 1;
            if *running == 0 {
                inner.behind.remove(&self.source);
            }
        }
    }
}

/// Marks one connection.
#[derive(Clone)]
pub struct Mark {
    places: Arc<Places>,
    id: u64,
    known: Arc<AtomicBool>,
}

impl Mark {
    /// It has shown who it is: it gives way to nobody.
    pub fn known(&self) {
        if !self.known.swap(true, Ordering::AcqRel) {
            self.places.lock().known(self.id);
        }
    }

    /// Whether it has.
    pub fn is_known(&self) -> bool {
        self.known.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size {
        port: "test",
        all: 8,
        kept: 2,
        of_one: 3,
        of_one_known: 5,
    };

    fn places() -> Arc<Places> {
        Places::new(SIZE, &DoorCounts::default())
    }

    fn address(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    fn stranger(places: &Arc<Places>, n: u8) -> Option<Place> {
        places.enter(address(n), Who::Stranger)
    }

    fn ended(place: &Place) -> bool {
        place.end().is_cancelled()
    }

    /// Goal: silent strangers close the port to nobody. Method: as many as there may be, from as many addresses; one more comes in, and
    /// the oldest that has shown nothing goes; who has shown something stays.
    #[test]
    fn the_oldest_stranger_gives_way() {
        let places = places();
        let all: Vec<Place> = (0..6)
            .map(|n| stranger(&places, n).expect("room"))
            .collect();
        all[0].mark().known();
        let new = stranger(&places, 9).expect("somebody gives way");
        let gone: Vec<bool> = all.iter().map(ended).collect();
        assert_eq!(gone, [false, true, false, false, false, false]);
        assert!(!ended(&new));
        drop(all);
        assert_eq!((places.open.get(), places.lock().open.len()), (1, 1));
    }

    /// Goal: nobody who has shown who it is has to go, and what cannot have a place is told so. Method: all are known.
    #[test]
    fn who_is_known_stays() {
        let places = places();
        let all: Vec<Place> = (0..6)
            .map(|n| stranger(&places, n).expect("room"))
            .collect();
        for place in &all {
            place.mark().known();
        }
        assert!(stranger(&places, 9).is_none());
        assert!(!all.iter().any(ended));
        assert_eq!(places.counts.of("test", Why::Full).get(), 1);
        assert_eq!(refused(&places), 1);
    }

    fn refused(places: &Places) -> u64 {
        places.counts.of("test", Why::Refused).get()
    }

    /// Goal: one source has its part, and takes it from itself only. Method: one address with all it may have, one more of it, and
    /// another address.
    #[test]
    fn a_source_gives_way_to_itself() {
        let places = places();
        let own: Vec<Place> = (0..3)
            .map(|_| stranger(&places, 1).expect("room"))
            .collect();
        let other = stranger(&places, 2).expect("room");
        let more = stranger(&places, 1).expect("its oldest goes");
        assert!(ended(&own[0]) && !ended(&own[1]) && !ended(&other) && !ended(&more));
        assert_eq!(places.counts.of("test", Why::Source).get(), 1);
        assert_eq!(refused(&places), 0);
    }

    /// Goal: customers behind one address, who are known, have more than strangers may have, and not all: the next one is closed, counted by
    /// itself, and takes nothing from the others. Method: one address whose connections become known, up to its bound and beyond.
    #[test]
    fn known_connections_of_one_source_have_more() {
        let places = places();
        let enter = || stranger(&places, 1);
        let all: Vec<Place> = (0..5)
            .map(|_| {
                let place = enter().expect("known ones do not count for the smaller bound");
                place.mark().known();
                place
            })
            .collect();
        assert!(enter().is_none() && refused(&places) == 1);
        assert!(!all.iter().any(ended) && stranger(&places, 2).is_some());
        drop(all);
        assert!(enter().is_some() && refused(&places) == 1);
    }

    /// Goal: nodes have places that no stranger gets, and strangers give way to them. Method: strangers as many as come in, then nodes
    /// of one address, more than the kept places.
    #[test]
    fn nodes_have_places_of_their_own() {
        let places = places();
        let strangers: Vec<Place> = (0..6)
            .map(|n| stranger(&places, n).expect("room"))
            .collect();
        let enter = || places.enter(address(99), Who::Member).expect("a place");
        let nodes: Vec<Place> = (0..5).map(|_| enter()).collect();
        assert_eq!(strangers.iter().filter(|place| ended(place)).count(), 3);
        assert!(!nodes.iter().any(ended));
        let new = stranger(&places, 50).expect("a stranger for a stranger");
        assert!(!nodes.iter().any(ended) && !ended(&new));
    }

    /// Goal: an address that only the table of nodes knows has the kept places, and no more than a stranger may have; it ends no connection of
    /// a node. Method: one such address beyond its bound, then a full port of strangers and nodes, and one more of each kind.
    #[test]
    fn an_address_of_the_table_has_a_bound() {
        let places = places();
        let home = |n| places.enter(address(n), Who::Home).expect("a place");
        let own: Vec<Place> = (0..3).map(|_| home(1)).collect();
        let more = home(1);
        let gone: Vec<bool> = own.iter().map(ended).collect();
        assert_eq!(gone, [true, false, false], "its own oldest gave way");
        for place in own[1..].iter().chain([&more]) {
            place.mark().known();
        }
        let rest: Vec<Place> = (0..2).map(|_| home(1)).collect();
        rest.iter().for_each(|place| place.mark().known());
        let last = places.enter(address(1), Who::Home);
        assert!(last.is_none() && refused(&places) == 1, "all are known");
        drop((own, more, rest));
        assert!(places.lock().sources.is_empty());

        let member = || places.enter(address(9), Who::Member).expect("a place");
        let nodes: Vec<Place> = (0..2).map(|_| member()).collect();
        let strangers: Vec<Place> = (10..16)
            .map(|n| stranger(&places, n).expect("room"))
            .collect();
        let homes: Vec<Place> = (20..26).map(home).collect();
        assert!(strangers.iter().all(ended) && !nodes.iter().any(ended));
        let other = home(30);
        assert!(ended(&homes[0]) && !nodes.iter().any(ended));
        let node = member();
        assert!(ended(&homes[1]) && !nodes.iter().any(ended));
        assert!(!ended(&other) && !ended(&node));
    }

    /// Goal: a client behind a proxy has no more requests at a time than it might have connections, and proxies have no such bound.
    /// Method: both at the bound, one more; one ends.
    #[test]
    fn clients_behind_proxies_are_counted() {
        let places = places();
        let proxy: Vec<_> = (0..5)
            .map(|_| places.enter(address(7), Who::Proxy).expect("no bound"))
            .collect();
        assert!(!proxy.iter().any(ended));
        let mut running: Vec<_> = (0..3)
            .map(|_| places.ask(address(1)).expect("in"))
            .collect();
        assert!(places.ask(address(1)).is_none() && places.ask(address(2)).is_some());
        running.pop();
        assert!(places.ask(address(1)).is_some());
        drop(running);
        assert!(places.lock().behind.is_empty());
    }
}
