//! Room for bodies whose signature nobody has checked yet: so many bytes in memory, and of one address a part of them.
//! Room is taken as bytes arrive, so who opens connections and says nothing takes none. Checks no signature: `events.rs` does.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::{BODY_TIMEOUT, too_large};
use crate::api::error::ApiError;
use crate::api::v1::code::Code;

/// Bytes of upstream events in memory whose signature is not checked yet: whoever signs nothing cannot fill the memory.
pub const BYTES_MAX: usize = 32 << 20;
/// And of one address.
const BYTES_OF_ONE_MAX: usize = BYTES_MAX / 4;
/// Room is taken in steps of so many bytes.
const STEP_LEN: usize = 64 << 10;
/// How long a call waits for each step.
const WITHIN: Duration = Duration::from_secs(1);
/// Addresses that are remembered before those without a call are forgotten.
const SOURCES_LEN_MAX: usize = 1024;

/// The room of one webapp.
pub struct Room {
    all: Arc<Semaphore>,
    /// By address, while it has calls.
    sources: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// What one call has taken; it is free again when this is dropped.
#[derive(Default)]
pub struct Taken {
    len: usize,
    permits: Vec<OwnedSemaphorePermit>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(BYTES_MAX)),
            sources: Mutex::default(),
        }
    }
}

impl Room {
    fn source(&self, source: IpAddr) -> Arc<Semaphore> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= SOURCES_LEN_MAX {
            // Whoever has a call holds a second reference.
            sources.retain(|_, room| Arc::strong_count(room) > 1);
        }
        let new = || Arc::new(Semaphore::new(BYTES_OF_ONE_MAX));
        Arc::clone(sources.entry(source).or_insert_with(new))
    }

    /// Reads a body of at most `len_max` bytes from `source`, as far as there is room.
    ///
    /// # Errors
    /// 1016 without room, 413 for a longer body, and what else is wrong with it.
    pub async fn read(
        &self,
        source: IpAddr,
        body: Body,
        len_max: usize,
    ) -> Result<(Bytes, Taken), ApiError> {
        let reading = tokio::time::timeout(BODY_TIMEOUT, self.arrive(source, body, len_max));
        let late = |_| ApiError::with(Code::InvalidRequest, "The body took too long").status(408);
        reading.await.map_err(late)?
    }

    async fn arrive(
        &self,
        source: IpAddr,
        mut body: Body,
        len_max: usize,
    ) -> Result<(Bytes, Taken), ApiError> {
        let own = self.source(source);
        let (mut read, mut taken) = (BytesMut::new(), Taken::default());
        while let Some(frame) = body.frame().await {
            let broken = |_| ApiError::with(Code::InvalidRequest, "The body broke off");
            let Ok(chunk) = frame.map_err(broken)?.into_data() else {
                continue;
            };
            let len = read.len() + chunk.len();
            if len > len_max {
                return Err(too_large());
            }
            while taken.len < len {
                self.step(&own, &mut taken).await?;
            }
            read.extend_from_slice(&chunk);
        }
        Ok((read.freeze(), taken))
    }

    async fn step(&self, own: &Arc<Semaphore>, taken: &mut Taken) -> Result<(), ApiError> {
        for room in [own, &self.all] {
            let step = u32::try_from(STEP_LEN).unwrap_or(u32::MAX);
            let permit = Arc::clone(room).acquire_many_owned(step);
            match tokio::time::timeout(WITHIN, permit).await {
                Ok(Ok(permit)) => taken.permits.push(permit),
                Ok(Err(_)) | Err(_) => {
                    let said = "Too many events are on their way";
                    return Err(ApiError::with(Code::Overloaded, said));
                }
            }
        }
        taken.len += STEP_LEN;
        Ok(())
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

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    /// Goal: one address cannot take all room, and what is taken comes back. Method: one address with as much as it may have, more
    /// of it, and another one.
    #[tokio::test]
    async fn one_address_has_a_part_of_the_room() {
        let room = Room::default();
        let mut held = Vec::new();
        let long = Bytes::from(vec![b'x'; 1 << 20]);
        for _ in 0..BYTES_OF_ONE_MAX / long.len() {
            let read = room.read(ONE, Body::from(long.clone()), long.len()).await;
            held.push(read.map_err(|_| "refused").expect("there is room").1);
        }
        assert_eq!(room.free(), BYTES_MAX - BYTES_OF_ONE_MAX);
        let (more, other) = tokio::join!(
            room.read(ONE, Body::from("x"), 1),
            room.read(OTHER, Body::from("x"), 1)
        );
        assert!(more.is_err() && other.is_ok_and(|(read, _)| read == "x"));
        drop(held);
        assert_eq!(room.free(), BYTES_MAX);
        let long = room.read(ONE, Body::from("xx"), 1).await;
        assert!(long.is_err(), "longer than it may be");
        assert_eq!(room.free(), BYTES_MAX);
    }
}
