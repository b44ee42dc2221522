//! What is asked of the kernel and of systemd.

#[cfg(test)]
pub mod alloc_count;
pub mod cgroup;
pub mod child;
pub mod clock;
pub mod debug;
pub mod gate;
pub mod gate_socket;
pub mod listener;
pub mod lock_holder;
pub mod look_socket;
pub mod machine;
pub mod memory;
pub mod mount;
pub mod nft;
pub mod notify;
pub mod old_client;
pub mod probe;
pub mod process;
pub mod sched;
pub mod sock_destroy;
pub mod socket;
pub mod state;
pub mod suitability;
pub mod systemd;
