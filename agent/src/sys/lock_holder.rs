//! Who stands still while holding a write lock on a file: by /proc/locks and /proc/PID/stat.
//! Ends nobody, and opens none of the files: closing one gives up every lock that this process has on it (fcntl(2)).

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::stat::makedev;
use procfs::process::{ProcState, Process, Task};
use procfs::{Lock, LockKind, LockType, ProcResult};

/// A process that was found stopped. Equal at two looks: the same process, and it did not run in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frozen {
    pub pid: i32,
    /// Since boot, in ticks: numbers of processes are given again.
    started: u64,
    /// How often its threads gave up a processor: one that ran in between has, also when a debugger stops it all the time.
    ran: u64,
}

impl Frozen {
    /// Some process, for tests of who decides.
    #[cfg(test)]
    pub const fn example(pid: i32, ran: u64) -> Self {
        Self {
            pid,
            started: 1,
            ran,
        }
    }

    /// A process that is stopped by a signal or a tracer; `None` when it runs, sleeps or is gone.
    pub fn of(pid: i32) -> Option<Self> {
        let process = Process::new(pid).ok()?;
        let stat = process.stat().ok()?;
        let stopped = matches!(stat.state(), Ok(ProcState::Stopped | ProcState::Tracing));
        stopped.then_some(Self {
            pid,
            started: stat.starttime,
            ran: process.tasks().ok()?.map(switches).sum(),
        })
    }
}

/// How often a thread gave up its processor, wanted or not.
fn switches(task: ProcResult<Task>) -> u64 {
    let Ok(status) = task.and_then(|task| task.status()) else {
        return 0;
    };
    let voluntary = status.voluntary_ctxt_switches.unwrap_or(0);
    voluntary + status.nonvoluntary_ctxt_switches.unwrap_or(0)
}

/// Those that hold a write lock on one of the files and are stopped. A file that does not exist is locked by nobody.
///
/// # Errors
/// When the kernel's list of locks cannot be read.
pub fn frozen(files: &[PathBuf]) -> ProcResult<BTreeSet<Frozen>> {
    Ok(writers(files)?.into_iter().filter_map(Frozen::of).collect())
}

/// Processes with a POSIX write lock anywhere in one of the files, as numbered here: of other pid namespaces nobody.
///
/// # Errors
/// When the kernel's list of locks cannot be read.
pub fn writers(files: &[PathBuf]) -> ProcResult<BTreeSet<i32>> {
    let files: Vec<File<'_>> = files.iter().filter_map(|path| File::of(path)).collect();
    if files.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut found = BTreeSet::new();
    for lock in procfs::locks()? {
        let writes = lock.lock_type == LockType::Posix && matches!(lock.kind, LockKind::Write);
        if let Some(pid) = lock.pid.filter(|pid| writes && *pid > 0)
            && files.iter().any(|file| file.is_of(&lock))
        {
            found.insert(pid);
        }
    }
    Ok(found)
}

/// A file as a lock names it.
struct File<'a> {
    path: &'a Path,
    device: u64,
    inode: u64,
}

impl<'a> File<'a> {
    fn of(path: &'a Path) -> Option<Self> {
        let about = std::fs::metadata(path).ok()?;
        Some(Self {
            path,
            device: about.dev(),
            inode: about.ino(),
        })
    }

    fn is_of(&self, lock: &Lock) -> bool {
        let (major, minor) = (lock.devmaj, lock.devmin);
        self.inode == lock.inode
            && (self.device == makedev(major.into(), minor.into())
                || mounted_as(self.path).is_some_and(|own| own == format!("{major}:{minor}")))
    }
}

/// The device of the mount that a file is on, as major:minor. It is what locks name, and not always what stat(2) does:
/// each btrfs subvolume has one of its own there.
fn mounted_as(path: &Path) -> Option<String> {
    let mounts = Process::myself().and_then(|own| own.mountinfo()).ok()?;
    // Of two at the same place the latest hides the one before it.
    let above = mounts
        .into_iter()
        .filter(|mount| path.starts_with(&mount.mount_point))
        .max_by_key(|mount| mount.mount_point.components().count());
    above.map(|mount| mount.majmin)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use nix::unistd::{ForkResult, Pid};

    use super::*;

    const NOBODY: [i32; 0] = [];

    /// A child that takes a lock of this kind on the file, if any, and stops. Ended when it is dropped.
    struct Child(Pid);

    impl Child {
        fn stopped(file: &std::fs::File, lock: Option<i32>) -> Self {
            let fd = file.as_raw_fd();
            // SAFETY: the child calls fcntl, raise, pause and _exit only, which are async-signal-safe.
            let pid = match unsafe { nix::unistd::fork() }.expect("forked") {
                ForkResult::Parent { child } => child,
                ForkResult::Child => unsafe { hold(fd, lock) },
            };
            let child = Self(pid);
            let told = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("waited");
            assert_eq!(told, WaitStatus::Stopped(pid, Signal::SIGSTOP));
            child
        }

        fn go_on(&self) {
            kill(self.0, Signal::SIGCONT).expect("sent");
            let told = waitpid(self.0, Some(WaitPidFlag::WCONTINUED)).expect("waited");
            assert_eq!(told, WaitStatus::Continued(self.0));
        }

        fn stop(&self) {
            kill(self.0, Signal::SIGSTOP).expect("sent");
            waitpid(self.0, Some(WaitPidFlag::WUNTRACED)).expect("stopped");
        }

        fn pid(&self) -> i32 {
            self.0.as_raw()
        }
    }

    impl Drop for Child {
        fn drop(&mut self) {
            let _ = kill(self.0, Signal::SIGKILL);
            let _ = waitpid(self.0, None);
        }
    }

    /// What the child does after the fork. The write lock of a write-ahead log is byte 120.
    unsafe fn hold(fd: i32, lock: Option<i32>) -> ! {
        use nix::libc;
        // SAFETY: plain data, and system calls on a descriptor that was inherited.
        unsafe {
            if let Some(kind) = lock {
                let mut range: libc::flock = std::mem::zeroed();
                range.l_type = i16::try_from(kind).unwrap_or(0);
                range.l_whence = 0;
                range.l_start = 120;
                range.l_len = 1;
                if libc::fcntl(fd, libc::F_SETLK, &raw const range) != 0 {
                    libc::_exit(1);
                }
            }
            libc::raise(libc::SIGSTOP);
            loop {
                libc::pause();
            }
        }
    }

    /// Goal: only a process that is stopped and holds a write lock on the file is named. Method: real ones that are waited
    /// for; the same one stopped, running and stopped again, beside one without a lock, a reader, and another file's.
    #[test]
    fn only_a_stopped_writer_is_named() {
        use nix::libc::{F_RDLCK, F_WRLCK};
        let directory = tempfile::tempdir().expect("a directory");
        let open = |name: &str| {
            let path = directory.path().join(name);
            let mut options = std::fs::OpenOptions::new();
            let options = options.read(true).write(true).create_new(true);
            (options.open(&path).expect("made"), path)
        };
        let (file, path) = open("a");
        let (other, _) = open("b");
        let files = [path, directory.path().join("missing")];
        let named = || -> Vec<i32> {
            let all = frozen(&files).expect("read");
            all.into_iter().map(|found| found.pid).collect()
        };
        let _idle = Child::stopped(&file, None);
        let _elsewhere = Child::stopped(&other, Some(F_WRLCK));
        let reader = Child::stopped(&file, Some(F_RDLCK));
        assert_eq!(named(), NOBODY);
        drop(reader);
        let writer = Child::stopped(&file, Some(F_WRLCK));
        assert_eq!(named(), [writer.pid()]);
        let before = Frozen::of(writer.pid());
        assert_eq!(before, Frozen::of(writer.pid()), "still the same");
        writer.go_on();
        assert_eq!(named(), NOBODY, "it runs");
        assert!(writers(&files).expect("read").contains(&writer.pid()));
        writer.stop();
        assert_eq!(named(), [writer.pid()]);
        assert_ne!(before, Frozen::of(writer.pid()), "it ran in between");
        let pid = writer.pid();
        drop(writer);
        assert_eq!(
            (named(), Frozen::of(pid)),
            (NOBODY.to_vec(), None),
            "it is gone"
        );
    }

    /// Goal: a lock is known also where stat(2) names another device than the lock does. Method: the mount of a real file.
    #[test]
    fn the_device_of_the_mount_is_found() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().canonicalize().expect("there");
        let own = mounted_as(&path).expect("on some mount");
        let (major, minor) = own.split_once(':').expect("two numbers");
        let lock = Lock {
            lock_type: LockType::Posix,
            mode: procfs::LockMode::Advisory,
            kind: LockKind::Write,
            pid: Some(1),
            devmaj: major.parse().expect("a number"),
            devmin: minor.parse().expect("a number"),
            inode: 7,
            offset_first: 120,
            offset_last: Some(120),
        };
        let there = |device, inode| File {
            path: &path,
            device,
            inode,
        };
        assert!(there(u64::MAX, 7).is_of(&lock), "by its mount");
        assert!(!there(u64::MAX, 8).is_of(&lock), "another file");
        let strange = Lock {
            devmaj: u32::MAX,
            ..lock
        };
        assert!(!there(u64::MAX, 7).is_of(&strange), "another device");
    }
}
