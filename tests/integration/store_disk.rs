//! Goal: on a full disk nothing is accepted that is not stored, and all is well again once there is room. Method: the
//! store's files on a small file system that is filled up and emptied.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::mariadb::{self, Server};
use crate::store::{Store, create_database, message, settings};

/// A small file system of its own; gone with the value.
pub struct Small(PathBuf);

impl Small {
    pub fn mount(at: &Path, size: &str) -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("mounting a file system needs root".into());
        }
        let options = format!("size={size},mode=0777");
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(&*options))
            .map_err(|error| format!("mounting a tmpfs: {error}"))?;
        Ok(Self(at.to_owned()))
    }

    /// Writes until there is no room for another byte.
    pub fn fill(&self) -> PathBuf {
        use std::io::Write as _;
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path).expect("a file");
        for block in [vec![0u8; 1 << 20], vec![0u8; 4096], vec![0u8; 1]] {
            while file.write_all(&block).is_ok() {}
        }
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// Accepts, fills the disk, is refused, makes room, accepts; afterwards exactly what was answered yes is there.
/// `revive` is what a supervisor does for the server: MariaDB may end itself when it cannot write.
async fn full_and_empty_again(store: &Store, disk: &Small, mut revive: impl FnMut()) {
    let mut master = store.cluster(1).await;
    let own = master.promote(0, "c1:coreapp-1", 1).await;
    let body = "x".repeat(60_000);
    let accepted = Mutex::new(Vec::new());
    let send = |id: String| {
        let (store, own, body, accepted) = (store, &own, &body, &accepted);
        async move {
            store
                .db
                .accept(own, &[message(&id, body)], false)
                .await
                .map(|_| accepted.lock().expect("no panic").push(id))
        }
    };
    send("before".into()).await.expect("there is room");
    let filler = disk.fill();
    let mut refused = None;
    // Pages that are allocated already take some more.
    for n in 0..2_000 {
        refused = send(format!("full-{n}")).await.err();
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.expect("a full disk refuses at last").to_string();
    std::fs::remove_file(filler).expect("removed");
    let mut healed = false;
    for _ in 0..30 {
        revive();
        let sent = tokio::time::timeout(Duration::from_secs(2), send("after".into())).await;
        healed = matches!(sent, Ok(Ok(())));
        if healed {
            break;
        }
    }
    assert!(healed, "there is room again; before that: {refused}");
    let mut accepted = accepted.into_inner().expect("no panic");
    let mut stored: Vec<String> = store
        .db
        .message_states()
        .await
        .expect("readable")
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    stored.sort();
    accepted.sort();
    assert_eq!(stored, accepted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_sqlite() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = match Small::mount(directory.path(), "8m") {
        Ok(disk) => disk,
        Err(why) => return crate::skipped("a full disk under SQLite", &why),
    };
    let url = format!("sqlite://{}/wa.db", directory.path().display());
    let store = Store::open(settings(vec![url])).await;
    full_and_empty_again(&store, &disk, || {}).await;
    store.db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_mariadb() {
    if let Some(why) = mariadb::missing() {
        return crate::skipped("a full disk under MariaDB", &why);
    }
    let directory = mariadb::directory().expect("a directory");
    let disk = match Small::mount(directory.path(), "320m") {
        Ok(disk) => disk,
        Err(why) => return crate::skipped("a full disk under MariaDB", &why),
    };
    let start = || Server::start_in(directory, Vec::new());
    let mut server = tokio::task::block_in_place(start).expect("a server");
    let url = create_database(&server.url("")).await;
    let store = Store::open(settings(vec![url])).await;
    let revive = || {
        tokio::task::block_in_place(|| server.revive()).expect("it starts");
    };
    full_and_empty_again(&store, &disk, revive).await;
    store.db.close().await;
    drop(server);
}
