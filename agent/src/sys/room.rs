//! Room in /run: sockets, secrets that a reload hands over, and the service manager's own files lie there, in memory.
//! When it is full, reloads and starts fail for reasons that nobody names. Frees nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tokio_util::sync::CancellationToken;

use super::clock;
use crate::metrics::RoomGauges;

/// The directory of this boot.
pub const RUN: &str = "/run";
/// What a person types.
pub const ADVICE: &str = "see what takes it: du -xh /run | sort -h | tail; then remove that, or type: mount -o remount,size=20% /run";
/// Less than this is too little for the next start, in bytes.
const FREE_MIN_BYTES: u64 = 4 << 20;
/// And this many files.
const INODES_MIN: u64 = 200;

/// What is wrong with the room in a directory in memory; `None`: there is enough, or nobody can say.
pub fn short_in(folder: &Path) -> Option<String> {
    let found = statvfs(folder).ok()?;
    let free = found.blocks_available() * found.fragment_size();
    let inodes = (found.files() > 0).then(|| found.files_available());
    short(&folder.display().to_string(), free, inodes)
}

/// Bytes that are free for this user where a path lies; `None`: nobody can say. Waits for the file system.
pub fn free_bytes(at: &Path) -> Option<u64> {
    let found = statvfs(at).ok()?;
    Some(found.blocks_available() * found.fragment_size())
}

/// How often the room of the state directory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Shows the room of the file system of this directory, now and every half minute, until `stop`. It is asked on a thread of
/// its own, and not again before that thread is back: a disk that hangs holds up nothing else.
pub async fn watch(folder: PathBuf, gauges: RoomGauges, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let (folder, gauges) = (folder.clone(), gauges.clone());
        let look = tokio::task::spawn_blocking(move || {
            let Ok(found) = statvfs(&folder) else { return };
            let bytes = |blocks: u64| {
                i64::try_from(blocks.saturating_mul(found.fragment_size())).unwrap_or(i64::MAX)
            };
            gauges.free.set(bytes(found.blocks_available()));
            gauges.size.set(bytes(found.blocks()));
        });
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look => {}
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = clock::sleep(LOOK_EVERY) => {}
        }
    }
}

fn short(shown: &str, free: u64, inodes: Option<u64>) -> Option<String> {
    if free < FREE_MIN_BYTES {
        let kib = free >> 10;
        return Some(format!(
            "{shown} is full ({kib} KiB left): the next reload or start may fail"
        ));
    }
    let left = inodes.filter(|left| *left < INODES_MIN)?;
    Some(format!(
        "{shown} takes no more files ({left} left): the next reload or start may fail"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_named() {
        assert_eq!(short("/run", FREE_MIN_BYTES, None), None);
        assert_eq!(short("/run", u64::MAX, Some(INODES_MIN)), None);
        let full = short("/run", 4096, Some(9)).expect("full");
        assert!(full.starts_with("/run is full (4 KiB left)"), "{full}");
        let files = short("/run", u64::MAX, Some(9)).expect("no files");
        assert!(files.contains("no more files (9 left)"), "{files}");
        assert_eq!(short_in(Path::new("/nowhere")), None);
    }
}
