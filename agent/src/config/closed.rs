//! Whether other users of this machine can read or replace a file with a secret, and what becomes of an instance that reads it.
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
/// The number of every group that a unit with `PrivateUsers=` cannot name: all but root's and the role's own. So there only root sees who
/// is in it, before a restart and in `doctor`.
const UNNAMED: u32 = 65534;
/// The certificate of the public port: read by the webapps themselves.
pub(super) const PUBLIC_KEY: &str = "webapp.tls_key";
/// The client certificate towards the database: read by every role itself.
pub(super) const DATABASE_KEY: &str = "database.ssl_key";

/// A file with a secret that others can read, or replace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Open {
    /// Which file, its mode, and who can do what.
    pub says: String,
    /// What to type.
    pub advice: String,
    /// The start is refused; else it goes on with a warning.
    pub refused: bool,
}

impl std::fmt::Display for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}. Type: {}", self.says, self.advice)
    }
}

/// Who can do what that should not.
#[derive(Debug, PartialEq, Eq)]
enum Who {
    /// Others read it, or others or its group write it.
    Others,
    /// The members of this group read it.
    Group(String),
}

/// Whether the start is refused. Keys of certificates, and reading by a group, were not looked at in earlier releases: where instances ran,
/// they go on, so that no upgrade and no renewed certificate stops an API.
fn refused(key: &str, who: &Who, ran: bool) -> bool {
    let looked_at_later = [PUBLIC_KEY, DATABASE_KEY].contains(&key) || *who != Who::Others;
    !(looked_at_later && ran)
}

/// Whether an instance of this machine ever ran: each counts its starts below this directory.
pub(super) fn ran(state: &Path) -> bool {
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    let mut counts = entries.map(|entry| entry.path().join("incarnation"));
    counts.any(|count| count.exists())
}

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
    fn open(&self, group: &dyn Fn(u32) -> Option<String>) -> Option<Who> {
        if !self.passable {
            return None;
        }
        if self.mode & OPEN_MODE != 0 {
            return Some(Who::Others);
        }
        if self.mode & GROUP_READS == 0 || [0, UNNAMED].contains(&self.gid) {
            return None;
        }
        let name = group(self.gid).unwrap_or_else(|| self.gid.to_string());
        let known = GROUPS.contains(&name.as_str());
        (!known).then_some(Who::Group(name))
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

/// Looks at the file that a setting names. A secret that others on this machine can read, or put another one in the place of, is none.
/// `None`: only those who should can do so. What the service manager hands over is not asked: only root makes files there; nor what lies in
/// a directory that is closed to others. `ran`: see [`ran`].
pub(super) fn look(key: &str, path: &Path, ran: bool) -> Option<Open> {
    let file = File::of(path)?;
    let named = |gid| {
        let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
        group.map(|group| group.name)
    };
    let who = file.open(&named)?;
    let refused = refused(key, &who, ran);
    let can = match who {
        Who::Others => "other users of this machine can read or replace the secret".to_owned(),
        Who::Group(name) => format!("the members of its group {name} can read the secret"),
    };
    let shown = path.display();
    let mut says = format!(
        "{shown}, which {key} names, has mode {:04o}: {can}",
        file.mode
    );
    if !refused {
        says.push_str(
            ". Instances that ran here before go on with it; a new machine would be refused",
        );
    }
    Some(Open {
        says,
        advice: format!(
            "{}. If others were on this machine, make a new secret",
            mend(key, path, file.uid)
        ),
        refused,
    })
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
        let people = |name: &str| Some(Who::Group(name.into()));
        assert_eq!(open(0o640, 8, true), people("wa"));
        assert_eq!(open(0o440, 1000, true), people("1000"));
        assert_eq!(open(0o644, 8, true), Some(Who::Others));
        assert_eq!(open(0o600, 8, true), None);
        assert_eq!(open(0o640, 8, false), None, "nobody passes the directory");
    }

    /// Goal: what earlier releases did not look at stops nobody who ran before; the rest is refused. Method: the table of all cases.
    #[test]
    fn what_was_not_looked_at_before_stops_no_instance() {
        let group = || Who::Group("wa".into());
        for (key, who, ran, wanted) in [
            ("cluster.key_file", Who::Others, true, true),
            ("cluster.key_file", Who::Others, false, true),
            ("cluster.key_file", group(), true, false),
            ("cluster.key_file", group(), false, true),
            (PUBLIC_KEY, Who::Others, true, false),
            (PUBLIC_KEY, Who::Others, false, true),
            (PUBLIC_KEY, group(), true, false),
            (DATABASE_KEY, Who::Others, true, false),
            (DATABASE_KEY, group(), false, true),
        ] {
            assert_eq!(refused(key, &who, ran), wanted, "{key} {who:?} {ran}");
        }
    }

    /// Goal: a machine where one instance ever ran is known, also to its other instances. Method: directories before and after a start.
    #[test]
    fn one_start_is_enough() {
        let at = tempfile::tempdir().expect("a directory");
        let state = at.path().join("state");
        assert!(!ran(&state), "none");
        std::fs::create_dir_all(state.join("webapp-1")).expect("made");
        assert!(!ran(&state), "it never counted a start");
        std::fs::write(state.join("webapp-1/incarnation"), "1").expect("written");
        assert!(ran(&state));
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
        let said = look("cluster.key_file", &link, true).expect("open");
        assert!(said.refused && said.says.contains("mode 0644"), "{said}");
        set(&file, 0o600);
        assert_eq!(look("cluster.key_file", &link, true), None);
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
