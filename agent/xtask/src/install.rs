//! Installs what the tests need beside the Rust toolchain, or says in one line what to type.
//! Starts no service.

use std::path::Path;
use std::process::{Command, Stdio};

/// A program, and the Debian and Ubuntu package that has it.
const NEEDED: &[(&str, &str)] = &[
    ("cc", "gcc"),
    ("ld", "binutils"),
    ("mariadbd", "mariadb-server"),
    ("mariadb-install-db", "mariadb-server"),
    ("setpriv", "util-linux"),
    ("python3", "python3"),
    ("openssl", "openssl"),
];

/// What only the parts `browser`, `e2e`, `gate`, `galera` and `soak` and `cargo xtask fuzz` need. Tests are skipped where something is
/// missing, so that nobody needs root for the others.
const OPTIONAL: &[(&str, &str)] = &[
    ("c++", "g++"),
    ("clang", "clang"),
    ("bpf/bpf_helpers.h", "libbpf-dev"),
    ("ss", "iproute2"),
    ("debootstrap", "debootstrap"),
    ("/usr/lib/galera/libgalera_smm.so", "galera-4"),
    ("dpkg-shlibdeps", "dpkg-dev"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("lintian", "lintian"),
    ("rsync", "rsync"),
    ("rpmbuild", "rpm"),
    ("rpmlint", "rpmlint"),
    ("systemd-analyze", "systemd"),
    ("systemd-nspawn", "systemd-container"),
    ("apt-ftparchive", "apt-utils"),
    ("createrepo_c", "createrepo-c"),
    ("dnf", "dnf"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("mkfs.ext4", "e2fsprogs"),
    ("gpg", "gnupg"),
    ("promtool", "prometheus"),
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
];

const FOLDERS: &[&str] = &[
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    // For headers.
    "/usr/include",
];

/// Packages that start a server when they are installed are told not to; the tests run their own.
const SCRIPT: &str = r#"
set -e
export DEBIAN_FRONTEND=noninteractive
if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
apt-get -q update
apt-get -q -y install --no-install-recommends "$@"
"#;

/// Makes sure that every program is there.
pub fn needed() -> Result<(), String> {
    required()?;
    let wanted = missing(OPTIONAL);
    if wanted.is_empty() || !is_root() || !found("apt-get") {
        return Ok(());
    }
    println!("installing: {}", wanted.join(" "));
    let status = Command::new("sh")
        .args(["-c", SCRIPT, "install"])
        .args(&wanted)
        .stdin(Stdio::null())
        .status();
    if !status.is_ok_and(|status| status.success()) {
        println!("not installed; the tests that need them are skipped");
    }
    Ok(())
}

fn required() -> Result<(), String> {
    let packages = missing(NEEDED);
    if packages.is_empty() {
        return Ok(());
    }
    let advice = format!(
        "the tests need what is missing here, install it first: apt-get install --no-install-recommends libc6-dev {}",
        packages.join(" ")
    );
    if !found("apt-get") {
        return Err(advice);
    }
    println!("installing: {}", packages.join(" "));
    let mut command = if is_root() {
        Command::new("sh")
    } else if found("sudo") {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "sh"]);
        sudo
    } else {
        return Err(advice);
    };
    let status = command
        .args(["-c", SCRIPT, "install", "libc6-dev"])
        .args(&packages)
        .stdin(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() && missing(NEEDED).is_empty() => Ok(()),
        _ => Err(advice),
    }
}

fn missing(programs: &[(&str, &'static str)]) -> Vec<&'static str> {
    let mut packages: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| !found(program))
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    packages
}

/// The program can be started by its name.
pub fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let fixed = FOLDERS.iter().map(Path::new).map(Path::to_path_buf);
    std::env::split_paths(&path)
        .chain(fixed)
        .any(|folder| folder.join(program).exists())
}

/// Network namespaces, booted systems and the like are root's.
pub fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1))
        == Some("0")
}
