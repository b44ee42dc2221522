//! The few numbers on the local disk: starts of this instance, and the highest epoch or term obeyed.
//! Written to a temporary name, synced, renamed, directory synced: after a crash the old or the new value is there.
//! Nobody but the instance's user can write them. Root reads them too, and trusts nothing about what it finds there.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use wa_core::id::{Incarnation, NodeId};
use wa_core::plausible::COUNT_MAX;
use wa_core::starts::{Hardware, Ledger, Seen};

use super::{beneath, machine};

/// More than a few numbers and ids take, in bytes.
const LEN_MAX: usize = 4096;
/// For the instance alone.
const MODE_OWN: u32 = 0o600;
/// The host agent reads these by its group: it is root without the capability to read what is not its own. No secret.
const MODE_TOLD: u32 = 0o640;
/// The file with the highest epoch that a coreapp obeyed.
const EPOCH: &str = "epoch";

/// The mode of a state file by its name.
fn mode_of(name: &str) -> u32 {
    match name {
        EPOCH | RUNNING => MODE_TOLD,
        _ => MODE_OWN,
    }
}

/// The highest epoch that an instance wrote down, for whoever is not that instance; 0: none. `name`: `coreapp-1`.
///
/// # Errors
/// When what stands there is no short file, or holds no number that can be true.
pub fn obeyed(state: &Path, name: &str) -> io::Result<u64> {
    let name = Path::new(name).join(EPOCH);
    bounded(number_in(state, &name)?, &state.join(name))
}

fn number_in(directory: &Path, name: &Path) -> io::Result<u64> {
    match beneath::read_text(directory, name, LEN_MAX) {
        Ok(text) => text.trim().parse().map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} does not hold a number", directory.join(name).display()),
            )
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// One number in one file.
#[derive(Debug, Clone)]
pub struct NumberFile {
    directory: PathBuf,
    name: String,
}

impl NumberFile {
    /// A file in `directory`, which is made if need be.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(directory: &Path, name: &str) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self {
            directory: directory.to_owned(),
            name: name.to_owned(),
        })
    }

    /// The number; 0 when it was never written.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn load(&self) -> io::Result<u64> {
        number_in(&self.directory, Path::new(&self.name))
    }

    /// Writes the number durably.
    ///
    /// # Errors
    /// When the disk is full, read-only or broken: the caller must not obey the epoch then.
    pub fn store(&self, number: u64) -> io::Result<()> {
        replace(&self.directory, &self.name, &number.to_string())
    }
}

/// A few numbers in one file, written together.
#[derive(Debug, Clone)]
pub struct NumbersFile {
    directory: PathBuf,
    name: String,
}

impl NumbersFile {
    /// A file in a directory that exists.
    pub fn new(directory: &Path, name: &str) -> Self {
        Self {
            directory: directory.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The numbers; none when it was never written.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn load(&self) -> io::Result<Vec<u64>> {
        let text = match beneath::read_text(&self.directory, Path::new(&self.name), LEN_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text?,
        };
        let numbers = text.split_whitespace().map(str::parse);
        numbers.collect::<Result<_, _>>().map_err(|_| {
            let path = self.directory.join(&self.name);
            let what = format!("{} does not hold numbers", path.display());
            io::Error::new(io::ErrorKind::InvalidData, what)
        })
    }

    /// Writes the numbers durably.
    ///
    /// # Errors
    /// When the disk is full, read-only or broken.
    pub fn store(&self, numbers: &[u64]) -> io::Result<()> {
        let words: Vec<String> = numbers.iter().map(u64::to_string).collect();
        replace(&self.directory, &self.name, &words.join(" "))
    }
}

/// File of the host agent with the starts that it has seen.
const STARTS: &str = "starts";
/// More than all of them take, in bytes.
const STARTS_LEN_MAX: usize = 64 << 10;

/// The starts that the host agent has seen, as it wrote them down; none when it never did.
///
/// # Errors
/// When the file cannot be read or holds something else.
pub fn load_starts(directory: &Path) -> io::Result<Ledger> {
    let text = match beneath::read_text(directory, Path::new(STARTS), STARTS_LEN_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ledger::default()),
        text => text?,
    };
    let seen: Option<Vec<Seen>> = text.lines().map(seen_in).collect();
    seen.map(Ledger::new).ok_or_else(|| {
        let path = directory.join(STARTS);
        let what = format!("{} does not hold starts", path.display());
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

fn seen_in(line: &str) -> Option<Seen> {
    let mut words = line.split_whitespace();
    Some(Seen {
        hardware: Hardware(u64::from_str_radix(words.next()?, 16).ok()?),
        node: NodeId::new(words.next()?),
        incarnation: Incarnation {
            counter: words.next()?.parse().ok()?,
            random: words.next()?.parse().ok()?,
        },
    })
}

/// Writes them durably.
///
/// # Errors
/// When the disk is full, read-only or broken.
pub fn store_starts(directory: &Path, ledger: &Ledger) -> io::Result<()> {
    let line = |seen: &Seen| {
        let (start, hardware) = (seen.incarnation, seen.hardware.0);
        let (counter, random) = (start.counter, start.random);
        format!("{hardware:016x} {} {counter} {random}", seen.node)
    };
    let lines: Vec<String> = ledger.entries().map(line).collect();
    replace(directory, STARTS, &lines.join("\n"))
}

/// Writes a text of one line for the next start, as a whole or not at all.
///
/// # Errors
/// When the directory cannot be written.
pub fn store_line(directory: &Path, name: &str, line: &str) -> io::Result<()> {
    replace(directory, name, line)
}

/// Temporary name, synced, renamed, directory synced.
fn replace(directory: &Path, name: &str, line: &str) -> io::Result<()> {
    let path = directory.join(name);
    let temporary = path.with_extension("new");
    let mode = mode_of(name);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&temporary)?;
    // One that a crash left may be open wider; the mask of this process may be narrower.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    writeln!(file, "{line}")?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

/// The number in a file, as far as anything counts up to it.
///
/// # Errors
/// As [`NumberFile::load`]; and when it is beyond [`COUNT_MAX`]: what grows from there would begin again at zero.
pub fn plausible(file: &NumberFile) -> io::Result<u64> {
    bounded(file.load()?, &file.directory.join(&file.name))
}

fn bounded(number: u64, path: &Path) -> io::Result<u64> {
    if number < COUNT_MAX {
        return Ok(number);
    }
    let what = format!(
        "{} holds {number}, and nothing here counts up to that: the file is damaged. Write the right number into it \
         (wa-agent status shows the epochs in use; a start number may be any that is higher than before)",
        path.display()
    );
    Err(io::Error::new(io::ErrorKind::InvalidData, what))
}

/// The incarnation of this start: a counter that grew by one, and a random number.
///
/// # Errors
/// When the state directory cannot be written.
pub fn next_incarnation(directory: &Path) -> io::Result<Incarnation> {
    let file = NumberFile::open(directory, "incarnation")?;
    let counter = plausible(&file)?.saturating_add(1);
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
    replace(directory, RUNNING, run.line().trim_end())?;
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

/// The start of an instance that ran last, if any did; for whoever is not that instance. `name`: `coreapp-1`.
///
/// # Errors
/// When what stands there is no short file, or says something else.
pub fn last_run(state: &Path, name: &str) -> io::Result<Option<Run>> {
    let text = match beneath::read_text(state, &Path::new(name).join(RUNNING), LEN_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    Run::parse(&text).map(Some).ok_or_else(|| {
        let path = state.join(name).join(RUNNING);
        let what = format!("{} does not name a start", path.display());
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
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
        let own = dir.path().join("coreapp-1");
        assert_eq!(last_run(dir.path(), "coreapp-1").expect("read"), None);
        let first = next_incarnation(&own).expect("written");
        let second = next_incarnation(&own).expect("written");
        assert_eq!((first.counter, second.counter), (1, 2));
        let run = last_run(dir.path(), "coreapp-1").expect("read");
        let run = run.expect("written");
        assert_eq!(run.incarnation, second);
        assert_eq!(Run::parse(&run.line()), Some(run));
        let file = NumberFile::open(dir.path(), "epoch").expect("made");
        file.store(77).expect("written");
        assert_eq!(file.load().expect("read"), 77);
    }

    /// Goal: nobody but its instance writes a state file, and others read only the two that are meant for them. Method: files
    /// of an earlier version that are open to the group, and new ones.
    #[test]
    fn state_files_are_closed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let own = dir.path().join("coreapp-1");
        fs::create_dir(&own).expect("made");
        let path = |name: &str| own.join(name);
        for name in ["epoch", "epoch.new", "incarnation", "running"] {
            fs::write(path(name), "5").expect("written");
            fs::set_permissions(path(name), fs::Permissions::from_mode(0o660)).expect("set");
        }
        next_incarnation(&own).expect("written");
        let epoch = NumberFile::open(&own, "epoch").expect("made");
        epoch.store(7).expect("written");
        NumbersFile::new(&own, "seen")
            .store(&[1, 2])
            .expect("written");
        let mode = |name: &str| {
            fs::metadata(path(name))
                .expect("there")
                .permissions()
                .mode()
        };
        for (name, wanted) in [
            ("epoch", 0o640),
            ("running", 0o640),
            ("incarnation", 0o600),
            ("seen", 0o600),
        ] {
            assert_eq!(mode(name) & 0o777, wanted, "{name}");
        }
        assert_eq!(obeyed(dir.path(), "coreapp-1").expect("read"), 7);
        assert_eq!(obeyed(dir.path(), "coreapp-2").expect("read"), 0);
    }

    /// Goal: what a role's user puts in the place of its files holds nobody up and is no zero. Method: a FIFO, a link to a
    /// number elsewhere, a directory that is a link.
    #[test]
    fn what_is_planted_is_an_error() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let own = dir.path().join("coreapp-1");
        fs::create_dir(&own).expect("made");
        fs::write(dir.path().join("number"), "9").expect("written");
        std::os::unix::fs::symlink(dir.path().join("number"), own.join("epoch")).expect("linked");
        nix::unistd::mkfifo(&own.join("running"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        assert!(obeyed(dir.path(), "coreapp-1").is_err());
        assert!(last_run(dir.path(), "coreapp-1").is_err());
        std::os::unix::fs::symlink("coreapp-1", dir.path().join("coreapp-2")).expect("linked");
        assert!(last_run(dir.path(), "coreapp-2").is_err());
    }

    /// Goal: what the host agent has seen survives its restart, and rubbish is an error.
    #[test]
    fn seen_starts_survive() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut ledger = load_starts(dir.path()).expect("none yet");
        assert_eq!(ledger, Ledger::default());
        for counter in 1..200 {
            ledger.note(Seen {
                node: NodeId::new("coreapp-1"),
                incarnation: Incarnation {
                    counter,
                    random: u64::MAX >> 1,
                },
                hardware: Hardware(u64::MAX),
            });
        }
        store_starts(dir.path(), &ledger).expect("written");
        assert_eq!(load_starts(dir.path()).expect("read"), ledger);
        fs::write(dir.path().join("starts"), "x y z\n").expect("written");
        assert!(load_starts(dir.path()).is_err());
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

    /// Goal: the last number of all is no number of a start, and stays in the file: nothing begins again at zero.
    #[test]
    fn a_counter_that_cannot_grow_is_an_error() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for number in [u64::MAX, COUNT_MAX] {
            fs::write(dir.path().join("incarnation"), number.to_string()).expect("written");
            let error = next_incarnation(dir.path())
                .expect_err("refused")
                .to_string();
            assert!(error.contains(&number.to_string()), "{error}");
            assert!(error.contains("incarnation holds"), "{error}");
        }
        fs::write(dir.path().join("incarnation"), "41").expect("mended");
        assert_eq!(next_incarnation(dir.path()).expect("made").counter, 42);
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
