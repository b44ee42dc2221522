//! The coreapp's side of its gate: one page shared with the kernel, and stores in an order that no reader can tear.
//! Makes no bpf(2) call, so that it works without any privilege; renews nothing and reads no clock.

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::Error;
use crate::layout::PAGE;

/// `struct wa_unit`.
#[repr(C)]
struct Entry {
    deadline_ns: AtomicU64,
    epoch: AtomicU64,
}

/// The epoch was open before and is not any more: a tenure that ended never lives again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("epoch {epoch} is spent: this gate had epoch {highest} open before")]
pub struct Spent {
    pub epoch: u64,
    pub highest: u64,
}

/// A unit's own entry. One writer: whoever holds this.
#[derive(Debug)]
pub struct UnitMap {
    entry: NonNull<Entry>,
    /// Highest epoch that was ever opened here.
    highest: u64,
    open: bool,
}

// SAFETY: the page belongs to this value alone within the process, and everything in it is atomic.
unsafe impl Send for UnitMap {}

impl UnitMap {
    /// Maps what the host agent handed over.
    ///
    /// # Errors
    /// The descriptor is not such a map, or was opened for reading only.
    pub fn map(fd: OwnedFd) -> Result<UnitMap, Error> {
        let length = NonZeroUsize::new(PAGE).expect("a page is not empty");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new shared mapping at an address of the kernel's choice; nothing else knows it. The kernel refuses
        // any map of BPF that is shorter than a page or not made for this.
        let page = unsafe {
            mmap(
                None,
                length,
                protection,
                MapFlags::MAP_SHARED,
                fd.as_fd(),
                0,
            )
        }
        .map_err(|e| Error::NotAUnit(e.into()))?;
        // An ordinary file can be mapped too, and would end this process at the first store beyond its end.
        if !is_bpf_map(&fd) {
            // SAFETY: made above, and nothing points into it yet.
            let _ = unsafe { munmap(page, PAGE) };
            return Err(Error::NotAUnit(std::io::Error::other("not a BPF map")));
        }
        let mut map = UnitMap {
            entry: page.cast(),
            highest: 0,
            open: false,
        };
        // Whoever wrote here before is over: this is a new incarnation.
        map.highest = map.entry().epoch.load(Ordering::Acquire);
        map.shut();
        Ok(map)
    }

    fn entry(&self) -> &Entry {
        // SAFETY: mapped in `map`, unmapped in `drop`, page-aligned, longer than an Entry, and atomic throughout.
        unsafe { self.entry.as_ref() }
    }

    /// Opens the gate for an epoch until a deadline on CLOCK_BOOTTIME.
    ///
    /// # Errors
    /// The epoch is not higher than every one before.
    pub fn open(&mut self, epoch: u64, deadline_ns: u64) -> Result<(), Spent> {
        if epoch <= self.highest {
            return Err(self.spent(epoch));
        }
        let entry = self.entry();
        entry.deadline_ns.store(0, Ordering::Release);
        entry.epoch.store(epoch, Ordering::Release);
        entry.deadline_ns.store(deadline_ns, Ordering::Release);
        self.highest = epoch;
        self.open = true;
        Ok(())
    }

    /// Moves the deadline of the open epoch, to later or earlier.
    ///
    /// # Errors
    /// Another epoch is open, or none.
    pub fn extend(&mut self, epoch: u64, deadline_ns: u64) -> Result<(), Spent> {
        if !self.open || epoch != self.highest {
            return Err(self.spent(epoch));
        }
        self.entry()
            .deadline_ns
            .store(deadline_ns, Ordering::Release);
        Ok(())
    }

    /// Shuts the gate. The epoch that was open is spent.
    pub fn shut(&mut self) {
        self.entry().deadline_ns.store(0, Ordering::Release);
        self.open = false;
    }

    /// Epoch and deadline as they stand there.
    pub fn read(&self) -> (u64, u64) {
        let entry = self.entry();
        (
            entry.epoch.load(Ordering::Acquire),
            entry.deadline_ns.load(Ordering::Acquire),
        )
    }

    fn spent(&self, epoch: u64) -> Spent {
        Spent {
            epoch,
            highest: self.highest,
        }
    }
}

/// The kernel names what is behind an anonymous descriptor.
fn is_bpf_map(fd: &OwnedFd) -> bool {
    use std::os::fd::AsRawFd;
    let name = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    // A map that was opened from its pin is called so as well. Without /proc there is nothing to go by.
    name.is_err() || name.is_ok_and(|n| n.to_string_lossy().contains("bpf-map"))
}

impl Drop for UnitMap {
    fn drop(&mut self) {
        self.shut();
        // SAFETY: mapped in `map` with this length; no reference into it outlives this value.
        let _ = unsafe { munmap(self.entry.cast(), PAGE) };
    }
}
