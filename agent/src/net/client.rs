//! HTTP clients: a pooled one between nodes, and one per tenure towards the upstream whose sockets can be aborted.
//! Retries nothing: who calls knows what may be repeated.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_rustls::builderstates::WantsSchemes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::keys::Keys;
use super::roots::Roots;
use crate::config::KEEP_ALIVE;
use crate::sys::clock;
use crate::sys::dial::{DialError, Dialer};

/// A connection that was idle for longer is not used again. Far below the time after which our own servers close one, and
/// short for others, whose time nobody knows: a request that meets the close may have been carried out or not.
const IDLE_MAX: Duration = Duration::from_secs(8);

const _: () = assert!(2 * IDLE_MAX.as_secs() < KEEP_ALIVE.as_secs());

/// For a connection between nodes, name and all addresses together.
const CONNECT_WITHIN: Duration = Duration::from_millis(500);

/// How often a connection that is on its way asks its guard.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Longest answer that a node reads into memory: a photo of the profile between nodes has a third more.
const ANSWER_LEN_MAX: usize = 8 << 20;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection was made: the request was surely not carried out.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// No address of the host may be called from here: nothing was sent, and nothing will be.
    #[error("{0}")]
    Forbidden(String),
    /// The connection broke: the request may have been carried out.
    #[error("the call broke off: {0}")]
    Broken(String),
    #[error("no answer within {0:?}")]
    Deadline(Duration),
}

/// Calls between nodes: keep-alive HTTP/1.1, one credential.
#[derive(Clone)]
pub struct InternalClient {
    client: Client<Connector, Full<Bytes>>,
    credential: Credential,
}

/// Asked at each call: keys change while the process runs.
type Credential = Arc<dyn Fn() -> String + Send + Sync>;

impl InternalClient {
    /// A client with a credential header.
    fn with(dialer: Dialer, credential: Credential) -> Self {
        let connector = Connector {
            dialer,
            within: CONNECT_WITHIN,
            guard: Arc::new(|| true),
            open: Arc::default(),
            abort: false,
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_MAX)
            .build(connector);
        Self { client, credential }
    }

    /// A client of a node, with the keys as they are at each call: it forwards calls of clients. What only looks is
    /// [`Self::of_looks`]; what changes something at a master is a deed (`deed.rs`).
    pub fn of_node(keys: &Keys) -> Self {
        let keys = keys.clone();
        let header = Arc::new(move || keys.internal_header());
        Self::with(Dialer::system(), header)
    }

    /// A client of who looks. Whoever hears what it shows can look, and nothing else.
    pub fn of_looks(keys: &Keys) -> Self {
        let keys = keys.clone();
        let header = Arc::new(move || keys.look_header());
        Self::with(Dialer::system(), header)
    }

    /// One call with a JSON body (or none) and a deadline.
    ///
    /// # Errors
    /// [`CallError`]; an HTTP error status is an answer, not an error.
    pub async fn call(
        &self,
        method: http::Method,
        url: &str,
        body: Vec<u8>,
        deadline: Duration,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let credential = (self.credential)();
        self.show(method, url, Some(&credential), body, deadline)
            .await
    }

    /// The same with this `Authorization`, or none.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn show(
        &self,
        method: http::Method,
        url: &str,
        authorization: Option<&str>,
        body: Vec<u8>,
        deadline: Duration,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let mut request = Request::builder().method(method).uri(url);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let request = request
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| CallError::Connect(e.to_string()))?;
        exchange(self.client.request(request), deadline)
            .await
            .map(|answer| (answer.status(), answer.into_body()))
    }
}

async fn exchange<F>(call: F, deadline: Duration) -> Result<Response<Bytes>, CallError>
where
    F: Future<Output = Result<Response<hyper::body::Incoming>, hyper_util::client::legacy::Error>>,
{
    let whole = async {
        let answer = call.await.map_err(|e| failed(&e))?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_LEN_MAX)
            .collect()
            .await
            .map_err(|e| CallError::Broken(e.to_string()))?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    tokio::time::timeout(deadline, whole)
        .await
        .map_err(|_| CallError::Deadline(deadline))?
}

/// What a failure of the client means.
fn failed(error: &hyper_util::client::legacy::Error) -> CallError {
    if !error.is_connect() {
        return CallError::Broken(text(error));
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        // What an I/O error holds is not among its sources.
        let held = inner.downcast_ref::<std::io::Error>();
        let held = held.and_then(|error| error.get_ref()?.downcast_ref::<DialError>());
        if let Some(forbidden @ DialError::Forbidden { .. }) = held {
            return CallError::Forbidden(forbidden.to_string());
        }
        cause = inner.source();
    }
    CallError::Connect(text(error))
}

/// An error with its causes in one line.
fn text(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        out.push_str(": ");
        out.push_str(&inner.to_string());
        cause = inner.source();
    }
    out
}

/// A request's body: in memory, or read while it is sent.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

/// Asked right before every connect and every write: may bytes leave now?
pub type Guard = Arc<dyn Fn() -> bool + Send + Sync>;

/// Connects to names. For the outside with SO_LINGER 0: closing a socket aborts it, and no queued byte leaves after that.
#[derive(Clone)]
pub struct Connector {
    dialer: Dialer,
    /// For name and all addresses together.
    within: Duration,
    guard: Guard,
    open: Arc<AtomicUsize>,
    abort: bool,
}

/// Counts sockets, those that are still on their way among them.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn one(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A socket that asks its guard before each write: a process that was stopped in between writes nothing stale.
pub struct GuardedStream {
    // Dropped in this order: a socket counts until it is closed.
    stream: TcpStream,
    guard: Guard,
    abort: bool,
    _open: Counted,
}

fn shut() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "the gate is shut")
}

impl AsyncRead for GuardedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if !(self.guard)() {
            return Poll::Ready(Err(shut()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        if !(self.guard)() {
            return Poll::Ready(Err(shut()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if !self.abort {
            return Pin::new(&mut self.stream).poll_shutdown(cx);
        }
        // No FIN behind queued bytes: the drop that follows aborts the socket.
        Poll::Ready(Ok(()))
    }
}

impl Connection for GuardedStream {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

/// Nobody waits for a connection that is on its way when the gate is shut: its sockets go at once.
async fn until_shut(connector: &Connector) {
    loop {
        clock::sleep(LOOK_EVERY).await;
        if !(connector.guard)() {
            return;
        }
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<GuardedStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().to_owned();
            let tls = uri.scheme_str() == Some("https");
            let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
            if !(this.guard)() {
                return Err(shut());
            }
            let open = Counted::one(&this.open);
            // Each attempt asks: one that begins a quarter of a second later may be too late.
            let before = |socket: &socket2::SockRef<'_>| {
                if !(this.guard)() {
                    return Err(shut());
                }
                if this.abort {
                    socket.set_linger(Some(Duration::ZERO))?;
                }
                socket.set_tcp_nodelay(true)
            };
            let dialled = this.dialer.connect_with(&host, port, this.within, before);
            let stream = tokio::select! {
                stream = dialled => stream?,
                () = until_shut(&this) => return Err(shut()),
            };
            Ok(TokioIo::new(GuardedStream {
                stream,
                guard: this.guard,
                abort: this.abort,
                _open: open,
            }))
        })
    }
}

/// A client whose sockets all end when it is dropped: one per tenure towards the upstream, one for webhooks.
#[derive(Clone)]
pub struct OutsideClient {
    client: Client<HttpsConnector<Connector>, Body>,
    open: Arc<AtomicUsize>,
}

impl OutsideClient {
    /// A new client with no connection yet, which trusts the built-in authorities.
    pub fn new(connect_timeout: Duration, connections_per_host: usize) -> Self {
        Self::dialing(
            Dialer::system(),
            connect_timeout,
            connections_per_host,
            Arc::new(|| true),
        )
    }

    /// A client that asks `guard` before every connect and write, and trusts these.
    pub fn guarded(
        roots: &Roots,
        within: Duration,
        connections_per_host: usize,
        guard: Guard,
    ) -> Self {
        Self::believing(roots, Dialer::system(), within, connections_per_host, guard)
    }

    fn dialing(
        dialer: Dialer,
        within: Duration,
        connections_per_host: usize,
        guard: Guard,
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = hyper_rustls::HttpsConnectorBuilder::new().with_webpki_roots();
        Self::speaking(tls, dialer, within, connections_per_host, guard)
    }

    /// For what others name, by a dialer that knows whom it may call; it also trusts whom this machine trusts.
    pub fn anywhere(
        dialer: Dialer,
        within: Duration,
        connections_per_host: usize,
        guard: Guard,
    ) -> Self {
        let usual = Roots::with(&[]);
        Self::believing(&usual, dialer, within, connections_per_host, guard)
    }

    /// A client that trusts, beside the built-in and the machine's authorities, these: for webhooks, and for who examines.
    pub fn trusting(
        dialer: Dialer,
        also: &[CertificateDer<'static>],
        within: Duration,
        connections_per_host: usize,
    ) -> Self {
        let always = Arc::new(|| true);
        let roots = Roots::with(also);
        Self::believing(&roots, dialer, within, connections_per_host, always)
    }

    fn believing(
        roots: &Roots,
        dialer: Dialer,
        within: Duration,
        connections_per_host: usize,
        guard: Guard,
    ) -> Self {
        match roots.client() {
            Some(config) => {
                let tls = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config);
                Self::speaking(tls, dialer, within, connections_per_host, guard)
            }
            None => Self::dialing(dialer, within, connections_per_host, guard),
        }
    }

    fn speaking(
        tls: hyper_rustls::HttpsConnectorBuilder<WantsSchemes>,
        dialer: Dialer,
        within: Duration,
        connections_per_host: usize,
        guard: Guard,
    ) -> Self {
        let open = Arc::new(AtomicUsize::new(0));
        let connector = tls
            .https_or_http()
            .enable_http1()
            .wrap_connector(Connector {
                dialer,
                within,
                guard,
                open: Arc::clone(&open),
                abort: true,
            });
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(connections_per_host)
            .pool_idle_timeout(IDLE_MAX)
            // Only what met a closed connection before its first byte was written: anything else could be a second message.
            .retry_canceled_requests(true)
            .build(connector);
        Self { client, open }
    }

    /// Sockets that exist now, to be asked after the client itself was dropped.
    pub fn open_sockets(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.open)
    }

    /// One call with a deadline; redirects are not followed.
    ///
    /// # Errors
    /// [`CallError`]; `Connect` means that nothing was sent.
    pub async fn call(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Duration,
    ) -> Result<Response<Bytes>, CallError> {
        let request = request.map(|body| body.map_err(|never| match never {}).boxed_unsync());
        self.call_streamed(request, deadline).await
    }

    /// The same with a body that is not in memory.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn call_streamed(
        &self,
        request: Request<Body>,
        deadline: Duration,
    ) -> Result<Response<Bytes>, CallError> {
        exchange(self.client.request(request), deadline).await
    }

    /// One call whose answer is not read into memory: the deadline is for its head, whoever reads on has his own.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn fetch(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Duration,
    ) -> Result<Response<hyper::body::Incoming>, CallError> {
        let request = request.map(|body| body.map_err(|never| match never {}).boxed_unsync());
        match tokio::time::timeout(deadline, self.client.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(CallError::Deadline(deadline)),
        }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
