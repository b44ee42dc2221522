//! An HTTP server with limits: idleness, header timeout, connection cap, drain with a deadline.
//! Routes nothing: it is handed a router.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::{Layer as _, ServiceExt as _};

use super::NetError;
use super::client_certificate::ClientNames;
use super::idle::{self, Limits, Paced, Running};
use super::proxy;
use crate::config::KEEP_ALIVE;
use crate::log::seldom;

/// Connections at once; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 4096;
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
    /// Proxies whose word on their client is taken, by a header of the PROXY protocol.
    pub proxies: Vec<IpNet>,
}

impl Default for Public {
    fn default() -> Self {
        Self {
            tls: None,
            limits: Limits::keeping(KEEP_ALIVE),
            proxies: Vec::new(),
        }
    }
}

/// What each connection needs.
#[derive(Clone)]
struct Parts {
    builder: Builder<TokioExecutor>,
    router: Router,
    public: Arc<Public>,
    shutdown: CancellationToken,
}

impl Parts {
    /// One connection, to its end.
    async fn converse(
        self,
        mut stream: tokio::net::TcpStream,
        mut peer: SocketAddr,
        watcher: Watcher,
    ) {
        if proxy::listed(peer.ip(), &self.public.proxies) {
            let limits = &self.public.limits;
            let silence = limits.keep_alive + limits.grace;
            let Some(client) = proxy::client(&mut stream, peer, silence).await else {
                return;
            };
            peer = client;
        }
        // Handlers may ask who is calling, by `ConnectInfo`.
        let told = axum::Extension(ConnectInfo(peer)).layer(self.router);
        let names = ClientNames::default();
        let told = axum::Extension(names.clone()).layer(told);
        let (running, limits) = (Running::default(), self.public.limits);
        let (counted, shutdown) = (running.clone(), self.shutdown);
        let service = tower::service_fn(move |request: Request<Incoming>| {
            let (guard, answered) = (counted.begin(), told.clone().oneshot(request));
            let shutdown = shutdown.clone();
            async move {
                let answer = answered.await;
                let keep = (!shutdown.is_cancelled()).then_some(limits.keep_alive);
                answer.map(|response| idle::answer(response, guard, keep))
            }
        });
        let service = TowerToHyperService::new(service);
        // A client that went away, or does not speak TLS, is its own business.
        match &self.public.tls {
            None => {
                let stream = TokioIo::new(Paced::new(stream, limits, running));
                let connection = self.builder.serve_connection(stream, service);
                let _ = watcher.watch(connection.into_owned()).await;
            }
            Some(tls) => {
                let handshake = tokio::time::timeout(idle::HEAD, tls.accept(stream));
                if let Ok(Ok(stream)) = handshake.await {
                    names.learn(stream.get_ref().1.peer_certificates());
                    let stream = TokioIo::new(Paced::new(stream, limits, running));
                    let connection = self.builder.serve_connection(stream, service);
                    let _ = watcher.watch(connection.into_owned()).await;
                }
            }
        }
    }
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
        .header_read_timeout(limits.keep_alive + limits.grace + limits.head + LAST_CALL);
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let parts = Parts {
        builder,
        router,
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
        let permit = tokio::select! {
            () = &mut last_call => break,
            permit = Arc::clone(&room).acquire_owned() => permit,
        };
        let Ok(permit) = permit else { break };
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
        let _ = stream.set_nodelay(true);
        let conversation = parts.clone().converse(stream, peer, graceful.watcher());
        tokio::spawn(async move {
            conversation.await;
            drop(permit);
        });
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
    use tokio::net::TcpStream;

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
