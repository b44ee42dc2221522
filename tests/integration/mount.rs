//! Goal: each way in which a mount fails is recognised within its deadline, named, and over when it is over. Method: real
//! file systems (tmpfs, ext4 on a loop device, FUSE), the real binary as the disposable child.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use wa_agent::config::Require;
use wa_agent::sys::mount::{Demand, IDENTITY_FILE, Trouble};
use wa_agent::sys::probe::Prober;

/// Far longer than any probe of a mount that works.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a hang costs.
const TIMEOUT: Duration = Duration::from_millis(500);

/// A mounted file system, gone with the test, hanging or not.
struct Mounted {
    at: tempfile::TempDir,
}

impl Mounted {
    /// Mounts with these words of mount(8); `None`, and said so, where it cannot be done here.
    fn new(test: &str, words: &[&str]) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            crate::skipped(test, "mounting needs root");
            return None;
        }
        let at = tempfile::tempdir().expect("a directory");
        match crate::mariadb::run(Command::new("mount").args(words).arg(at.path())) {
            Ok(()) => Some(Self { at }),
            Err(why) => {
                crate::skipped(test, &why);
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.at.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.at.path())
            .status();
    }
}

fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_wa-agent").into()
}

fn demand(at: &Path, require: Require) -> Demand {
    Demand {
        directory: at.to_owned(),
        require,
        free_min_bytes: 64 << 10,
        inodes_min: 5,
        node: Some("test:coreapp-1".into()),
    }
}

/// One look with a new prober.
async fn trouble(demand: Demand) -> Option<Trouble> {
    let mut prober = Prober::of(binary(), demand, PATIENCE);
    prober.look(None).await.trouble
}

#[tokio::test]
async fn a_mount_that_works_is_told_from_one_of_the_wrong_type() {
    let Some(mounted) = Mounted::new("mount: works, wrong type", &["-t", "tmpfs", "wa-test"])
    else {
        return;
    };
    let at = mounted.path();
    assert_eq!(trouble(demand(at, Require::Mount)).await, None);
    assert_eq!(
        trouble(demand(at, Require::Nfs)).await,
        Some(Trouble::WrongType("tmpfs".into()))
    );
    // Below the mount is not its root: what was made before the mount went away would be found there.
    let below = at.join("below");
    std::fs::create_dir(&below).expect("made");
    assert_eq!(
        trouble(demand(&below, Require::Mount)).await,
        Some(Trouble::NotMounted)
    );
    assert_eq!(trouble(demand(&below, Require::Directory)).await, None);
}

#[tokio::test]
async fn a_mount_that_vanished_is_not_the_directory_below_it() {
    let Some(mounted) = Mounted::new("mount: vanished", &["-t", "tmpfs", "wa-test"]) else {
        return;
    };
    assert_eq!(trouble(demand(mounted.path(), Require::Mount)).await, None);
    crate::mariadb::run(Command::new("umount").arg(mounted.path())).expect("unmounted");
    assert_eq!(
        trouble(demand(mounted.path(), Require::Mount)).await,
        Some(Trouble::NotMounted)
    );
}

#[tokio::test]
async fn a_read_only_mount_is_seen_and_healed() {
    let Some(mounted) = Mounted::new("mount: read-only", &["-t", "tmpfs", "wa-test"]) else {
        return;
    };
    let remount = |how: &str| {
        let words = ["-o", &format!("remount,{how}")];
        crate::mariadb::run(Command::new("mount").args(words).arg(mounted.path())).expect(how);
    };
    remount("ro");
    let mut prober = Prober::of(binary(), demand(mounted.path(), Require::Mount), PATIENCE);
    assert_eq!(prober.look(None).await.trouble, Some(Trouble::ReadOnly));
    remount("rw");
    assert_eq!(prober.look(None).await.trouble, None);
}

/// Both ways to be full: below the limit, and without a byte left, which the limit may not know of (a quota).
#[tokio::test]
async fn a_full_mount_is_seen_before_and_when_it_is_full() {
    let words = ["-t", "tmpfs", "-o", "size=256k", "wa-test"];
    let Some(mounted) = Mounted::new("mount: full", &words) else {
        return;
    };
    let at = mounted.path();
    assert_eq!(trouble(demand(at, Require::Mount)).await, None);
    let some = at.join("some");
    std::fs::write(&some, vec![0u8; 224 << 10]).expect("it fits");
    let found = trouble(demand(at, Require::Mount)).await;
    assert!(
        matches!(found, Some(Trouble::Full(1..=0xffff))),
        "{found:?}"
    );
    let _ = std::fs::write(at.join("rest"), vec![0u8; 64 << 10]);
    let no_limit = Demand {
        free_min_bytes: 0,
        ..demand(at, Require::Mount)
    };
    assert_eq!(trouble(no_limit).await, Some(Trouble::Full(0)));
    std::fs::remove_file(&some).expect("removed");
    assert_eq!(trouble(demand(at, Require::Mount)).await, None);
}

#[tokio::test]
async fn a_mount_without_inodes_is_seen() {
    let words = ["-t", "tmpfs", "-o", "nr_inodes=16", "wa-test"];
    let Some(mounted) = Mounted::new("mount: inodes", &words) else {
        return;
    };
    let at = mounted.path();
    assert_eq!(trouble(demand(at, Require::Mount)).await, None);
    for n in 0..12 {
        std::fs::write(at.join(n.to_string()), "").expect("an inode");
    }
    let found = trouble(demand(at, Require::Mount)).await;
    assert!(
        matches!(found, Some(Trouble::InodesShort(0..=4))),
        "{found:?}"
    );
}

/// Goal: a directory that this user may not write is refused with that word, and an agent that only looks accepts it.
#[tokio::test]
async fn a_directory_of_somebody_else_is_denied() {
    if !nix::unistd::geteuid().is_root() {
        return crate::skipped("mount: denied", "becoming another user needs root");
    }
    use std::os::unix::fs::PermissionsExt as _;
    let place = tempfile::tempdir().expect("a directory");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(place.path(), open).expect("readable");
    let output = Command::new("setpriv")
        .args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"])
        .arg(binary())
        .args(["probe-mount", "--require", "directory", "--node", "n"])
        .arg("--directory")
        .arg(place.path())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    if said.is_empty() {
        return crate::skipped("mount: denied", "nobody may not run the binary here");
    }
    assert!(said.contains("denied"), "{said}");
    let look = Demand {
        node: None,
        ..demand(place.path(), Require::Directory)
    };
    assert_eq!(trouble(look).await, None);
}

/// A disk image with ext4, mounted; frozen, all that writes to it hangs in the kernel.
fn ext4(test: &str) -> Option<(tempfile::NamedTempFile, Mounted)> {
    let image = tempfile::NamedTempFile::new().expect("a file");
    image.as_file().set_len(16 << 20).expect("sparse");
    let made = crate::mariadb::run(Command::new("mkfs.ext4").arg("-qF").arg(image.path()));
    if let Err(why) = made {
        crate::skipped(test, &why);
        return None;
    }
    let path = image.path().to_str().expect("plain").to_owned();
    let mounted = Mounted::new(test, &["-o", "loop", &path])?;
    Some((image, mounted))
}

/// Thaws when the test ends, however it does, and after a while in any case.
struct Frozen(PathBuf);

impl Frozen {
    fn new(at: &Path) -> Self {
        crate::mariadb::run(Command::new("fsfreeze").arg("-f").arg(at)).expect("frozen");
        let thaw = format!("sleep 60; fsfreeze -u {}", at.display());
        let _ = Command::new("setsid")
            .args(["-f", "sh", "-c", &thaw])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        Self(at.to_owned())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.0).status();
    }
}

/// Looks until it is as wanted: the kernel takes its time to end a process.
async fn until(prober: &mut Prober, wanted: Option<Trouble>) {
    for _ in 0..2000 {
        if prober.look(None).await.trouble == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never {wanted:?}");
}

/// Goal: a mount that hangs costs one timeout and one child, however often it is looked at; when it answers again, that
/// is found. Method: a frozen ext4, in which the child sleeps where no signal reaches it.
#[tokio::test]
async fn a_frozen_file_system_takes_one_child() {
    let Some((_image, mounted)) = ext4("mount: frozen") else {
        return;
    };
    let mut prober = Prober::of(binary(), demand(mounted.path(), Require::Mount), TIMEOUT);
    until(&mut prober, None).await;
    let started = prober.started();
    let frozen = Frozen::new(mounted.path());
    for _ in 0..20 {
        let found = prober.look(None).await.trouble;
        assert!(matches!(found, Some(Trouble::Hanging(_))), "{found:?}");
    }
    assert_eq!(prober.started(), started + 1, "probes piled up");
    drop(frozen);
    until(&mut prober, None).await;
}

/// How the FUSE file system answers a look-up.
const STALE: u8 = 1;
const HANG: u8 = 2;
const BROKEN: u8 = 3;

/// An empty root, and every name in it answered as the mode says.
struct Stubborn {
    mode: Arc<AtomicU8>,
    held: Arc<Mutex<Vec<fuser::ReplyEntry>>>,
}

impl fuser::Filesystem for Stubborn {
    fn lookup(
        &self,
        _: &fuser::Request,
        _: fuser::INodeNo,
        _: &std::ffi::OsStr,
        reply: fuser::ReplyEntry,
    ) {
        match self.mode.load(Ordering::SeqCst) {
            STALE => reply.error(fuser::Errno::ESTALE),
            HANG => self
                .held
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(reply),
            BROKEN => reply.error(fuser::Errno::EIO),
            _ => reply.error(fuser::Errno::ENOENT),
        }
    }

    fn getattr(
        &self,
        _: &fuser::Request,
        ino: fuser::INodeNo,
        _: Option<fuser::FileHandle>,
        reply: fuser::ReplyAttr,
    ) {
        let then = std::time::UNIX_EPOCH;
        reply.attr(
            &Duration::ZERO,
            &fuser::FileAttr {
                ino,
                size: 0,
                blocks: 0,
                atime: then,
                mtime: then,
                ctime: then,
                crtime: then,
                kind: fuser::FileType::Directory,
                perm: 0o777,
                nlink: 2,
                uid: 0,
                gid: 0,
                rdev: 0,
                blksize: 4096,
                flags: 0,
            },
        );
    }

    fn statfs(&self, _: &fuser::Request, _: fuser::INodeNo, reply: fuser::ReplyStatfs) {
        reply.statfs(1 << 20, 1 << 20, 1 << 20, 0, 0, 4096, 255, 4096);
    }
}

/// Goal: a stale handle, an error of the server, and a server that does not answer are three things; NFS through FUSE
/// counts as NFS; what was held is let go. Method: a file system of our own; only children touch it.
#[tokio::test]
async fn what_a_server_does_is_told_apart() {
    let test = "mount: stale, broken, hanging server";
    if !nix::unistd::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
        return crate::skipped(test, "it needs root and /dev/fuse");
    }
    let at = tempfile::tempdir().expect("a directory");
    let (mode, held) = (Arc::new(AtomicU8::new(0)), Arc::default());
    let server = Stubborn {
        mode: Arc::clone(&mode),
        held: Arc::clone(&held),
    };
    let mut options = fuser::Config::default();
    options.mount_options = vec![
        fuser::MountOption::FSName("server:/export".into()),
        fuser::MountOption::CUSTOM("subtype=nfs4".into()),
    ];
    let session = match fuser::spawn_mount(server, at.path(), &options) {
        Ok(session) => session,
        Err(why) => return crate::skipped(test, &why.to_string()),
    };
    let mut prober = Prober::of(binary(), demand(at.path(), Require::Nfs), PATIENCE);
    mode.store(STALE, Ordering::SeqCst);
    assert_eq!(prober.look(None).await.trouble, Some(Trouble::Stale));
    mode.store(BROKEN, Ordering::SeqCst);
    let found = prober.look(None).await;
    assert!(
        matches!(&found.trouble, Some(Trouble::Failed(_, why)) if why.contains("os error 5")),
        "{found:?}"
    );
    assert_eq!(found.fs_type, "fuse.nfs4");

    let mut prober = Prober::of(binary(), demand(at.path(), Require::Nfs), TIMEOUT);
    mode.store(HANG, Ordering::SeqCst);
    for _ in 0..5 {
        let found = prober.look(None).await.trouble;
        assert!(matches!(found, Some(Trouble::Hanging(_))), "{found:?}");
    }
    assert_eq!(prober.started(), 1, "probes piled up");
    mode.store(STALE, Ordering::SeqCst);
    let held: Vec<_> = std::mem::take(&mut *held.lock().unwrap_or_else(PoisonError::into_inner));
    for reply in held {
        reply.error(fuser::Errno::EIO);
    }
    until(&mut prober, Some(Trouble::Stale)).await;
    session.umount_and_join().expect("unmounted");
}

async fn migrated() -> crate::store::Store {
    let store = crate::store::Store::sqlite().await;
    store.db.ensure_lease_table().await.expect("made");
    store.db.migrate().await.expect("migrated");
    store
}

/// A node's watch over a directory, on the embedded store.
struct Node {
    media: Arc<wa_agent::media::Media>,
    stop: tokio_util::sync::CancellationToken,
}

fn node(place: &Path, instance: u16, name: &str, directory: &Path, db: &wa_agent::db::Db) -> Node {
    let key = place.join("key");
    std::fs::write(&key, "5a".repeat(32)).expect("written");
    let file = place.join(format!("{name}-{instance}.toml"));
    let text = format!(
        "[cluster]\nname = {name:?}\nkey_file = {key:?}\ndevelopment = true\n[node]\nhostname = \"test\"\nstate_directory = \"{}/state\"\n\
         [media]\ndirectory = {directory:?}\nrequire = \"directory\"\nprobe_interval = \"100ms\"\nfree_min = \"1B\"\n",
        place.display()
    );
    std::fs::write(&file, text).expect("written");
    let loaded = wa_agent::config::load(wa_core::id::Role::Coreapp, instance, Some(&file));
    let settings = loaded.expect("valid").settings;
    let media = wa_agent::media::Media::of(binary(), &settings, true);
    let stop = tokio_util::sync::CancellationToken::new();
    let db = Arc::new(db.clone());
    tokio::spawn(wa_agent::media::watch::run(
        Arc::clone(&media),
        move || Some(Arc::clone(&db)),
        stop.clone(),
    ));
    Node { media, stop }
}

async fn becomes(node: &Node, word: &str) {
    let found = || {
        let state = node.media.state();
        let word = state.trouble.as_ref().map_or("ok", Trouble::word);
        if state.looked { word } else { "not looked" }
    };
    for _ in 0..2000 {
        if found() == word {
            assert_eq!(node.media.ok(), word == "ok");
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} and never {word}", found());
}

/// What the database holds of a node, once it is this word: it is told after the watch itself knows.
async fn reported(db: &wa_agent::db::Db, node: &str, word: &str) -> wa_agent::db::mount::Mount {
    for _ in 0..2000 {
        let words = db.mounts(60_000).await.expect("asked");
        if let Some(found) = words.into_iter().find(|m| m.node == node && m.word == word) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the database never heard {word} of {node}");
}

/// Goal: the first export that a node finds is the cluster's; another directory, another cluster's, and one whose
/// identity is gone are refused, with the command that mends it; what nodes say reaches the database. Method: watches of
/// three nodes on one store, on two directories.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_export_is_refused() {
    let store = migrated().await;
    let db = &store.db;
    let place = tempfile::tempdir().expect("a directory");
    let (right, wrong) = (place.path().join("right"), place.path().join("wrong"));
    std::fs::create_dir(&right).expect("made");
    std::fs::create_dir(&wrong).expect("made");
    let first = node(place.path(), 1, "wa", &right, db);
    becomes(&first, "ok").await;
    let identity = std::fs::read_to_string(right.join(IDENTITY_FILE)).expect("written");
    let export = db.media_export().await.expect("asked");
    assert_eq!(export.as_deref(), Some(identity.trim()));

    let second = node(place.path(), 2, "wa", &right, db);
    becomes(&second, "ok").await;
    let third = node(place.path(), 3, "wa", &wrong, db);
    becomes(&third, "other-export").await;
    assert!(!wrong.join(IDENTITY_FILE).exists(), "it was claimed");
    let said = third.media.state().sentence.clone();
    let command = said.split('`').nth(1).expect("a command");
    crate::mariadb::run(Command::new("sh").args(["-c", command])).expect(command);
    becomes(&third, "ok").await;

    std::fs::remove_file(right.join(IDENTITY_FILE)).expect("removed");
    becomes(&first, "other-export").await;
    let first_word = reported(db, "test:coreapp-1", "other-export").await;
    assert!(first_word.sentence.contains("echo"), "{first_word:?}");
    std::fs::write(right.join(IDENTITY_FILE), &identity).expect("put back");
    becomes(&first, "ok").await;

    // A directory that another cluster uses, on an empty database.
    let other = migrated().await;
    let stranger = node(place.path(), 1, "other", &right, &other.db);
    becomes(&stranger, "other-export").await;
    let export = other.db.media_export().await;
    assert_eq!(export.expect("asked"), None);
    for node in [first, second, third, stranger] {
        node.stop.cancel();
    }
}
