//! The local socket by which the host agent lends a coreapp the map of its own unit, and tells it each second whether
//! the gate is whole. Opens and shuts nothing.
//!
//! A coreapp has no capability, and the kernel opens no pinned map for it: the map travels as a file descriptor. What
//! is said travels as one line of JSON each; the descriptor comes with the first line that has one.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::clock;

/// Where the host agent listens.
pub const PATH: &str = "/run/wa-agent/gate.sock";
/// Longest line, in bytes.
const LINE_LEN_MAX: usize = 1024;
/// After a connection could not be taken, perhaps for want of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What the host agent says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// CLOCK_BOOTTIME, in nanoseconds, of the look at the kernel that found the gate whole and this unit behind it;
    /// `None`: it is not, or not any more.
    pub attested_at_ns: Option<u64>,
    /// Epochs below this one are over in this unit.
    pub seal: u64,
    /// Names the unit's map: another one means that the old descriptor is worth nothing any more.
    pub map: u64,
    /// A person has fenced this unit: nothing may open.
    #[serde(default)]
    pub by_hand: bool,
    /// Why it is not attested; empty otherwise.
    #[serde(default)]
    pub why: String,
    /// nftables stands instead of the gate: the unit is let through only after it has asked (see [`Ask`]).
    #[serde(default)]
    pub nftables: bool,
    /// In answer to an [`Ask`]: the epoch that is let through now.
    #[serde(default)]
    pub admitted: Option<u64>,
}

/// What a coreapp asks where nftables is the fence: to be let through under an epoch until a deadline on CLOCK_BOOTTIME, or,
/// without one, no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    pub epoch: u64,
    pub deadline_ns: Option<u64>,
}

/// Listens; only root and the group of this process may connect.
///
/// # Errors
/// When the directory is missing or not ours.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o660);
    std::fs::set_permissions(path, mode)?;
    Ok(listener)
}

/// Hands each connection to a task of its own, for ever; more than so many at once are turned away.
pub async fn serve<F>(
    listener: UnixListener,
    connections_max: usize,
    mut each: impl FnMut(UnixStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(connections_max));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            clock::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let one = each(stream);
        tokio::spawn(async move {
            let _place = place;
            one.await;
        });
    }
}

/// Takes the first whole line out.
fn line_in(buffer: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    match buffer.iter().position(|byte| *byte == b'\n') {
        Some(end) => Ok(Some(buffer.drain(..=end).collect())),
        None if buffer.len() > LINE_LEN_MAX => Err(io::ErrorKind::InvalidData.into()),
        None => Ok(None),
    }
}

/// The host agent's end of one connection.
#[derive(Debug)]
pub struct Lender {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Lender {
    /// Takes over an accepted connection.
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// The next thing that the coreapp asks. Cancelling loses nothing.
    ///
    /// # Errors
    /// When it is gone, or says what nobody understands.
    pub async fn asked(&mut self) -> io::Result<Ask> {
        loop {
            if let Some(line) = line_in(&mut self.buffer)? {
                return Ok(serde_json::from_slice(&line)?);
            }
            self.stream.readable().await?;
            match self.stream.try_read_buf(&mut self.buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    }

    /// The process at the other end, as the kernel knows it.
    ///
    /// # Errors
    /// When it is gone.
    pub fn peer(&self) -> io::Result<i32> {
        let pid = self.stream.peer_cred()?.pid();
        pid.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Says something; lends a map with it where there is one.
    ///
    /// # Errors
    /// When the other end is gone or does not read.
    pub async fn say(&self, word: &Word, map: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut line = serde_json::to_vec(word)?;
        line.push(b'\n');
        let socket = self.stream.as_raw_fd();
        let send = || {
            let lent: Vec<RawFd> = map.iter().map(|fd| fd.as_raw_fd()).collect();
            let lent = [ControlMessage::ScmRights(&lent)];
            let with = if map.is_some() { &lent[..] } else { &[] };
            let bytes = [IoSlice::new(&line)];
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            Ok(sendmsg::<()>(socket, &bytes, with, flags, None)?)
        };
        // A line is far smaller than the buffer of a socket: it goes as a whole, or the other end does not read.
        match self.stream.async_io(Interest::WRITABLE, send).await? {
            sent if sent == line.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

/// The coreapp's end.
#[derive(Debug)]
pub struct Borrower {
    stream: UnixStream,
    buffer: Vec<u8>,
    lent: Option<OwnedFd>,
}

impl Borrower {
    /// Connects to the host agent.
    ///
    /// # Errors
    /// When none listens there.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self {
            stream: UnixStream::connect(path).await?,
            buffer: Vec::new(),
            lent: None,
        })
    }

    /// Asks the host agent for something; its answer is a word.
    ///
    /// # Errors
    /// When it is gone or does not read.
    pub async fn ask(&self, ask: &Ask) -> io::Result<()> {
        let mut line = serde_json::to_vec(ask)?;
        line.push(b'\n');
        self.stream.writable().await?;
        // As with words: far smaller than the buffer.
        match self.stream.try_write(&line)? {
            sent if sent == line.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// The next word, and the map that came with it. Cancelling loses nothing.
    ///
    /// # Errors
    /// When the host agent is gone, or says what nobody understands.
    pub async fn hear(&mut self) -> io::Result<(Word, Option<OwnedFd>)> {
        loop {
            if let Some(line) = line_in(&mut self.buffer)? {
                return Ok((serde_json::from_slice(&line)?, self.lent.take()));
            }
            let socket = self.stream.as_raw_fd();
            let read = || receive(socket);
            let (bytes, lent) = self.stream.async_io(Interest::READABLE, read).await?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend(bytes);
            self.lent = lent.or(self.lent.take());
        }
    }
}

fn receive(socket: RawFd) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut bytes = vec![0; LINE_LEN_MAX];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let got = recvmsg::<()>(socket, &mut parts, Some(&mut space), flags)?;
    let mut lent = None;
    for message in got.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = message {
            for fd in fds {
                // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
                lent = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    let len = got.bytes;
    bytes.truncate(len);
    Ok((bytes, lent))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, Write as _};
    use std::os::fd::AsFd as _;

    use super::*;

    /// Goal: a descriptor and words arrive as they were sent, each word once, and the peer is known. Method: a file that
    /// is lent can be written by both; words in a burst.
    #[tokio::test]
    async fn a_map_is_lent_and_words_follow() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("gate.sock");
        let listener = listen(&path).expect("listening");
        let _second = listen(&path).expect("a socket that a dead agent left is no obstacle");
        drop(listener);
        let listener = listen(&path).expect("listening");
        let mut borrower = Borrower::connect(&path).await.expect("connected");
        let mut lender = Lender::new(listener.accept().await.expect("accepted").0);
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert_eq!(lender.peer().expect("known"), own);
        let word = |seal| Word {
            attested_at_ns: Some(5),
            seal,
            map: 7,
            by_hand: false,
            why: String::new(),
            nftables: false,
            admitted: None,
        };
        let mut file = tempfile::tempfile().expect("a file");
        lender
            .say(&word(1), Some(file.as_fd()))
            .await
            .expect("said");
        for seal in 2..20 {
            lender.say(&word(seal), None).await.expect("said");
        }
        let (first, lent) = borrower.hear().await.expect("heard");
        assert_eq!(first, word(1));
        let mut lent = std::fs::File::from(lent.expect("a descriptor came"));
        lent.write_all(b"shared").expect("written");
        let mut text = String::new();
        file.rewind().expect("rewound");
        file.read_to_string(&mut text).expect("read");
        assert_eq!(text, "shared");
        for seal in 2..20 {
            let (next, lent) = borrower.hear().await.expect("heard");
            assert_eq!((next.seal, lent.is_some()), (seal, false));
        }
        for deadline_ns in [Some(7), None] {
            let ask = Ask {
                epoch: 3,
                deadline_ns,
            };
            borrower.ask(&ask).await.expect("asked");
            assert_eq!(lender.asked().await.expect("heard"), ask);
        }
        drop(lender);
        assert!(borrower.hear().await.is_err(), "the agent is gone");
    }
}
