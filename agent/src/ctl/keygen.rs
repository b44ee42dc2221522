//! `wa-agent keygen`: a new cluster key, or the part of one that a webapp's machine needs.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::exit::Exit;
use crate::net::keys;
use crate::sys::state::random_u64;

/// Writes 256 random bits as hexadecimal, or the webapps' part of a key file; a file that exists is left alone.
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
