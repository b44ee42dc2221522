//! How long a server's connection may be silent: between two requests, and within the head of one. Two clocks, so that a
//! client may keep a connection for long and yet not send its headers byte by byte. Parses nothing.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Response, header};
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::room::Taken;
use super::unread;

/// A connection is kept for longer than what clients are told: a request that was sent at the last moment still arrives.
const GRACE: Duration = Duration::from_secs(5);
/// A client must send its headers within this time, from their first byte on.
pub const HEAD: Duration = Duration::from_secs(10);

/// Longest head of a request, in bytes.
pub const HEAD_LEN_MAX: usize = 32 << 10;

/// Bytes of a head, or of a TLS handshake, that take no room: those of real clients are shorter. Places bound how many there are.
pub const HEAD_FREE_LEN: usize = 4 << 10;

/// The clocks of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Silence between two requests that clients are told of.
    pub keep_alive: Duration,
    /// And how much longer it is borne.
    pub grace: Duration,
    /// From the first byte of a request to the end of its headers.
    pub head: Duration,
    /// How long a client may leave what it is sent unread.
    pub unread: Duration,
}

impl Limits {
    /// As they are, but for how long an idle connection is kept.
    pub fn keeping(keep_alive: Duration) -> Self {
        Self {
            keep_alive,
            grace: GRACE,
            head: HEAD,
            unread: unread::WITHIN,
        }
    }
}

/// Requests of one connection.
#[derive(Debug, Clone, Default)]
pub struct Running(Arc<Count>);

#[derive(Debug, Default)]
struct Count {
    /// That were ever begun.
    begun: AtomicUsize,
    /// That are not answered to their last byte.
    open: AtomicUsize,
    /// What came between the requests before and the one that begins: its head, and perhaps the beginning of its body.
    head: Mutex<Vec<u8>>,
    /// The room that this head has beyond what is free.
    room: Mutex<Taken>,
}

impl Running {
    /// Counts one until the guard is dropped.
    pub fn begin(&self) -> Guard {
        self.0.open.fetch_add(1, Ordering::AcqRel);
        self.0.begun.fetch_add(1, Ordering::AcqRel);
        Guard(Arc::clone(&self.0))
    }

    /// The bytes in which the head of the request came that begins now, as far as they were seen: not those that came while the request
    /// before it ran. They are forgotten then.
    pub fn head(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.head())
    }

    /// Requests that were ever begun, and whether one runs.
    pub fn stand(&self) -> (usize, bool) {
        let begun = self.0.begun.load(Ordering::Acquire);
        (begun, self.0.open.load(Ordering::Acquire) > 0)
    }

    /// Keeps the room of a head that comes, until the request has begun.
    pub fn take(&self, room: Taken) {
        *self.0.room() = room;
    }

    /// Gives that room away.
    pub fn give(&self) -> Taken {
        std::mem::take(&mut *self.0.room())
    }

    /// Keeps bytes of a head; those before are of another one if it is new.
    fn heard(&self, bytes: &[u8], new: bool) {
        let mut head = self.0.head();
        if new {
            head.clear();
        }
        // A head has no more. `heads.rs` lets a stranger's come only as far as there is room for it and for this copy.
        let room = HEAD_LEN_MAX.saturating_sub(head.len());
        head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

impl Count {
    fn head(&self) -> MutexGuard<'_, Vec<u8>> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self) -> MutexGuard<'_, Taken> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub struct Guard(Arc<Count>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// An answer whose request runs until its body is at its end. Tells the client how long the connection is kept; `None`: it
/// is closed after this answer.
pub fn answer<G: Send + Unpin + 'static>(
    response: Response<Body>,
    guard: G,
    keep: Option<Duration>,
) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    match keep {
        None => {
            let close = header::HeaderValue::from_static("close");
            parts.headers.insert(header::CONNECTION, close);
        }
        Some(keep) if !parts.headers.contains_key(header::CONNECTION) => {
            if let Ok(value) = format!("timeout={}", keep.as_secs()).try_into() {
                parts.headers.insert("keep-alive", value);
            }
        }
        Some(_) => {}
    }
    Response::from_parts(
        parts,
        Body::new(Guarded {
            body,
            _guard: guard,
        }),
    )
}

struct Guarded<G> {
    body: Body,
    _guard: G,
}

impl<G: Unpin> hyper::body::Body for Guarded<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that ends by itself when it was silent for too long.
pub struct Paced<S> {
    stream: S,
    limits: Limits,
    running: Running,
    /// Requests that were begun when the clock was looked at last.
    begun: usize,
    /// Bytes of the next request have come.
    in_head: bool,
    /// Of the clock that runs now.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    /// Silence counts from now.
    pub fn new(stream: S, limits: Limits, running: Running) -> Self {
        Self {
            stream,
            limits,
            running,
            begun: 0,
            in_head: false,
            timer: None,
        }
    }

    /// True when the clock that runs now is over.
    fn over(&mut self, cx: &mut Context<'_>) -> bool {
        let limit = if self.in_head {
            self.limits.head
        } else {
            self.limits.keep_alive + self.limits.grace
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(cx).is_ready()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        // What has come is read before any clock is looked at.
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let (begun, open) = self.running.stand();
        if open || begun != self.begun {
            (self.begun, self.in_head, self.timer) = (begun, false, None);
        }
        if open {
            return read;
        }
        if read.is_ready() {
            if buffer.filled().len() > before {
                let new = !self.in_head;
                self.running.heard(&buffer.filled()[before..], new);
                if new {
                    (self.in_head, self.timer) = (true, None);
                }
            }
            return read;
        }
        // An end without an error: what the server does with a client that hung up is right for both.
        if self.over(cx) {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
