//! Tokens: made, hashed, and who they were known to stand for.
//! Asks no database: `auth.rs` does.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use moka::sync::Cache;
use sha2::{Digest as _, Sha256};
use wa_core::time::Instant;

use crate::api::error::ApiError;
use crate::api::v1::code::Code;

/// While the database is away nobody can log out, so known tokens go on working, unless they are not used for this long.
const GRACE: Duration = Duration::from_secs(300);
const TOKENS_MAX: u64 = 10_000;

/// A user who is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub username: Arc<str>,
    pub admin: bool,
    /// Hash of the token that was used: what a logout revokes.
    pub token_hash: Arc<str>,
}

/// Tokens seen lately.
pub struct Tokens {
    seen: Cache<Arc<str>, (Caller, Instant)>,
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

    /// The caller of a token, and when the database was asked.
    pub fn known(&self, hash: &str) -> Option<(Caller, Instant)> {
        self.seen.get(hash)
    }

    /// The database said so at this moment, or could not be asked again.
    pub fn keep(&self, hash: Arc<str>, caller: Caller, at: Instant) {
        self.seen.insert(hash, (caller, at));
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
}
