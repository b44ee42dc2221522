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
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::keys::Keys;

/// A connection that was idle for longer is not used again. Below the 10 s after which our own servers close one: a
/// request that meets the close may have been carried out or not.
const IDLE_MAX: Duration = Duration::from_secs(8);

/// Longest answer that a node reads into memory.
const ANSWER_LEN_MAX: usize = 4 << 20;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection was made: the request was surely not carried out.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection broke: the request may have been carried out.
    #[error("the call broke off: {0}")]
    Broken(String),
    #[error("no answer within {0:?}")]
    Deadline(Duration),
}

/// Calls between nodes: keep-alive HTTP/1.1, one credential.
#[derive(Clone)]
pub struct InternalClient {
    client: Client<HttpConnector, Full<Bytes>>,
    credential: Credential,
}

/// Asked at each call: keys change while the process runs.
type Credential = Arc<dyn Fn() -> String + Send + Sync>;

impl InternalClient {
    /// A client with a credential header.
    fn with(credential: Credential) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_millis(500)));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_MAX)
            .build(connector);
        Self { client, credential }
    }

    /// A client of a node, with the keys as they are at each call.
    pub fn of_node(keys: &Keys) -> Self {
        let keys = keys.clone();
        Self::with(Arc::new(move || keys.internal_header()))
    }

    /// A client of an operator; with a webapp's part of the keys it may only look.
    pub fn of_operator(keys: &Keys) -> Self {
        let keys = keys.clone();
        Self::with(Arc::new(move || {
            keys.operator_header()
                .unwrap_or_else(|| keys.internal_header())
        }))
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
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header("authorization", (self.credential)())
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
        let answer = call.await.map_err(|e| {
            if e.is_connect() {
                CallError::Connect(text(&e))
            } else {
                CallError::Broken(text(&e))
            }
        })?;
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

/// Connects with SO_LINGER 0: closing a socket aborts it, and no queued byte leaves after that.
#[derive(Clone)]
pub struct AbortingConnector {
    connect_timeout: Duration,
    guard: Guard,
    open: Arc<AtomicUsize>,
}

/// A socket that asks its guard before each write: a process that was stopped in between writes nothing stale.
pub struct GuardedStream {
    stream: TcpStream,
    guard: Guard,
    open: Arc<AtomicUsize>,
}

impl Drop for GuardedStream {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
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

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // No FIN behind queued bytes: the drop that follows aborts the socket.
        Poll::Ready(Ok(()))
    }
}

impl Connection for GuardedStream {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl tower::Service<Uri> for AbortingConnector {
    type Response = TokioIo<GuardedStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self {
            connect_timeout,
            guard,
            open,
        } = self.clone();
        Box::pin(async move {
            let host = uri
                .host()
                .unwrap_or_default()
                .trim_matches(['[', ']'])
                .to_owned();
            let port = uri
                .port_u16()
                .unwrap_or(if uri.scheme_str() == Some("https") {
                    443
                } else {
                    80
                });
            if !guard() {
                return Err(shut());
            }
            let stream =
                tokio::time::timeout(connect_timeout, TcpStream::connect((host.as_str(), port)))
                    .await
                    .map_err(|_| {
                        std::io::Error::new(
                            std::io::ErrorKind::TimedOut,
                            "connecting took too long",
                        )
                    })??;
            open.fetch_add(1, Ordering::AcqRel);
            let guarded = GuardedStream {
                stream,
                guard,
                open,
            };
            guarded.stream.set_nodelay(true)?;
            socket2::SockRef::from(&guarded.stream).set_linger(Some(Duration::ZERO))?;
            Ok(TokioIo::new(guarded))
        })
    }
}

/// A client whose sockets all end when it is dropped: one per tenure towards the upstream, one for webhooks.
#[derive(Clone)]
pub struct OutsideClient {
    client: Client<HttpsConnector<AbortingConnector>, Body>,
    open: Arc<AtomicUsize>,
}

impl OutsideClient {
    /// A new client with no connection yet.
    pub fn new(connect_timeout: Duration, connections_per_host: usize) -> Self {
        Self::guarded(connect_timeout, connections_per_host, Arc::new(|| true))
    }

    /// A client that asks `guard` before every connect and write.
    pub fn guarded(connect_timeout: Duration, connections_per_host: usize, guard: Guard) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let open = Arc::new(AtomicUsize::new(0));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(AbortingConnector {
                connect_timeout,
                guard,
                open: Arc::clone(&open),
            });
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(connections_per_host)
            .pool_idle_timeout(IDLE_MAX)
            // A repeated send could be a second message: retries are decided above.
            .retry_canceled_requests(false)
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
            Ok(Err(error)) if error.is_connect() => Err(CallError::Connect(text(&error))),
            Ok(Err(error)) => Err(CallError::Broken(text(&error))),
            Err(_) => Err(CallError::Deadline(deadline)),
        }
    }
}
