//! Who this machine is, and which of its boots this is: what a receipt names so that it stays true for ever.

use std::io;
use std::path::Path;

/// Identity of a machine and of one of its boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// `/etc/machine-id`.
    pub id: u128,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: u128,
}

impl Machine {
    /// Reads both.
    ///
    /// # Errors
    /// When one is missing or no 128-bit number: a receipt without them would be worth nothing.
    pub fn read() -> io::Result<Self> {
        Ok(Self {
            id: number_in(Path::new("/etc/machine-id"))?,
            boot: boot_id()?,
        })
    }
}

/// The id of this boot.
///
/// # Errors
/// When /proc is not mounted.
pub fn boot_id() -> io::Result<u128> {
    number_in(Path::new("/proc/sys/kernel/random/boot_id"))
}

/// The invocation of the unit that this process runs in, when systemd started it.
pub fn own_invocation() -> Option<u128> {
    id_of(&std::env::var("INVOCATION_ID").ok()?)
}

/// A 128-bit id as systemd and the kernel write it, with or without dashes.
pub fn id_of(text: &str) -> Option<u128> {
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    (digits.len() == 32)
        .then(|| u128::from_str_radix(&digits, 16).ok())
        .flatten()
}

fn number_in(path: &Path) -> io::Result<u128> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    id_of(&text).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} holds no id; type: systemd-machine-id-setup",
                path.display()
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: both spellings are one number, and anything else is none.
    #[test]
    fn ids_are_read_in_both_spellings() {
        let plain = id_of("0123456789abcdef0123456789abcdef\n");
        assert_eq!(plain, id_of("01234567-89ab-cdef-0123-456789abcdef"));
        assert_eq!(plain, Some(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        assert_eq!(id_of("uninitialized"), None);
        assert_eq!(id_of("12"), None);
    }
}
