//! The machine itself: what it can sustain, how owners are fenced, and where state lies.

use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use nix::sys::statfs;
use nix::unistd::Group;
use wa_core::master::Fence;

use super::here::Runs;
use super::{Asked, Check};
use crate::config::{Require, Settings};
use crate::sys::gate::{self, Gate, GateError};
use crate::sys::mount::Demand;
use crate::sys::nft;
use crate::sys::probe::Prober;
use crate::sys::room;
use crate::sys::suitability::{self, Standing};

/// Below this, an epoch or a message may not find room.
const FREE_MIN_BYTES: u64 = 256 << 20;

/// The group of those who may look.
const PEOPLE: &str = "wa";
/// Directories below that of the media that are looked at.
const ENTRIES_MAX: usize = 256;

/// Scheduling, clock, hypervisor, network; fencing; mounts.
pub async fn examine(
    asked: &Asked,
    settings: Option<&Settings>,
    (peers, runs): (Vec<SocketAddr>, Runs),
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
        let vm_pause = settings.timers.tolerance.vm_pause;
        wanted.vm_pause = settings.timers.vm_pause_answered.then_some(vm_pause);
    }
    let examined = tokio::task::spawn_blocking(move || suitability::examine(&wanted)).await;
    let mut checks = Vec::new();
    if let Ok(examined) = examined {
        // A webapp has no heartbeats and no lease: of all that, only the time of day concerns it.
        let all = examined.findings.into_iter();
        for finding in all.filter(|finding| runs.timers || finding.name == "clock") {
            checks.push(match finding.standing {
                Standing::Good => Check::ok(finding.name, finding.sentence),
                Standing::Warn => Check::warn(finding.name, finding.sentence, ""),
                Standing::Bad => Check::bad(finding.name, finding.sentence, ""),
            });
        }
        if runs.timers {
            checks.push(profile(settings, examined.profile, examined.sentence));
        }
    }
    if let Some(settings) = settings.filter(|_| runs.coreapps) {
        let found = look(asked);
        checks.push(fence(settings.fence, &found));
        if let Found::Stands { unjudged, .. } = &found {
            checks.extend(devices(unjudged));
        } else if settings.fence == Fence::BestEffort {
            // The gate's second judge stands behind that queue; nothing else does.
            checks.extend(super::neighbour::examine(
                &asked.root.join("proc/sys/net"),
                settings.timers.tolerance.margin,
            ));
        }
    }
    if let Some(settings) = settings {
        checks.extend(mounts(asked, settings, runs));
        if asked.live() {
            checks.push(memory_of_run(room::short_in(Path::new(room::RUN))));
        }
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

/// What the kernel says of its gate on this machine.
enum Found {
    /// Only root may ask; or another folder is examined than this system.
    NotAsked,
    /// No coreapp runs here: their slice is not there. What is pinned of an earlier one is attached anew before the next.
    NoSlice,
    /// Nothing is pinned; why nothing can be, where that is known.
    NoPins(String),
    Stands {
        programs: usize,
        /// Network devices at which there is no judge.
        unjudged: Vec<String>,
    },
    /// What is wrong.
    Broken(String),
    /// Not the gate, but nftables.
    Nftables,
}

fn look(asked: &Asked) -> Found {
    let Ok(slice) = gate::slice() else {
        return Found::NoPins("no cgroup v2 hierarchy is mounted".into());
    };
    if !asked.live() || !nix::unistd::geteuid().is_root() {
        return Found::NotAsked;
    }
    if let Err(error) = gate::same_clock() {
        return Found::Broken(error.to_string());
    }
    let found = look_at(Path::new(gate::PINS), &slice);
    if !matches!(found, Found::Stands { .. }) && nft::open().is_ok() {
        return Found::Nftables;
    }
    found
}

/// Opens what is pinned and asks the kernel; pins and attaches nothing.
fn look_at(pins: &Path, slice: &Path) -> Found {
    // Opening the gate where nothing is pinned would pin it.
    let pinned = std::fs::read_dir(pins).is_ok_and(|mut entries| entries.next().is_some());
    match (pinned, slice.exists()) {
        (_, false) => return Found::NoSlice,
        (false, true) => {
            let place = pins.ancestors().find(|path| path.exists());
            let on = place.and_then(|place| statfs::statfs(place).ok());
            let on_bpf = on.is_some_and(|on| on.filesystem_type() == statfs::BPF_FS_MAGIC);
            let why = match wa_bpf::available() {
                Err(error) => error.to_string(),
                Ok(()) if on_bpf => String::new(),
                Ok(()) => format!(
                    "{} is not on a BPF file system: type `mount -t bpf bpf /sys/fs/bpf`",
                    pins.display()
                ),
            };
            return Found::NoPins(why);
        }
        (true, true) => {}
    }
    let opened = Gate::open(pins, slice).and_then(|gate| Ok((gate.attest()?, gate.devices()?)));
    match opened {
        Ok((found, devices)) => Found::Stands {
            programs: found.programs.len(),
            unjudged: devices
                .into_iter()
                .filter_map(|(name, judged)| (!judged).then_some(name))
                .collect(),
        },
        Err(GateError::Broken(broken)) => Found::Broken(broken.to_string()),
        Err(error) => Found::Broken(error.to_string()),
    }
}

/// How a former owner is kept from sending.
fn fence(wanted: Fence, found: &Found) -> Check {
    const AREA: &str = "fence";
    const LOOK: &str = "`wa-agent gate status` shows it, journalctl -u wa-host says why";
    let required = wanted == Fence::Required;
    let name = if required { "required" } else { "best-effort" };
    let wrong = |text: String, advice: String| match required {
        true => Check::bad(
            AREA,
            format!("{name}, but {text}: no coreapp of this machine is promoted"),
            advice,
        ),
        false => Check::warn(
            AREA,
            format!(
                "{name}, and {text}: a former owner is over when its processes are, or by time"
            ),
            advice,
        ),
    };
    match found {
        Found::Stands { programs, .. } => Check::ok(
            AREA,
            format!("{name}; the kernel gate stands ({programs} programs attached)"),
        ),
        Found::NoSlice => Check::ok(
            AREA,
            format!("{name}; no coreapp runs here, and the gate is put up before one starts"),
        ),
        Found::NotAsked if required => Check::ok(
            AREA,
            "required: no promotion without the kernel gate (whether it stands, only root may ask: sudo wa-agent doctor)",
        ),
        Found::NotAsked => Check::warn(
            AREA,
            "best-effort: where there is no kernel gate, a former owner is over when its processes are, or by time",
            "",
        ),
        Found::Nftables => wrong(
            "nftables stands in place of the kernel gate, which lets units through, not epochs"
                .into(),
            LOOK.into(),
        ),
        Found::NoPins(why) if why.is_empty() => wrong(
            format!(
                "no kernel gate is pinned below {}, though this kernel takes one",
                gate::PINS
            ),
            format!("systemctl restart wa-host puts it up; {LOOK}"),
        ),
        Found::NoPins(why) => wrong(format!("there is no kernel gate: {why}"), LOOK.into()),
        Found::Broken(why) => wrong(
            format!("the kernel gate does not stand: {why}"),
            format!(
                "systemctl restart wa-host puts it back (within a second it does by itself); {LOOK}"
            ),
        ),
    }
}

/// Devices at which the gate has no judge. One that came just now has none for a second.
fn devices(unjudged: &[String]) -> Option<Check> {
    (!unjudged.is_empty()).then(|| {
        Check::warn(
            "fence",
            format!(
                "the gate cannot judge at {}: what coreapps send upstream by it is dropped",
                unjudged.join(", ")
            ),
            "journalctl -u wa-host says why; a device that came just now is judged within a second",
        )
    })
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
    if let Some(trouble) = found.trouble {
        return Some(Check::bad(AREA, trouble.sentence(prober.demand()), ""));
    }
    // It answered a moment ago; one that hangs since then holds up a thread and not this look.
    let directory = media.directory.clone();
    let group = tokio::task::spawn_blocking(move || open_to_people(&directory));
    if let Ok(Ok(Some(check))) = tokio::time::timeout(media.probe_timeout, group).await {
        return Some(check);
    }
    Some(Check::ok(
        AREA,
        format!(
            "{} ({}): {} MiB free",
            media.directory.display(),
            found.fs_type,
            found.free_bytes >> 20
        ),
    ))
}

/// That people can write customers' files: directories of the group of releases before, which has people in it.
fn open_to_people(directory: &Path) -> Option<Check> {
    let group = Group::from_name(PEOPLE).ok()??;
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let below = entries.take(ENTRIES_MAX).map(|entry| entry.path());
    let mut all = std::iter::once(directory.to_path_buf()).chain(below);
    let found = all.find(|path| belongs(path, group.gid.as_raw()))?;
    let at = directory.display();
    Some(Check::warn(
        "media",
        format!(
            "{} belongs to the group {PEOPLE}: its members can change and delete customers' files",
            found.display()
        ),
        format!("after all machines were upgraded type: chgrp -R wa-media {at}"),
    ))
}

/// A directory of this group, which its members can write.
fn belongs(path: &Path, group: u32) -> bool {
    let data = std::fs::symlink_metadata(path);
    data.is_ok_and(|data| {
        data.is_dir() && data.gid() == group && data.permissions().mode() & 0o020 != 0
    })
}

/// Where sockets and handed secrets lie.
fn memory_of_run(short: Option<String>) -> Check {
    const AREA: &str = "mounts";
    match short {
        Some(short) => Check::bad(AREA, short, room::ADVICE),
        None => Check::ok(AREA, format!("{} has room", room::RUN)),
    }
}

/// File systems under what must survive.
fn mounts(asked: &Asked, settings: &Settings, runs: Runs) -> Vec<Check> {
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
        .filter_map(|(what, folder)| mount(what, &folder, runs))
        .collect()
}

fn mount(what: &str, folder: &Path, runs: Runs) -> Option<Check> {
    const AREA: &str = "mounts";
    let there = folder.ancestors().find(|path| path.exists())?;
    let found = statfs::statfs(there).ok()?;
    let shown = folder.display();
    if found.filesystem_type() == statfs::TMPFS_MAGIC && runs.timers {
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
            match runs.coreapps {
                true => "make room: a full disk keeps a coreapp from being promoted",
                false => "make room",
            },
        )
    } else {
        Check::ok(AREA, text)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::PathBuf;

    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};

    use super::super::Verdict;
    use super::*;

    /// Goal: a media directory that people can write is found, one of the roles alone is not. Method: a directory with each right, under
    /// its own group and another.
    #[test]
    fn a_directory_that_people_can_write_is_found() {
        let at = tempfile::tempdir().expect("a directory");
        let own = std::fs::metadata(at.path()).expect("there").gid();
        for (mode, group, found) in [
            (0o2770, own, true),
            (0o2770, own + 1, false),
            (0o2750, own, false),
        ] {
            let rights = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(at.path(), rights).expect("set");
            assert_eq!(belongs(at.path(), group), found, "{mode:o} {group}");
        }
        let file = at.path().join("file");
        std::fs::write(&file, "x").expect("written");
        assert!(!belongs(&file, own), "no directory");
    }

    /// Goal: whatever is wrong with the fence, the doctor says it, and what to type; it is bad only where a gate is
    /// demanded. Method: everything that can be found.
    #[test]
    fn each_finding_has_advice() {
        let dead = || Found::Broken("wa_egress has a dead link".into());
        let all = [
            dead(),
            Found::NoPins(String::new()),
            Found::NoPins("no bpf file system".into()),
            Found::Nftables,
        ];
        for found in &all {
            let check = fence(Fence::Required, found);
            assert_eq!(check.verdict, Verdict::Bad, "{check:?}");
            assert!(check.advice.is_some(), "{check:?}");
            let check = fence(Fence::BestEffort, found);
            assert_eq!(check.verdict, Verdict::Warn, "{check:?}");
        }
        let check = fence(Fence::Required, &dead());
        assert!(check.text.contains("dead link"), "{check:?}");
        let advice = check.advice.unwrap_or_default();
        assert!(advice.contains("systemctl restart wa-host"), "{advice}");
        assert!(advice.contains("wa-agent gate status"), "{advice}");
        for found in [stands(), Found::NoSlice, Found::NotAsked] {
            assert_eq!(fence(Fence::Required, &found).verdict, Verdict::Ok);
        }
    }

    fn stands() -> Found {
        Found::Stands {
            programs: 7,
            unjudged: Vec::new(),
        }
    }

    /// Goal: a device without a judge is named, and none is no line.
    #[test]
    fn devices_without_a_judge_are_named() {
        assert_eq!(devices(&[]), None);
        let check = devices(&["ppp0".to_owned()]).expect("a line");
        assert_eq!(check.verdict, Verdict::Warn);
        assert!(check.text.contains("ppp0"), "{check:?}");
    }

    /// A file system for pins, a network and a slice of the test's own; `None`: why there is none.
    fn place() -> Result<(tempfile::TempDir, PathBuf), String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("needs root".into());
        }
        wa_bpf::available().map_err(|error| error.to_string())?;
        let root = crate::sys::cgroup::root().map_err(|error| error.to_string())?;
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
            .map_err(|error| error.to_string())?;
        let (none, private) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
        mount(none, "/", none, private, none).map_err(|error| error.to_string())?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let done = mount(none, folder.path(), Some("bpf"), MsFlags::empty(), none);
        done.map_err(|error| error.to_string())?;
        let slice = root.join(format!("wa-test-doctor-{}", std::process::id()));
        Ok((folder, slice))
    }

    /// Goal: a slice that was made again behind a pin that looks well is found, and so is a link that somebody removed.
    /// Method: a real gate, pins and slice of the test's own; the doctor puts nothing back.
    #[test]
    fn stale_pins_are_found() {
        // The mounts end with the thread.
        let looked = std::thread::spawn(|| -> Result<(), String> {
            let (folder, slice) = place()?;
            let pins = folder.path().join("wa-agent");
            assert!(matches!(look_at(&pins, &slice), Found::NoSlice));
            std::fs::create_dir(&slice).expect("a slice");
            assert!(matches!(look_at(&pins, &slice), Found::NoPins(why) if why.is_empty()));
            assert!(!pins.exists(), "looking pins nothing");
            let elsewhere = tempfile::tempdir().expect("a directory");
            assert!(
                matches!(look_at(elsewhere.path(), &slice), Found::NoPins(why) if why.contains("mount -t bpf"))
            );
            let mut gate = Gate::open(&pins, &slice).expect("loaded");
            let broken = |found| match found {
                Found::Broken(why) => why,
                _ => panic!("it looks well"),
            };
            assert!(broken(look_at(&pins, &slice)).contains("not attached"));
            gate.attach(Duration::from_secs(3)).expect("attached");
            assert!(matches!(
                look_at(&pins, &slice),
                Found::Stands { programs: 7, .. }
            ));
            std::fs::remove_dir(&slice).expect("empty");
            assert!(matches!(look_at(&pins, &slice), Found::NoSlice));
            std::fs::create_dir(&slice).expect("a slice");
            let why = broken(look_at(&pins, &slice));
            assert!(why.contains("dead link"), "{why}");
            assert!(
                broken(look_at(&pins, &slice)).contains("dead link"),
                "not mended"
            );
            gate.attach(Duration::from_secs(3)).expect("attached");
            let egress = pins.join("v1/link/wa_egress");
            std::fs::remove_file(egress).expect("pinned there");
            let why = broken(look_at(&pins, &slice));
            assert!(why.contains("its link is not pinned"), "{why}");
            std::fs::remove_dir(&slice).expect("empty");
            Ok(())
        });
        if let Err(why) = looked.join().expect("it went well") {
            let _ = writeln!(std::io::stdout(), "SKIPPED: stale_pins_are_found: {why}");
        }
    }
}
