//! The gate between the upstream client and the network: no byte without a live tenure.
//! Grants nothing: the driver opens, extends and shuts it as the tenure says.

use std::sync::atomic::{AtomicU64, Ordering};

use wa_core::id::Epoch;
use wa_core::time::Instant;

/// How a tenure's end is enforced.
#[derive(Debug)]
pub enum Gate {
    /// Within this process: asked before every connect and every write. Stops our own code, not queued bytes.
    Process(ProcessGate),
}

impl Gate {
    /// A gate that is shut.
    pub fn process() -> Self {
        Self::Process(ProcessGate::default())
    }

    /// Opens for an epoch until its deadline. An epoch that was shut never opens again: then the seal comes back.
    pub fn open(&self, epoch: Epoch, deadline: Instant) -> Option<Epoch> {
        let Self::Process(gate) = self;
        gate.open(epoch, deadline)
    }

    /// Moves the deadline of the open epoch.
    pub fn extend(&self, epoch: Epoch, deadline: Instant) {
        let Self::Process(gate) = self;
        if gate.epoch.load(Ordering::Acquire) == epoch.0 {
            gate.open(epoch, deadline);
        }
    }

    /// Shuts for this epoch and all before it, for good.
    pub fn shut(&self, epoch: Epoch) {
        let Self::Process(gate) = self;
        gate.sealed.fetch_max(epoch.0, Ordering::AcqRel);
        if gate.epoch.load(Ordering::Acquire) <= epoch.0 {
            gate.deadline.store(0, Ordering::Release);
        }
    }

    /// A byte of this epoch may leave at `now`.
    pub fn passes(&self, epoch: Epoch, now: Instant) -> bool {
        let Self::Process(gate) = self;
        let deadline = gate.deadline.load(Ordering::Acquire);
        let same = gate.epoch.load(Ordering::Acquire) == epoch.0;
        // Read twice: the deadline must not be the next epoch's.
        same && deadline == gate.deadline.load(Ordering::Acquire)
            && now.0 < deadline
            && epoch.0 > gate.sealed.load(Ordering::Acquire)
    }
}

/// The state of [`Gate::Process`]. Written by the driver only.
#[derive(Debug, Default)]
pub struct ProcessGate {
    epoch: AtomicU64,
    deadline: AtomicU64,
    sealed: AtomicU64,
}

impl ProcessGate {
    fn open(&self, epoch: Epoch, deadline: Instant) -> Option<Epoch> {
        let sealed = self.sealed.load(Ordering::Acquire);
        if epoch.0 <= sealed {
            return Some(Epoch(sealed));
        }
        if self.epoch.load(Ordering::Acquire) != epoch.0 {
            self.deadline.store(0, Ordering::Release);
            self.epoch.store(epoch.0, Ordering::Release);
        }
        self.deadline.store(deadline.0, Ordering::Release);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a tenure that lapsed, or was shut, never passes again. Method: every way to reopen it.
    #[test]
    fn what_was_shut_stays_shut() {
        let gate = Gate::process();
        let at = Instant::from_millis;
        assert!(!gate.passes(Epoch(1), at(1)));
        gate.open(Epoch(5), at(100));
        assert!(gate.passes(Epoch(5), at(99)));
        assert!(!gate.passes(Epoch(5), at(100)));
        assert!(!gate.passes(Epoch(4), at(50)) && !gate.passes(Epoch(6), at(50)));
        gate.extend(Epoch(5), at(200));
        assert!(gate.passes(Epoch(5), at(150)));
        gate.shut(Epoch(5));
        gate.extend(Epoch(5), at(300));
        gate.open(Epoch(5), at(300));
        assert!(!gate.passes(Epoch(5), at(150)));
        gate.open(Epoch(6), at(400));
        gate.shut(Epoch(5));
        assert!(gate.passes(Epoch(6), at(350)));
    }
}
