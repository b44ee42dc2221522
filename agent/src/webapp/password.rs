//! Passwords: hashed and checked by argon2, off the async threads, one at a time.
//! Decides nothing about who may do what: `auth.rs` does.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::api::error::ApiError;
use crate::api::v1::backup::{Cost, SALT_LEN};
use crate::api::v1::code::Code;

/// At once: one hash takes 19 MiB and some ten milliseconds of a core that messages need too.
const AT_ONCE: usize = 1;
/// More than this many waiting are turned away.
const WAITING_MAX: usize = 256;
/// Nobody waits longer than this for their turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(15);

/// Of a password that nobody has: checked when the user does not exist, so that the answer takes as long.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$w0z2vLSBOlC2qBHrBLdIiAgN2iE7WRZVGB+l24cjvn8";

/// The one place where passwords are worked on.
pub struct Passwords {
    turns: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Semaphore::new(WAITING_MAX),
        }
    }
}

impl Passwords {
    /// Hash of a new password, with its salt and parameters in the text.
    ///
    /// # Errors
    /// 1016 when too many wait.
    pub async fn hash(&self, password: &str) -> Result<String, ApiError> {
        let password = password.to_owned();
        self.work(move || {
            Argon2::default()
                .hash_password(password.as_bytes())
                .map(|hash| hash.to_string())
                .ok()
        })
        .await?
        .ok_or_else(|| ApiError::new(Code::Internal))
    }

    /// Whether the password is the stored one; with `None` it never is, and takes as long. `told` gets the answer where the work
    /// is done, also when the caller has gone in the meantime; it is dropped unasked when the work never begins.
    ///
    /// # Errors
    /// 1016 when too many wait.
    pub async fn check(
        &self,
        password: &str,
        stored: Option<&str>,
        told: impl FnOnce(bool) + Send + 'static,
    ) -> Result<bool, ApiError> {
        let known = stored.is_some();
        let stored = stored.unwrap_or(NOBODY).to_owned();
        let password = password.to_owned();
        self.work(move || {
            let verified = Argon2::default().verify_password(password.as_bytes(), stored.as_str());
            let fits = verified.is_ok() && known;
            told(fits);
            fits
        })
        .await
    }

    /// The key that follows from the password of a backup.
    ///
    /// # Errors
    /// 1016 when too many wait.
    pub async fn derive(
        &self,
        password: Zeroizing<String>,
        cost: Cost,
        salt: [u8; SALT_LEN],
    ) -> Result<Zeroizing<[u8; 32]>, ApiError> {
        let work = move || {
            let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).ok()?;
            let mut key = Zeroizing::new([0; 32]);
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                .hash_password_into(password.as_bytes(), &salt, &mut *key)
                .ok()?;
            Some(key)
        };
        self.work(work)
            .await?
            .ok_or_else(|| ApiError::new(Code::Internal))
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let busy = || ApiError::with(Code::Overloaded, "Too many logins at once");
        let _waiting = self.waiting.try_acquire().map_err(|_| busy())?;
        let turn = Arc::clone(&self.turns).acquire_owned();
        let turn = tokio::time::timeout(TURN_TIMEOUT, turn).await;
        let turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
        // The turn goes along: a client that hangs up does not make room for a second one beside the work that runs on.
        let work = move || {
            let done = work();
            drop(turn);
            done
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| ApiError::new(Code::Internal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_fits_its_password_only() {
        let passwords = Passwords::default();
        let hash = passwords.hash("Abcdef1!").await.expect("hashed");
        assert!(hash.starts_with("$argon2id$"));
        for (password, stored, fits) in [
            ("Abcdef1!", Some(hash.as_str()), true),
            ("Abcdef1?", Some(&hash), false),
            ("Abcdef1!", None, false),
            ("Abcdef1!", Some("rubbish"), false),
        ] {
            let (tell, told) = tokio::sync::oneshot::channel();
            let tell = |fits| tell.send(fits).expect("somebody listens");
            let checked = passwords.check(password, stored, tell).await;
            assert_eq!((checked, told.await), (Ok(fits), Ok(fits)), "{stored:?}");
        }
    }

    #[test]
    fn the_stand_in_hash_can_be_read() {
        // A hash that does not parse would be refused at once, and so tell that the user does not exist.
        assert!(argon2::password_hash::phc::PasswordHash::new(NOBODY).is_ok());
    }
}
