//! TCP connections to names: all addresses of both families, one beside the other (RFC 8305). One dead address of a name
//! costs a quarter of a second once, not the connection. Speaks no protocol.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::Shared;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use futures_util::{FutureExt as _, TryFutureExt as _};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use wa_core::time::Instant;

use super::clock;

/// The next address is tried beside one that has not answered for this long (RFC 8305, 8).
const NEXT_AFTER: Duration = Duration::from_millis(250);
/// IPv4 addresses that came first, and those known to be dead, wait this long for the other family (RFC 8305, 8).
const OTHER_WITHIN: Duration = Duration::from_millis(50);
/// Who was overtaken or refused while another address of the same name connected is tried last for this long.
const LAST_FOR: Duration = Duration::from_secs(600);
const LAST_MAX: u64 = 1024;
/// Addresses of one name that are tried for one connection.
const ADDRESSES_MAX: usize = 32;

/// Of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Six,
    Four,
}

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    /// A name server, or the hosts file, says that there is no such name, or that it has no address.
    #[error("the name {name} has no address: {why}")]
    NoAddress { name: String, why: String },
    /// Nobody said anything about the name: the name server is away, or refuses.
    #[error(
        "the name {name} could not be looked up: {why}; is the name server of this machine (/etc/resolv.conf) well?"
    )]
    NotLookedUp { name: String, why: String },
    /// No address connected.
    #[error("{}", tried(.host, .addresses))]
    Unreachable { host: String, addresses: Vec<Tried> },
    /// There are addresses, and none of them may be called from here.
    #[error("{host} may not be called: {why}")]
    Forbidden { host: String, why: String },
}

/// An address and what came of it.
#[derive(Debug, Clone)]
pub struct Tried {
    pub address: SocketAddr,
    pub why: String,
    pub kind: io::ErrorKind,
}

fn tried(host: &str, addresses: &[Tried]) -> String {
    let each: Vec<String> = addresses
        .iter()
        .map(|t| format!("{}: {}", t.address, t.why))
        .collect();
    match addresses {
        [one] if one.address.ip().to_string() == host => each.join(""),
        _ => format!("{host}: {}", each.join("; ")),
    }
}

impl DialError {
    /// Nobody answered, not even with a refusal: a packet filter, or a machine that is off.
    pub fn silent(&self) -> bool {
        match self {
            Self::NoAddress { .. } | Self::NotLookedUp { .. } | Self::Forbidden { .. } => false,
            Self::Unreachable { addresses, .. } => {
                addresses.iter().all(|t| t.kind == io::ErrorKind::TimedOut)
            }
        }
    }
}

impl From<DialError> for io::Error {
    fn from(error: DialError) -> Self {
        let kind = match &error {
            DialError::NoAddress { .. } => io::ErrorKind::NotFound,
            DialError::NotLookedUp { .. } => io::ErrorKind::TimedOut,
            DialError::Forbidden { .. } => io::ErrorKind::PermissionDenied,
            DialError::Unreachable { addresses, .. } => {
                addresses.last().map_or(io::ErrorKind::TimedOut, |t| t.kind)
            }
        };
        Self::new(kind, error)
    }
}

/// Why a lookup came to nothing.
#[derive(Debug, Clone)]
pub struct Unresolved {
    /// It was answered: there is no such name, or it has no address of this family.
    pub answered: bool,
    pub why: String,
}

/// The addresses of one family, whatever their port.
pub type Found = Result<Vec<SocketAddr>, Unresolved>;
type Lookup = Pin<Box<dyn Future<Output = Found> + Send>>;
/// Looks up one family of a name.
pub type Resolver = Arc<dyn Fn(&str, Family) -> Lookup + Send + Sync>;

/// Whether this address of this host may be connected to; if not, why. Asked for the very address, right before it is.
pub type Permit = Arc<dyn Fn(&str, IpAddr) -> Result<(), String> + Send + Sync>;

/// Connects to names.
#[derive(Clone)]
pub struct Dialer {
    resolver: Resolver,
    permit: Option<Permit>,
    next_after: Duration,
    /// Addresses to be tried last.
    last: moka::sync::Cache<SocketAddr, ()>,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}

impl Dialer {
    /// By the names of this machine; what is remembered of addresses is shared by the whole process.
    pub fn system() -> Self {
        static SYSTEM: OnceLock<Dialer> = OnceLock::new();
        SYSTEM
            .get_or_init(|| Self::with(Arc::new(ask_system)))
            .clone()
    }

    /// By another source of names, with a memory of its own.
    pub fn with(resolver: Resolver) -> Self {
        Self {
            resolver,
            permit: None,
            next_after: NEXT_AFTER,
            last: moka::sync::Cache::builder()
                .max_capacity(LAST_MAX)
                .time_to_live(LAST_FOR)
                .build(),
        }
    }

    /// The same, but it connects only to what `permit` lets through.
    pub fn permitting(self, permit: Permit) -> Self {
        Self {
            permit: Some(permit),
            ..self
        }
    }

    /// Connects to a name or address within a time that covers lookup and all attempts.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn connect(
        &self,
        host: &str,
        port: u16,
        within: Duration,
    ) -> Result<TcpStream, DialError> {
        self.connect_with(host, port, within, |_| Ok(())).await
    }

    /// The same; `before` sets what each attempt's socket must have before it connects, or refuses the attempt. While
    /// several run, each has SO_LINGER 0, so that losers end at once; the winner has what `before` left it.
    ///
    /// # Errors
    /// [`DialError`]; what `before` refuses is among the attempts.
    pub async fn connect_with(
        &self,
        host: &str,
        port: u16,
        within: Duration,
        before: impl Fn(&SockRef<'_>) -> io::Result<()>,
    ) -> Result<TcpStream, DialError> {
        let mut race = Race::new(self, host, port, clock::now() + within);
        let before = &before;
        let mut attempts = FuturesUnordered::new();
        loop {
            if let Some(address) = race.due(clock::now(), attempts.is_empty()) {
                if let Some(why) = race.forbidden(address) {
                    race.forbid(address, why);
                    continue;
                }
                attempts.push(attempt(address, before).map(move |done| (address, done)));
                continue;
            }
            if attempts.is_empty() && race.exhausted() {
                return Err(race.lost());
            }
            let wake = race.wake();
            tokio::select! {
                biased;
                Some((address, done)) = attempts.next(), if !attempts.is_empty() => match done {
                    Ok(stream) => {
                        race.won(address);
                        return Ok(stream);
                    }
                    Err(error) => race.failed(address, &error),
                },
                Some((family, found)) = race.lookups.next(), if !race.lookups.is_empty() => {
                    race.take(family, found, clock::now());
                }
                () = clock::sleep_until(wake) => {
                    if clock::now() >= race.deadline {
                        return Err(race.lost());
                    }
                }
            }
        }
    }

    /// All addresses of a name, those of both families by turns, or the address itself. A family that is not known within
    /// the time is left out when the other one is.
    ///
    /// # Errors
    /// [`DialError`], never `Unreachable`.
    pub async fn lookup(&self, host: &str, within: Duration) -> Result<Vec<IpAddr>, DialError> {
        let mut race = Race::new(self, host, 0, clock::now() + within);
        let all = async {
            while let Some((family, found)) = race.lookups.next().await {
                race.take(family, found, clock::now());
            }
        };
        let _ = tokio::time::timeout(within, all).await;
        let found: Vec<IpAddr> = std::iter::from_fn(|| race.pick()).map(|a| a.ip()).collect();
        if found.is_empty() {
            Err(race.lost())
        } else {
            Ok(found)
        }
    }
}

/// Connects to one address.
///
/// # Errors
/// [`DialError::Unreachable`].
pub async fn connect_to(address: SocketAddr, within: Duration) -> Result<TcpStream, DialError> {
    Dialer::system()
        .connect(&address.ip().to_string(), address.port(), within)
        .await
}

/// One socket's way; SO_LINGER 0 until it has won.
async fn attempt(
    address: SocketAddr,
    before: &impl Fn(&SockRef<'_>) -> io::Result<()>,
) -> io::Result<TcpStream> {
    let socket = if address.is_ipv6() {
        TcpSocket::new_v6()?
    } else {
        TcpSocket::new_v4()?
    };
    before(&SockRef::from(&socket))?;
    let wanted = SockRef::from(&socket).linger()?;
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    let stream = socket.connect(address).await?;
    SockRef::from(&stream).set_linger(wanted)?;
    Ok(stream)
}

/// A lookup that is under way.
type Asked = Pin<Box<dyn Future<Output = (Family, Found)> + Send>>;

/// One connection's addresses.
struct Race<'a> {
    dialer: &'a Dialer,
    host: String,
    port: u16,
    deadline: Instant,
    lookups: FuturesUnordered<Asked>,
    six: VecDeque<SocketAddr>,
    four: VecDeque<SocketAddr>,
    /// Of the attempt that was begun last.
    last_family: Family,
    /// When the next one may begin beside those that run.
    next: Instant,
    begun: usize,
    running: Vec<SocketAddr>,
    failed: Vec<Tried>,
    /// Why the last address that may not be called may not.
    refused: Option<String>,
    unresolved: Vec<Unresolved>,
}

impl<'a> Race<'a> {
    fn new(dialer: &'a Dialer, host: &str, port: u16, deadline: Instant) -> Self {
        let host = host.trim_matches(['[', ']']).to_owned();
        let lookups = FuturesUnordered::new();
        let (mut six, mut four) = (VecDeque::new(), VecDeque::new());
        match host.parse::<IpAddr>() {
            Ok(address @ IpAddr::V6(_)) => six.push_back(SocketAddr::new(address, port)),
            Ok(address @ IpAddr::V4(_)) => four.push_back(SocketAddr::new(address, port)),
            Err(_) => {
                for family in [Family::Six, Family::Four] {
                    let asked = (dialer.resolver)(&host, family);
                    lookups.push(asked.map(move |found| (family, found)).boxed());
                }
            }
        }
        Self {
            dialer,
            host,
            port,
            deadline,
            lookups,
            six,
            four,
            last_family: Family::Four,
            next: clock::now(),
            begun: 0,
            running: Vec::new(),
            failed: Vec::new(),
            refused: None,
            unresolved: Vec::new(),
        }
    }

    /// Why this address may not be called, if it may not.
    fn forbidden(&self, address: SocketAddr) -> Option<String> {
        let permit = self.dialer.permit.as_ref()?;
        permit(&self.host, address.ip()).err()
    }

    /// It is passed over.
    fn forbid(&mut self, address: SocketAddr, why: String) {
        self.running.retain(|other| *other != address);
        self.refused = Some(format!("{} is {why}", address.ip()));
        self.next = clock::now();
    }

    /// Takes what a lookup found.
    fn take(&mut self, family: Family, found: Found, now: Instant) {
        let mut found = match found {
            Ok(found) => found,
            Err(why) => {
                self.unresolved.push(why);
                Vec::new()
            }
        };
        for address in &mut found {
            address.set_port(self.port);
        }
        found.dedup();
        let dead = found.iter().all(|a| self.dialer.last.contains_key(a));
        if self.begun == 0 && !self.lookups.is_empty() && (family == Family::Four || dead) {
            self.next = now + OTHER_WITHIN;
        } else if self.begun == 0 {
            self.next = now;
        }
        match family {
            Family::Six => self.six.extend(found),
            Family::Four => self.four.extend(found),
        }
    }

    /// The address to be tried now.
    fn due(&mut self, now: Instant, idle: bool) -> Option<SocketAddr> {
        let may = now >= self.next || (idle && self.begun > 0);
        if !may || now >= self.deadline || self.begun >= ADDRESSES_MAX {
            return None;
        }
        let address = self.pick()?;
        self.begun += 1;
        self.running.push(address);
        self.next = now + self.dialer.next_after;
        Some(address)
    }

    /// The next address: those that are not known to be dead first, the families by turns.
    fn pick(&mut self) -> Option<SocketAddr> {
        let turns = match self.last_family {
            Family::Six => [Family::Four, Family::Six],
            Family::Four => [Family::Six, Family::Four],
        };
        for well in [true, false] {
            for family in turns {
                let last = &self.dialer.last;
                let queue = match family {
                    Family::Six => &mut self.six,
                    Family::Four => &mut self.four,
                };
                let at = queue.iter().position(|a| last.contains_key(a) != well);
                if let Some(address) = at.and_then(|at| queue.remove(at)) {
                    self.last_family = family;
                    return Some(address);
                }
            }
        }
        None
    }

    /// Nothing more can be tried, and nothing more will be known.
    fn exhausted(&self) -> bool {
        let none = self.six.is_empty() && self.four.is_empty();
        (none && self.lookups.is_empty()) || self.begun >= ADDRESSES_MAX
    }

    fn wake(&self) -> Instant {
        let none = self.six.is_empty() && self.four.is_empty();
        if none || self.begun >= ADDRESSES_MAX {
            self.deadline
        } else {
            self.next.min(self.deadline)
        }
    }

    fn failed(&mut self, address: SocketAddr, error: &io::Error) {
        self.running.retain(|other| *other != address);
        let (why, kind) = (error.to_string(), error.kind());
        self.failed.push(Tried { address, why, kind });
        self.next = clock::now();
    }

    /// One connected: whoever was begun before it is tried last from now on.
    fn won(&mut self, address: SocketAddr) {
        let last = &self.dialer.last;
        last.invalidate(&address);
        let before = self.running.iter().take_while(|other| **other != address);
        let failed = self.failed.iter().map(|tried| &tried.address);
        for dead in before.chain(failed) {
            last.insert(*dead, ());
        }
    }

    fn lost(mut self) -> DialError {
        for address in std::mem::take(&mut self.running) {
            let why = "no answer in time".to_owned();
            let kind = io::ErrorKind::TimedOut;
            self.failed.push(Tried { address, why, kind });
        }
        let rest = std::iter::from_fn(|| self.pick()).collect::<Vec<_>>();
        if let (true, Some(why)) = (self.failed.is_empty(), self.refused.take()) {
            let host = self.host;
            return DialError::Forbidden { host, why };
        }
        for address in rest {
            let why = "not tried, the time was over".to_owned();
            let kind = io::ErrorKind::TimedOut;
            self.failed.push(Tried { address, why, kind });
        }
        let (name, host) = (self.host.clone(), self.host);
        if !self.failed.is_empty() {
            return DialError::Unreachable {
                host,
                addresses: self.failed,
            };
        }
        let silent = self.unresolved.iter().find(|one| !one.answered);
        match (silent, self.unresolved.first()) {
            (Some(one), _) => DialError::NotLookedUp {
                name,
                why: one.why.clone(),
            },
            (None, _) if !self.lookups.is_empty() => {
                let why = "no answer in time".into();
                DialError::NotLookedUp { name, why }
            }
            (None, Some(one)) => DialError::NoAddress {
                name,
                why: one.why.clone(),
            },
            (None, None) => DialError::NoAddress {
                name,
                why: "the answer was empty".into(),
            },
        }
    }
}

type Flight = Shared<Lookup>;
/// Lookups under way: a name server that does not answer is asked once for each name, however many wait for it.
static FLIGHTS: Mutex<BTreeMap<(String, Family), Flight>> = Mutex::new(BTreeMap::new());

/// Asks the C library, as the machine is set up: it blocks for as long as `resolv.conf` says, on a thread of its own, so
/// that it holds up neither other work nor the end of the process.
fn ask_system(host: &str, family: Family) -> Lookup {
    let key = (host.to_owned(), family);
    let mut flights = FLIGHTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(flight) = flights.get(&key) {
        return flight.clone().boxed();
    }
    let (tell, told) = tokio::sync::oneshot::channel();
    let asked = key.clone();
    let thread = std::thread::Builder::new()
        .name("lookup".into())
        .spawn(move || {
            let found = ask_blocking(&asked.0, family);
            let mut flights = FLIGHTS.lock().unwrap_or_else(PoisonError::into_inner);
            flights.remove(&asked);
            let _ = tell.send(found);
        });
    if let Err(error) = thread {
        let why = format!("no thread for the lookup: {error}");
        return std::future::ready(Err(Unresolved {
            answered: false,
            why,
        }))
        .boxed();
    }
    let flight = told
        .unwrap_or_else(|_| {
            Err(Unresolved {
                answered: false,
                why: "the lookup broke off".into(),
            })
        })
        .boxed()
        .shared();
    flights.insert(key, flight.clone());
    flight.boxed()
}

/// The GNU C library's, which the `libc` crate does not name: the name has addresses of the other family only.
const EAI_ADDRFAMILY: i32 = -9;

fn ask_blocking(host: &str, family: Family) -> Found {
    use dns_lookup::LookupErrorKind as Kind;
    let hints = dns_lookup::AddrInfoHints {
        socktype: nix::libc::SOCK_STREAM,
        address: match family {
            Family::Six => nix::libc::AF_INET6,
            Family::Four => nix::libc::AF_INET,
        },
        ..Default::default()
    };
    match dns_lookup::getaddrinfo(Some(host), None, Some(hints)) {
        Ok(found) => Ok(found.flatten().map(|one| one.sockaddr).collect()),
        Err(error) => {
            let other_family = error.error_num() == EAI_ADDRFAMILY;
            let answered = other_family || matches!(error.kind(), Kind::NoName | Kind::NoData);
            Err(Unresolved {
                answered,
                why: error.to_string(),
            })
        }
    }
}

/// All addresses of a name or address, for whoever cannot wait asynchronously; none where nothing is known within the time.
pub fn lookup_blocking(host: &str, within: Duration) -> Vec<IpAddr> {
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        return vec![address];
    }
    let (tell, told) = std::sync::mpsc::sync_channel(2);
    for family in [Family::Six, Family::Four] {
        let (tell, host) = (tell.clone(), host.to_owned());
        let ask = move || {
            let _ = tell.send((family, ask_blocking(&host, family)));
        };
        let _ = std::thread::Builder::new().name("lookup".into()).spawn(ask);
    }
    drop(tell);
    let deadline = clock::now() + within;
    let mut all = Vec::new();
    while let Ok((family, found)) = told.recv_timeout(deadline.since(clock::now())) {
        all.extend(
            found
                .into_iter()
                .flatten()
                .map(|address| (family, address.ip())),
        );
    }
    // IPv4 first: it is what the house's own nodes use where nothing else is written.
    all.sort_by_key(|(family, _)| std::cmp::Reverse(*family));
    let mut all: Vec<IpAddr> = all.into_iter().map(|(_, address)| address).collect();
    all.dedup();
    all
}

#[cfg(test)]
#[path = "dial_tests.rs"]
pub mod of_tests;
