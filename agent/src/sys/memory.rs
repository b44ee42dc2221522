//! What the allocator keeps, and what stays in memory. One of the few places with `unsafe`: nix wraps neither mallopt nor
//! locking on fault.

use std::io;

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

/// What could be locked.
#[derive(Debug)]
pub struct Locked {
    /// Address space that is locked as its pages are touched, in bytes.
    pub bytes: u64,
    /// What was left out, in bytes, and why.
    pub left: Option<(u64, io::Error)>,
}

/// Keeps what is mapped now in memory, each page from its first touch on: a heartbeat must not wait for a disk. Where the
/// limit (`LimitMEMLOCK=`) is too small for all of it: this thread's stack and the program first, then the smallest
/// mappings, as many as it allows. Allocates; meant to be called once, before the thread's loop.
pub fn lock_for_this_thread() -> Locked {
    let flags = nix::libc::MCL_CURRENT | nix::libc::MCL_ONFAULT;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let program = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let on_stack = 0u8;
    let mut mappings = mappings(
        &maps,
        &program.to_string_lossy(),
        (&raw const on_stack).addr(),
    );
    // SAFETY: takes flags only, and changes no content of any page.
    if unsafe { nix::libc::mlockall(flags) } == 0 {
        let bytes = mappings.iter().map(Mapping::len).sum();
        return Locked { bytes, left: None };
    }
    mappings.sort_by_key(|m| (m.rank, m.len()));
    let mut locked = Locked {
        bytes: 0,
        left: None,
    };
    for mapping in mappings {
        // SAFETY: the range was mapped a moment ago; where it is not any more the kernel says ENOMEM. No content changes.
        let done = unsafe {
            nix::libc::mlock2(
                mapping.from as *const _,
                mapping.to - mapping.from,
                nix::libc::MLOCK_ONFAULT,
            )
        };
        if done == 0 {
            locked.bytes += mapping.len();
        } else {
            let error = io::Error::last_os_error();
            let before = locked.left.take();
            let left = before.as_ref().map_or(0, |(left, _)| *left) + mapping.len();
            locked.left = Some((left, before.map_or(error, |(_, first)| first)));
        }
    }
    locked
}

#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    /// What matters most comes first.
    rank: u8,
    from: usize,
    to: usize,
}

impl Mapping {
    fn len(&self) -> u64 {
        (self.to - self.from) as u64
    }
}

/// What a thread may touch, by proc_pid_maps(5). `here`: an address on its stack.
fn mappings(maps: &str, program: &str, here: usize) -> Vec<Mapping> {
    maps.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (from, to) = words.next()?.split_once('-')?;
            let access = words.next()?;
            let path = words.nth(3).unwrap_or_default();
            let (from, to) = (
                usize::from_str_radix(from, 16).ok()?,
                usize::from_str_radix(to, 16).ok()?,
            );
            let rank = if (from..to).contains(&here) {
                0
            } else if path == program {
                1
            } else if path.starts_with('/') {
                2
            } else {
                3
            };
            // Reserved address space and the kernel's own pages are never touched, or always there.
            let plain = access.starts_with('r') && !path.starts_with("[v");
            plain.then_some(Mapping { rank, from, to })
        })
        .collect()
}

/// Gives what is free at the end of the allocator's arenas back to the kernel: after something large that happens once.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes a number and touches free blocks only; any time is a good time.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the stack and the program come first, and what nobody can touch does not count.
    #[test]
    fn what_matters_most_is_locked_first() {
        let maps = "1000-3000 r-xp 00000000 08:01 1   /usr/bin/wa-agent\n\
                    3000-4000 ---p 00000000 00:00 0 \n\
                    4000-5000 rw-p 00000000 00:00 0 \n\
                    5000-6000 rw-p 00000000 00:00 0    [stack]\n\
                    6000-7000 r--p 00000000 00:00 0    [vvar]\n\
                    7000-8000 r-xp 00000000 08:01 2    /lib/libc.so.6\n";
        let found = mappings(maps, "/usr/bin/wa-agent", 0x4800);
        let ranks: Vec<(usize, u8)> = found.iter().map(|m| (m.from, m.rank)).collect();
        assert_eq!(ranks, [(0x1000, 1), (0x4000, 0), (0x5000, 3), (0x7000, 2)]);
    }

    /// Goal: whatever the limit, something sensible is said, and the thread's own stack is locked where anything may be.
    #[test]
    fn locking_says_what_it_did() {
        let locked = std::thread::spawn(lock_for_this_thread)
            .join()
            .expect("joined");
        assert!(locked.bytes > 0 || locked.left.is_some(), "{locked:?}");
    }
}
