//! Reads files in directories that somebody else may change: root's look at what roles own. Follows no link, waits for
//! nobody, reads a bounded length. Writes nothing there but new files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

/// The text of the regular file `name` below `trusted`. Links in `trusted` itself are followed: whoever configured it
/// meant them. In `name` none is, and it cannot lead outside.
///
/// # Errors
/// When there is none, it is a link, no regular file, longer than `len_max` bytes, or cannot be read.
pub fn read(trusted: &Path, name: &Path, len_max: usize) -> io::Result<Vec<u8>> {
    let named = |error| with_path(trusted, name, error);
    let file = open(trusted, name)?;
    let mut text = Vec::new();
    let limit = u64::try_from(len_max).unwrap_or(u64::MAX);
    file.take(limit.saturating_add(1))
        .read_to_end(&mut text)
        .map_err(named)?;
    if text.len() > len_max {
        return Err(named(refused(&format!("longer than {len_max} bytes"))));
    }
    Ok(text)
}

/// Opens the regular file `name` below `trusted` for reading, of whatever length.
///
/// # Errors
/// As [`read`].
pub fn open(trusted: &Path, name: &Path) -> io::Result<File> {
    let named = |error| with_path(trusted, name, error);
    // Without O_NONBLOCK a FIFO, or a file under somebody's lease, would hold up whoever opens it.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match at(trusted, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => {
            return Err(named(refused("a link, not a file")));
        }
        Err(error) => return Err(named(error)),
    };
    if !file.metadata().map_err(named)?.is_file() {
        return Err(named(refused("not a regular file")));
    }
    Ok(file)
}

/// Makes the file `name` below `trusted`, which must not be there, for writing.
///
/// # Errors
/// When something is there, a link is on the way, or it cannot be written.
pub fn create(trusted: &Path, name: &Path, mode: u32) -> io::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    at(trusted, name, flags, Mode::from_bits_truncate(mode))
}

/// Step by step, each from the directory before: openat2 would do it at once, but RestrictSUIDSGID= of the units shuts it.
fn at(trusted: &Path, name: &Path, flags: OFlag, mode: Mode) -> io::Result<File> {
    // Only the right to pass is needed on a directory.
    let pass = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let never = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let trusted = OpenOptions::new()
        .read(true)
        .custom_flags(pass.bits())
        .open(trusted)?;
    let mut directory = OwnedFd::from(trusted);
    let mut parts = name.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(part) = part else {
            return Err(refused("leads outside"));
        };
        if parts.peek().is_none() {
            return Ok(File::from(openat(&directory, part, flags | never, mode)?));
        }
        directory = openat(&directory, part, pass | never, Mode::empty())?;
    }
    Err(refused("names nothing"))
}

/// The kernel's own errors stay what they are: callers tell them apart by their numbers.
fn with_path(trusted: &Path, name: &Path, error: io::Error) -> io::Error {
    if error.raw_os_error().is_some() {
        return error;
    }
    let path = trusted.join(name);
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The same as text.
///
/// # Errors
/// As [`read`], and when it is no UTF-8.
pub fn read_text(trusted: &Path, name: &Path, len_max: usize) -> io::Result<String> {
    let text = read(trusted, name, len_max)?;
    String::from_utf8(text).map_err(|_| {
        let path = trusted.join(name);
        refused(&format!("{}: not text", path.display()))
    })
}

fn refused(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// Goal: whatever stands in the place of a file is refused at once; a file is read. Method: each kind that a role's
    /// user can make.
    #[test]
    fn only_a_short_regular_file_is_read() {
        let place = tempfile::tempdir().expect("a directory");
        let at = |name: &str| place.path().join(name);
        let got = |name: &str| read_text(place.path(), Path::new(name), 8);
        fs::create_dir(at("role")).expect("made");
        fs::write(at("role/good"), "12345678").expect("written");
        assert_eq!(got("role/good").expect("read"), "12345678");
        fs::write(at("role/long"), "123456789").expect("written");
        fs::write(at("role/bytes"), [0xff, 0xfe]).expect("written");
        nix::unistd::mkfifo(&at("role/fifo"), Mode::S_IRWXU).expect("made");
        let _socket = std::os::unix::net::UnixListener::bind(at("role/socket")).expect("bound");
        symlink("good", at("role/link")).expect("linked");
        symlink("/dev/zero", at("role/endless")).expect("linked");
        symlink("role", at("linked")).expect("linked");
        let sparse = File::create(at("role/sparse")).expect("made");
        sparse.set_len(1 << 40).expect("sparse");
        for name in [
            "role/long",
            "role/bytes",
            "role/fifo",
            "role/socket",
            "role/link",
            "role/endless",
            "linked/good",
            "role",
            "../x",
            "role/sparse",
        ] {
            let error = got(name).expect_err(name);
            assert_ne!(error.kind(), io::ErrorKind::NotFound, "{name}: {error}");
            assert!(
                create(place.path(), Path::new(name), 0o600).is_err(),
                "{name}"
            );
        }
        let missing = got("role/missing").expect_err("none");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(create(place.path(), Path::new("role/missing"), 0o600).is_ok());
        assert!(create(place.path(), Path::new("linked/new"), 0o600).is_err());
    }
}
