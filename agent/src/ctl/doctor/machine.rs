//! The machine itself: what it can sustain, how owners are fenced, and where state lies.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use nix::sys::statfs;
use wa_core::master::Fence;

use super::{Asked, Check};
use crate::config::{Require, Settings};
use crate::sys::mount::Demand;
use crate::sys::probe::Prober;
use crate::sys::suitability::{self, Standing};

/// Below this, an epoch or a message may not find room.
const FREE_MIN_BYTES: u64 = 256 << 20;

/// Scheduling, clock, hypervisor, network; fencing; mounts.
pub async fn examine(
    asked: &Asked,
    settings: Option<&Settings>,
    peers: Vec<SocketAddr>,
) -> Vec<Check> {
    let mut wanted = suitability::Asked {
        peers,
        ..suitability::Asked::default()
    };
    if asked.quick {
        wanted.watch = Duration::from_millis(300);
    }
    if let Some(settings) = settings {
        wanted.drift_per_mille = settings.timers.tolerance.drift.0;
        wanted.vm_pause = settings.timers.tolerance.vm_pause;
    }
    let examined = tokio::task::spawn_blocking(move || suitability::examine(&wanted)).await;
    let mut checks = Vec::new();
    if let Ok(examined) = examined {
        for finding in examined.findings {
            checks.push(match finding.standing {
                Standing::Good => Check::ok(finding.name, finding.sentence),
                Standing::Warn => Check::warn(finding.name, finding.sentence, ""),
                Standing::Bad => Check::bad(finding.name, finding.sentence, ""),
            });
        }
        checks.push(profile(settings, examined.profile, examined.sentence));
    }
    if let Some(settings) = settings {
        checks.push(fence(settings));
        checks.extend(mounts(asked, settings));
        checks.extend(media(settings).await);
    }
    checks
}

/// The timers in force against the fastest profile that the machine sustains.
fn profile(settings: Option<&Settings>, fastest: &str, sentence: String) -> Check {
    let rank = |name: &str| {
        ["fast", "standard", "compat"]
            .iter()
            .position(|known| *known == name)
            .unwrap_or(2)
    };
    let beats = settings.map(|settings| settings.timers.heartbeat_interval);
    let asked_for = match beats {
        Some(beats) if beats <= Duration::from_millis(50) => "fast",
        Some(beats) if beats <= Duration::from_millis(500) => "standard",
        _ => "compat",
    };
    if rank(asked_for) < rank(fastest) {
        return Check::warn(
            "profile",
            sentence,
            format!("[timers] ask for {asked_for}: set profile = \"{fastest}\""),
        );
    }
    Check::ok("profile", sentence)
}

/// How a former owner is kept from sending. The kernel gate's own checks belong here.
fn fence(settings: &Settings) -> Check {
    match settings.fence {
        Fence::Required => Check::ok("fence", "required: no promotion without the kernel gate"),
        Fence::BestEffort => Check::warn(
            "fence",
            "best-effort: a former owner is waited for, or known to be dead; no gate in the kernel stops it",
            "",
        ),
    }
}

/// The media directory, looked at without writing: the roles' own probes write.
async fn media(settings: &Settings) -> Option<Check> {
    const AREA: &str = "media";
    let media = &settings.media;
    if media.require == Require::None {
        return Some(Check::ok(
            AREA,
            "none: media calls are refused ([media] require)",
        ));
    }
    let demand = Demand {
        directory: media.directory.clone(),
        require: media.require,
        free_min_bytes: media.free_min_bytes,
        inodes_min: media.inodes_min,
        node: None,
    };
    let mut prober = Prober::of(std::env::current_exe().ok()?, demand, media.probe_timeout);
    let found = prober.look(None).await;
    Some(match found.trouble {
        Some(trouble) => Check::bad(AREA, trouble.sentence(prober.demand()), ""),
        None => Check::ok(
            AREA,
            format!(
                "{} ({}): {} MiB free",
                media.directory.display(),
                found.fs_type,
                found.free_bytes >> 20
            ),
        ),
    })
}

/// File systems under what must survive.
fn mounts(asked: &Asked, settings: &Settings) -> Vec<Check> {
    let mut folders = vec![(
        "state",
        asked.root.join(
            settings
                .state_directory
                .strip_prefix("/")
                .unwrap_or(&settings.state_directory),
        ),
    )];
    if let Some(file) = super::store::file(settings) {
        folders.push((
            "store",
            file.parent().unwrap_or(Path::new("/")).to_path_buf(),
        ));
    }
    folders
        .into_iter()
        .filter_map(|(what, folder)| mount(what, &folder))
        .collect()
}

fn mount(what: &str, folder: &Path) -> Option<Check> {
    const AREA: &str = "mounts";
    let there = folder.ancestors().find(|path| path.exists())?;
    let found = statfs::statfs(there).ok()?;
    let shown = folder.display();
    if found.filesystem_type() == statfs::TMPFS_MAGIC {
        return Some(Check::bad(
            AREA,
            format!(
                "{what} directory {shown} is in memory (tmpfs): the highest epoch obeyed would be forgotten"
            ),
            "put it on a disk",
        ));
    }
    if found.filesystem_type() == statfs::NFS_SUPER_MAGIC {
        return Some(Check::bad(
            AREA,
            format!("{what} directory {shown} is on a network file system"),
            "put it on a local disk",
        ));
    }
    let free = u64::try_from(found.block_size()).unwrap_or(0) * found.blocks_available();
    let text = format!("{what} directory {shown}: {} MiB free", free >> 20);
    Some(if free < FREE_MIN_BYTES {
        Check::warn(
            AREA,
            text,
            "make room: a full disk keeps a coreapp from being promoted",
        )
    } else {
        Check::ok(AREA, text)
    })
}
