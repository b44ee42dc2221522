//! The way from a heartbeat thread to the loop that decides: two bounded queues and a bell.
//! The thread neither allocates nor waits here: a full queue is counted, and nothing is shared that somebody could hold.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use wa_core::id::{Incarnation, NodeId, Role};
use wa_core::time::Instant;
use wa_core::wire::{Body, DATAGRAM_LEN_MAX, Report, decode};

use super::keys::may_say;
use super::udp::Drops;

/// Words (anything but pings and answers) that wait: each keeps half a kilobyte.
const WORDS_MAX: usize = 256;

/// What the thread tells the main loop.
#[derive(Debug)]
pub enum Heard {
    /// A round of pings left.
    Round { late: bool, lateness: Duration },
    /// A ping of ours was answered.
    Answered {
        node: NodeId,
        incarnation: Incarnation,
        report: Report,
        /// From when the ping left until the answer reached the kernel, however late it was read.
        rtt: Duration,
        /// When the answer reached the kernel.
        arrived: Instant,
    },
    /// Anything else that is authentic.
    Body {
        from: NodeId,
        role: Role,
        incarnation: Incarnation,
        address: SocketAddr,
        body: Body,
    },
}

/// Authentic bytes, read on the other side: reading some of them allocates.
struct Words {
    bytes: [u8; DATAGRAM_LEN_MAX],
    len: usize,
    address: SocketAddr,
}

#[derive(Debug, Default)]
struct State {
    /// The reader found nothing and waits for the bell.
    sleeping: AtomicBool,
    /// The reader is gone.
    closed: AtomicBool,
    /// The thread is gone.
    ended: AtomicBool,
}

/// The thread's end.
pub(super) struct Outbox {
    beats: SyncSender<Heard>,
    words: SyncSender<Words>,
    state: Arc<State>,
    bell: UnixDatagram,
}

/// The loop's end.
pub struct Inbox {
    beats: Receiver<Heard>,
    words: Receiver<Words>,
    state: Arc<State>,
    drops: Arc<Drops>,
    silent_bell: Option<UnixDatagram>,
    /// Belongs to the runtime that reads, which need not be the one that started the thread.
    bell: Option<tokio::net::UnixDatagram>,
}

/// Both ends. `beats_max`: rounds and answers that may wait.
pub(super) fn pair(beats_max: usize, drops: Arc<Drops>) -> std::io::Result<(Outbox, Inbox)> {
    let (beats_sender, beats) = sync_channel(beats_max);
    let (words_sender, words) = sync_channel(WORDS_MAX);
    let (rings, hears) = UnixDatagram::pair()?;
    rings.set_nonblocking(true)?;
    hears.set_nonblocking(true)?;
    let state = Arc::<State>::default();
    let outbox = Outbox {
        beats: beats_sender,
        words: words_sender,
        state: Arc::clone(&state),
        bell: rings,
    };
    let inbox = Inbox {
        beats,
        words,
        state,
        drops,
        silent_bell: Some(hears),
        bell: None,
    };
    Ok((outbox, inbox))
}

impl Outbox {
    /// A round or an answer. False when the queue is full.
    pub fn beat(&self, heard: Heard) -> bool {
        let taken = self.beats.try_send(heard).is_ok();
        self.ring();
        taken
    }

    /// An authentic datagram without its MAC. False when the queue is full.
    pub fn words(&self, bytes: &[u8], address: SocketAddr) -> bool {
        let mut words = Words {
            bytes: [0; DATAGRAM_LEN_MAX],
            len: bytes.len(),
            address,
        };
        words.bytes[..bytes.len()].copy_from_slice(bytes);
        let taken = self.words.try_send(words).is_ok();
        self.ring();
        taken
    }

    /// Nobody reads any more.
    pub fn closed(&self) -> bool {
        self.state.closed.load(Ordering::Acquire)
    }

    fn ring(&self) {
        if self.state.sleeping.swap(false, Ordering::SeqCst) {
            // A bell that cannot take another stroke was not heard yet: one is enough.
            let _ = self.bell.send(&[1]);
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        let _ = self.bell.send(&[1]);
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Release);
    }
}

impl Inbox {
    /// The next thing heard; `None` when the thread ended. Nothing is lost when the caller stops waiting.
    pub async fn recv(&mut self) -> Option<Heard> {
        loop {
            if let Some(heard) = self.try_recv() {
                return Some(heard);
            }
            if self.state.ended.load(Ordering::SeqCst) {
                return self.try_recv();
            }
            self.state.sleeping.store(true, Ordering::SeqCst);
            // Between the look and the announcement something may have come.
            if let Some(heard) = self.try_recv() {
                return Some(heard);
            }
            self.wait().await;
        }
    }

    async fn wait(&mut self) {
        if let Some(bell) = self.silent_bell.take() {
            self.bell = tokio::net::UnixDatagram::from_std(bell).ok();
        }
        let mut strokes = [0u8; 8];
        match &self.bell {
            Some(bell) if bell.recv(&mut strokes).await.is_ok() => {}
            // Out of descriptors: slower, but not deaf.
            _ => crate::sys::clock::sleep(Duration::from_millis(5)).await,
        }
    }

    /// What waits, if anything does.
    pub fn try_recv(&mut self) -> Option<Heard> {
        if let Ok(beat) = self.beats.try_recv() {
            return Some(beat);
        }
        // Bounded by the queue: a sender that may not say what it says is somebody with a key.
        while let Ok(words) = self.words.try_recv() {
            if let Some(heard) = self.read(&words) {
                return Some(heard);
            }
        }
        None
    }

    fn read(&self, words: &Words) -> Option<Heard> {
        let Ok(datagram) = decode(&words.bytes[..words.len]) else {
            self.drops.malformed.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        if !may_say(datagram.role, &datagram.body) {
            self.drops.role.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Heard::Body {
            from: datagram.sender,
            role: datagram.role,
            incarnation: datagram.incarnation,
            address: words.address,
            body: datagram.body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(n: u64) -> Heard {
        Heard::Round {
            late: false,
            lateness: Duration::from_millis(n),
        }
    }

    /// Goal: nothing is lost or reordered between the thread and the loop, however they interleave, and the end is told.
    /// Method: a thread that sends as fast as it can, with a queue of four.
    #[tokio::test]
    async fn everything_taken_arrives_in_order() {
        let (outbox, mut inbox) = pair(4, Arc::default()).expect("made");
        let sender = std::thread::spawn(move || {
            for n in 0..20_000 {
                while !outbox.beat(round(n)) {
                    std::thread::yield_now();
                }
            }
        });
        for n in 0..20_000 {
            let heard = tokio::time::timeout(Duration::from_secs(10), inbox.recv());
            let Some(Heard::Round { lateness, .. }) = heard.await.expect("in time") else {
                panic!("the thread sends rounds only");
            };
            assert_eq!(lateness, Duration::from_millis(n));
        }
        assert!(inbox.recv().await.is_none());
        sender.join().expect("joined");
    }

    /// Goal: a full queue is refused, never waited for.
    #[test]
    fn a_full_queue_says_so() {
        let (outbox, inbox) = pair(2, Arc::default()).expect("made");
        assert!(outbox.beat(round(1)) && outbox.beat(round(2)) && !outbox.beat(round(3)));
        drop(inbox);
        assert!(outbox.closed());
    }
}
