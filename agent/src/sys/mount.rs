//! What the media directory is: mounted, of which kind, writable, with room, of which export.
//! Only for the disposable child of `sys/probe.rs`: any call here may never return.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statfs::{FsType, fstatfs};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use serde::{Deserialize, Serialize};

use super::beneath;
use crate::config::Require;

/// The file that tells one export from another; written once in the life of a cluster.
pub const IDENTITY_FILE: &str = ".wa-agent-export";
/// Longest identity that is read, in bytes.
const IDENTITY_LEN_MAX: usize = 4096;
/// `statfs` of NFS, all versions (linux/magic.h).
const NFS: FsType = FsType(0x6969);
/// Readable for every role's user: they share a group.
const MODE: u32 = 0o660;

/// What to look at, and what is demanded of it.
#[derive(Debug, Clone)]
pub struct Demand {
    pub directory: PathBuf,
    pub require: Require,
    pub free_min_bytes: u64,
    pub inodes_min: u64,
    /// Names the probe's own files, so that no two nodes meet in one. `None`: look only, write nothing.
    pub node: Option<String>,
}

/// What was found. `trouble` is the first thing that is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// As /proc/self/mountinfo names it, for example `nfs4`; empty when it was not reached.
    pub fs_type: String,
    pub free_bytes: u64,
    /// `None`: this file system does not count them.
    pub free_inodes: Option<u64>,
    /// First line of the identity file, if there is one.
    pub identity: Option<String>,
    pub trouble: Option<Trouble>,
}

/// What can be wrong with the media directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    Missing,
    NotMounted,
    /// The type that was found instead of NFS.
    WrongType(String),
    ReadOnly,
    /// What this user may not do.
    Denied(String),
    /// Free bytes.
    Full(u64),
    /// Free inodes.
    InodesShort(u64),
    Stale,
    /// No answer for so many milliseconds.
    Hanging(u64),
    /// The identity that was found, and the cluster's.
    OtherExport(String, String),
    /// What failed, and the kernel's words.
    Failed(String, String),
}

impl Trouble {
    /// One word for metrics and tables.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::NotMounted => "not-mounted",
            Self::WrongType(_) => "wrong-type",
            Self::ReadOnly => "read-only",
            Self::Denied(_) => "denied",
            Self::Full(_) => "full",
            Self::InodesShort(_) => "inodes-short",
            Self::Stale => "stale",
            Self::Hanging(_) => "hanging",
            Self::OtherExport(..) => "other-export",
            Self::Failed(..) => "failed",
        }
    }

    /// What is wrong with which directory, and what to type.
    pub fn sentence(&self, demand: &Demand) -> String {
        let at = demand.directory.display();
        let remount = format!("type `umount -l {at}; mount {at}`");
        match self {
            Self::Missing => format!(
                "{at} does not exist: make it as the mount point (`install -d {at}`) and mount the share there, or set [media] directory"
            ),
            Self::NotMounted => format!(
                "nothing is mounted on {at}: type `mount {at}` (or `systemctl start $(systemd-escape -p --suffix=mount {at})`)"
            ),
            Self::WrongType(found) => format!(
                "{at} is a {found} file system, [media] require says nfs: mount the NFS export there, or change require to mount"
            ),
            Self::ReadOnly => format!(
                "{at} is read-only: look at `dmesg` and at the export's options, then type `mount -o remount,rw {at}`"
            ),
            Self::Denied(what) => format!(
                "{at}: this user may not {what}: type `chgrp wa-media {at}; chmod 2770 {at}`; with NFS, the number of the group wa-media must be the same everywhere"
            ),
            Self::Full(free) => format!(
                "{at} has {} left, [media] free_min is {}: delete old files (`df -h {at}`), or make the share larger",
                bytesize::ByteSize(*free),
                bytesize::ByteSize(demand.free_min_bytes)
            ),
            Self::InodesShort(free) => format!(
                "{at} has {free} inodes left, [media] inodes_min is {}: delete old files (`df -i {at}`)",
                demand.inodes_min
            ),
            Self::Stale => {
                format!("the mount on {at} is stale, the server no longer knows it: {remount}")
            }
            Self::Hanging(ms) => format!(
                "{at} has not answered for {ms} ms: look whether its server is up and reachable (`showmount -e SERVER`); if it is gone for good, {remount}"
            ),
            Self::OtherExport(found, wanted) => format!(
                "{at} is another export than the cluster's (it says {found}, the cluster's is {wanted}): mount the same export on every machine; if this is the right one, type `echo {wanted} >{at}/{IDENTITY_FILE}`"
            ),
            Self::Failed(what, why) => {
                format!("{at}: {what} failed ({why}): look at `dmesg`, then {remount}")
            }
        }
    }

    fn of(what: &str, error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ESTALE) => Self::Stale,
            Some(Errno::EROFS) => Self::ReadOnly,
            Some(Errno::ENOSPC | Errno::EDQUOT) => Self::Full(0),
            Some(Errno::EACCES | Errno::EPERM) => Self::Denied(what.to_owned()),
            Some(Errno::ENOENT | Errno::ENOTDIR) if what == REACH => Self::Missing,
            _ => Self::Failed(what.to_owned(), error.to_string()),
        }
    }
}

/// Words for the first step; errors mean something else there.
const REACH: &str = "open it";

/// Looks at everything that is demanded. `offer`: the identity to write where there is none yet.
pub fn examine(demand: &Demand, offer: Option<&str>) -> Findings {
    let mut findings = Findings::default();
    findings.trouble = look(demand, offer, &mut findings).err();
    findings
}

fn look(demand: &Demand, offer: Option<&str>, found: &mut Findings) -> Result<(), Trouble> {
    // O_PATH needs no right on the directory itself; O_DIRECTORY sets off an automount, which stat alone does not.
    let directory = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_PATH | nix::libc::O_DIRECTORY)
        .open(&demand.directory)
        .map_err(|error| Trouble::of(REACH, &error))?;
    let about = directory
        .metadata()
        .map_err(|error| Trouble::of(REACH, &error))?;
    let statfs =
        fstatfs(&directory).map_err(|errno| Trouble::of("ask for its type", &errno.into()))?;
    found.fs_type = type_of(about.dev());
    if matches!(demand.require, Require::Mount | Require::Nfs) {
        let parent = std::fs::metadata(demand.directory.join(".."))
            .map_err(|error| Trouble::of("look at its parent", &error))?;
        if parent.dev() == about.dev() && !is_bound(&demand.directory) {
            return Err(Trouble::NotMounted);
        }
    }
    let nfs = statfs.filesystem_type() == NFS || found.fs_type.starts_with("fuse.nfs");
    if demand.require == Require::Nfs && !nfs {
        return Err(Trouble::WrongType(found.fs_type.clone()));
    }
    room(demand, &directory, found)?;
    found.identity = identity(demand, offer)?;
    match &demand.node {
        Some(node) => write(&demand.directory, node),
        None => Ok(()),
    }
}

/// Flags and room.
fn room(demand: &Demand, directory: &File, found: &mut Findings) -> Result<(), Trouble> {
    let stat =
        fstatvfs(directory).map_err(|errno| Trouble::of("ask for its room", &errno.into()))?;
    found.free_bytes = stat.blocks_available() * stat.fragment_size();
    found.free_inodes = (stat.files() > 0).then(|| stat.files_available());
    if stat.flags().contains(FsFlags::ST_RDONLY) {
        return Err(Trouble::ReadOnly);
    }
    if found.free_bytes < demand.free_min_bytes {
        return Err(Trouble::Full(found.free_bytes));
    }
    match found.free_inodes {
        Some(free) if free < demand.inodes_min => Err(Trouble::InodesShort(free)),
        _ => Ok(()),
    }
}

/// What the identity file says; writes `offer` where there is none.
fn identity(demand: &Demand, offer: Option<&str>) -> Result<Option<String>, Trouble> {
    let path = demand.directory.join(IDENTITY_FILE);
    if let Some(offer) = offer.filter(|_| demand.node.is_some())
        && !path.exists()
    {
        offer_identity(demand, &path, offer)
            .map_err(|error| Trouble::of("write its identity file", &error))?;
    }
    // Roles write there, and root looks: a link would show the first line of a file that only root may read.
    let read = beneath::read_text(
        &demand.directory,
        Path::new(IDENTITY_FILE),
        IDENTITY_LEN_MAX,
    );
    let text = match read {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // Who only looks may be root, which the server takes for nobody.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && demand.node.is_none() => {
            return Ok(None);
        }
        Err(error) => return Err(Trouble::of("read its identity file", &error)),
    };
    let line = text.lines().next().unwrap_or_default().trim();
    Ok(Some(line.to_owned()))
}

/// Complete under its name or not there: a link fails where the name is taken, whoever was first.
fn offer_identity(demand: &Demand, path: &Path, offer: &str) -> io::Result<()> {
    let node = demand.node.as_deref().unwrap_or_default();
    let own = demand
        .directory
        .join(format!("{IDENTITY_FILE}.{}", plain(node)));
    let write = |path: &Path, exclusive: bool| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(!exclusive)
            .create_new(exclusive)
            .truncate(!exclusive)
            .mode(MODE)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path)?;
        // For the other roles, whatever the mask of this process is. A file system without modes has its own.
        let _ = file.set_permissions(std::fs::Permissions::from_mode(MODE));
        writeln!(file, "{offer}")?;
        file.sync_all()
    };
    write(&own, false)?;
    let linked = std::fs::hard_link(&own, path);
    let _ = std::fs::remove_file(&own);
    let done = match linked {
        // A file system without links.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => write(path, true),
        other => other,
    };
    match done {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// A node's name as part of a file's.
fn plain(node: &str) -> String {
    let letter = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '.'
        }
    };
    node.chars().map(letter).collect()
}

/// Creates, syncs, renames, reads back, deletes.
fn write(directory: &Path, node: &str) -> Result<(), Trouble> {
    let name = format!(".wa-agent-probe.{}", plain(node));
    let (first, second) = (directory.join(&name), directory.join(format!("{name}.2")));
    let step =
        |what: &'static str| move |error: io::Error| Trouble::of(&format!("{what} in it"), &error);
    let create = || -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(MODE)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&first)
    };
    let mut file = create().map_err(step("create a file"))?;
    let text = format!("{node} {}", std::process::id());
    file.write_all(text.as_bytes())
        .map_err(step("write a file"))?;
    file.sync_all().map_err(step("sync a file"))?;
    drop(file);
    std::fs::rename(&first, &second).map_err(step("rename a file"))?;
    let back = std::fs::read_to_string(&second).map_err(step("read a file"))?;
    std::fs::remove_file(&second).map_err(step("delete a file"))?;
    if back == text {
        Ok(())
    } else {
        let why = format!("{} bytes were written, others read", text.len());
        Err(Trouble::Failed("read back what was written".into(), why))
    }
}

/// A directory of the same file system that lies elsewhere is bound to this one.
fn is_bound(directory: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let directory = directory.canonicalize();
    directory.is_ok_and(|directory| binds(&directory, &mounts))
}

/// By mountinfo (proc(5): field 4 is what is mounted, 5 where). One that is bound to itself does not count: the service
/// manager does that with directories that a unit may write.
fn binds(directory: &Path, mounts: &str) -> bool {
    let mounts: Vec<(PathBuf, PathBuf)> = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(3).map(unescaped);
            Some((words.next()?.into(), words.next()?.into()))
        })
        .collect();
    // The latest hides those before it.
    let Some((own, _)) = mounts.iter().rev().find(|(_, at)| at == directory) else {
        return false;
    };
    let above = mounts
        .iter()
        .filter(|(_, at)| at != directory && directory.starts_with(at))
        .max_by_key(|(_, at)| at.components().count());
    above.is_some_and(|(root, at)| {
        let below = directory.strip_prefix(at).unwrap_or(directory);
        *own != root.join(below)
    })
}

/// Blanks and the like are octal there.
fn unescaped(word: &str) -> String {
    [
        (r"\040", " "),
        (r"\011", "\t"),
        (r"\012", "\n"),
        (r"\134", r"\"),
    ]
    .iter()
    .fold(word.to_owned(), |word, (octal, plain)| {
        word.replace(octal, plain)
    })
}

/// The type of a device's file system in mountinfo (proc(5)): field 3 is the device, the first after `-` the type.
fn type_of(device: u64) -> String {
    let wanted = format!(
        "{}:{}",
        nix::sys::stat::major(device),
        nix::sys::stat::minor(device)
    );
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let found = mounts.lines().rev().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        (left.split(' ').nth(2) == Some(wanted.as_str()))
            .then(|| right.split(' ').next().map(ToOwned::to_owned))?
    });
    found.unwrap_or_else(|| "unknown".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the old client's volume, bound from elsewhere on the same disk, counts as mounted; a directory that the
    /// service manager binds to itself does not. Method: mountinfo as a unit sees it.
    #[test]
    fn what_is_bound_from_elsewhere_is_mounted() {
        let at = Path::new("/var/lib/wamedia/shared");
        let unit = "25 1 8:1 / / ro - ext4 /dev/sda1 rw\n\
            31 25 8:1 /var/lib/wamedia /var/lib/wamedia rw - ext4 /dev/sda1 rw\n";
        assert!(!binds(at, unit));
        let bound = |what: &str| {
            format!(
                "{unit}40 31 8:1 {what} /var/lib/wamedia/shared rw shared:7 - ext4 /dev/sda1 rw\n"
            )
        };
        assert!(binds(at, &bound("/var/lib/docker/volumes/media/_data")));
        assert!(binds(at, &bound(r"/data/our\040media")));
        assert!(!binds(at, &bound("/var/lib/wamedia/shared")), "to itself");
        let both = bound("/data/media") + &bound("/var/lib/wamedia/shared");
        assert!(!binds(at, &both), "the latest counts");
    }

    fn demand(directory: &Path, require: Require) -> Demand {
        Demand {
            directory: directory.to_owned(),
            require,
            free_min_bytes: 1,
            inodes_min: 1,
            node: Some("a.example:coreapp-1".into()),
        }
    }

    /// Goal: a plain directory is good where that is enough, and nothing of the probe stays in it but the identity.
    #[test]
    fn a_directory_is_used_and_left_clean() {
        let place = tempfile::tempdir().expect("a directory");
        let demand = demand(place.path(), Require::Directory);
        let found = examine(&demand, None);
        assert_eq!((&found.trouble, &found.identity), (&None, &None));
        assert!(found.free_bytes > 0 && !found.fs_type.is_empty());
        let found = examine(&demand, Some("export 1 2"));
        assert_eq!(found.identity.as_deref(), Some("export 1 2"));
        // Whoever comes second finds the first one's.
        let found = examine(&demand, Some("export 3 4"));
        assert_eq!(found.identity.as_deref(), Some("export 1 2"));
        let left: Vec<_> = std::fs::read_dir(place.path())
            .expect("readable")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(left, [IDENTITY_FILE]);
    }

    #[test]
    fn what_is_missing_or_not_mounted_is_said() {
        let place = tempfile::tempdir().expect("a directory");
        let gone = demand(&place.path().join("gone"), Require::Directory);
        assert_eq!(examine(&gone, None).trouble, Some(Trouble::Missing));
        let here = demand(place.path(), Require::Mount);
        assert_eq!(examine(&here, None).trouble, Some(Trouble::NotMounted));
        let wide = Demand {
            free_min_bytes: u64::MAX,
            ..demand(place.path(), Require::Directory)
        };
        assert!(matches!(examine(&wide, None).trouble, Some(Trouble::Full(n)) if n > 0));
    }

    /// Goal: every trouble tells an operator where and what to type. Method: each in words.
    #[test]
    fn every_sentence_names_the_place_and_a_command() {
        let place = demand(Path::new("/srv/media"), Require::Nfs);
        let all = [
            Trouble::Missing,
            Trouble::NotMounted,
            Trouble::WrongType("ext4".into()),
            Trouble::ReadOnly,
            Trouble::Denied("create a file in it".into()),
            Trouble::Full(3),
            Trouble::InodesShort(0),
            Trouble::Stale,
            Trouble::Hanging(5000),
            Trouble::OtherExport("x".into(), "y".into()),
            Trouble::Failed("sync".into(), "EIO".into()),
        ];
        for trouble in all {
            let said = trouble.sentence(&place);
            assert!(said.contains("/srv/media"), "{said}");
            let advice = said.contains('`') || said.contains("change require");
            assert!(advice, "{said}");
            let json = serde_json::to_string(&trouble).expect("plain data");
            assert_eq!(
                serde_json::from_str::<Trouble>(&json).expect("the same"),
                trouble
            );
        }
    }
}
