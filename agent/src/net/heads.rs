//! What a connection may send before it has shown who it is: a little for nothing, and more of a head only where there is room for it.
//! Counts bytes as they come from the network, so that what TLS keeps of them is counted, too. Parses nothing.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};
use tokio::time::Sleep;

use super::door::{Door, Refused};
use super::idle::{HEAD_FREE_LEN, Running};
use super::places::Mark;
use super::room::{Full, Taken};

/// So much of an unknown sender's body is read at a time, before it is weighed.
const PART_LEN: usize = 8 << 10;

/// Whose bytes they are.
pub struct Sender {
    pub door: Arc<Door>,
    /// The other end of the connection.
    pub source: IpAddr,
    pub mark: Mark,
    /// How long a head may take that has room.
    pub within: Duration,
}

type Asking = Pin<Box<dyn Future<Output = (Taken, Result<(), Full>)> + Send>>;

/// A connection that ends where a head needs room and there is none.
pub struct Weighed<S> {
    stream: Take<S>,
    sender: Sender,
    running: Running,
    /// Requests that were begun when the count was looked at last.
    begun: usize,
    /// Bytes since then.
    len: usize,
    /// That may come before more room is asked for.
    allowed: usize,
    asking: Option<Asking>,
    /// Runs since room was taken.
    clock: Option<Pin<Box<Sleep>>>,
    /// Nothing more is read.
    over: bool,
}

impl<S: AsyncRead + Unpin> Weighed<S> {
    /// A connection that has sent nothing.
    pub fn new(stream: S, sender: Sender, running: Running) -> Self {
        Self {
            stream: stream.take(0),
            sender,
            running,
            begun: 0,
            len: 0,
            allowed: HEAD_FREE_LEN,
            asking: None,
            clock: None,
            over: false,
        }
    }

    /// What was sent until now is no more in memory: a handshake is over, or a request begins and has its head's room itself.
    pub fn anew(&mut self) {
        (self.len, self.allowed) = (0, HEAD_FREE_LEN);
        (self.asking, self.clock) = (None, None);
        drop(self.running.give());
    }

    /// Asks for room until something may come. False: there is none.
    fn room(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        while self.len >= self.allowed {
            let (running, sender) = (&self.running, &self.sender);
            let asking = self.asking.get_or_insert_with(|| {
                let (door, source, taken) =
                    (Arc::clone(&sender.door), sender.source, running.give());
                Box::pin(async move { door.step(source, taken).await })
            });
            let (taken, got) = std::task::ready!(asking.as_mut().poll(cx));
            self.asking = None;
            // Each byte is in memory twice: `idle.rs` keeps a copy until the head is judged.
            self.allowed = HEAD_FREE_LEN + taken.bytes() / 2;
            self.running.take(taken);
            if got.is_err() {
                return Poll::Ready(self.end(Refused::NoRoom));
            }
            let within = self.sender.within;
            self.clock
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(within)));
        }
        Poll::Ready(true)
    }

    /// Nothing more is read, for this reason.
    fn end(&mut self, why: Refused) -> bool {
        self.over = true;
        self.sender.door.refuse(self.sender.source, why);
        false
    }

    fn read(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.stream
            .set_limit(u64::try_from(limit).unwrap_or(u64::MAX));
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Weighed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let (begun, open) = this.running.stand();
        let known = this.sender.mark.is_known();
        if open || known || begun != this.begun {
            this.begun = begun;
            if this.len > 0 {
                this.anew();
            }
        }
        if open || known {
            return this.read(cx, if known { usize::MAX } else { PART_LEN }, buffer);
        }
        // The end of the stream, without an error: a server answers nothing to a client that hung up, and nothing here.
        if this.over || !std::task::ready!(this.room(cx)) {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = this.read(cx, this.allowed - this.len, buffer);
        this.len += buffer.filled().len() - before;
        let late = |clock: &mut Pin<Box<Sleep>>| clock.as_mut().poll(cx).is_ready();
        if read.is_pending() && this.clock.as_mut().is_some_and(late) {
            this.end(Refused::Late);
            return Poll::Ready(Ok(()));
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Weighed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "heads_tests.rs"]
mod tests;
