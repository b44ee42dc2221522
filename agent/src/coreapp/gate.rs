//! The gate of this process: no upstream request starts without a live tenure.
//! The kernel's gate, which needs no goodwill of this process, comes with the host agent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use wa_core::id::{Epoch, Ownership};
use wa_core::time::Instant;

use crate::sys::clock;

struct Entry {
    own: Ownership,
    deadline: AtomicU64,
}

/// One entry, or none: shut.
#[derive(Default)]
pub struct Gate(ArcSwapOption<Entry>);

impl Gate {
    /// Opens for this ownership until the deadline.
    pub fn open(&self, own: Ownership, deadline: Instant) {
        self.0.store(Some(Arc::new(Entry {
            own,
            deadline: AtomicU64::new(deadline.0),
        })));
    }

    /// Moves the deadline, if the entry is still of this epoch.
    pub fn extend(&self, epoch: Epoch, deadline: Instant) {
        if let Some(entry) = self.0.load().as_ref()
            && entry.own.epoch == epoch
        {
            entry.deadline.fetch_max(deadline.0, Ordering::AcqRel);
        }
    }

    /// Shuts for good: the entry of a later epoch is another one.
    pub fn shut(&self) {
        self.0.store(None);
    }

    /// The ownership under which something may start now.
    pub fn live(&self) -> Option<Ownership> {
        let entry = self.0.load();
        let entry = entry.as_ref()?;
        (clock::now().0 < entry.deadline.load(Ordering::Acquire)).then(|| entry.own.clone())
    }

    /// This very ownership may act now.
    pub fn allows(&self, epoch: Epoch) -> bool {
        self.0.load().as_ref().is_some_and(|e| {
            e.own.epoch == epoch && clock::now().0 < e.deadline.load(Ordering::Acquire)
        })
    }
}
