//! Folders that the gate needs: a cgroup and its id, the top of its hierarchy, the pins and their lock.
//! Attaches and loads nothing.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{BPF_FS_MAGIC, CGROUP2_SUPER_MAGIC, statfs};

use crate::Error;

/// Times that a busy lock is tried, and the pause between two: five seconds in all.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Id of a cgroup: the inode number of its folder (kernfs, on 64-bit kernels since 5.5).
///
/// # Errors
/// There is no such folder.
pub fn cgroup_id(folder: &Path) -> io::Result<u64> {
    fs::metadata(folder).map(|found| found.ino())
}

fn is_cgroup2(folder: &Path) -> bool {
    statfs(folder).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// The folder, opened, and its id.
pub(crate) fn open_cgroup(folder: &Path) -> Result<(File, u64), Error> {
    if !is_cgroup2(folder) {
        return Err(Error::NotCgroup2(folder.to_owned()));
    }
    let open = || -> io::Result<(File, u64)> {
        let file = File::open(folder)?;
        let id = file.metadata()?.ino();
        Ok((file, id))
    };
    open().map_err(Error::io(format!("open {}", folder.display())))
}

/// The highest folder of the hierarchy that this process sees.
pub(crate) fn root_of(folder: &Path) -> Result<PathBuf, Error> {
    let folder =
        fs::canonicalize(folder).map_err(Error::io(format!("find {}", folder.display())))?;
    let root = folder.ancestors().take_while(|a| is_cgroup2(a)).last();
    root.map(Path::to_path_buf)
        .ok_or(Error::NotCgroup2(folder.clone()))
}

/// Makes the folders for the pins where they are missing, for their owner alone.
pub(crate) fn make_pins(pins: &Path, folders: &[PathBuf]) -> Result<(), Error> {
    let above = pins.ancestors().find(|a| a.exists()).unwrap_or(pins);
    if !statfs(above).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC) {
        return Err(Error::NotBpffs(pins.to_owned()));
    }
    for folder in folders {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(Error::io(format!("make {}", folder.display())))?;
    }
    Ok(())
}

/// Held while pins change. The kernel lets go of it when the process ends, however it ends.
pub(crate) fn lock(folder: &Path) -> Result<Flock<File>, Error> {
    let mut file = File::open(folder).map_err(Error::io(format!("open {}", folder.display())))?;
    for _ in 0..LOCK_TRIES {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, Errno::EWOULDBLOCK)) => file,
            Err((_, e)) => return Err(Error::io(format!("lock {}", folder.display()))(e.into())),
        };
        std::thread::sleep(LOCK_PAUSE);
    }
    Err(Error::Busy(folder.to_owned()))
}
