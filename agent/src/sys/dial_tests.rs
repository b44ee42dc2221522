//! Names with dead addresses. A dead address is a listener whose backlog is full: the kernel drops what comes, as a firewall
//! does. Names come from a table in place of a name server.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

use socket2::{Domain, Socket, Type};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::*;

const WITHIN: Duration = Duration::from_secs(10);
const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const SIX: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A resolver that knows one set of addresses for every name.
pub(crate) fn names(all: &[IpAddr]) -> Resolver {
    let all = all.to_vec();
    Arc::new(move |_, family| {
        let of_family = all
            .iter()
            .filter(|a| a.is_ipv6() == (family == Family::Six));
        let found: Vec<_> = of_family.map(|a| SocketAddr::new(*a, 0)).collect();
        let none = Unresolved {
            answered: true,
            why: "no such name".into(),
        };
        std::future::ready(if found.is_empty() {
            Err(none)
        } else {
            Ok(found)
        })
        .boxed()
    })
}

/// An address that drops whoever comes, until it is dropped.
pub(crate) struct Dead {
    _listener: Socket,
    _waiting: Vec<Socket>,
}

/// Fills the backlog of a listener: connects are under way for ever.
pub(crate) fn dead(address: IpAddr, port: u16) -> Dead {
    let at = SocketAddr::new(address, port);
    let socket = || Socket::new(Domain::for_address(at), Type::STREAM, None).expect("a socket");
    let listener = socket();
    listener.set_reuse_address(true).expect("set");
    if at.is_ipv6() {
        listener.set_only_v6(true).expect("set");
    }
    listener.bind(&at.into()).expect("bound");
    listener.listen(0).expect("listening");
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let client = socket();
        client.set_nonblocking(true).expect("set");
        let _ = client.connect(&at.into());
        waiting.push(client);
    }
    Dead {
        _listener: listener,
        _waiting: waiting,
    }
}

async fn good() -> (TcpListener, u16) {
    let listener = TcpListener::bind((ONE, 0)).await.expect("bound");
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

/// Connects and counts the attempts.
async fn count(dialer: &Dialer, port: u16) -> (Result<TcpStream, DialError>, usize) {
    let attempts = AtomicUsize::new(0);
    let before = |_: &SockRef<'_>| {
        attempts.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let done = dialer.connect_with("name.test", port, WITHIN, before).await;
    (done, attempts.into_inner())
}

/// Goal (F02): an IPv6 address that leads nowhere does not keep the IPv4 one from being used, and costs its wait once.
/// Method: both at one port, the first with a full backlog; the second connection makes one attempt.
#[tokio::test]
async fn f02_a_dead_aaaa_is_not_the_end_of_a_name() {
    let (_listener, port) = good().await;
    let _dead = dead(SIX, port);
    let dialer = Dialer::with(names(&[SIX, ONE]));
    let (stream, attempts) = count(&dialer, port).await;
    let peer = stream.expect("connected").peer_addr().expect("connected");
    assert_eq!((peer.ip(), attempts), (ONE, 2));
    let (stream, attempts) = count(&dialer, port).await;
    let peer = stream.expect("connected").peer_addr().expect("connected");
    assert_eq!(
        (peer.ip(), attempts),
        (ONE, 1),
        "the dead one is tried last now"
    );
}

/// Goal (F02): the same for the first of two IPv4 addresses.
#[tokio::test]
async fn f02_a_dead_first_a_is_not_the_end_of_a_name() {
    let (_listener, port) = good().await;
    let _dead = dead(TWO, port);
    let dialer = Dialer::with(names(&[TWO, ONE]));
    for wanted in [2, 1] {
        let (stream, attempts) = count(&dialer, port).await;
        let peer = stream.expect("connected").peer_addr().expect("connected");
        assert_eq!((peer.ip(), attempts), (ONE, wanted));
    }
}

/// Goal: a refusal is followed by the next address at once. Method: a dialer that would wait for an hour otherwise.
#[tokio::test]
async fn a_refusal_is_followed_by_the_next_at_once() {
    let (_listener, port) = good().await;
    let three = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
    let dialer = Dialer {
        next_after: Duration::from_secs(3600),
        ..Dialer::with(names(&[TWO, three, ONE]))
    };
    let (stream, attempts) = count(&dialer, port).await;
    stream.expect("connected");
    assert_eq!(attempts, 3);
}

/// Goal: the error names every address with what came of it: one that refuses, one that is silent.
#[tokio::test]
async fn the_error_names_every_address() {
    let (listener, port) = good().await;
    drop(listener);
    let _dead = dead(TWO, port);
    let dialer = Dialer::with(names(&[TWO, ONE]));
    let error = dialer
        .connect("name.test", port, Duration::from_millis(400))
        .await
        .expect_err("nobody there");
    let text = error.to_string();
    for part in [
        "name.test: ",
        "127.0.0.1:",
        "refused",
        "127.0.0.2:",
        "no answer in time",
    ] {
        assert!(text.contains(part), "{part:?} is missing in {text:?}");
    }
}

/// Goal: a name without addresses, a name server that says nothing, and one that answers for one family only are told
/// apart, and the last is good enough.
#[tokio::test]
async fn a_name_server_that_is_away_is_told_from_a_name_that_is_wrong() {
    let (_listener, port) = good().await;
    let short = Duration::from_millis(50);
    let wrong = Dialer::with(names(&[]))
        .connect("name.test", port, WITHIN)
        .await;
    assert!(
        matches!(wrong, Err(DialError::NoAddress { .. })),
        "{wrong:?}"
    );
    let silent = Dialer::with(Arc::new(|_, _| std::future::pending().boxed()));
    let away = silent.connect("name.test", port, short).await;
    assert!(
        matches!(away, Err(DialError::NotLookedUp { .. })),
        "{away:?}"
    );
    let known = names(&[ONE]);
    let half: Resolver = Arc::new(move |name, family| match family {
        Family::Six => std::future::pending().boxed(),
        Family::Four => known(name, family),
    });
    let half = Dialer::with(half);
    half.connect("name.test", port, WITHIN)
        .await
        .expect("IPv4 is enough");
    assert_eq!(half.lookup("name.test", short).await.expect("known"), [ONE]);
    assert!(matches!(
        silent.lookup("name.test", short).await,
        Err(DialError::NotLookedUp { .. })
    ));
}

/// Goal: families take turns, those known to be dead come last, and addresses need no name server.
#[tokio::test]
async fn families_take_turns() {
    let other = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
    let dialer = Dialer::with(names(&[SIX, other, ONE, TWO]));
    let order = dialer.lookup("name.test", WITHIN).await.expect("known");
    assert_eq!(order, [SIX, ONE, other, TWO]);
    dialer.last.insert(SocketAddr::new(SIX, 0), ());
    let order = dialer.lookup("name.test", WITHIN).await.expect("known");
    assert_eq!(order, [other, ONE, TWO, SIX]);
    let nobody = Dialer::with(Arc::new(|_, _| unreachable!("an address is no name")));
    for (text, address) in [("127.0.0.1", ONE), ("::1", SIX), ("[::1]", SIX)] {
        assert_eq!(
            nobody.lookup(text, WITHIN).await.expect("an address"),
            [address]
        );
    }
}

/// Goal: what a caller sets is there before the connect, each attempt asks, and a refusal of the caller ends it. A socket
/// that is to abort does: its peer sees a reset.
#[tokio::test]
async fn callers_set_sockets_before_they_connect() {
    let (listener, port) = good().await;
    let dialer = Dialer::with(names(&[ONE]));
    let plain = dialer
        .connect("name.test", port, WITHIN)
        .await
        .expect("connected");
    assert_eq!(SockRef::from(&plain).linger().expect("asked"), None);
    drop((listener.accept().await.expect("came"), plain));
    let abort = |socket: &SockRef<'_>| socket.set_linger(Some(Duration::ZERO));
    let stream = dialer
        .connect_with("name.test", port, WITHIN, abort)
        .await
        .expect("connected");
    let (mut peer, _) = listener.accept().await.expect("came");
    drop(stream);
    let seen = peer.read_u8().await.expect_err("aborted");
    assert_eq!(seen.kind(), io::ErrorKind::ConnectionReset);
    let shut = |_: &SockRef<'_>| Err(io::Error::other("the gate is shut"));
    let error = dialer
        .connect_with("name.test", port, WITHIN, shut)
        .await
        .expect_err("refused");
    assert!(error.to_string().contains("the gate is shut"), "{error}");
}

/// Goal: the machine's own names work, many askers at once, and a name that cannot be is an error of names.
#[tokio::test]
async fn the_machines_own_names_are_known() {
    let (_listener, port) = good().await;
    let dialer = Dialer::system();
    let all = (0..32).map(|_| dialer.connect("localhost", port, WITHIN));
    for stream in futures_util::future::join_all(all).await {
        stream.expect("connected");
    }
    assert!(lookup_blocking("localhost", WITHIN).contains(&ONE));
    let error = dialer
        .connect("no..name", port, WITHIN)
        .await
        .expect_err("no name");
    let of_names = matches!(
        error,
        DialError::NoAddress { .. } | DialError::NotLookedUp { .. }
    );
    assert!(of_names, "{error:?}");
}
