//! One unit's control group: is anybody left in it, and the end of everybody in it.
//! Held by a file descriptor: a group that was removed and made again under the same name is another one.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nix::sys::stat::Mode;
use tokio::io::unix::AsyncFd;

/// Where the unified hierarchy is mounted: `/sys/fs/cgroup`, or below it on hosts that still have the old one too.
///
/// # Errors
/// When there is none: this kernel or container has no cgroup v2.
pub fn root() -> io::Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    root_in(&mounts).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "no cgroup v2 hierarchy is mounted; boot with systemd.unified_cgroup_hierarchy=1",
        )
    })
}

/// A unit may have a part of the hierarchy mounted once more, below, so that it can be written.
fn root_in(mountinfo: &str) -> Option<PathBuf> {
    let unified = mountinfo.lines().filter(|line| {
        line.split_once(" - ")
            .is_some_and(|(_, after)| after.starts_with("cgroup2 "))
    });
    let places = unified.filter_map(|line| line.split(' ').nth(4));
    places.min_by_key(|place| place.len()).map(PathBuf::from)
}

/// What the kernel calls the control group of a process, with a leading slash.
///
/// # Errors
/// When the process is gone.
pub fn of_process(pid: i32) -> io::Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::"));
    own.map(str::to_owned)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it is in no cgroup v2 group"))
}

/// A control group, as it was when it was opened.
#[derive(Debug)]
pub struct Cgroup {
    directory: OwnedFd,
    path: PathBuf,
}

impl Cgroup {
    /// Opens the group of a unit; `control_group` is what systemd calls it, with a leading slash.
    ///
    /// # Errors
    /// When it does not exist (any more).
    pub fn open(root: &Path, control_group: &str) -> io::Result<Self> {
        let path = root.join(control_group.trim_start_matches('/'));
        let directory = nix::fcntl::open(
            &path,
            OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Self { directory, path })
    }

    /// The kernel's number of it, never given twice in one boot.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn id(&self) -> io::Result<u64> {
        Ok(nix::sys::stat::fstat(&self.directory)?.st_ino)
    }

    /// It still exists under its name: it was not removed, and not made again.
    pub fn exists(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let now = std::fs::metadata(&self.path).map(|now| now.ino());
        now.is_ok_and(|now| self.id().is_ok_and(|own| own == now))
    }

    /// Where it is in the file system.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Nobody is left in it or below it. A group that was removed is empty: the kernel removes no other.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn empty(&self) -> io::Result<bool> {
        match self.read("cgroup.events") {
            Ok(text) => Ok(text.lines().any(|line| line == "populated 0")),
            Err(error) if gone(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// SIGKILL for everybody in it, atomically against forks.
    ///
    /// # Errors
    /// When the kernel refuses (before 5.14 there is no `cgroup.kill`). A group that is gone is no error.
    pub fn kill(&self) -> io::Result<()> {
        let done = self
            .file("cgroup.kill", OFlag::O_WRONLY)
            .and_then(|mut file| file.write_all(b"1"));
        match done {
            Err(error) if gone(&error) => Ok(()),
            done => done,
        }
    }

    /// The processes in it.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn pids(&self) -> io::Result<Vec<i32>> {
        match self.read("cgroup.procs") {
            Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
            Err(error) if gone(&error) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn file(&self, name: &str, flags: OFlag) -> io::Result<File> {
        let opened = openat(
            &self.directory,
            name,
            flags | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        Ok(File::from(opened))
    }

    fn read(&self, name: &str) -> io::Result<String> {
        let mut text = String::new();
        self.file(name, OFlag::O_RDONLY)?
            .read_to_string(&mut text)?;
        Ok(text)
    }
}

fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32)
}

/// nix's type lends its descriptor only in the safe form.
struct Watched(Inotify);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Tells when groups become empty, the moment the kernel says so.
pub struct Watcher {
    inotify: AsyncFd<Watched>,
}

impl Watcher {
    /// A watcher of nothing yet.
    ///
    /// # Errors
    /// When the kernel has no inotify instance left for this user.
    pub fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        // SAFETY: `Watched` owns the descriptor for as long as it lives and always lends the same one.
        let inotify = unsafe { AsyncFd::register(Watched(inotify))? };
        Ok(Self { inotify })
    }

    /// Watches a group from now on.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn add(&self, group: &Cgroup) -> io::Result<WatchDescriptor> {
        let events = group.path.join("cgroup.events");
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_DELETE_SELF;
        Ok(self.inotify.get_ref().0.add_watch(&events, flags)?)
    }

    /// Stops watching; a group that is gone is no longer watched anyway.
    pub fn remove(&self, watch: WatchDescriptor) {
        let _ = self.inotify.get_ref().0.rm_watch(watch);
    }

    /// Waits until something changed in some group. Which one is to be looked up: events may be merged.
    ///
    /// # Errors
    /// When the kernel's queue cannot be read.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            match self.inotify.get_ref().0.read_events() {
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_hierarchy_is_found_on_both_kinds_of_hosts() {
        let pure = "31 23 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        assert_eq!(root_in(pure), Some("/sys/fs/cgroup".into()));
        let hybrid = "30 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                      31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(root_in(hybrid), Some("/sys/fs/cgroup/unified".into()));
        let sandboxed = "40 41 0:26 /wa.slice /sys/fs/cgroup/wa.slice rw - cgroup2 cgroup2 rw\n\
                         41 23 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
        assert_eq!(root_in(sandboxed), Some("/sys/fs/cgroup".into()));
        assert_eq!(root_in(""), None);
    }

    fn skipped(why: &str) {
        let _ = writeln!(
            io::stdout(),
            "SKIPPED: a_group_is_watched_killed_and_never_mistaken: {why}"
        );
    }

    /// A group of this test's own; removed at the end. `None` where that is not allowed.
    struct Own(PathBuf);
    impl Own {
        fn make(root: &Path, name: &str) -> Option<Self> {
            let path = root.join(format!("wa-test-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).ok()?;
            Some(Self(path))
        }
        fn name(&self) -> String {
            format!(
                "/{}",
                self.0.file_name().and_then(|n| n.to_str()).unwrap_or("")
            )
        }
    }
    impl Drop for Own {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir(&self.0);
        }
    }

    /// Goal: a death is told without polling, a kill reaches everybody, and a group of the same name made afterwards is
    /// not touched by what was opened before. Method: a real group, a real process in it; needs root.
    #[tokio::test]
    async fn a_group_is_watched_killed_and_never_mistaken() {
        let Ok(root) = root() else {
            return skipped("no cgroup v2 here");
        };
        let Some(own) = Own::make(&root, "watched") else {
            return skipped("making a control group needs root");
        };
        let sleeper = || {
            let child = Command::new("sleep").arg("600").spawn().expect("sleep");
            std::fs::write(own.0.join("cgroup.procs"), child.id().to_string()).expect("moved");
            child
        };
        let mut first = sleeper();
        let group = Cgroup::open(&root, &own.name()).expect("opened");
        let watcher = Watcher::new().expect("inotify");
        watcher.add(&group).expect("watched");
        assert!(!group.empty().expect("read"));
        assert_eq!(group.pids().expect("read").len(), 1);
        group.kill().expect("killed");
        let told = tokio::time::timeout(Duration::from_secs(10), async {
            while !group.empty().expect("read") {
                watcher.changed().await.expect("told");
            }
        });
        told.await.expect("the kernel tells of the death");
        first.wait().expect("reaped");
        std::fs::remove_dir(&own.0).expect("removed");
        assert!(group.empty().expect("a removed group is empty"));
        std::fs::create_dir(&own.0).expect("made again");
        let mut second = sleeper();
        group.kill().expect("nothing to kill");
        let again = Cgroup::open(&root, &own.name()).expect("opened");
        assert!(!again.empty().expect("the new group lives"));
        again.kill().expect("killed");
        second.wait().expect("reaped");
    }
}
