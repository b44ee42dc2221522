//! Whether something is being done in this tenure that may be done once at a time.
//! Does nothing itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What may be in hand.
#[derive(Debug, Default)]
pub struct InHand(Arc<AtomicBool>);

/// It is in hand; put down when this is dropped.
pub struct Held(Arc<AtomicBool>);

impl InHand {
    /// Somebody has it in hand.
    pub fn is(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Takes it; `None`: somebody has it.
    pub fn take(&self) -> Option<Held> {
        let free = !self.0.swap(true, Ordering::AcqRel);
        free.then(|| Held(Arc::clone(&self.0)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
