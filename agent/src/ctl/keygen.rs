//! `wa-agent keygen`: a new cluster key.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::exit::Exit;
use crate::sys::state::random_u64;

/// Writes 256 random bits as hexadecimal; a file that exists is left alone.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn run(out: Option<&Path>) -> anyhow::Result<Exit> {
    let key: String = (0..4).map(|_| format!("{:016x}", random_u64())).collect();
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
    println!(
        "wrote {}; copy it to every machine of the cluster (mode 0600)",
        path.display()
    );
    Ok(Exit::Ok)
}
