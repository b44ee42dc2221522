//! What is asked of the kernel and of systemd.

pub mod child;
pub mod clock;
pub mod memory;
pub mod notify;
pub mod sched;
pub mod state;
