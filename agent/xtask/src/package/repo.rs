//! An apt and a dnf repository of the packages that were made, signed when a key is named.

use std::path::Path;
use std::process::Command;

use super::{Wanted, output, run, write};

/// Copies the packages of `wanted.out` into `folder/apt` and `folder/rpm` and writes the indexes.
pub fn make(wanted: &Wanted, folder: &Path) -> Result<(), String> {
    let (apt, rpm) = (folder.join("apt"), folder.join("rpm"));
    let mut copied = (0, 0);
    for place in [&apt, &rpm] {
        std::fs::create_dir_all(place).map_err(|e| format!("{}: {e}", place.display()))?;
    }
    let packages = std::fs::read_dir(&wanted.out)
        .map_err(|e| format!("{}: {e}; make packages first", wanted.out.display()))?;
    for package in packages.flatten().map(|entry| entry.path()) {
        let (place, count) = match package.extension().and_then(|e| e.to_str()) {
            Some("deb") => (&apt, &mut copied.0),
            Some("rpm") => (&rpm, &mut copied.1),
            _ => continue,
        };
        let name = package.file_name().unwrap_or_default();
        std::fs::copy(&package, place.join(name)).map_err(|e| e.to_string())?;
        *count += 1;
    }
    if copied == (0, 0) {
        return Err(format!(
            "no package in {}; make some first: cargo xtask deb",
            wanted.out.display()
        ));
    }
    if copied.0 > 0 {
        apt_index(&apt, wanted.key.as_deref())?;
    }
    if copied.1 > 0 {
        run(Command::new("createrepo_c").arg("--quiet").arg(&rpm))?;
        if let Some(key) = &wanted.key {
            run(gpg(key)
                .arg("--detach-sign")
                .arg(rpm.join("repodata/repomd.xml")))?;
            public_key(&rpm, key)?;
        }
    }
    println!("{}: {} deb, {} rpm", folder.display(), copied.0, copied.1);
    Ok(())
}

/// A flat repository: `deb [signed-by=/etc/apt/keyrings/wa-agent.asc] URL ./`.
fn apt_index(folder: &Path, key: Option<&str>) -> Result<(), String> {
    let tool = |arguments: &[&str]| {
        output(
            Command::new("apt-ftparchive")
                .current_dir(folder)
                .args(arguments),
        )
    };
    write(&folder.join("Packages"), &tool(&["packages", "."])?)?;
    for old in ["Release", "InRelease"] {
        let _ = std::fs::remove_file(folder.join(old));
    }
    let release = tool(&[
        "-o",
        "APT::FTPArchive::Release::Origin=wa-agent",
        "-o",
        "APT::FTPArchive::Release::Suite=stable",
        "release",
        ".",
    ])?;
    write(&folder.join("Release"), &release)?;
    let Some(key) = key else {
        println!("not signed: name a key of gpg with --key");
        return Ok(());
    };
    run(gpg(key)
        .arg("--clearsign")
        .arg("--output")
        .arg(folder.join("InRelease"))
        .arg(folder.join("Release")))?;
    public_key(folder, key)
}

/// What apt and dnf are told to trust.
fn public_key(folder: &Path, key: &str) -> Result<(), String> {
    let public = output(Command::new("gpg").args(["--armor", "--export", key]))?;
    write(&folder.join("wa-agent.asc"), &public)
}

fn gpg(key: &str) -> Command {
    let mut gpg = Command::new("gpg");
    gpg.args(["--batch", "--yes", "--armor", "--local-user", key]);
    gpg
}
