//! One answer for everybody who asks at about the same time: it is made once, and kept for a moment.
//! Knows nothing of what it keeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;
use wa_core::time::Instant;

use crate::api::error::ApiError;
use crate::api::v1::code::Code;
use crate::sys::clock;

/// How long an answer is given to others who ask.
pub const KEEP: Duration = Duration::from_secs(5);
/// The same for a failure, which may be over soon.
const KEEP_FAILURE: Duration = Duration::from_secs(1);
/// Requests that may wait while the answer is made.
const WAITING_MAX: usize = 64;

/// An answer, good or bad, and when it was made.
struct Kept<T> {
    at: Instant,
    made: Result<Arc<T>, ApiError>,
}

/// The answer of one call.
pub struct Shared<T> {
    kept: ArcSwapOption<Kept<T>>,
    making: Mutex<()>,
    waiting: AtomicUsize,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self {
            kept: ArcSwapOption::empty(),
            making: Mutex::new(()),
            waiting: AtomicUsize::new(0),
        }
    }
}

/// One who waits; counted until dropped, also when the client goes away.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T> Shared<T> {
    /// The answer that was made lately, or a new one. Whoever comes meanwhile waits for it.
    ///
    /// # Errors
    /// Those of `make`; 1016 when too many wait already.
    pub async fn get(
        &self,
        make: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<Arc<T>, ApiError> {
        if let Some(made) = self.fresh() {
            return made;
        }
        // Counted first, checked then: never one too many.
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waits = Waits(&self.waiting);
        if before >= WAITING_MAX {
            let why = "Too many requests wait for the same answer";
            return Err(ApiError::with(Code::Overloaded, why).retry_after(1));
        }
        let _making = self.making.lock().await;
        if let Some(made) = self.fresh() {
            return made;
        }
        let made = make.await.map(Arc::new);
        self.kept.store(Some(Arc::new(Kept {
            at: clock::now(),
            made: made.clone(),
        })));
        made
    }

    /// Forgets what it keeps.
    #[cfg(test)]
    pub fn forget(&self) {
        self.kept.store(None);
    }

    fn fresh(&self) -> Option<Result<Arc<T>, ApiError>> {
        let kept = self.kept.load();
        let kept = kept.as_ref()?;
        let keep = match kept.made {
            Ok(_) => KEEP,
            Err(_) => KEEP_FAILURE,
        };
        (clock::now().since(kept.at) < keep).then(|| kept.made.clone())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    /// Goal: many who ask at once cause one answer, and all get it; a failure is shared as well. Method: 40 at once, counted.
    #[tokio::test]
    async fn an_answer_is_made_once() {
        let (shared, made) = (Shared::default(), AtomicUsize::new(0));
        let make = || async {
            made.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok(7)
        };
        let all = join_all((0..40).map(|_| shared.get(make()))).await;
        assert!(all.iter().all(|got| got.as_deref() == Ok(&7)));
        assert_eq!(made.load(Ordering::SeqCst), 1);
        shared.forget();
        let failed = || async {
            made.fetch_add(1, Ordering::SeqCst);
            Err(ApiError::new(Code::NotReady))
        };
        let all = join_all((0..40).map(|_| shared.get(failed()))).await;
        assert!(
            all.iter()
                .all(|got| got == &Err(ApiError::new(Code::NotReady)))
        );
        assert_eq!(made.load(Ordering::SeqCst), 2);
    }

    /// Goal: who waits is bounded, and whoever goes away makes room. Method: one that never ends, more than may wait, all
    /// dropped, one more.
    #[tokio::test]
    async fn who_waits_is_bounded() {
        let shared: Shared<u8> = Shared::default();
        let never = std::future::pending;
        let mut waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| Box::pin(shared.get(never())))
            .collect();
        for one in &mut waiting {
            assert!(futures_util::poll!(one).is_pending());
        }
        let refused = shared.get(never()).await;
        assert_eq!(refused.map_err(|e| e.code), Err(Code::Overloaded));
        drop(waiting);
        assert_eq!(shared.get(async { Ok(3) }).await.as_deref(), Ok(&3));
    }
}
