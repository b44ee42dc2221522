//! The few numbers on the local disk: starts of this instance, and the highest epoch or term obeyed.
//! Written to a temporary name, synced, renamed, directory synced: after a crash the old or the new value is there.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use wa_core::id::Incarnation;

use super::machine;

/// One number in one file.
#[derive(Debug, Clone)]
pub struct NumberFile {
    path: PathBuf,
}

impl NumberFile {
    /// A file in `directory`, which is made if need be.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(directory: &Path, name: &str) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self {
            path: directory.join(name),
        })
    }

    /// The number; 0 when it was never written.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn load(&self) -> io::Result<u64> {
        match fs::read_to_string(&self.path) {
            Ok(text) => text.trim().parse().map_err(|_| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} does not hold a number", self.path.display()),
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Writes the number durably.
    ///
    /// # Errors
    /// When the disk is full, read-only or broken: the caller must not obey the epoch then.
    pub fn store(&self, number: u64) -> io::Result<()> {
        replace(&self.path, &number.to_string())
    }
}

/// A few numbers in one file, written together.
#[derive(Debug, Clone)]
pub struct NumbersFile {
    path: PathBuf,
}

impl NumbersFile {
    /// A file in a directory that exists.
    pub fn new(directory: &Path, name: &str) -> Self {
        Self {
            path: directory.join(name),
        }
    }

    /// The numbers; none when it was never written.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn load(&self) -> io::Result<Vec<u64>> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text?,
        };
        let numbers = text.split_whitespace().map(str::parse);
        numbers.collect::<Result<_, _>>().map_err(|_| {
            let what = format!("{} does not hold numbers", self.path.display());
            io::Error::new(io::ErrorKind::InvalidData, what)
        })
    }

    /// Writes the numbers durably.
    ///
    /// # Errors
    /// When the disk is full, read-only or broken.
    pub fn store(&self, numbers: &[u64]) -> io::Result<()> {
        let words: Vec<String> = numbers.iter().map(u64::to_string).collect();
        replace(&self.path, &words.join(" "))
    }
}

/// Temporary name, synced, renamed, directory synced.
fn replace(path: &Path, line: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    writeln!(file, "{line}")?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// The incarnation of this start: a counter that grew by one, and a random number.
///
/// # Errors
/// When the state directory cannot be written.
pub fn next_incarnation(directory: &Path) -> io::Result<Incarnation> {
    let file = NumberFile::open(directory, "incarnation")?;
    let counter = file.load()? + 1;
    file.store(counter)?;
    let incarnation = Incarnation {
        counter,
        random: random_u64() >> 1,
    };
    // For whoever supervises this process: the obituary names the incarnation, and which start of which unit it was.
    let run = Run {
        incarnation,
        invocation: machine::own_invocation().unwrap_or(0),
        boot: machine::boot_id().unwrap_or(0),
    };
    fs::write(directory.join(RUNNING), run.line())?;
    Ok(incarnation)
}

/// File with the incarnation that runs, or ran last.
const RUNNING: &str = "running";

/// One start of one instance, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub incarnation: Incarnation,
    /// systemd's InvocationID; 0 when systemd did not start it.
    pub invocation: u128,
    /// The boot of the machine that it ran in.
    pub boot: u128,
}

impl Run {
    fn line(&self) -> String {
        format!(
            "{} {} {:032x} {:032x}\n",
            self.incarnation.counter, self.incarnation.random, self.invocation, self.boot
        )
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        Some(Self {
            incarnation: Incarnation {
                counter: words.next()?.parse().ok()?,
                random: words.next()?.parse().ok()?,
            },
            invocation: machine::id_of(words.next()?)?,
            boot: machine::id_of(words.next()?)?,
        })
    }
}

/// The start that ran last with this state directory, if any did.
pub fn last_run(directory: &Path) -> Option<Run> {
    Run::parse(&fs::read_to_string(directory.join(RUNNING)).ok()?)
}

/// A random number from the operating system.
///
/// # Panics
/// When the kernel has no random numbers, which it always has after boot.
pub fn random_u64() -> u64 {
    getrandom::u64().expect("the kernel's random number generator is ready after boot")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incarnations_grow_and_numbers_survive() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = next_incarnation(dir.path()).expect("written");
        let second = next_incarnation(dir.path()).expect("written");
        assert_eq!((first.counter, second.counter), (1, 2));
        let run = last_run(dir.path()).expect("written");
        assert_eq!(run.incarnation, second);
        assert_eq!(Run::parse(&run.line()), Some(run));
        let file = NumberFile::open(dir.path(), "epoch").expect("made");
        file.store(77).expect("written");
        assert_eq!(file.load().expect("read"), 77);
    }

    /// Goal: a broken file is an error, never a silent zero: a zero would let old epochs live again.
    #[test]
    fn rubbish_in_the_file_is_an_error() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("epoch"), "x").expect("written");
        assert!(
            NumberFile::open(dir.path(), "epoch")
                .expect("made")
                .load()
                .is_err()
        );
    }

    /// Goal: what cannot be written is an error and leaves the old number. Method: a directory stands where the
    /// temporary file would be made; a full device takes the name of the directory.
    #[test]
    fn what_cannot_be_written_is_an_error() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = NumberFile::open(dir.path(), "epoch").expect("made");
        file.store(5).expect("written");
        let blocked = dir.path().join("epoch.new");
        fs::create_dir(&blocked).expect("made");
        assert!(file.store(6).is_err());
        assert_eq!(file.load().expect("read"), 5);
        fs::remove_dir(&blocked).expect("removed");
        // A write to this device fails as on a full disk.
        std::os::unix::fs::symlink("/dev/full", &blocked).expect("linked");
        assert!(file.store(6).is_err());
        assert_eq!(file.load().expect("read"), 5);
        fs::write(dir.path().join("file"), "").expect("written");
        assert!(NumberFile::open(&dir.path().join("file"), "epoch").is_err());
    }
}
