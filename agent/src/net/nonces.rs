//! Nonces of a control port: each is good for one call, for a short time, at the process that gave it out.
//! Judges no call: `deed.rs` does.
//!
//! Model: a nonce holds the moment at which it was made, by the own boot clock, and a MAC under a key that the process drew when it
//! started. Nothing is kept of a nonce that was only asked for, so strangers who ask for many take no room. What is kept are those that
//! were used, until they are too old anyway; only a call with a good MAC uses one.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use wa_core::time::Instant;

use crate::sys::state::random_u64;

/// How long a nonce is good: who asks for one calls at once.
pub const GOOD_FOR: Duration = Duration::from_secs(10);
/// Used nonces that are remembered: more calls of operators in [`GOOD_FOR`] than any cluster sees.
const USED_MAX: usize = 1024;
/// When it was made, and something random.
const HEAD_LEN: usize = 8 + 16;
const MAC_LEN: usize = 16;
const LEN: usize = HEAD_LEN + MAC_LEN;

/// Why a nonce is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// This process did not give it out, or gave it out too long ago.
    Stale,
    /// It was used.
    Used,
    /// Too many were used lately.
    Full,
}

/// Gives out nonces, and takes each once.
pub struct Nonces {
    key: [u8; 32],
    /// Until when they would have been good.
    used: Mutex<BTreeMap<[u8; LEN], Instant>>,
}

impl Default for Nonces {
    fn default() -> Self {
        let mut key = [0; 32];
        for part in key.chunks_mut(8) {
            part.copy_from_slice(&random_u64().to_le_bytes());
        }
        Self {
            key,
            used: Mutex::default(),
        }
    }
}

impl Nonces {
    /// Takes the same nonces, and counts those apart that are used here.
    pub fn beside(&self) -> Self {
        Self {
            key: self.key,
            used: Mutex::default(),
        }
    }

    /// A new one, in hexadecimal.
    pub fn fresh(&self, now: Instant) -> String {
        let mut nonce = [0; LEN];
        nonce[..8].copy_from_slice(&now.0.to_le_bytes());
        nonce[8..16].copy_from_slice(&random_u64().to_le_bytes());
        nonce[16..HEAD_LEN].copy_from_slice(&random_u64().to_le_bytes());
        let mac = self.mac(&nonce[..HEAD_LEN]);
        nonce[HEAD_LEN..].copy_from_slice(&mac);
        hex::encode(nonce)
    }

    /// It was given out here, not long ago. Says nothing about whether it was used.
    ///
    /// # Errors
    /// [`Spent::Stale`].
    pub fn known(&self, now: Instant, nonce: &str) -> Result<(), Spent> {
        self.read(now, nonce).map(|_| ())
    }

    /// Uses it up. Call this only for a call whose MAC is good: used nonces take room.
    ///
    /// # Errors
    /// [`Spent`].
    pub fn spend(&self, now: Instant, nonce: &str) -> Result<(), Spent> {
        let (nonce, until) = self.read(now, nonce)?;
        let mut used = self.used();
        used.retain(|_, until| now < *until);
        if used.contains_key(&nonce) {
            return Err(Spent::Used);
        }
        if used.len() >= USED_MAX {
            return Err(Spent::Full);
        }
        used.insert(nonce, until);
        Ok(())
    }

    /// The bytes, and until when they are good.
    fn read(&self, now: Instant, nonce: &str) -> Result<([u8; LEN], Instant), Spent> {
        let mut bytes = [0; LEN];
        hex::decode_to_slice(nonce, &mut bytes).map_err(|_| Spent::Stale)?;
        let (head, mac) = bytes.split_at(HEAD_LEN);
        if !bool::from(self.mac(head).ct_eq(mac)) {
            return Err(Spent::Stale);
        }
        let mut made = [0; 8];
        made.copy_from_slice(&head[..8]);
        let until = Instant(u64::from_le_bytes(made)) + GOOD_FOR;
        match now < until {
            true => Ok((bytes, until)),
            false => Err(Spent::Stale),
        }
    }

    fn mac(&self, head: &[u8]) -> [u8; MAC_LEN] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes any key length");
        mac.update(head);
        let full = mac.finalize().into_bytes();
        let mut cut = [0; MAC_LEN];
        cut.copy_from_slice(&full[..MAC_LEN]);
        cut
    }

    fn used(&self) -> MutexGuard<'_, BTreeMap<[u8; LEN], Instant>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    /// Goal: a nonce is good once, at the process that made it, for a short time. Method: uses of one nonce in order, one that another
    /// process made, ones that were changed, and moments of the own clock.
    #[test]
    fn a_nonce_is_good_once_and_for_a_short_time() {
        let (nonces, other) = (Nonces::default(), Nonces::default());
        let one = nonces.fresh(at(1000));
        assert_eq!(nonces.known(at(1000), &one), Ok(()));
        assert_eq!(nonces.spend(at(10_999), &one), Ok(()));
        assert_eq!(nonces.spend(at(10_999), &one), Err(Spent::Used));
        assert_eq!(nonces.spend(at(11_000), &one), Err(Spent::Stale));
        let late = nonces.fresh(at(1000));
        assert_eq!(nonces.spend(at(11_000), &late), Err(Spent::Stale));
        assert_eq!(other.spend(at(1000), &late), Err(Spent::Stale));
        let mut changed = hex::decode(&late).expect("hexadecimal");
        changed[0] ^= 1;
        assert_eq!(
            nonces.spend(at(1000), &hex::encode(changed)),
            Err(Spent::Stale)
        );
        for rubbish in [
            "",
            "00",
            "zz",
            &"0".repeat(80),
            &one[1..],
            &format!("{one}00"),
        ] {
            assert_eq!(
                nonces.spend(at(1000), rubbish),
                Err(Spent::Stale),
                "{rubbish}"
            );
        }
        assert_ne!(nonces.fresh(at(1)), nonces.fresh(at(1)));
    }

    /// Goal: strangers who ask for nonces take no room, and those who use them take a bounded one that comes back. Method: a hundred
    /// thousand asked for; more used than are remembered; then the same after their time.
    #[test]
    fn what_is_remembered_has_a_bound() {
        let nonces = Nonces::default();
        for _ in 0..100_000 {
            nonces.fresh(at(0));
        }
        assert!(nonces.used().is_empty());
        for _ in 0..USED_MAX {
            let one = nonces.fresh(at(0));
            assert_eq!(nonces.spend(at(1), &one), Ok(()));
        }
        let more = nonces.fresh(at(0));
        assert_eq!(nonces.spend(at(1), &more), Err(Spent::Full));
        let later = nonces.fresh(at(10_000));
        assert_eq!(nonces.spend(at(10_000), &later), Ok(()));
        assert_eq!(nonces.used().len(), 1);
    }
}
