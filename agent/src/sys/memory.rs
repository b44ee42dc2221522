//! What the allocator keeps. One of the few places with `unsafe`: nix does not wrap mallopt.

/// Blocks from this size on are mapped on their own, and go back to the kernel when they are freed.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 128 << 10;

/// Keeps the allocator from holding on to large blocks: glibc would learn from the first login's 19 MiB to keep them.
pub fn give_back_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two numbers and changes a parameter of the allocator; any time is a good time.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, LARGE);
    }
}
