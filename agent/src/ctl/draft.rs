//! Files that a verb wants to write: shown first, compared with what is there, written whole or not at all.
//! Knows nothing of what is in them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A file as it shall be.
#[derive(Debug, Clone)]
pub struct Planned {
    /// As installed: absolute, without the prefix.
    pub path: PathBuf,
    pub contents: String,
    /// Mode 0600, and never shown.
    pub secret: bool,
}

/// How a planned file stands to what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    New,
    Same,
    Differs,
}

/// All files of one verb, below a prefix.
#[derive(Debug, Default)]
pub struct Draft {
    root: PathBuf,
    files: Vec<Planned>,
}

impl Draft {
    /// Nothing yet; `root` is `/`, or the folder of a test or of a system that does not run.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            files: Vec::new(),
        }
    }

    /// Where a path lies below the prefix.
    pub fn below(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub fn text(&mut self, path: impl Into<PathBuf>, contents: impl Into<String>) {
        self.add(path.into(), contents.into(), false);
    }

    pub fn secret(&mut self, path: impl Into<PathBuf>, contents: impl Into<String>) {
        let mut contents = contents.into();
        if !contents.ends_with('\n') {
            contents.push('\n');
        }
        self.add(path.into(), contents, true);
    }

    /// What a file will hold.
    pub fn contents(&self, path: &Path) -> Option<&str> {
        let file = self.files.iter().find(|file| file.path == path)?;
        Some(&file.contents)
    }

    fn add(&mut self, path: PathBuf, contents: String, secret: bool) {
        self.files.retain(|file| file.path != path);
        self.files.push(Planned {
            path,
            contents,
            secret,
        });
    }

    /// Each file with its standing.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn standings(&self) -> anyhow::Result<Vec<(&Planned, Standing)>> {
        let standing = |file: &Planned| {
            let at = self.below(&file.path);
            match std::fs::read_to_string(&at) {
                Ok(old) if old.trim_end() == file.contents.trim_end() => Ok(Standing::Same),
                Ok(_) => Ok(Standing::Differs),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Standing::New),
                Err(error) => Err(error).with_context(|| format!("cannot read {}", at.display())),
            }
        };
        self.files
            .iter()
            .map(|file| Ok((file, standing(file)?)))
            .collect()
    }

    /// Files that are there and would be changed.
    ///
    /// # Errors
    /// See [`Self::standings`].
    pub fn differing(&self) -> anyhow::Result<Vec<PathBuf>> {
        let standings = self.standings()?;
        let differ = standings
            .into_iter()
            .filter(|(_, standing)| *standing == Standing::Differs);
        Ok(differ.map(|(file, _)| self.below(&file.path)).collect())
    }

    /// What would be written, for `--dry-run`: whole files, secrets as stars.
    ///
    /// # Errors
    /// See [`Self::standings`].
    pub fn show(&self) -> anyhow::Result<String> {
        let mut out = String::new();
        for (file, standing) in self.standings()? {
            let words = match standing {
                Standing::New => "would be written",
                Standing::Same => "is there already, unchanged",
                Standing::Differs => "would be replaced",
            };
            let mode = if file.secret { " (mode 0600)" } else { "" };
            let _ = writeln!(
                out,
                "--- {}{mode}: {words}",
                self.below(&file.path).display()
            );
            match (file.secret, standing) {
                (true, _) => out.push_str("***\n"),
                (false, Standing::Same) => {}
                (false, _) => out.push_str(&file.contents),
            }
        }
        Ok(out)
    }

    /// Writes what is new or changed; says which. Each file is whole at every moment.
    ///
    /// # Errors
    /// When a directory or a file cannot be written; what was written stays.
    pub fn write(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut written = Vec::new();
        for (file, standing) in self.standings()? {
            let at = self.below(&file.path);
            if standing == Standing::Same {
                if file.secret {
                    keep_secret(&at)?;
                }
                continue;
            }
            write_file(&at, file)?;
            if file.secret {
                keep_secret(&at)?;
            }
            written.push(at);
        }
        Ok(written)
    }
}

/// Also one that somebody copied here with another mode.
fn keep_secret(at: &Path) -> anyhow::Result<()> {
    set_mode(at, 0o600)?;
    at.parent().map_or(Ok(()), |folder| set_mode(folder, 0o700))
}

fn set_mode(at: &Path, mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(at, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", at.display()))
}

fn write_file(at: &Path, file: &Planned) -> anyhow::Result<()> {
    let folder = at.parent().context("a file has a folder")?;
    if !folder.is_dir() {
        let mut builder = std::fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(if file.secret { 0o700 } else { 0o755 });
        builder
            .create(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut temporary = at.as_os_str().to_owned();
    temporary.push(format!(".new-{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let mode = if file.secret { 0o600 } else { 0o644 };
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        let mut out = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        out.write_all(file.contents.as_bytes())?;
        out.sync_all()?;
        std::fs::rename(&temporary, at)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("cannot write {} (are you root?)", at.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// Goal: what is there is compared, secrets are never shown and always private. Method: a folder as root.
    #[test]
    fn files_are_compared_shown_and_written() {
        let root = tempfile::tempdir().expect("a directory");
        let mut draft = Draft::new(root.path());
        draft.text("/etc/x/a.toml", "[a]\n");
        draft.secret("/etc/x/credentials/token", "hush-hush");
        let shown = draft.show().expect("shown");
        assert!(shown.contains("[a]") && !shown.contains("hush"), "{shown}");
        assert_eq!(draft.write().expect("written").len(), 2);
        assert_eq!(
            draft.write().expect("written").len(),
            0,
            "a second time nothing changes"
        );
        let mode = |path: &str| {
            let data = std::fs::metadata(root.path().join(path)).expect("there");
            data.permissions().mode() & 0o777
        };
        assert_eq!(mode("etc/x/credentials"), 0o700);
        assert_eq!(mode("etc/x/credentials/token"), 0o600);
        assert!(draft.differing().expect("read").is_empty());
        draft.text("/etc/x/a.toml", "[b]\n");
        assert_eq!(draft.differing().expect("read").len(), 1);
    }
}
