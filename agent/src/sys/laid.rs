//! Secrets that a reload hands to a running role. The manager's copies of credentials are as old as the start, so root
//! lays the new ones in a directory that only root can change. A role reads there; it owns no directory of it, so that
//! it can plant no link for root to follow.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use wa_core::id::Role;

/// Below the directory for this boot; the units hand it to the roles as [`VARIABLE`].
pub const FOLDER: &str = "/run/wa-agent-keys";
/// The variable in which a role finds the folder.
pub const VARIABLE: &str = "WA_AGENT_KEYS";
/// A secret is far shorter, in bytes.
pub const SECRET_LEN_MAX: usize = 64 << 10;

/// The secrets of each role: the name of the credential, and its file in /etc/wa-agent/credentials. As in the units.
pub fn secrets(role: Role) -> &'static [(&'static str, &'static str)] {
    const KEY: (&str, &str) = ("cluster-key", "cluster-key");
    const DATABASE: (&str, &str) = ("database-password", "database-password");
    match role {
        Role::Master | Role::Host => &[KEY, DATABASE],
        Role::Coreapp => &[
            KEY,
            DATABASE,
            ("upstream-token", "upstream-token"),
            ("upstream-pin", "upstream-pin"),
            ("webhooks-secret", "webhooks-secret"),
        ],
        Role::Webapp => &[
            ("cluster-key", "webapp-key"),
            DATABASE,
            ("app-secret", "app-secret"),
            ("verify-token", "verify-token"),
            ("api-key", "api-key"),
            ("first-password", "first-password"),
        ],
    }
}

/// Where the secrets of one start of an instance lie. Another start has another place: it takes the manager's new copies.
pub fn place(folder: &Path, role: Role, instance: u16, invocation: &str) -> PathBuf {
    folder.join(format!("{}-{instance}.{invocation}", role.as_str()))
}

/// The user and group that may read a secret; `None`: those of this process.
pub type Owner = Option<(u32, u32)>;

/// Lays these secrets for one start, whole or not at all, and takes away those of its earlier starts.
///
/// # Errors
/// When the folder belongs to somebody else, or cannot be written.
pub fn lay(
    folder: &Path,
    (role, instance, invocation): (Role, u16, &str),
    owner: Owner,
    secrets: &[(&str, Vec<u8>)],
) -> io::Result<()> {
    own_directory(folder)?;
    let place = place(folder, role, instance, invocation);
    own_directory(&place)?;
    for (name, secret) in secrets {
        let temporary = place.join(format!(".{name}"));
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&temporary)?;
        file.write_all(secret)?;
        if let Some((user, group)) = owner {
            std::os::unix::fs::fchown(&file, Some(user), Some(group))?;
        }
        fs::rename(&temporary, place.join(name))?;
    }
    let own = format!("{}-{instance}", role.as_str());
    for entry in fs::read_dir(folder)?.flatten() {
        let name = entry.file_name();
        let of_instance = name.to_str().is_some_and(|name| {
            name == own || name.split_once('.').is_some_and(|(of, _)| of == own)
        });
        if of_instance && entry.path() != place {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// A directory in which only this user makes names, made if need be: everybody may pass, nobody else may write.
fn own_directory(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o711).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    let own = found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw();
    if own && found.mode() & 0o022 == 0 {
        // The mask of this process may have closed it.
        return fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o711));
    }
    let what = format!(
        "{} is no directory of this user alone: remove it, it is made again",
        path.display()
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    const START: (Role, u16, &str) = (Role::Coreapp, 1, "00aa");

    fn laid(folder: &Path, secret: &str) -> io::Result<()> {
        lay(
            folder,
            START,
            None,
            &[("cluster-key", secret.as_bytes().to_vec())],
        )
    }

    /// Goal: a secret is laid for one start, replaced as a whole, and its earlier starts' are gone; other instances keep
    /// theirs. Method: two starts and two instances in one folder.
    #[test]
    fn secrets_are_laid_for_one_start() {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = directory.path().join("keys");
        let at = |start| place(&folder, Role::Coreapp, 1, start).join("cluster-key");
        laid(&folder, "one").expect("laid");
        laid(&folder, "two").expect("laid");
        assert_eq!(fs::read_to_string(at("00aa")).expect("read"), "two");
        let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!((mode(&at("00aa")), mode(&folder)), (0o400, 0o711));
        let other = (Role::Coreapp, 12, "00cc");
        lay(&folder, other, None, &[("cluster-key", b"x".to_vec())]).expect("laid");
        let later = (Role::Coreapp, 1, "00bb");
        lay(&folder, later, None, &[("cluster-key", b"three".to_vec())]).expect("laid");
        assert!(!at("00aa").exists());
        assert_eq!(fs::read_to_string(at("00bb")).expect("read"), "three");
        assert!(place(&folder, Role::Coreapp, 12, "00cc").exists());
    }

    /// Goal: nothing is written where somebody else can make names, or through a link. Method: each way to prepare the
    /// place; what the links point to stays empty.
    #[test]
    fn a_planted_place_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let elsewhere = directory.path().join("elsewhere");
        fs::create_dir(&elsewhere).expect("made");
        let folder = directory.path().join("keys");
        symlink(&elsewhere, &folder).expect("linked");
        assert!(laid(&folder, "x").is_err(), "the folder is a link");
        fs::remove_file(&folder).expect("removed");
        fs::create_dir(&folder).expect("made");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("set");
        assert!(laid(&folder, "x").is_err(), "others may write there");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("set");
        let (role, instance, start) = START;
        symlink(&elsewhere, place(&folder, role, instance, start)).expect("linked");
        assert!(laid(&folder, "x").is_err(), "the place is a link");
        assert_eq!(fs::read_dir(&elsewhere).expect("read").count(), 0);
    }

    /// Goal: what a reload lays is what the unit loads. Method: the units as they are installed.
    #[test]
    fn the_units_load_the_same_secrets() {
        let units = [
            (
                Role::Master,
                include_str!("../../../units/system/wa-master@.service"),
            ),
            (
                Role::Coreapp,
                include_str!("../../../units/system/wa-coreapp@.service"),
            ),
            (
                Role::Webapp,
                include_str!("../../../units/system/wa-webapp@.service"),
            ),
            (
                Role::Host,
                include_str!("../../../units/system/wa-host.service"),
            ),
        ];
        for (role, unit) in units {
            let loaded = unit.lines().filter_map(|line| {
                line.strip_prefix("LoadCredential=")?
                    .split_once(":/etc/wa-agent/credentials/")
            });
            assert_eq!(loaded.collect::<Vec<_>>(), secrets(role), "{role:?}");
            assert!(unit.contains(&format!("\nEnvironment={VARIABLE}={FOLDER}\n")));
        }
    }
}
