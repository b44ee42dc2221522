//! Who is calling: bearer tokens, the API key, and the throttle on logins.
//! Tokens are opaque and stored as hashes; what is cached here is asked again within a second.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use moka::sync::Cache;
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use wa_core::time::Instant;

use super::answer::database;
use super::state::Webapp;
use crate::api::error::ApiError;
use crate::db::DbError;
use crate::sys::clock;

/// A token is asked again after this: a logout is in force everywhere within a second.
const FRESH: Duration = Duration::from_millis(800);
/// While the database is away nobody can log out, so known tokens go on working, unless they are not used for this long.
const GRACE: Duration = Duration::from_secs(300);
/// The database has this long to know a token.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
const TOKENS_MAX: u64 = 10_000;
/// How long a token lives.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// Failed logins in a minute that a user from one source, and a source with any users, may have.
const FAILURES_USER_MAX: u32 = 5;
const FAILURES_SOURCE_MAX: u32 = 30;
const FAILURE_WINDOW: Duration = Duration::from_secs(60);
const THROTTLED_MAX: u64 = 20_000;

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
    getrandom::fill(&mut bytes).map_err(|_| ApiError::new(1014))?;
    let token = BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let hash = token_hash(&token);
    Ok((token, hash))
}

/// What is stored of a token. A plain hash is enough: a token is random, not a word to be guessed.
pub fn token_hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

impl Tokens {
    /// Forgets a token here; the others notice within [`FRESH`].
    pub fn forget(&self, hash: &str) {
        self.seen.invalidate(hash);
    }

    /// Forgets all: a user was deleted.
    pub fn forget_all(&self) {
        self.seen.invalidate_all();
    }

    async fn caller(&self, webapp: &Webapp, token: &str) -> Result<Caller, ApiError> {
        let hash: Arc<str> = token_hash(token).into();
        let seen = self.seen.get(&hash);
        let now = clock::now();
        if let Some((caller, at)) = &seen
            && now.since(*at) < FRESH
        {
            return Ok(caller.clone());
        }
        let asked = ask(webapp, &hash).await;
        match (asked, seen) {
            (Ok(Some((username, admin))), _) => {
                let caller = Caller {
                    username: username.into(),
                    admin,
                    token_hash: Arc::clone(&hash),
                };
                self.seen.insert(hash, (caller.clone(), now));
                Ok(caller)
            }
            (Ok(None), _) => {
                self.forget(&hash);
                Err(ApiError::unauthorized(
                    "The token is not valid or has expired",
                ))
            }
            (Err(_), Some((caller, _))) => {
                // Not asked again for a moment: a database that hangs would hold up every request.
                self.seen.insert(hash, (caller.clone(), clock::now()));
                Ok(caller)
            }
            (Err(error), None) => Err(error),
        }
    }
}

/// The token's user as the database knows it. A database that hangs counts as one that is away.
async fn ask(webapp: &Webapp, hash: &str) -> Result<Option<(String, bool)>, ApiError> {
    let db = webapp.db()?;
    match tokio::time::timeout(ASK_TIMEOUT, db.token_user(hash)).await {
        Ok(found) => found.map_err(|error| database(&error)),
        Err(_) => Err(database(&DbError::Deadline(ASK_TIMEOUT))),
    }
}

/// The words after a scheme in `Authorization`.
fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (found, rest) = value.split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then_some(rest.trim())
}

impl FromRequestParts<Arc<Webapp>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, webapp: &Arc<Webapp>) -> Result<Self, ApiError> {
        let token = credentials(&parts.headers, "Bearer")
            .ok_or_else(|| ApiError::unauthorized("Authorization: Bearer <token> is needed"))?;
        webapp.tokens.caller(webapp, token).await
    }
}

/// The administrator, logged in.
pub struct Admin;

impl FromRequestParts<Arc<Webapp>> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, webapp: &Arc<Webapp>) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, webapp).await?;
        if caller.admin {
            Ok(Self)
        } else {
            Err(ApiError::with(1005, "Only the administrator may do this"))
        }
    }
}

/// Somebody who may look: any logged-in user, or the holder of the API key.
pub struct Monitor;

impl FromRequestParts<Arc<Webapp>> for Monitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, webapp: &Arc<Webapp>) -> Result<Self, ApiError> {
        let Some(given) = credentials(&parts.headers, "Apikey") else {
            return Caller::from_request_parts(parts, webapp)
                .await
                .map(|_| Self);
        };
        let fits =
            webapp.settings.api_key.as_ref().is_some_and(|key| {
                bool::from(key.expose_secret().as_bytes().ct_eq(given.as_bytes()))
            });
        if fits {
            Ok(Self)
        } else {
            Err(ApiError::unauthorized("The API key is not valid"))
        }
    }
}

/// Name and password of a login.
pub struct Basic {
    pub username: String,
    pub password: String,
    pub source: String,
}

impl<S: Sync> FromRequestParts<S> for Basic {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let source = parts
            .extensions
            .get::<ConnectInfo<std::net::SocketAddr>>()
            .map_or(IpAddr::from([0, 0, 0, 0]), |info| info.0.ip());
        let (username, password) = credentials(&parts.headers, "Basic")
            .and_then(basic)
            .ok_or_else(|| ApiError::unauthorized("Authorization: Basic is needed to log in"))?;
        Ok(Self {
            username,
            password,
            source: source.to_string(),
        })
    }
}

fn basic(encoded: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    Some((username.to_owned(), password.to_owned()))
}

/// Failed logins of the last minute. Counted per user *and* source first, so that nobody can lock a user out from elsewhere.
pub struct Throttle {
    failures: Cache<String, Arc<AtomicU32>>,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            failures: Cache::builder()
                .max_capacity(THROTTLED_MAX)
                .time_to_live(FAILURE_WINDOW)
                .build(),
        }
    }
}

impl Throttle {
    fn keys(username: &str, source: &str) -> [(String, u32); 2] {
        // Names are cut: a made-up one must not fill memory.
        let name: String = username.chars().take(32).collect();
        [
            (format!("{source} {name}"), FAILURES_USER_MAX),
            (source.to_owned(), FAILURES_SOURCE_MAX),
        ]
    }

    /// Counts one attempt, before the password is looked at, so that many at once do not slip through.
    ///
    /// # Errors
    /// 1015 when there were too many.
    pub fn attempt(&self, username: &str, source: &str) -> Result<(), ApiError> {
        for (key, limit) in Self::keys(username, source) {
            let count = self.failures.get_with(key, Arc::default);
            if count.fetch_add(1, Ordering::Relaxed) >= limit {
                return Err(ApiError::with(1015, "Too many failed logins").retry_after(60));
            }
        }
        Ok(())
    }

    /// The attempt was good after all: it does not count.
    pub fn succeeded(&self, username: &str, source: &str) {
        let [(user, _), (source, _)] = Self::keys(username, source);
        self.failures.invalidate(&user);
        if let Some(count) = self.failures.get(&source) {
            let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_read() {
        let encode = |text: &str| BASE64_STANDARD.encode(text);
        assert_eq!(
            basic(&encode("admin:se:cret")),
            Some(("admin".into(), "se:cret".into()))
        );
        assert_eq!(basic(&encode("admin")), None);
        assert_eq!(basic("%%%"), None);
    }

    #[test]
    fn schemes_are_case_insensitive_and_not_mixed_up() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "bearer  abc".parse().expect("plain"));
        assert_eq!(credentials(&headers, "Bearer"), Some("abc"));
        assert_eq!(credentials(&headers, "Basic"), None);
    }

    /// Goal: guessing is slow, and a guesser locks nobody else out. Method: count answers.
    #[test]
    fn failed_logins_are_throttled_per_user_and_source() {
        let throttle = Throttle::default();
        for _ in 0..FAILURES_USER_MAX {
            assert!(throttle.attempt("admin", "192.0.2.1").is_ok());
        }
        let refused = throttle
            .attempt("admin", "192.0.2.1")
            .expect_err("too many");
        assert_eq!(
            (refused.code, refused.http_status(), refused.retry_after_s),
            (1015, 429, Some(60))
        );
        assert!(throttle.attempt("admin", "192.0.2.2").is_ok());
        assert!(throttle.attempt("other", "192.0.2.1").is_ok());
    }

    #[test]
    fn good_logins_do_not_count() {
        let throttle = Throttle::default();
        for _ in 0..200 {
            assert!(throttle.attempt("bot1", "192.0.2.1").is_ok());
            throttle.succeeded("bot1", "192.0.2.1");
        }
    }

    #[test]
    fn a_source_that_tries_many_names_is_throttled() {
        let throttle = Throttle::default();
        let refused = (0..100)
            .filter(|n| throttle.attempt(&format!("user{n}"), "192.0.2.1").is_err())
            .count();
        assert_eq!(refused, 70);
    }

    #[test]
    fn tokens_are_random_and_stored_hashed() {
        let (token, hash) = new_token().expect("random");
        let (other, _) = new_token().expect("random");
        assert_ne!(token, other);
        assert_eq!((token.len(), hash.len()), (43, 64));
        assert_eq!(hash, token_hash(&token));
    }
}
