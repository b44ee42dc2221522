//! An HTTP server with limits: header timeout, connection cap, drain with a deadline.
//! Routes nothing: it is handed a router.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Layer as _;

use super::NetError;

/// A client must send its headers within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
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
    serve_with(listener, router, None, shutdown).await;
}

/// Serves with or without TLS until `shutdown`, then drains.
pub async fn serve_with(
    listener: TcpListener,
    router: Router,
    tls: Option<TlsAcceptor>,
    shutdown: CancellationToken,
) {
    // HTTP/1 only: while the version is guessed from the first bytes, no header timeout runs.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
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
                    tracing::warn!(%error, "accepting a connection failed; going on");
                    crate::sys::clock::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
            () = &mut last_call => break,
        };
        let _ = stream.set_nodelay(true);
        // Handlers may ask who is calling, by `ConnectInfo`.
        let told = axum::Extension(ConnectInfo(peer)).layer(router.clone());
        let service = TowerToHyperService::new(told);
        let (builder, watcher, tls) = (builder.clone(), graceful.watcher(), tls.clone());
        tokio::spawn(async move {
            // A client that went away, or does not speak TLS, is its own business.
            match tls {
                None => {
                    let connection = builder.serve_connection(TokioIo::new(stream), service);
                    let _ = watcher.watch(connection.into_owned()).await;
                }
                Some(tls) => {
                    let handshake = tokio::time::timeout(HEADER_TIMEOUT, tls.accept(stream));
                    if let Ok(Ok(stream)) = handshake.await {
                        let connection = builder.serve_connection(TokioIo::new(stream), service);
                        let _ = watcher.watch(connection.into_owned()).await;
                    }
                }
            }
            drop(permit);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
}

#[cfg(test)]
mod tests {
    use super::*;
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

    /// Goal: over TLS the same router answers, and plain text is turned away without harm.
    #[tokio::test]
    async fn tls_is_served_from_a_self_signed_pair() {
        let directory = tempfile::tempdir().expect("a directory");
        let pair =
            crate::net::tls::self_signed(directory.path(), &["localhost".into()]).expect("made");
        let acceptor = crate::net::tls::acceptor(pair.clone()).expect("usable");
        let (listener, address) = local().await;
        let stop = CancellationToken::new();
        tokio::spawn(serve_with(
            listener,
            router(Duration::ZERO),
            Some(acceptor),
            stop.clone(),
        ));
        let mut plain = TcpStream::connect(address).await.expect("connected");
        plain.write_all(REQUEST).await.expect("sent");
        let mut nothing = Vec::new();
        let _ = plain.read_to_end(&mut nothing).await;
        assert!(!nothing.starts_with(b"HTTP"));

        use rustls_pki_types::pem::PemObject as _;
        let mut roots = rustls::RootCertStore::empty();
        let own = rustls_pki_types::CertificateDer::from_pem_file(&pair.certificate).expect("PEM");
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
