//! Room for bodies and long heads whose senders have not shown yet who they are: so many bytes in memory for all ports of a process, and
//! of one source a part of them. Room is taken as bytes arrive, so who opens connections and says nothing takes none. Reads nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::source::network;

/// Bytes in all: whoever proves nothing cannot fill the memory.
pub const BYTES_MAX: usize = 32 << 20;
/// And of one source.
pub const BYTES_OF_ONE_MAX: usize = BYTES_MAX / 4;
/// Room is taken in steps of so many bytes.
pub const STEP_LEN: usize = 16 << 10;
/// How long a body or a head waits for each step.
const WITHIN: Duration = Duration::from_secs(1);
/// Sources that are remembered before those that hold nothing are forgotten.
const SOURCES_LEN_MAX: usize = 1024;

/// There was none for a second.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// The room of one process.
pub struct Room {
    all: Arc<Semaphore>,
    /// By source, while it holds some.
    sources: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
    taken: Gauge,
}

/// What one body or head has taken; it is free again when this is dropped.
#[derive(Debug, Default)]
pub struct Taken {
    len: usize,
    /// Of the part of its source.
    own: Vec<OwnedSemaphorePermit>,
    /// Of all.
    all: Vec<OwnedSemaphorePermit>,
    counted: Option<Gauge>,
}

impl Taken {
    /// Bytes that have room.
    pub fn bytes(&self) -> usize {
        self.len
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(gauge) = &self.counted {
            gauge.dec_by(i64::try_from(self.len).unwrap_or(i64::MAX));
        }
    }
}

impl Room {
    /// All of it is free; what is taken is told to the gauge.
    pub fn new(taken: Gauge) -> Self {
        Self {
            all: Arc::new(Semaphore::new(BYTES_MAX)),
            sources: Mutex::default(),
            taken,
        }
    }

    fn source(&self, source: IpAddr) -> Arc<Semaphore> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= SOURCES_LEN_MAX {
            // Whoever holds some has a second reference.
            sources.retain(|_, room| Arc::strong_count(room) > 1);
        }
        let new = || Arc::new(Semaphore::new(BYTES_OF_ONE_MAX));
        Arc::clone(sources.entry(network(source)).or_insert_with(new))
    }

    /// Takes room until `len` bytes have theirs, waiting up to a second for each step.
    ///
    /// # Errors
    /// [`Full`]; what was taken before stays so.
    pub async fn take(&self, source: IpAddr, taken: &mut Taken, len: usize) -> Result<(), Full> {
        if taken.len >= len {
            return Ok(());
        }
        let own = self.source(source);
        while taken.len < len {
            // That of the source first: a source that is over its part keeps nothing from the others.
            for (room, held) in [(&own, &mut taken.own), (&self.all, &mut taken.all)] {
                let step = u32::try_from(STEP_LEN).unwrap_or(u32::MAX);
                let permit = Arc::clone(room).acquire_many_owned(step);
                match tokio::time::timeout(WITHIN, permit).await {
                    Ok(Ok(permit)) => held.push(permit),
                    Ok(Err(_)) | Err(_) => return Err(Full),
                }
            }
            taken.len += STEP_LEN;
            self.taken
                .inc_by(i64::try_from(STEP_LEN).unwrap_or(i64::MAX));
            taken.counted.get_or_insert_with(|| self.taken.clone());
        }
        Ok(())
    }

    /// Counts for this source what was taken for another one: a head that a proxy has sent is its client's, once that is known.
    ///
    /// # Errors
    /// [`Full`]: this source has its part. What was taken is free again.
    pub fn hand_over(&self, to: IpAddr, mut taken: Taken) -> Result<Taken, Full> {
        if taken.len > 0 {
            let len = u32::try_from(taken.len).unwrap_or(u32::MAX);
            let permit = self.source(to).try_acquire_many_owned(len);
            taken.own = vec![permit.map_err(|_| Full)?];
        }
        Ok(taken)
    }

    /// Bytes that are free.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.all.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// Goal: one source cannot take all room, whatever addresses of its network it uses, and what is taken comes back. Method: one
    /// network with as much as it may have, more of it, and another one; the gauge beside it.
    #[tokio::test]
    async fn one_source_has_a_part_of_the_room() {
        let gauge = Gauge::default();
        let room = Room::new(gauge.clone());
        let mut held = Vec::new();
        for n in 0..8 {
            let mut taken = Taken::default();
            let from = address(&format!("2001:db8::{n}"));
            let got = room.take(from, &mut taken, BYTES_OF_ONE_MAX / 8).await;
            assert_eq!(got, Ok(()));
            held.push(taken);
        }
        assert_eq!(room.free(), BYTES_MAX - BYTES_OF_ONE_MAX);
        assert_eq!(gauge.get(), i64::try_from(BYTES_OF_ONE_MAX).expect("small"));
        let (mut one, mut two) = (Taken::default(), Taken::default());
        let (more, other) = tokio::join!(
            room.take(address("2001:db8::ffff"), &mut one, 1),
            room.take(address("2001:db8:0:1::1"), &mut two, 1)
        );
        assert_eq!((more, other), (Err(Full), Ok(())));
        drop((held, one, two));
        assert_eq!((room.free(), gauge.get()), (BYTES_MAX, 0));
    }

    /// Goal: what a proxy's heads took is its client's once that is known: the proxy has its part back, and a client that has its own gets
    /// none. Method: a proxy whose part is all taken, handed over to two clients, of whom one has its part already.
    #[tokio::test]
    async fn room_is_handed_over_to_whom_it_is_for() {
        let room = Room::new(Gauge::default());
        let [proxy, greedy, client] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(address);
        let (mut of_proxy, mut of_greedy, mut more) =
            (Taken::default(), Taken::default(), Taken::default());
        for (from, taken) in [(proxy, &mut of_proxy), (greedy, &mut of_greedy)] {
            let got = room.take(from, taken, BYTES_OF_ONE_MAX).await;
            assert_eq!(got, Ok(()));
        }
        assert_eq!(room.take(proxy, &mut more, 1).await, Err(Full));
        let of_client = room.hand_over(client, of_proxy).expect("its first");
        assert_eq!(room.free(), BYTES_MAX - 2 * BYTES_OF_ONE_MAX);
        assert_eq!(room.take(proxy, &mut more, 1).await, Ok(()));
        assert_eq!(room.hand_over(greedy, more).err(), Some(Full));
        assert_eq!(room.free(), BYTES_MAX - 2 * BYTES_OF_ONE_MAX);
        assert!(room.hand_over(greedy, Taken::default()).is_ok(), "no bytes");
        drop((of_client, of_greedy));
        assert_eq!(room.free(), BYTES_MAX);
    }
}
