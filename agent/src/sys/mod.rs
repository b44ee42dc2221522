//! What is asked of the kernel and of systemd.

#[cfg(test)]
pub mod alloc_count;
pub mod beneath;
pub mod cgroup;
pub mod child;
pub mod clock;
pub mod debug;
pub mod dial;
pub mod gate;
pub mod gate_socket;
pub mod high_water;
pub mod laid;
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
pub mod room;
pub mod sched;
pub mod sock_destroy;
pub mod socket;
pub mod state;
pub mod suitability;
pub mod systemd;
pub mod trouble;
