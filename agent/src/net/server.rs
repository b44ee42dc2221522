//! An HTTP server with limits: idleness, header timeout, connection cap, drain with a deadline.
//! Routes nothing: it is handed a router.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::IntoResponse as _;
use axum::{Json, Router};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::NetError;
use super::client_certificate::ClientNames;
use super::door::{Door, Entry};
use super::framing::{self, Framing};
use super::heads::{Sender, Weighed};
use super::idle::{self, Limits, Paced, Running};
use super::places::{Mark, Place, Places, Size, Who};
use super::unread::Unread;
use super::{proxy, source};
use crate::api::error::ApiError;
use crate::api::v1::code::Code;
use crate::config::KEEP_ALIVE;
use crate::log::seldom;
use crate::metrics::door::DoorCounts;

/// After the stop, connections that wait in the backlog are still taken for this long.
const LAST_CALL: Duration = Duration::from_millis(20);
/// How long running requests may finish after the stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Listens; the port may be 0 in tests.
///
/// # Errors
/// [`NetError`] when the port is taken.
pub async fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, NetError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| NetError::of(what, address, source))
}

/// Serves until `shutdown`, then drains.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    serve_with(listener, router, Public::default(), shutdown).await;
}

/// What servers for clients may have beside the others.
pub struct Public {
    pub tls: Option<TlsAcceptor>,
    pub limits: Limits,
    /// Proxies whose word on their client is taken, by a header of the PROXY protocol or by `X-Forwarded-For`.
    pub proxies: Vec<IpNet>,
    /// Shared by all ports of the process.
    pub door: Arc<Door>,
    /// How many connections this port may have.
    pub size: Size,
}

impl Default for Public {
    fn default() -> Self {
        Self {
            tls: None,
            limits: Limits::keeping(KEEP_ALIVE),
            proxies: Vec::new(),
            door: Door::new(&DoorCounts::default()),
            size: Size::API,
        }
    }
}

impl Public {
    /// A port of this process that speaks plain HTTP.
    pub fn plain(door: &Arc<Door>, size: Size) -> Self {
        Self {
            door: Arc::clone(door),
            size,
            ..Self::default()
        }
    }
}

/// What each connection needs.
#[derive(Clone)]
struct Parts {
    builder: Builder<TokioExecutor>,
    router: Router,
    public: Arc<Public>,
    places: Arc<Places>,
    shutdown: CancellationToken,
}

impl Parts {
    /// A place for somebody who connects.
    fn place(&self, peer: SocketAddr) -> Option<Place> {
        let who = if proxy::listed(peer.ip(), &self.public.proxies) {
            Who::Proxy
        } else {
            self.public.door.who(peer.ip())
        };
        self.places.enter(peer.ip(), who)
    }

    /// One connection, to its end, or until it has to give way.
    async fn converse(self, mut stream: TcpStream, peer: SocketAddr, place: Place, of: Watcher) {
        let (mut peer, mut place) = (peer, place);
        if proxy::listed(peer.ip(), &self.public.proxies) {
            let limits = &self.public.limits;
            let silence = limits.keep_alive + limits.grace;
            let end = place.end();
            let told = end.run_until_cancelled(proxy::client(&mut stream, peer, silence));
            let Some(Some(client)) = told.await else {
                return;
            };
            if client != peer {
                peer = client;
                drop(place);
                let Some(of_client) = self.places.enter(peer.ip(), Who::Stranger) else {
                    return;
                };
                place = of_client;
            }
        }
        let end = place.end();
        end.run_until_cancelled(self.talk(stream, peer, place, of))
            .await;
    }

    async fn talk(self, stream: TcpStream, peer: SocketAddr, place: Place, watcher: Watcher) {
        let (running, limits) = (Running::default(), self.public.limits);
        let names = ClientNames::default();
        let (tls, places) = (self.public.tls.clone(), Arc::clone(&self.places));
        let stream = Unread::new(stream, limits.unread, move || places.unread());
        let sender = Sender {
            door: Arc::clone(&self.public.door),
            source: peer.ip(),
            mark: place.mark(),
            within: limits.head,
        };
        let stream = Weighed::new(stream, sender, running.clone());
        let builder = self.builder.clone();
        let request = Arc::new(Asked {
            mark: place.mark(),
            parts: self,
            peer,
            names: names.clone(),
            running: running.clone(),
        });
        let service = tower::service_fn(move |asked: Request<Incoming>| request.answer(asked));
        let service = TowerToHyperService::new(service);
        // A client that went away, or does not speak TLS, is its own business.
        match tls {
            None => {
                let stream = TokioIo::new(Paced::new(stream, limits, running));
                let connection = builder.serve_connection(stream, service);
                let _ = watcher.watch(connection.into_owned()).await;
            }
            Some(tls) => {
                let handshake = tokio::time::timeout(idle::HEAD, tls.accept(stream));
                if let Ok(Ok(mut stream)) = handshake.await {
                    stream.get_mut().0.anew();
                    names.learn(stream.get_ref().1.peer_certificates());
                    let stream = TokioIo::new(Paced::new(stream, limits, running));
                    let connection = builder.serve_connection(stream, service);
                    let _ = watcher.watch(connection.into_owned()).await;
                }
            }
        }
    }
}

/// What the requests of one connection share.
struct Asked {
    parts: Parts,
    peer: SocketAddr,
    mark: Mark,
    names: ClientNames,
    running: Running,
}

impl Asked {
    /// Answers one of them.
    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send + use<> {
        let guard = self.running.begin();
        let framing = framing::of(request.headers(), &self.running.head());
        let (public, shutdown) = (Arc::clone(&self.parts.public), self.parts.shutdown.clone());
        let (ip, places) = (self.peer.ip(), &self.parts.places);
        let source = source::of(request.headers(), ip, &public.proxies);
        // Who is behind a proxy has no connection of its own that could be counted.
        let proxied = source != ip.to_canonical();
        let behind = proxied.then(|| places.ask(source));
        // What comes from a proxy is the proxy's until its head is whole, and its client's from then on.
        let head = self.running.give();
        let head = match proxied {
            true => public.door.head_of(source, head),
            false => Some(head),
        };
        let roomless = head.is_none();
        let entry = Entry::new(&public.door, source, ip, Some(self.mark.clone()));
        let entry = entry.with_head(head.unwrap_or_default());
        let mut request = request.map(|body| entry.guard(Body::new(body)));
        let extensions = request.extensions_mut();
        // Handlers may ask who is calling, by `ConnectInfo`.
        extensions.insert(ConnectInfo(self.peer));
        extensions.insert(self.names.clone());
        extensions.insert(entry.clone());
        let router = self.parts.router.clone();
        async move {
            let answer = match (framing, &behind) {
                (Framing::Both, _) => two_lengths(),
                (_, Some(None)) => too_many(),
                (Framing::Plain | Framing::Unseen, _) if roomless => no_room(),
                (Framing::Plain | Framing::Unseen, _) => router.oneshot(request).await?,
            };
            // What a stranger's body took is free again only now.
            drop(entry);
            let keep = !shutdown.is_cancelled() && framing == Framing::Plain;
            let keep = keep.then_some(public.limits.keep_alive);
            Ok(idle::answer(answer, (guard, behind.flatten()), keep))
        }
    }
}

fn refused(error: &ApiError) -> Response<Body> {
    let status = StatusCode::from_u16(error.http_status());
    let mut answer = (
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        Json(error.body()),
    )
        .into_response();
    if let Some(seconds) = error.retry_after_s {
        answer
            .headers_mut()
            .insert(http::header::RETRY_AFTER, seconds.into());
    }
    answer
}

/// A proxy in front of us may have believed the other one: what follows may be somebody else's request.
fn two_lengths() -> Response<Body> {
    let why = "A request has Content-Length or Transfer-Encoding, not both";
    refused(&ApiError::with(Code::InvalidRequest, why).status(400))
}

fn too_many() -> Response<Body> {
    let why = "Too many requests of this client at once";
    refused(&ApiError::with(Code::Overloaded, why).retry_after(1))
}

fn no_room() -> Response<Body> {
    let why = "Too many bytes of requests of this client at once";
    refused(&ApiError::with(Code::Overloaded, why).retry_after(1))
}

/// Serves with or without TLS until `shutdown`, then drains.
pub async fn serve_with(
    listener: TcpListener,
    router: Router,
    public: Public,
    shutdown: CancellationToken,
) {
    // HTTP/1 only: while the version is guessed from the first bytes, no clock runs. Its own clock does not tell idleness from
    // a slow head, and is set behind ours; without it the connection would not be read, and our clock not asked, when idle.
    let limits = public.limits;
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .max_buf_size(idle::HEAD_LEN_MAX)
        .header_read_timeout(limits.keep_alive + limits.grace + limits.head + LAST_CALL);
    let graceful = GracefulShutdown::new();
    let parts = Parts {
        builder,
        router,
        places: public.door.places(public.size),
        public: Arc::new(public),
        shutdown: shutdown.clone(),
    };
    // Connections that the kernel has taken would be reset when the listener closes: they are accepted first.
    let last_call = async {
        shutdown.cancelled().await;
        crate::sys::clock::sleep(LAST_CALL).await;
    };
    tokio::pin!(last_call);
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) if shutdown.is_cancelled() => break,
                Err(error) => {
                    // Out of file descriptors or a connection that died in the backlog: the next one may do.
                    seldom!(tracing::warn!(%error, "accepting a connection failed; going on"));
                    crate::sys::clock::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
            () = &mut last_call => break,
        };
        // Without a place it is closed at once: whoever waits for nothing can try elsewhere.
        let Some(place) = parts.place(peer) else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let conversation = parts.clone();
        tokio::spawn(conversation.converse(stream, peer, place, graceful.watcher()));
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{certificate, tls};
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

    fn router(answer_after: Duration) -> Router {
        Router::new().route(
            "/",
            get(move || async move {
                crate::sys::clock::sleep(answer_after).await;
                "hello"
            }),
        )
    }

    async fn local() -> (TcpListener, SocketAddr) {
        let listener = listen("test", SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .expect("bound");
        let address = listener.local_addr().expect("bound");
        (listener, address)
    }

    /// Goal: the stop lets a running request finish and takes no new connection.
    #[tokio::test]
    async fn the_stop_drains() {
        let (listener, address) = local().await;
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(
            listener,
            router(Duration::from_millis(200)),
            stop.clone(),
        ));
        let mut client = TcpStream::connect(address).await.expect("connected");
        client.write_all(REQUEST).await.expect("sent");
        // The answer takes 200 ms: the stop comes while it runs.
        crate::sys::clock::sleep(Duration::from_millis(50)).await;
        stop.cancel();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("answered");
        assert!(answer.ends_with("hello"), "{answer}");
        server.await.expect("ended");
        assert!(TcpStream::connect(address).await.is_err());
    }

    const KEPT: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

    /// Reads one answer with its body `hello`.
    async fn answer(client: &mut TcpStream) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"hello") {
            let byte = client.read_u8().await.expect("an answer");
            text.push(byte);
        }
        String::from_utf8(text).expect("text")
    }

    const SHORT: Duration = Duration::from_millis(100);

    async fn start(router: Router, limits: Limits) -> (TcpStream, CancellationToken) {
        let (listener, address) = local().await;
        let stop = CancellationToken::new();
        let public = Public {
            limits,
            ..Public::default()
        };
        tokio::spawn(serve_with(listener, router, public, stop.clone()));
        let client = TcpStream::connect(address).await.expect("connected");
        (client, stop)
    }

    /// What is read until the server closes.
    async fn closed(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        let end = client.read_to_end(&mut rest);
        let end = tokio::time::timeout(Duration::from_secs(10), end).await;
        end.expect("closed in time").map(|_| rest)
    }

    /// Goal (F18): a connection that is idle for longer than the head of a request may take is still good for the next one,
    /// also for one that comes within the grace, and clients are told for how long. Then it is closed, without an error.
    #[tokio::test]
    async fn f18_idle_connections_are_kept_and_announced() {
        assert_eq!(Public::default().limits.keep_alive.as_secs(), 75);
        let limits = Limits {
            keep_alive: Duration::from_secs(1),
            grace: SHORT,
            head: SHORT,
            ..Public::default().limits
        };
        let (mut client, stop) = start(router(Duration::ZERO), limits).await;
        for _ in 0..2 {
            client.write_all(KEPT).await.expect("sent");
            let text = answer(&mut client).await.to_lowercase();
            assert!(text.contains("keep-alive: timeout=1\r\n"), "{text}");
            // The time is what is tested.
            crate::sys::clock::sleep(3 * SHORT).await;
        }
        assert_eq!(closed(&mut client).await.expect("no reset"), b"");
        stop.cancel();
    }

    /// Goal: who sends headers byte by byte is cut off as before, also on a connection that was good for a request.
    #[tokio::test]
    async fn the_head_of_a_request_has_a_clock_of_its_own() {
        let limits = Limits {
            head: SHORT,
            ..Public::default().limits
        };
        let (mut client, stop) = start(router(Duration::ZERO), limits).await;
        client.write_all(KEPT).await.expect("sent");
        answer(&mut client).await;
        client.write_all(b"GET / HT").await.expect("sent");
        let rest = closed(&mut client).await.unwrap_or_default();
        assert!(!rest.ends_with(b"hello"));
        stop.cancel();
    }

    /// Goal: an answer that takes longer than all clocks is not cut, and one that ends during a stop tells the client to come
    /// anew.
    #[tokio::test]
    async fn long_answers_are_no_idleness_and_a_stop_is_announced() {
        let limits = Limits {
            keep_alive: SHORT,
            grace: Duration::ZERO,
            head: SHORT,
            ..Public::default().limits
        };
        let (mut client, stop) = start(router(5 * SHORT), limits).await;
        client.write_all(KEPT).await.expect("sent");
        crate::sys::clock::sleep(3 * SHORT).await;
        stop.cancel();
        let text = answer(&mut client).await.to_lowercase();
        assert!(text.contains("connection: close"), "{text}");
        assert_eq!(closed(&mut client).await.expect("no reset"), b"");
    }

    /// Goal: over TLS the same router answers, and plain text is turned away without harm.
    #[tokio::test]
    async fn tls_is_served_from_a_self_signed_pair() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        let (own, key) = (made.cert.der().clone(), made.signing_key.serialize_pem());
        let shown = Arc::new(tls::Shown::default());
        let pair = certificate::certified(&made.cert.pem(), key.as_bytes());
        shown.show(pair.expect("a pair"));
        let acceptor = tls::acceptor(&shown, &[]).expect("usable");
        let (listener, address) = local().await;
        let stop = CancellationToken::new();
        let public = Public {
            tls: Some(acceptor),
            ..Public::default()
        };
        tokio::spawn(serve_with(
            listener,
            router(Duration::ZERO),
            public,
            stop.clone(),
        ));
        let mut plain = TcpStream::connect(address).await.expect("connected");
        plain.write_all(REQUEST).await.expect("sent");
        let mut nothing = Vec::new();
        let _ = plain.read_to_end(&mut nothing).await;
        assert!(!nothing.starts_with(b"HTTP"));

        let mut roots = rustls::RootCertStore::empty();
        roots.add(own).expect("a certificate");
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let tcp = TcpStream::connect(address).await.expect("connected");
        let name = rustls_pki_types::ServerName::try_from("localhost").expect("a name");
        let mut client = connector.connect(name, tcp).await.expect("verified");
        client.write_all(REQUEST).await.expect("sent");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("answered");
        assert!(answer.ends_with(b"hello"));
        stop.cancel();
    }

    /// Goal: a taken port is answered with its number and what to type.
    #[tokio::test]
    async fn a_taken_port_says_what_to_type() {
        let (_listener, address) = local().await;
        let error = listen("the public API", address)
            .await
            .expect_err("taken")
            .to_string();
        assert!(
            error.contains(&format!("port {}", address.port())) && error.contains("ss -lntup"),
            "{error}"
        );
    }
}
