//! Who this machine is, and which of its boots this is: what a receipt names so that it stays true for ever.

use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use wa_core::starts::Hardware;

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

/// Where the host agent writes down which boot this is. A container may show its own word for it, and only to processes that see its
/// /proc: units with a /proc of their own see the kernel's.
const BOOT_FILE: &str = "/run/wa-agent/boot";

/// The id of this boot, as the host agent sees it.
///
/// # Errors
/// When /proc is not mounted.
pub fn boot_id() -> io::Result<u128> {
    number_in(Path::new(BOOT_FILE)).or_else(|_| boot_here())
}

fn boot_here() -> io::Result<u128> {
    number_in(Path::new("/proc/sys/kernel/random/boot_id"))
}

/// Writes down which boot this is, for the other roles of this machine: done by the installed host agent. The directory is new with
/// each boot.
///
/// # Errors
/// When it cannot be written.
pub fn write_boot_down() -> io::Result<()> {
    let boot = boot_here()?;
    if number_in(Path::new(BOOT_FILE)).is_ok_and(|written| written == boot) {
        return Ok(());
    }
    let new = format!("{BOOT_FILE}.new");
    std::fs::write(&new, format!("{boot:032x}\n"))?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&new, readable)?;
    std::fs::rename(new, BOOT_FILE)
}

/// The operating system as it calls itself in `/etc/os-release`; empty where it does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Os {
    pub name: String,
    pub version: String,
}

/// Reads it.
pub fn os() -> Os {
    let text = std::fs::read("/etc/os-release").unwrap_or_default();
    os_of(&text)
}

fn os_of(text: &[u8]) -> Os {
    let mut os = Os::default();
    for (name, value) in dotenvy::from_read_iter(text).flatten() {
        match name.as_str() {
            "NAME" => os.name = value,
            "VERSION_ID" => os.version = value,
            _ => {}
        }
    }
    os
}

/// What names the hardware that this system runs on, and stands on no disk: the number of the board and the addresses of the
/// network cards. Where there is none of them (a container), this boot: then it holds until the next one.
///
/// # Errors
/// When nothing names it and /proc is not mounted.
pub fn hardware() -> io::Result<Hardware> {
    let board = std::fs::read_to_string("/sys/class/dmi/id/product_uuid").unwrap_or_default();
    let name = hardware_name(&board, cards(Path::new("/sys/class/net")));
    let name = match name.is_empty() {
        true => format!("boot {:032x}", boot_id()?),
        false => name,
    };
    let digest = Sha256::digest(name.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    Ok(Hardware(u64::from_le_bytes(first)))
}

/// Empty where nothing names it.
fn hardware_name(board: &str, mut cards: Vec<String>) -> String {
    cards.sort();
    let mut name = board.trim().to_lowercase();
    for card in cards {
        name.push(' ');
        name.push_str(&card);
    }
    name.trim().to_owned()
}

/// Addresses of the network cards; what software makes up (bridges, tunnels, ends of pairs) is none.
fn cards(class: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(class) else {
        return Vec::new();
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let cards = paths.filter(|path| path.join("device").exists());
    let addresses = cards.filter_map(|card| std::fs::read_to_string(card.join("address")).ok());
    let addresses = addresses.map(|text| text.trim().to_lowercase());
    addresses
        .filter(|text| text.chars().any(|c| c.is_ascii_hexdigit() && c != '0'))
        .collect()
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

    /// Goal: the name is of the hardware, whatever order cards come in, and of nothing that software made up. Method: a tree
    /// like the kernel's.
    #[test]
    fn hardware_is_named_by_board_and_cards() {
        let class = tempfile::tempdir().expect("a directory");
        for (name, address, device) in [
            ("eth1", "52:54:00:AA:00:02\n", true),
            ("eth0", "52:54:00:aa:00:01\n", true),
            ("docker0", "02:42:00:00:00:01\n", false),
            ("dummy", "00:00:00:00:00:00\n", true),
        ] {
            let path = class.path().join(name);
            std::fs::create_dir(&path).expect("made");
            std::fs::write(path.join("address"), address).expect("written");
            if device {
                std::fs::create_dir(path.join("device")).expect("made");
            }
        }
        let name = hardware_name("4C4C4544\n", cards(class.path()));
        assert_eq!(name, "4c4c4544 52:54:00:aa:00:01 52:54:00:aa:00:02");
        assert_eq!(hardware_name("", Vec::new()), "");
        assert_eq!(hardware().expect("named"), hardware().expect("named"));
    }

    /// Goal: both spellings are one number, and anything else is none.
    #[test]
    fn the_system_says_its_name() {
        let text = b"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n";
        let wanted = Os {
            name: "Debian GNU/Linux".into(),
            version: "12".into(),
        };
        assert_eq!(os_of(text), wanted);
        assert_eq!(os_of(b"\xff="), Os::default());
    }

    #[test]
    fn ids_are_read_in_both_spellings() {
        let plain = id_of("0123456789abcdef0123456789abcdef\n");
        assert_eq!(plain, id_of("01234567-89ab-cdef-0123-456789abcdef"));
        assert_eq!(plain, Some(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        assert_eq!(id_of("uninitialized"), None);
        assert_eq!(id_of("12"), None);
    }
}
