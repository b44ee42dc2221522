//! `wa-agent keygen`: a new cluster key, or the part of one that a webapp's machine needs.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::exit::Exit;
use crate::net::keys;
use crate::sys::state::random_u64;

/// Writes 256 random bits as hexadecimal, or the webapps' part of a key file. A file that exists is left alone, unless it is
/// the webapps' part of the same key: releases before sealing wrote less into it.
///
/// # Errors
/// When the file exists or cannot be written, or the cluster key cannot be read.
pub fn run(out: Option<&Path>, webapp_of: Option<&Path>) -> anyhow::Result<Exit> {
    let key = match webapp_of {
        None => (0..4).map(|_| format!("{:016x}", random_u64())).collect(),
        Some(path) => {
            let file = std::fs::read(path)
                .with_context(|| format!("cannot read the cluster key {}", path.display()))?;
            let part = keys::for_webapps(&file);
            anyhow::ensure!(!part.is_empty(), "{} holds no key", path.display());
            part.trim_end().to_owned()
        }
    };
    let Some(path) = out else {
        println!("{key}");
        return Ok(Exit::Ok);
    };
    if webapp_of.is_some() && same_part(path, &key) {
        super::keys::replace(path, &format!("{key}\n"))?;
        println!(
            "wrote {} again; copy it to every machine that runs webapps only (mode 0600)",
            path.display()
        );
        return Ok(Exit::Ok);
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}: a key that is in use must not be replaced; remove the file first if you mean to", path.display()))?;
    writeln!(file, "{key}")?;
    file.sync_all()?;
    let to = if webapp_of.is_some() {
        "every machine that runs webapps only"
    } else {
        "every machine of the cluster"
    };
    println!("wrote {}; copy it to {to} (mode 0600)", path.display());
    Ok(Exit::Ok)
}

/// The verb for the audit: names of files, and nothing of a key.
pub fn words(out: Option<&Path>, webapp_of: Option<&Path>) -> String {
    let what = match webapp_of {
        Some(of) => format!("keygen: the webapps' part of {}", of.display()),
        None => "keygen: a new cluster key".to_owned(),
    };
    match out {
        Some(path) => format!("{what}, to {}", path.display()),
        None => format!("{what}, shown"),
    }
}

/// The file holds the webapps' part of these keys, and nothing else.
fn same_part(path: &Path, part: &str) -> bool {
    let Ok(there) = std::fs::read(path) else {
        return false;
    };
    keys::is_for_webapps(&there) && keys::prints(&there) == keys::prints(part.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a webapps' part of an older release is written anew in its place, and nothing else is ever replaced. Method: the
    /// older part of the key, that of another key, and the key itself.
    #[test]
    fn only_an_older_part_of_the_same_key_is_replaced() {
        let place = tempfile::tempdir().expect("a directory");
        let (whole, part) = (place.path().join("whole"), place.path().join("part"));
        let key = "5a".repeat(32);
        std::fs::write(&whole, &key).expect("written");
        let newest = keys::for_webapps(key.as_bytes());
        let older = newest.trim().rsplit_once(' ').expect("four words").0;
        let other = keys::for_webapps("6b".repeat(32).as_bytes());
        std::fs::write(&part, older).expect("written");
        assert!(run(Some(&part), Some(&whole)).is_ok());
        assert_eq!(std::fs::read_to_string(&part).expect("there"), newest);
        for text in [other.as_str(), key.as_str()] {
            std::fs::write(&part, text).expect("written");
            assert!(run(Some(&part), Some(&whole)).is_err());
            assert_eq!(std::fs::read_to_string(&part).expect("there"), text);
        }
    }
}
