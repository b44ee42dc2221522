//! Which files hold secrets, and whether other users of this machine can read or replace them.
//! Reads no secret: `merge.rs` does.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nix::unistd::{Gid, Group, geteuid};

/// Rights that a secret's file gives nobody: everything to others, and writing to its group.
const OPEN_MODE: u32 = 0o027;
/// Its group reads it.
const GROUP_READS: u32 = 0o040;
/// Groups that have no people: that of Debian's private keys, and those of our roles. Beside them root's own.
const GROUPS: [&str; 3] = ["ssl-cert", "wa-store", "wa-media"];
/// The number of every group that a unit with `PrivateUsers=` cannot name. The role is in that group, or cannot read the file.
const UNNAMED: u32 = 65534;
/// The certificate of the public port: read by the webapps themselves.
pub(super) const PUBLIC_KEY: &str = "webapp.tls_key";
/// The client certificate towards the database: read by every role itself.
pub(super) const DATABASE_KEY: &str = "database.ssl_key";

/// What a file is like.
#[derive(Debug, Clone)]
struct File {
    mode: u32,
    uid: u32,
    gid: u32,
    /// Others can pass its directory.
    passable: bool,
}

impl File {
    /// Of a link, what it leads to. `None`: there is none, or this user cannot see it.
    fn of(path: &Path) -> Option<Self> {
        let path = std::fs::canonicalize(path).ok()?;
        let data = std::fs::metadata(&path).ok()?;
        let folder = std::fs::metadata(path.parent()?).ok()?;
        Some(Self {
            mode: data.permissions().mode() & 0o777,
            uid: data.uid(),
            gid: data.gid(),
            passable: folder.permissions().mode() & 0o077 != 0,
        })
    }

    /// Who can do what that should not; `None`: nobody. `group`: the name of its group, if it has one here.
    fn open(&self, group: &dyn Fn(u32) -> Option<String>) -> Option<String> {
        if !self.passable {
            return None;
        }
        if self.mode & OPEN_MODE != 0 {
            return Some("other users of this machine can read or replace the secret".into());
        }
        if self.mode & GROUP_READS == 0 || [0, UNNAMED].contains(&self.gid) {
            return None;
        }
        let name = group(self.gid).unwrap_or_else(|| self.gid.to_string());
        let known = GROUPS.contains(&name.as_str());
        (!known).then(|| format!("the members of its group {name} can read the secret"))
    }
}

/// What makes the file fit: who has to read it decides.
fn mend(key: &str, path: &Path, owner: u32) -> String {
    let path = path.display();
    let own = owner != 0 && owner == geteuid().as_raw();
    match key {
        PUBLIC_KEY if !own => format!("chown wa-webapp {path}; chmod 400 {path}"),
        DATABASE_KEY if !own => format!("chgrp wa-store {path}; chmod 640 {path}"),
        _ => format!("chmod 600 {path}"),
    }
}

/// A secret that others on this machine can read, or put another one in the place of, is none. What the service manager hands
/// over is not asked: only root makes files there; nor what lies in a directory that is closed to others.
///
/// # Errors
/// Which file, its mode, and what to type.
pub(super) fn check(key: &str, path: &Path) -> Result<(), String> {
    let Some(file) = File::of(path) else {
        return Ok(());
    };
    let named = |gid| {
        let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
        group.map(|group| group.name)
    };
    let Some(who) = file.open(&named) else {
        return Ok(());
    };
    Err(format!(
        "{}, which {key} names, has mode {:04o}: {who}. Type: {}. If others were on this machine, make a new secret",
        path.display(),
        file.mode,
        mend(key, path, file.uid)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a group reads a secret only where no person is in it. Method: each kind of group, right and mode, on files in a directory
    /// that others can pass.
    #[test]
    fn a_group_with_people_reads_no_secret() {
        let group = |gid: u32| match gid {
            7 => Some("ssl-cert".into()),
            8 => Some("wa".into()),
            9 => Some("wa-store".into()),
            _ => None,
        };
        let open = |mode, gid, passable| {
            let file = File {
                mode,
                uid: 0,
                gid,
                passable,
            };
            file.open(&group)
        };
        for gid in [0, 7, 9, UNNAMED] {
            assert_eq!(open(0o640, gid, true), None, "{gid}");
            assert!(open(0o660, gid, true).is_some(), "{gid}: written");
        }
        let people = open(0o640, 8, true).expect("refused");
        assert!(people.contains("group wa "), "{people}");
        assert!(open(0o440, 1000, true).is_some_and(|who| who.contains("group 1000 ")));
        assert_eq!(open(0o600, 8, true), None);
        assert_eq!(open(0o640, 8, false), None, "nobody passes the directory");
    }

    /// Goal: a link in a closed directory does not hide a file that is open. Method: one that leads to such a file.
    #[test]
    fn what_a_link_leads_to_is_looked_at() {
        let at = tempfile::tempdir().expect("a directory");
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
        };
        let (open, closed) = (at.path().join("open"), at.path().join("closed"));
        for (folder, mode) in [(&open, 0o755), (&closed, 0o700)] {
            std::fs::create_dir(folder).expect("made");
            set(folder, mode);
        }
        let (file, link) = (open.join("key"), closed.join("key"));
        std::fs::write(&file, "x").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        set(&file, 0o644);
        let said = check("cluster.key_file", &link).expect_err("open");
        assert!(said.contains("mode 0644"), "{said}");
        set(&file, 0o600);
        check("cluster.key_file", &link).expect("closed");
    }

    /// Goal: what to type leaves the file readable to whoever reads it. Method: each reader, of a file of root's and of the own.
    #[test]
    fn the_advice_names_who_reads_it() {
        let path = Path::new("/k");
        assert_eq!(mend("upstream.pin_file", path, 0), "chmod 600 /k");
        assert_eq!(
            mend(PUBLIC_KEY, path, 0),
            "chown wa-webapp /k; chmod 400 /k"
        );
        assert_eq!(
            mend(DATABASE_KEY, path, 0),
            "chgrp wa-store /k; chmod 640 /k"
        );
        let own = geteuid().as_raw();
        if own != 0 {
            assert_eq!(mend(PUBLIC_KEY, path, own), "chmod 600 /k");
        }
    }
}
