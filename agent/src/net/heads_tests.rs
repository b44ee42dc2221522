//! Tests of what a connection may send before it is known: over real servers, with a room whose free bytes are looked at.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::routing::post;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::metrics::door::DoorCounts;
use crate::net::door::Entry;
use crate::net::idle::HEAD_LEN_MAX;
use crate::net::places::Size;
use crate::net::room::{BYTES_MAX, BYTES_OF_ONE_MAX, STEP_LEN};
use crate::net::server::{self, Public};
use crate::net::{certificate, tls};
use crate::sys::clock;

const PATIENCE: Duration = Duration::from_secs(10);

/// A server whose `/known` knows its caller, and what its port counts.
struct Bench {
    address: SocketAddr,
    door: Arc<Door>,
    counts: DoorCounts,
    _stop: DropGuard,
}

async fn bench(change: impl FnOnce(&mut Public)) -> Bench {
    let counts = DoorCounts::default();
    let door = Door::new(&counts);
    let mut public = Public::plain(&door, Size::API);
    change(&mut public);
    let at = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = server::listen("test", at).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let known = async |Extension(entry): Extension<Entry>, body: bytes::Bytes| {
        entry.known();
        body
    };
    let router = Router::new()
        .route("/", post(async |body: bytes::Bytes| body))
        .route("/known", post(known));
    let stop = CancellationToken::new();
    tokio::spawn(server::serve_with(listener, router, public, stop.clone()));
    Bench {
        address,
        door,
        counts,
        _stop: stop.drop_guard(),
    }
}

impl Bench {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    /// Takes all room that the address of our clients may have.
    async fn hold(&self) -> Taken {
        let mut held = Taken::default();
        while held.bytes() < BYTES_OF_ONE_MAX {
            let (more, got) = self.door.step(self.address.ip(), held).await;
            assert_eq!(got, Ok(()));
            held = more;
        }
        held
    }

    /// Waits until so many bytes of the room are taken.
    async fn taken(&self, len: usize) {
        let until = clock::now() + PATIENCE;
        while BYTES_MAX - self.door.free() != len {
            let taken = BYTES_MAX - self.door.free();
            assert!(clock::now() < until, "{taken} bytes are taken, not {len}");
            tokio::task::yield_now().await;
        }
    }
}

/// A head of about this length, without its end.
fn half(path: &str, len: usize) -> String {
    let long = "x".repeat(len);
    format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nx-long: {long}")
}

async fn send(client: &mut TcpStream, text: &str) {
    client.write_all(text.as_bytes()).await.expect("sent");
}

/// Reads until the answer ends with these words.
async fn answer(client: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        let byte = tokio::time::timeout(PATIENCE, client.read_u8()).await;
        bytes.push(byte.expect("in time").expect("an answer"));
    }
    String::from_utf8(bytes).expect("text")
}

async fn closed(client: &mut TcpStream) {
    let mut rest = Vec::new();
    let end = tokio::time::timeout(PATIENCE, client.read_to_end(&mut rest)).await;
    let _ = end.expect("closed in time");
    assert!(!rest.starts_with(b"HTTP/1.1 2"), "it was served");
}

/// Goal: a short head takes no room, a long one does, until its request is over: a complete head is in memory as long as its body comes.
/// Method: one request in pieces, and the room looked at after each.
#[tokio::test]
async fn a_long_head_takes_room_until_its_request_is_over() {
    let bench = bench(|_| ()).await;
    let mut client = bench.connect().await;
    send(&mut client, &half("/", 2 << 10)).await;
    send(&mut client, "\r\n\r\nbody").await;
    answer(&mut client, "body").await;
    assert_eq!(bench.door.free(), BYTES_MAX, "a short head takes none");
    send(&mut client, &half("/", 20 << 10)).await;
    // Of each byte beyond the free ones there is a copy.
    bench.taken(3 * STEP_LEN).await;
    send(&mut client, "\r\n\r\n").await;
    send(&mut client, "bo").await;
    bench.taken(4 * STEP_LEN).await;
    send(&mut client, "dy").await;
    answer(&mut client, "body").await;
    bench.taken(0).await;
    drop(client);
}

/// Goal: a head that stays unfinished is given up, and takes no room then. Method: a short time for heads.
#[tokio::test]
async fn a_head_that_does_not_end_is_given_up() {
    let short = Duration::from_millis(200);
    let bench = bench(|public| public.limits.head = short).await;
    let mut client = bench.connect().await;
    send(&mut client, &half("/", 20 << 10)).await;
    closed(&mut client).await;
    bench.taken(0).await;
}

/// Goal: where there is no room, a long head is ended and a short one is served. Method: a source that holds all it may have.
#[tokio::test]
async fn without_room_short_heads_are_served() {
    let bench = bench(|_| ()).await;
    let held = bench.hold().await;
    let mut long = bench.connect().await;
    send(&mut long, &half("/", 20 << 10)).await;
    let mut short = bench.connect().await;
    // Without a body, which would need room.
    let long_line = "x".repeat(3 << 10);
    send(
        &mut short,
        &format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {long_line}\r\n\r\n"),
    )
    .await;
    let said = answer(&mut short, "\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 405"), "{said}");
    closed(&mut long).await;
    assert_eq!(bench.counts.refused.get(), 1);
    drop(held);
    bench.taken(0).await;
}

/// Goal: who is known may send heads as long as heads may be, and takes no room. Method: a connection that was good for a request; then its
/// address holds all that it may have, and a long head comes.
#[tokio::test]
async fn who_is_known_takes_no_room() {
    let bench = bench(|_| ()).await;
    let mut client = bench.connect().await;
    send(&mut client, &half("/known", 10)).await;
    send(&mut client, "\r\n\r\nbody").await;
    answer(&mut client, "body").await;
    bench.taken(0).await;
    let held = bench.hold().await;
    let long = "x".repeat(HEAD_LEN_MAX - 200);
    // Without a body, which would need room.
    send(
        &mut client,
        &format!("POST /known HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nx-long: {long}\r\n\r\n"),
    )
    .await;
    let said = answer(&mut client, "\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    assert_eq!(bench.counts.refused.get(), 0);
    drop(held);
    bench.taken(0).await;
}

/// Goal: a client behind a listed proxy takes its own part, and nothing of the other clients of that proxy. Method: one client with long heads,
/// whose bodies do not come, until it has its part; one more of it; and another client by the same proxy.
#[tokio::test]
async fn clients_of_a_proxy_have_a_part_each() {
    let bench = bench(|public| {
        let network = "127.0.0.1/32".parse().expect("a network");
        public.proxies = vec![network];
    })
    .await;
    let head = |client: &str| {
        let long = half("/", 30 << 10);
        format!("{long}\r\nx-forwarded-for: {client}\r\n\r\n")
    };
    let mut all = Vec::new();
    // Each has room for twice what goes beyond the free bytes, in steps.
    for _ in 0..BYTES_OF_ONE_MAX / (4 * STEP_LEN) {
        let mut one = bench.connect().await;
        send(&mut one, &head("203.0.113.1")).await;
        all.push(one);
    }
    bench.taken(BYTES_OF_ONE_MAX).await;
    let mut more = bench.connect().await;
    send(&mut more, &head("203.0.113.1")).await;
    let said = answer(&mut more, "\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 503"), "{said}");
    assert_eq!(bench.counts.refused.get(), 1);
    let mut other = bench.connect().await;
    send(&mut other, &head("203.0.113.2")).await;
    send(&mut other, "body").await;
    let said = answer(&mut other, "body").await;
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    drop(all);
    bench.taken(0).await;
}

/// Goal: a TLS handshake that does not end takes room, too: the library keeps its pieces until it is whole. Method: records that announce a
/// long first message, and the same where there is no room.
#[tokio::test]
async fn half_a_handshake_takes_room() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    let shown = Arc::new(tls::Shown::default());
    let key = made.signing_key.serialize_pem();
    let pair = certificate::certified(&made.cert.pem(), key.as_bytes());
    shown.show(pair.expect("a pair"));
    let acceptor = tls::acceptor(&shown, &[]).expect("usable");
    let bench = bench(|public| public.tls = Some(acceptor)).await;
    // Type 22, a handshake; a record of 16,000 bytes; in it the beginning of a client's hello of 60,000 bytes.
    let record = [&[22, 3, 1, 0x3e, 0x80, 1, 0, 0xea, 0x60][..], &[0; 15_996]].concat();
    let mut client = bench.connect().await;
    client.write_all(&record).await.expect("sent");
    bench.taken(2 * STEP_LEN).await;
    drop(client);
    bench.taken(0).await;
}
