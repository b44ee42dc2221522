//! Ends connections whose other side does not read what it is sent: what waits for it is memory here and in the kernel.
//! Judges nobody's reading by its whole speed: slow is fine, standing still is not.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Without taking [`STEP_LEN`] bytes for this long, a reader is gone.
pub const WITHIN: Duration = Duration::from_secs(30);
/// So much must be taken each time: a byte now and then is no reading.
const STEP_LEN: usize = 16 << 10;

/// A connection that fails when it is not read.
pub struct Unread {
    stream: TcpStream,
    within: Duration,
    told: Box<dyn Fn() + Send>,
    /// Runs since the kernel took no more.
    stuck: Option<Pin<Box<Sleep>>>,
    /// Bytes that were taken since then.
    taken: usize,
}

impl Unread {
    /// `told` is called when it is ended.
    pub fn new(stream: TcpStream, within: Duration, told: impl Fn() + Send + 'static) -> Self {
        Self {
            stream,
            within,
            told: Box::new(told),
            stuck: None,
            taken: 0,
        }
    }

    /// What a write has come to, with the clock looked at.
    fn after(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<std::io::Result<usize>>,
    ) -> Poll<std::io::Result<usize>> {
        if let Poll::Ready(done) = written {
            self.taken += done.as_ref().unwrap_or(&0);
            if self.taken >= STEP_LEN {
                self.going();
            }
            return Poll::Ready(done);
        }
        let within = self.within;
        let stuck = self
            .stuck
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(within)));
        if stuck.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        (self.told)();
        // What the kernel still holds for it goes too.
        let _ = self.stream.set_zero_linger();
        Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()))
    }

    fn going(&mut self) {
        (self.stuck, self.taken) = (None, 0);
    }
}

impl AsyncRead for Unread {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Unread {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.after(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.after(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // Asked once everything is written: nothing waits for the reader.
        self.going();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
