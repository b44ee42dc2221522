//! Tests of the door over real connections: who is let in before a body is read, what stands in a head twice, and who does not read.

use std::net::SocketAddr;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::metrics::door::Why;
use crate::net::deed::nodes_only;
use crate::net::keys::Keys;
use crate::net::server::{self, Public};

const PATIENCE: Duration = Duration::from_secs(10);

async fn serve(router: Router, public: Public) -> (SocketAddr, DropGuard) {
    let at = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = server::listen("test", at).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let stop = CancellationToken::new();
    tokio::spawn(server::serve_with(listener, router, public, stop.clone()));
    (address, stop.drop_guard())
}

async fn connect(to: SocketAddr) -> TcpStream {
    TcpStream::connect(to).await.expect("connected")
}

/// Everything that is answered until the connection is closed.
async fn rest(client: &mut TcpStream) -> String {
    let mut answer = String::new();
    let end = tokio::time::timeout(PATIENCE, client.read_to_string(&mut answer)).await;
    let _ = end.expect("closed in time");
    answer
}

fn echo() -> Router {
    Router::new().route("/", post(|body: Bytes| async move { body }))
}

/// Goal: two words on where a body ends are refused, and nothing that follows is taken for a request; one word is fine, also for the next
/// request on the same connection. Method: requests with a second one hidden behind them; the same as whole, plain ones.
#[tokio::test]
async fn a_request_with_two_lengths_is_refused() {
    let (address, _stop) = serve(echo(), Public::default()).await;
    let hidden = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nhidden";
    for both in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
    ] {
        let mut client = connect(address).await;
        let request = format!("POST / HTTP/1.1\r\nhost: x\r\n{both}\r\n\r\n0\r\n\r\n{hidden}");
        client.write_all(request.as_bytes()).await.expect("sent");
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{both}: {answer}");
        assert!(!answer.contains("hidden"), "{both}: {answer}");
    }
    let chunked =
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let mut client = connect(address).await;
    for _ in 0..2 {
        client.write_all(chunked.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"abc") {
            answer.push(client.read_u8().await.expect("an answer"));
        }
    }
    // Sent behind another one at once, its head was not seen by itself: it is answered, and is the last one.
    let mut client = connect(address).await;
    let plain = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1";
    let all = [plain, chunked, hidden].concat();
    client.write_all(all.as_bytes()).await.expect("sent");
    let answer = rest(&mut client).await;
    assert!(
        answer.contains("abc") && !answer.contains("hidden"),
        "{answer}"
    );
}

/// Goal: a head beyond the free bytes is seen whole, too: two lengths in it are refused, wherever they stand, and a plain one keeps its
/// connection, as cookies and tokens need it. Method: long heads of both kinds, the lengths before and behind what is long.
#[tokio::test]
async fn long_heads_are_seen_whole() {
    let (address, _stop) = serve(echo(), Public::default()).await;
    let long = format!("cookie: {}", "x".repeat(28 << 10));
    let hidden = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nhidden";
    let chunked = "transfer-encoding: chunked";
    let length = "content-length: 5";
    for lines in [
        [length, &long, chunked],
        [&long, length, chunked],
        [chunked, &long, length],
    ] {
        let lines = lines.join("\r\n");
        let mut client = connect(address).await;
        let request = format!("POST / HTTP/1.1\r\nhost: x\r\n{lines}\r\n\r\n0\r\n\r\n{hidden}");
        client.write_all(request.as_bytes()).await.expect("sent");
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(!answer.contains("hidden"), "{answer}");
    }
    let plain =
        format!("POST / HTTP/1.1\r\nhost: x\r\n{long}\r\n{chunked}\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    let mut client = connect(address).await;
    for _ in 0..2 {
        client.write_all(plain.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"abc") {
            answer.push(client.read_u8().await.expect("an answer"));
        }
    }
}

/// Goal: an address that only the table of nodes knows is no node's that has shown its credential. Method: the same address, before and after.
#[tokio::test]
async fn the_table_alone_makes_no_node() {
    let door = Door::new(&DoorCounts::default());
    let address = IpAddr::from([192, 0, 2, 1]);
    door.at_home(vec![address]);
    assert_eq!(door.who(address), Who::Home);
    Entry::new(&door, address, address, None).node();
    assert_eq!(door.who(address), Who::Member);
}

/// Goal: a reader that never reads is ended, and with it what waits for it; one that reads slowly is not. Method: an answer far longer than
/// all buffers, and a short patience.
#[tokio::test]
async fn who_does_not_read_is_ended() {
    let counts = DoorCounts::default();
    let mut public = Public::plain(&Door::new(&counts), Size::API);
    public.limits.unread = Duration::from_millis(400);
    let long = Bytes::from(vec![b'x'; 32 << 20]);
    let router = Router::new().route("/", get(move || async move { long }));
    let (address, _stop) = serve(router, public).await;
    let ask = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut slow = connect(address).await;
    slow.write_all(ask).await.expect("sent");
    let mut never = connect(address).await;
    never.write_all(ask).await.expect("sent");
    let (mut part, mut read) = (vec![0; 1 << 20], 0);
    let ended = counts.of("api", Why::Unread);
    while ended.get() == 0 {
        let some = tokio::time::timeout(PATIENCE, slow.read(&mut part)).await;
        read += some.expect("in time").expect("it goes on");
        // The time is what is tested.
        clock::sleep(Duration::from_millis(20)).await;
    }
    while let Ok(some @ 1..) = slow.read(&mut part).await {
        read += some;
    }
    assert!(read > 32 << 20, "{read}");
    assert_eq!(ended.get(), 1);
    drop(never);
}

/// Goal: who shows no credential is answered before a body comes; who shows that of nodes is remembered as a node, and who shows that of
/// looks, which others can hear, is not. Method: heads that announce a body which never comes, a look, a node's call.
#[tokio::test]
async fn nodes_are_known_before_their_bodies() {
    let keys = Keys::new(&b"5a".repeat(32));
    let door = Door::new(&DoorCounts::default());
    let router = echo().layer(from_fn_with_state(keys.clone(), nodes_only));
    let (address, _stop) = serve(router, Public::plain(&door, Size::CONTROL)).await;
    let head = |credential: &str, length: usize| {
        format!(
            "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: {credential}\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut client = connect(address).await;
    let sent = client.write_all(head("guess", 2 << 20).as_bytes()).await;
    sent.expect("sent");
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert_eq!(door.who(address.ip()), Who::Stranger);
    let mut client = connect(address).await;
    let look = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: {}\r\n\r\n",
        keys.look_header()
    );
    client.write_all(look.as_bytes()).await.expect("sent");
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 405"), "it came in: {answer}");
    assert_eq!(door.who(address.ip()), Who::Stranger, "it only looks");
    let mut client = connect(address).await;
    let request = format!("{}ours", head(&keys.internal_header(), 4));
    let sent = client.write_all(request.as_bytes()).await;
    sent.expect("sent");
    let answer = rest(&mut client).await;
    assert!(answer.ends_with("ours"), "{answer}");
    assert_eq!(door.who(address.ip()), Who::Member);
}

/// Goal: bytes of who is not known take room, whatever handler reads them; those of who is known take none. Method: bodies through an entry,
/// before and after its handler says so.
#[tokio::test]
async fn bytes_of_strangers_take_room() {
    let door = Door::new(&DoorCounts::default());
    let whole = door.free();
    let address = IpAddr::from([192, 0, 2, 1]);
    let long = || Body::from(vec![b'x'; 1 << 20]);
    let entry = Entry::new(&door, address, address, None);
    let read = axum::body::to_bytes(entry.guard(long()), usize::MAX).await;
    assert_eq!(read.expect("read").len(), 1 << 20);
    assert_eq!(door.free(), whole - (1 << 20));
    let other = Entry::new(&door, address, address, None);
    other.known();
    let read = axum::body::to_bytes(other.guard(long()), usize::MAX).await;
    assert_eq!(
        (read.expect("read").len(), door.free()),
        (1 << 20, whole - (1 << 20))
    );
    entry.known();
    assert_eq!(door.free(), whole);
    // As much as one source may have is held; more of it is refused with its reason.
    let held: Vec<Entry> = (0..8)
        .map(|_| Entry::new(&door, address, address, None))
        .collect();
    for entry in &held {
        let read = axum::body::to_bytes(entry.guard(long()), usize::MAX).await;
        assert!(read.is_ok());
    }
    let more = Entry::new(&door, address, address, None);
    let read = axum::body::to_bytes(more.guard(long()), usize::MAX).await;
    assert!(read.is_err() && more.refused() == Some(Refused::NoRoom));
    drop((held, more));
    assert_eq!(door.free(), whole);
}
