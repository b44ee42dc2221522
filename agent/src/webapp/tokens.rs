//! Tokens: made, hashed, and who they were known to stand for.
//! Asks no database: `auth.rs` does.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use moka::sync::Cache;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use wa_core::time::Instant;

use crate::api::error::ApiError;
use crate::api::v1::code::Code;

/// While the database is away a token goes on working for so long after the database knew it last, whether it is used or not.
const GRACE: Duration = Duration::from_secs(30);
/// A token that is known is asked again after this: a logout is in force everywhere within a second.
const FRESH: Duration = Duration::from_millis(800);
const TOKENS_MAX: u64 = 10_000;

/// A user who is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub username: Arc<str>,
    pub admin: bool,
    /// Hash of the token that was used: what a logout revokes.
    pub token_hash: Arc<str>,
}

/// The administrator's own token: what the primary master is shown of who asked.
#[derive(Clone)]
pub struct Token(pub Arc<SecretString>);

/// A token that the database knew.
#[derive(Debug, Clone)]
pub struct Known {
    pub caller: Caller,
    /// When the database knew it last.
    said_at: Instant,
    /// When it ends, by this node's clock.
    ends_at: Instant,
    /// When the database was asked last, whether it answered or not: one that hangs would hold up every request.
    asked_at: Instant,
}

impl Known {
    /// The database said so at this moment, and that it is good for so long.
    pub fn of(caller: Caller, said_at: Instant, left: Duration) -> Self {
        Self {
            caller,
            said_at,
            ends_at: said_at + left,
            asked_at: said_at,
        }
    }

    /// The database was asked again at this moment, and did not answer; `None`: it was known for long enough without it.
    pub fn unanswered(self, at: Instant) -> Option<Self> {
        let asked = Self {
            asked_at: at,
            ..self
        };
        asked.counts(at).then_some(asked)
    }

    fn counts(&self, now: Instant) -> bool {
        now.since(self.said_at) < GRACE && now < self.ends_at
    }

    /// It counts, and the database need not be asked.
    pub fn fresh(&self, now: Instant) -> bool {
        self.counts(now) && now.since(self.asked_at) < FRESH
    }
}

/// Tokens seen lately.
pub struct Tokens {
    seen: Cache<Arc<str>, Known>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            seen: Cache::builder()
                .max_capacity(TOKENS_MAX)
                .time_to_live(GRACE)
                .build(),
        }
    }
}

/// A new token: 256 random bits, and the hash that is stored.
pub fn new_token() -> Result<(String, String), ApiError> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|_| ApiError::new(Code::Internal))?;
    let token = BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let hash = token_hash(&token);
    Ok((token, hash))
}

/// What is stored of a token. A plain hash is enough: a token is random, not a word to be guessed.
pub fn token_hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

impl Tokens {
    /// Forgets a token here; the others notice within a second.
    pub fn forget(&self, hash: &str) {
        self.seen.invalidate(hash);
    }

    /// Forgets all: a user was deleted.
    pub fn forget_all(&self) {
        self.seen.invalidate_all();
    }

    /// What is known of a token.
    pub fn known(&self, hash: &str) -> Option<Known> {
        self.seen.get(hash)
    }

    /// This is known of a token from now on.
    pub fn keep(&self, hash: Arc<str>, known: Known) {
        self.seen.insert(hash, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_random_and_stored_hashed() {
        let (token, hash) = new_token().expect("random");
        let (other, _) = new_token().expect("random");
        assert_ne!(token, other);
        assert_eq!((token.len(), hash.len()), (43, 64));
        assert_eq!(hash, token_hash(&token));
    }

    /// Goal: a known token is asked again within a second, and lives for 30 s without an answer, however often it is used. Method:
    /// one that is used twice a second by a clock of the test's.
    #[test]
    fn use_keeps_no_token_alive() {
        let caller = Caller {
            username: "bot1".into(),
            admin: false,
            token_hash: "hash".into(),
        };
        let at = |ms: u64| Instant::from_millis(1_000_000 + ms);
        let known = Known::of(caller, at(0), Duration::from_secs(3600));
        assert!(known.fresh(at(799)) && !known.fresh(at(800)));
        let mut kept = known;
        let mut lived_ms = 0;
        for ms in (500..60_000).step_by(500) {
            if kept.fresh(at(ms)) {
                continue;
            }
            match kept.clone().unanswered(at(ms)) {
                Some(known) => (kept, lived_ms) = (known, ms),
                None => break,
            }
        }
        assert!((29_000..30_000).contains(&lived_ms), "{lived_ms}");
        assert!(!kept.fresh(at(30_000)));
    }

    /// Goal: a token ends at its time also while the database is away. Method: one with 5 s left, asked by a clock of the test's
    /// just before and after.
    #[test]
    fn a_token_ends_at_its_time_without_the_database() {
        let caller = Caller {
            username: "bot1".into(),
            admin: false,
            token_hash: "hash".into(),
        };
        let at = |ms: u64| Instant::from_millis(1_000_000 + ms);
        let known = Known::of(caller.clone(), at(0), Duration::from_secs(5));
        assert!(known.clone().unanswered(at(4_999)).is_some());
        assert!(known.unanswered(at(5_000)).is_none());
        let nearly_over = Known::of(caller, at(0), Duration::from_millis(100));
        assert!(nearly_over.fresh(at(99)) && !nearly_over.fresh(at(100)));
    }
}
