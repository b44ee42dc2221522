//! `[media]`: where files lie, and how the directory is watched.
//! Looks at no directory.

use std::path::PathBuf;
use std::time::Duration;

use super::merge::Merge;
use super::{ConfigError, MediaSettings, Require, fragment};

/// Where the sample units mount the share: below a directory of its own, which units may name without touching the mount.
const DEFAULT_MEDIA: &str = "/var/lib/wamedia/shared";

/// Reads the section.
///
/// # Errors
/// [`ConfigError::Rule`] for a word that is none of the choices, and for what is no size.
pub fn media(m: &mut Merge, w: fragment::Media) -> Result<MediaSettings, ConfigError> {
    // Whoever names a directory wants media, and on a mount: a directory below one that went away takes files silently.
    let default = match &w.directory {
        Some(_) => (Require::Mount, "media.directory is set"),
        None => (Require::None, "default"),
    };
    let directory = w.directory.map(|path| path.display().to_string());
    let directory = m.pick(
        "media.directory",
        directory,
        None,
        (DEFAULT_MEDIA.into(), "default"),
    );
    let require = m.pick(
        "media.require",
        w.require,
        None,
        (default.0.as_str().into(), default.1),
    );
    let require = Require::parse(&require).ok_or_else(|| {
        ConfigError::Rule(format!(
            "[media] require = {require:?}: write \"nfs\", \"mount\", \"directory\" or \"none\""
        ))
    })?;
    let free_min = m.pick(
        "media.free_min",
        w.free_min,
        None,
        ("256MiB".into(), "default"),
    );
    let free_min_bytes = free_min
        .parse::<bytesize::ByteSize>()
        .map_err(|_| {
            ConfigError::Rule(format!(
                "[media] free_min = {free_min:?}: write a size such as \"256MiB\" or \"1GiB\""
            ))
        })?
        .as_u64();
    let s = Duration::from_secs;
    let (interval, timeout) = (w.probe_interval, w.probe_timeout);
    Ok(MediaSettings {
        directory: PathBuf::from(directory),
        require,
        free_min_bytes,
        inodes_min: m.pick("media.inodes_min", w.inodes_min, None, (1000, "default")),
        probe_interval: m.span("media.probe_interval", interval, s(5), "default"),
        probe_timeout: m.span("media.probe_timeout", timeout, s(5), "default"),
    })
}
