//! The packages by the judgement of their distributions' own tools, and byte by byte.
//! Built from the debug profile: what is judged here does not depend on optimisation.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::{program, root, skipped};

/// No younger symbol of the C library than the oldest supported distribution has.
const GLIBC_MAX: (u32, u32) = (2, 34);

/// Runs `cargo xtask` with these words on the debug build, and returns the path that it prints last.
pub fn xtask(words: &[&str], out: &Path, keys: Option<&Path>) -> PathBuf {
    xtask_with("dev", words, out, keys)
}

/// The same on another build.
fn xtask_with(profile: &str, words: &[&str], out: &Path, keys: Option<&Path>) -> PathBuf {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = Command::new(cargo);
    if let Some(keys) = keys {
        command.env("GNUPGHOME", keys);
    }
    let output = command
        .current_dir(root())
        .args(["run", "--quiet", "--locked", "--package", "xtask", "--"])
        .args(words)
        .args(["--profile", profile, "--out"])
        .arg(out)
        .output()
        .expect("cargo runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{words:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    PathBuf::from(text.lines().last().expect("it says where"))
}

pub fn folder(name: &str) -> PathBuf {
    root().join("target/e2e/packages").join(name)
}

/// The deb, made once per run.
pub fn deb() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| xtask(&["deb"], &folder("first"), None))
}

/// The deb as it is shipped, for measurements.
pub fn optimised_deb() -> PathBuf {
    xtask_with("dist", &["deb"], &folder("optimised"), None)
}

/// The rpm, made once per run.
fn rpm() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| xtask(&["rpm"], &folder("first"), None))
}

/// A repository with the package in `folder`, signed by a key made for this run where gpg can do that; says how apt is
/// to trust it.
pub fn repository(deb: &Path, folder: &Path) -> &'static str {
    let home = tempfile::tempdir().expect("a temporary directory");
    let name = "test@wa-agent.invalid";
    let made = Command::new("gpg")
        .env("GNUPGHOME", home.path())
        .args([
            "--batch",
            "--quiet",
            "--passphrase",
            "",
            "--quick-generate-key",
        ])
        .args([name, "ed25519", "sign", "never"])
        .output()
        .is_ok_and(|output| output.status.success());
    let folder = folder.display().to_string();
    let packages = deb.parent().expect("a folder");
    if !made {
        xtask(&["repo", &folder], packages, None);
        return "trusted=yes";
    }
    xtask(
        &["repo", &folder, "--key", name],
        packages,
        Some(home.path()),
    );
    // The agent that gpg has started for this folder.
    let _ = Command::new("gpgconf")
        .env("GNUPGHOME", home.path())
        .args(["--kill", "gpg-agent"])
        .output();
    "signed-by=/srv/repository/apt/wa-agent.asc"
}

fn says(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    let both = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Goal: an administrator's apt has nothing to complain about. Method: lintian, down to its pedantic tags, on the deb.
#[test]
fn lintian_is_content() {
    if program("lintian").is_none() || program("dpkg-shlibdeps").is_none() {
        return skipped("the deb by lintian", "lintian or dpkg-dev is not installed");
    }
    let text = says(Command::new("lintian").arg("--pedantic").arg(deb()));
    let bad = |line: &&str| {
        ["E: ", "W: ", "P: "]
            .iter()
            .any(|tag| line.starts_with(tag))
    };
    let found: Vec<&str> = text.lines().filter(bad).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(!text.contains("internal error"), "{text}");
}

/// Goal: the program starts on the oldest distribution that we name. Method: the symbols it asks of the C library.
#[test]
fn an_old_c_library_is_enough() {
    if program("objdump").is_none() || program("dpkg-shlibdeps").is_none() {
        return skipped("symbols of the C library", "objdump is not installed");
    }
    let place = tempfile::tempdir().expect("a temporary directory");
    says(
        Command::new("dpkg-deb")
            .arg("-x")
            .arg(deb())
            .arg(place.path()),
    );
    let text = says(
        Command::new("objdump")
            .arg("-T")
            .arg(place.path().join("usr/bin/wa-agent")),
    );
    let version = |word: &str| -> Option<(u32, u32)> {
        let word = word.trim_matches(['(', ')']).strip_prefix("GLIBC_")?;
        let mut parts = word.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let newest = text.split_whitespace().filter_map(version).max();
    let newest = newest.expect("it is linked to the C library");
    assert!(newest <= GLIBC_MAX, "asks for GLIBC {newest:?}");
}

/// Goal: the same sources give the same bytes. Method: both packages twice, the second time a while later.
#[test]
fn packages_are_reproducible() {
    if program("dpkg-shlibdeps").is_none() {
        return skipped("packages twice", "dpkg-dev is not installed");
    }
    let same = |first: &Path, second: &Path| {
        let read = |path: &Path| std::fs::read(path).expect("a package");
        assert!(read(first) == read(second), "{} differs", second.display());
    };
    same(deb(), &xtask(&["deb"], &folder("second"), None));
    if program("rpmbuild").is_none() {
        return skipped("the rpm twice", "rpmbuild is not installed");
    }
    same(
        &xtask(&["rpm"], &folder("first"), None),
        &xtask(&["rpm"], &folder("second"), None),
    );
}

/// Goal: rpm's own tools accept the rpm, and it lays the same files out as the deb. Method: rpmlint with our reasons;
/// the rpm's list of files against the description.
#[test]
fn rpmlint_is_content() {
    if program("rpmbuild").is_none() || program("rpmlint").is_none() {
        return skipped("the rpm by rpmlint", "rpm or rpmlint is not installed");
    }
    let config = root().join("packaging/rpm/rpmlint.toml");
    let text = says(
        Command::new("rpmlint")
            .arg("--config")
            .arg(config)
            .arg(rpm()),
    );
    assert!(text.contains("0 errors, 0 warnings"), "{text}");
    let listed = says(Command::new("rpm").args(["-qlp"]).arg(rpm()));
    for file in [
        "/usr/bin/wa-agent",
        "/usr/lib/systemd/system/wa-coreapp@.service",
        "/usr/share/man/man1/wa-agent.1.gz",
    ] {
        assert!(
            listed.lines().any(|line| line == file),
            "{file} is not in\n{listed}"
        );
    }
    let kept = says(Command::new("rpm").args(["-qcp"]).arg(rpm()));
    assert!(kept.contains("/etc/wa-agent/wa-agent.toml"), "{kept}");
}
