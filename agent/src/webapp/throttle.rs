//! Logins that failed: guessing is slow, a guesser locks nobody else out, and who knows the password is never refused because
//! others log in at the same time.
//! Checks no password: `password.rs` does.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::Notify;

use crate::api::error::ApiError;
use crate::api::v1::code::Code;

/// Failed logins in a minute that an account from one source, and a source with any accounts, may have.
const FAILURES_ACCOUNT_MAX: u32 = 5;
const FAILURES_SOURCE_MAX: u32 = 30;
const FAILURE_WINDOW: Duration = Duration::from_secs(60);
const THROTTLED_MAX: u64 = 20_000;
/// Logins of one account and source, or of one source, that wait for those before them.
const WAITING_MAX: u32 = 256;
/// And for how long.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Counts of one account from one source, or of one source.
#[derive(Debug, Default)]
struct Count {
    state: Mutex<State>,
    /// Rung when an attempt is over.
    over: Notify,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Attempts whose password is being looked at: each may fail.
    running: u32,
    waiting: u32,
}

fn too_many() -> ApiError {
    ApiError::with(Code::TooManyRequests, "Too many failed logins").retry_after(60)
}

fn crowded() -> ApiError {
    ApiError::with(Code::Overloaded, "Too many logins at once")
}

impl Count {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Room for one more attempt: `None` when those that run could use up what is left.
    fn room(&self, most: u32) -> Result<Option<()>, ApiError> {
        self.with(|state| {
            if state.failures >= most {
                return Err(too_many());
            }
            let room = state.failures + state.running < most;
            state.running += u32::from(room);
            Ok(room.then_some(()))
        })
    }

    /// Waits for room: as many attempts run at once as may still fail.
    async fn enter(self: &Arc<Self>, most: u32) -> Result<Turn, ApiError> {
        let _waits = Waits::begin(self)?;
        loop {
            // Listens before it looks: an attempt that ends in between is not missed.
            let over = self.over.notified();
            tokio::pin!(over);
            over.as_mut().enable();
            if self.room(most)?.is_some() {
                return Ok(Turn(Arc::clone(self)));
            }
            over.await;
        }
    }
}

/// One that waits, for as long as it does.
struct Waits<'a>(&'a Count);

impl<'a> Waits<'a> {
    fn begin(count: &'a Count) -> Result<Self, ApiError> {
        count.with(|state| {
            if state.waiting >= WAITING_MAX {
                return Err(crowded());
            }
            state.waiting += 1;
            Ok(Self(count))
        })
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.with(|state| state.waiting -= 1);
    }
}

/// One attempt that runs, until it is dropped.
struct Turn(Arc<Count>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.with(|state| state.running -= 1);
        self.0.over.notify_waiters();
    }
}

/// An attempt to log in. It goes along with the work on its password, which ends it also when the client has hung up. Dropped
/// before that work began, it counts for nothing.
pub struct Attempt {
    account: Turn,
    source: Turn,
}

impl Attempt {
    /// The password was looked at.
    pub fn over(self, fits: bool) {
        if fits {
            self.succeeded();
        } else {
            self.failed();
        }
    }

    /// The password was wrong.
    fn failed(self) {
        self.account.0.with(|state| state.failures += 1);
        self.source.0.with(|state| state.failures += 1);
    }

    /// The password was right: earlier failures of this account from this source are forgotten.
    fn succeeded(self) {
        self.account.0.with(|state| state.failures = 0);
    }
}

/// Failed logins of the last minute. Counted per account *and* source, so that nobody can lock an account from elsewhere.
pub struct Throttle {
    counts: Cache<String, Arc<Count>>,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            counts: Cache::builder()
                .max_capacity(THROTTLED_MAX)
                .time_to_live(FAILURE_WINDOW)
                .build(),
        }
    }
}

impl Throttle {
    /// Begins an attempt, before the password is looked at. While as many are being looked at as may still fail, it waits:
    /// many at once do not slip through, and none that is right is refused.
    ///
    /// # Errors
    /// 1015 when there were too many failures, 1016 when too many wait.
    pub async fn attempt(&self, username: &str, source: IpAddr) -> Result<Attempt, ApiError> {
        let source = block_of(source);
        let of_source = self.counts.get_with(source.clone(), Arc::default);
        if of_source.with(|state| state.failures >= FAILURES_SOURCE_MAX) {
            return Err(too_many());
        }
        // Names are cut: a made-up one must not fill memory.
        let name: String = username.chars().take(32).collect();
        let of_account = self
            .counts
            .get_with(format!("{source} {name}"), Arc::default);
        let both = async {
            Ok(Attempt {
                account: of_account.enter(FAILURES_ACCOUNT_MAX).await?,
                source: of_source.enter(FAILURES_SOURCE_MAX).await?,
            })
        };
        let both = tokio::time::timeout(WAIT_MAX, both).await;
        both.unwrap_or_else(|_| Err(crowded()))
    }
}

/// Who is counted as one: an address of IPv4, and of IPv6 the network of a single line, which has addresses without end.
fn block_of(source: IpAddr) -> String {
    match source.to_canonical() {
        IpAddr::V4(four) => four.to_string(),
        IpAddr::V6(six) => {
            let [a, b, c, d, ..] = six.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webapp::password::Passwords;

    fn at(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    async fn fails(throttle: &Throttle, username: &str, source: IpAddr) -> Result<(), ApiError> {
        throttle
            .attempt(username, source)
            .await
            .map(Attempt::failed)
    }

    /// Goal: guessing is slow, and a guesser locks nobody else out. Method: count answers.
    #[tokio::test]
    async fn failed_logins_are_throttled_per_account_and_source() {
        let throttle = Throttle::default();
        for _ in 0..FAILURES_ACCOUNT_MAX {
            fails(&throttle, "admin", at(1)).await.expect("looked at");
        }
        let refused = fails(&throttle, "admin", at(1))
            .await
            .expect_err("too many");
        assert_eq!(
            (
                refused.code.number(),
                refused.http_status(),
                refused.retry_after_s
            ),
            (1015, 429, Some(60))
        );
        assert!(fails(&throttle, "admin", at(2)).await.is_ok());
        assert!(fails(&throttle, "other", at(1)).await.is_ok());
    }

    #[tokio::test]
    async fn good_logins_do_not_count() {
        let throttle = Throttle::default();
        for _ in 0..200 {
            let attempt = throttle.attempt("bot1", at(1)).await.expect("looked at");
            attempt.succeeded();
        }
    }

    #[tokio::test]
    async fn a_source_that_tries_many_names_is_throttled() {
        let throttle = Throttle::default();
        let mut refused = 0;
        for n in 0..100 {
            let answer = fails(&throttle, &format!("user{n}"), at(1)).await;
            refused += usize::from(answer.is_err());
        }
        assert_eq!(refused, 70);
    }

    /// Goal: no more passwords are looked at than may fail, however many come at once, and who waits gets its turn; who gives
    /// up leaves nothing behind. Method: five that run, one behind them, with each end of the five.
    #[tokio::test]
    async fn as_many_run_as_may_still_fail() {
        use futures_util::FutureExt as _;
        let throttle = Throttle::default();
        let mut running = Vec::new();
        for _ in 0..FAILURES_ACCOUNT_MAX {
            running.push(throttle.attempt("bot1", at(1)).await.expect("looked at"));
        }
        assert!(throttle.attempt("bot1", at(1)).now_or_never().is_none());
        {
            let next = throttle.attempt("bot1", at(1));
            tokio::pin!(next);
            assert!(next.as_mut().now_or_never().is_none());
            running.pop().expect("one").succeeded();
            running.push(next.await.expect("its turn"));
        }
        for attempt in running {
            attempt.failed();
        }
        assert!(throttle.attempt("bot1", at(1)).await.is_err());
        let count = throttle.counts.get("192.0.2.1 bot1").expect("counted");
        assert_eq!(count.with(|state| (state.running, state.waiting)), (0, 0));
    }

    /// Goal: whoever hangs up while a password is looked at has had the attempt. Method: clients that go as soon as the work has
    /// begun, with a wrong password, and with the right one.
    #[tokio::test]
    async fn who_hangs_up_has_had_the_attempt() {
        use futures_util::FutureExt as _;
        let throttle = Throttle::default();
        let hash = Passwords::default().hash("Bcdefg1!").await.expect("hashed");
        let hangs_up = async |name: &str, password: &str| {
            let attempt = throttle.attempt(name, at(1)).await.expect("looked at");
            // Nobody is before it: the first look at the future begins the work.
            let passwords = Passwords::default();
            let check = passwords.check(password, Some(&hash), |fits| attempt.over(fits));
            drop(check.now_or_never());
        };
        for _ in 0..FAILURES_ACCOUNT_MAX {
            hangs_up("bot1", "guess").await;
        }
        let refused = throttle.attempt("bot1", at(1)).await;
        assert_eq!(refused.err().map(|e| e.code.number()), Some(1015));
        for _ in 0..=FAILURES_ACCOUNT_MAX {
            hangs_up("bot2", "Bcdefg1!").await;
        }
        assert!(throttle.attempt("bot2", at(1)).await.is_ok());
        // Before the work began nothing is counted.
        for _ in 0..=FAILURES_ACCOUNT_MAX {
            drop(throttle.attempt("bot3", at(1)).await.expect("looked at"));
        }
    }

    #[test]
    fn a_line_of_ipv6_is_one_source() {
        let six = |text: &str| block_of(text.parse().expect("an address"));
        assert_eq!(six("2001:db8:1:2:3::4"), six("2001:db8:1:2:ffff::1"));
        assert_ne!(six("2001:db8:1:2::1"), six("2001:db8:1:3::1"));
        assert_eq!(six("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
