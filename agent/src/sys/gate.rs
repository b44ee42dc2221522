//! The kernel gate of this machine by the paths of an installation: attach, attest, a unit's entry, seal, end of a unit.
//! Decides nothing about who may act: `wa_core` does. The program itself and its loader are `wa_bpf`.
//!
//! Everything here needs CAP_BPF and CAP_NET_ADMIN, so the host agent or root; a coreapp only maps what it is lent.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use wa_bpf::{Network, Unjudged};

use super::{cgroup, clock, sock_destroy};

/// Where programs, links and maps are pinned: what is pinned stays when the process ends.
pub const PINS: &str = "/sys/fs/bpf/wa-agent";
/// The parent group of all coreapps, below the root of the hierarchy.
pub const SLICE: &str = "wa.slice/wa-coreapp.slice";

/// Why the gate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error(transparent)]
    Kernel(#[from] wa_bpf::Error),
    #[error(transparent)]
    Broken(#[from] wa_bpf::Broken),
    #[error("control groups: {0}")]
    Cgroup(io::Error),
    #[error("upstream sockets: {0}")]
    Sockets(io::Error),
    #[error("{0} upstream sockets are still open after several rounds")]
    SocketsLeft(usize),
    #[error("the kernel holds the seal {held}, not {wanted}")]
    NotSealed { wanted: u64, held: u64 },
    #[error(
        "the boot clock of this container is {0} s apart from the kernel's (a time namespace, as after a restore), and the \
         kernel would drop everything; stop the container and start it anew instead of restoring it"
    )]
    OtherClock(String),
    #[error(
        "/proc/self/timens_offsets cannot be read, so nobody knows by which clock the kernel judges: {0}"
    )]
    UnknownClock(io::Error),
    #[error(transparent)]
    Nft(#[from] super::nft::NftError),
    #[error("epoch {epoch} is over in this unit: {over} was sealed or admitted")]
    Over { epoch: u64, over: u64 },
}

/// What was verified when a unit was fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fenced {
    /// Epochs below this one are over in that unit, as read back from the kernel.
    pub seal: u64,
    /// Connections that the kernel ended.
    pub destroyed: usize,
    /// This kernel cannot end connections: the seal alone holds their bytes back.
    pub unsupported: bool,
}

/// What was ended before the gate is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ended {
    /// Control groups that were looked at: units with an entry, also those that are gone, and everybody in the slice.
    pub groups: usize,
    /// Connections that the kernel ended.
    pub destroyed: usize,
    /// This kernel cannot end connections.
    pub unsupported: bool,
}

/// A unit's map and what stands in front of it.
#[derive(Debug)]
pub struct Lent {
    pub fd: OwnedFd,
    /// The kernel's number of the map.
    pub map: u64,
    pub seal: u64,
}

/// The gate, opened for changes.
pub struct Gate {
    kernel: wa_bpf::Gate,
    slice: PathBuf,
    exempt: Vec<Network>,
}

/// Nothing of the gate is reachable twice at a time: its owner holds it in a lock.
impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gate({})", self.slice.display())
    }
}

/// The folder of the slice of the coreapps.
///
/// # Errors
/// When there is no cgroup v2 hierarchy.
pub fn slice() -> io::Result<PathBuf> {
    Ok(cgroup::root()?.join(SLICE))
}

/// Number of the coreapp whose unit owns a control group (as systemd calls it), if one does.
pub fn instance_of(control_group: &str) -> Option<u16> {
    let (slice, unit) = control_group.trim_start_matches('/').rsplit_once('/')?;
    let (role, instance) = super::systemd::instance_of(unit)?;
    (slice == SLICE && role == "coreapp").then_some(instance)
}

/// Deadlines that this process writes mean to the kernel what they mean here.
///
/// # Errors
/// When this process has another boot clock than the kernel: what it opened would stay shut, or stay open for too long.
pub fn same_clock() -> Result<(), GateError> {
    match clock::apart_from_kernel() {
        Ok(None) => Ok(()),
        Ok(Some(apart)) => Err(GateError::OtherClock(apart)),
        Err(error) => Err(GateError::UnknownClock(error)),
    }
}

impl Gate {
    /// Loads the programs, or opens what is pinned.
    ///
    /// # Errors
    /// When the kernel refuses, this program was built without the gate, or there is no bpf file system.
    pub fn open(pins: &Path, slice: &Path) -> Result<Self, GateError> {
        let kernel = wa_bpf::Gate::open_or_load(pins)?;
        Ok(Self {
            exempt: kernel.exempt().unwrap_or_default(),
            kernel,
            slice: slice.to_owned(),
        })
    }

    /// That of an installation.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn installed() -> Result<Self, GateError> {
        Self::open(Path::new(PINS), &slice().map_err(GateError::Cgroup)?)
    }

    /// Puts it in front of the slice as it is now, and its second judge at every network device. No deadline further away
    /// than `max_ttl` counts. Answers the devices that take no judge.
    ///
    /// # Errors
    /// When the slice does not exist or the kernel refuses.
    pub fn attach(&mut self, max_ttl: Duration) -> Result<Vec<Unjudged>, GateError> {
        self.kernel.set_max_ttl(max_ttl)?;
        Ok(self.kernel.attach(&self.slice)?)
    }

    /// Looks whether the kernel still enforces it for the slice as it is now.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn attest(&self) -> Result<wa_bpf::Attestation, GateError> {
        same_clock()?;
        Ok(self.kernel.attest(&self.slice)?)
    }

    /// Puts the second judge at devices that came since. Answers those that take none: nothing of a tenure leaves by them.
    ///
    /// # Errors
    /// When devices cannot be listed or entered.
    pub fn judge_devices(&mut self) -> Result<Vec<Unjudged>, GateError> {
        Ok(self.kernel.judge_devices()?)
    }

    /// Network devices by name, and whether what is sent under a tenure may leave by them.
    ///
    /// # Errors
    /// When devices cannot be listed.
    pub fn devices(&self) -> Result<Vec<(String, bool)>, GateError> {
        Ok(self.kernel.devices()?)
    }

    /// Networks that everybody behind the gate may reach without a tenure.
    ///
    /// # Errors
    /// When the kernel refuses; the old set holds then.
    pub fn set_exempt(&mut self, networks: &[Network]) -> Result<(), GateError> {
        if self.exempt != networks {
            self.kernel.set_exempt(networks)?;
            networks.clone_into(&mut self.exempt);
        }
        Ok(())
    }

    /// The exempt networks in force.
    pub fn exempt(&self) -> &[Network] {
        &self.exempt
    }

    /// A fresh entry for the start of a unit: no deadline, and whatever was there before is nobody's any more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&mut self, cgroup: u64, seal: u64) -> Result<(), GateError> {
        self.kernel.remove_unit(cgroup)?;
        self.kernel.make_unit(cgroup, seal)?;
        Ok(())
    }

    /// A unit's map, made if it is missing.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn lend(&mut self, cgroup: u64, seal: u64) -> Result<Lent, GateError> {
        let fd = match self.kernel.unit(cgroup) {
            Ok(fd) => fd,
            Err(_) => self.kernel.make_unit(cgroup, seal)?,
        };
        Ok(Lent {
            map: map_id(&fd).map_err(GateError::Cgroup)?,
            fd,
            seal: self.kernel.read_unit(cgroup)?.seal,
        })
    }

    /// What a unit's entry says.
    ///
    /// # Errors
    /// When it has none.
    pub fn read(&self, cgroup: u64) -> Result<wa_bpf::UnitState, GateError> {
        Ok(self.kernel.read_unit(cgroup)?)
    }

    /// Ends every epoch below `at` in a unit: the seal first, then its connections; both are looked at again.
    ///
    /// # Errors
    /// When one of them cannot be verified: no receipt may be given then.
    pub fn fence(&mut self, cgroup: u64, at: u64) -> Result<Fenced, GateError> {
        // An entry that is missing drops everything; the seal has to outlive that.
        if self.kernel.unit(cgroup).is_err() {
            self.kernel.make_unit(cgroup, at)?;
        }
        let held = self.kernel.seal(cgroup, at)?;
        if held < at {
            return Err(GateError::NotSealed { wanted: at, held });
        }
        // A newer epoch that lives there keeps its connections; those of the old one carry its stamp.
        if self.kernel.read_unit(cgroup)?.epoch >= held {
            return Ok(Fenced {
                seal: held,
                destroyed: 0,
                unsupported: false,
            });
        }
        self.end_connections(cgroup, held)
    }

    /// Nothing of this unit passes any more, for good: its entry goes, then its connections.
    ///
    /// # Errors
    /// When one of them cannot be verified.
    pub fn bury(&mut self, cgroup: u64) -> Result<Fenced, GateError> {
        let seal = match self.kernel.read_unit(cgroup) {
            Ok(state) => state.seal.max(state.epoch.saturating_add(1)),
            Err(_) => 0,
        };
        self.kernel.remove_unit(cgroup)?;
        self.end_connections(cgroup, seal)
    }

    fn end_connections(&self, cgroup: u64, seal: u64) -> Result<Fenced, GateError> {
        let spare = |peer: IpAddr| self.exempt.iter().any(|network| network.contains(peer));
        let done = sock_destroy::destroy(cgroup, spare).map_err(GateError::Sockets)?;
        if done.left > 0 && !done.unsupported {
            return Err(GateError::SocketsLeft(done.left));
        }
        Ok(Fenced {
            seal,
            destroyed: done.destroyed,
            unsupported: done.unsupported,
        })
    }

    /// Seals what is open in every unit: later epochs may open again.
    ///
    /// # Errors
    /// When the kernel refuses for one of them; the others are sealed all the same.
    pub fn seal_everything(&mut self) -> Result<usize, GateError> {
        let mut first = None;
        let units = self.kernel.units()?;
        for cgroup in &units {
            let state = self.kernel.read_unit(*cgroup);
            let at = state.map_or(u64::MAX, |state| state.epoch.saturating_add(1));
            if let Err(error) = self.kernel.seal(*cgroup, at) {
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(units.len()), |error| Err(error.into()))
    }

    /// Units with an entry.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub fn units(&self) -> Result<Vec<u64>, GateError> {
        Ok(self.kernel.units()?)
    }

    /// Takes the entries of units away whose control group is gone. Ids are never given twice in one boot.
    ///
    /// # Errors
    /// When slice or pins cannot be read.
    pub fn sweep(&mut self) -> Result<usize, GateError> {
        // First the entries: one that comes meanwhile belongs to a group that is there already.
        let units = self.kernel.units()?;
        let mut there = Vec::new();
        for entry in std::fs::read_dir(&self.slice).map_err(GateError::Cgroup)? {
            let path = entry.map_err(GateError::Cgroup)?.path();
            // Gone in between: no such group any more.
            if path.is_dir()
                && let Ok(id) = wa_bpf::cgroup_id(&path)
            {
                there.push(id);
            }
        }
        let gone: Vec<u64> = units.into_iter().filter(|id| !there.contains(id)).collect();
        for id in &gone {
            self.bury(*id)?;
        }
        Ok(gone.len())
    }

    /// Ends every connection behind the gate, with what processes that are gone have left in its send queue: for whoever
    /// takes the gate away, which alone holds those bytes back. Nothing of the slice passes any more.
    ///
    /// # Errors
    /// When one of them cannot be verified: the gate should stay then.
    pub fn end_everything(&mut self) -> Result<Ended, GateError> {
        // Groups that are gone are known by their entries only.
        let mut groups = self.kernel.units()?;
        for path in groups_below(&self.slice) {
            // Gone in between: then its processes are, and with an entry it is in the list.
            groups.extend(wa_bpf::cgroup_id(&path).ok());
        }
        groups.sort_unstable();
        groups.dedup();
        let mut all = Ended {
            groups: groups.len(),
            ..Ended::default()
        };
        for cgroup in groups {
            let ended = self.bury(cgroup)?;
            all.destroyed += ended.destroyed;
            all.unsupported |= ended.unsupported;
        }
        Ok(all)
    }

    /// What passed and what was dropped, and why.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn counters(&self) -> Result<Vec<(&'static str, u64)>, GateError> {
        Ok(self.kernel.counters()?.named().collect())
    }
}

/// A group and all below it; none when it does not exist.
fn groups_below(group: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![group.to_owned()];
    while let Some(folder) = todo.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        let below = entries.flatten().map(|entry| entry.path());
        todo.extend(below.filter(|path| path.is_dir()));
        found.push(folder);
    }
    found
}

/// The highest epoch that an instance obeyed, plus one: what its next start begins with as a seal.
///
/// # Errors
/// When its state directory cannot be read: nothing may be opened then.
pub fn first_seal(state: &Path, instance: u16) -> io::Result<u64> {
    let obeyed = super::state::obeyed(state, &format!("coreapp-{instance}"))?;
    Ok(obeyed.saturating_add(1))
}

/// The kernel's number of a map, as proc_pid_fdinfo(5) shows it.
fn map_id(fd: &OwnedFd) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let id = text.lines().find_map(|line| line.strip_prefix("map_id:"));
    id.and_then(|id| id.trim().parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Units that a person has fenced, by files in the host agent's state directory: they survive restarts and reboots.
#[derive(Debug, Clone)]
pub struct ByHand(PathBuf);

impl ByHand {
    /// In the state directory of the installation.
    pub fn new(state: &Path) -> Self {
        Self(state.join("host-1/fenced"))
    }

    fn file(&self, instance: u16) -> PathBuf {
        self.0.join(format!("coreapp-{instance}"))
    }

    /// The reason for which an instance is fenced, if it is.
    pub fn reason(&self, instance: u16) -> Option<String> {
        let text = std::fs::read_to_string(self.file(instance)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Fences: from now on no start of the instance is let through.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn fence(&self, instance: u16, reason: &str) -> io::Result<()> {
        std::fs::create_dir_all(&self.0)?;
        std::fs::write(self.file(instance), format!("{reason}\n"))
    }

    /// Lifts it; false when it was not fenced.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn unfence(&self, instance: u16) -> io::Result<bool> {
        match std::fs::remove_file(self.file(instance)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_of_coreapps_are_lent_a_map() {
        let of = |group: &str| instance_of(group);
        assert_eq!(
            of("/wa.slice/wa-coreapp.slice/wa-coreapp@2.service"),
            Some(2)
        );
        for other in [
            "/wa.slice/wa-coreapp.slice/wa-coreapp@2.service/below",
            "/wa.slice/wa-coreapp@2.service",
            "/user.slice/wa.slice/wa-coreapp.slice/wa-coreapp@2.service",
            "/wa.slice/wa-coreapp.slice/wa-webapp@2.service",
            "/wa.slice/wa-coreapp.slice/wa-gate.service",
            "/",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    /// Goal: a start begins above everything that its instance ever obeyed, and rubbish opens nothing.
    #[test]
    fn the_first_seal_is_above_what_was_obeyed() {
        let state = tempfile::tempdir().expect("a directory");
        assert_eq!(first_seal(state.path(), 3).expect("read"), 1);
        let directory = state.path().join("coreapp-3");
        std::fs::create_dir_all(&directory).expect("made");
        std::fs::write(directory.join("epoch"), "7\n").expect("written");
        assert_eq!(first_seal(state.path(), 3).expect("read"), 8);
        for rubbish in ["x", "18446744073709551615"] {
            std::fs::write(directory.join("epoch"), rubbish).expect("written");
            assert!(first_seal(state.path(), 3).is_err(), "{rubbish}");
        }
    }

    #[test]
    fn a_person_fences_and_lifts_it() {
        let state = tempfile::tempdir().expect("a directory");
        let by_hand = ByHand::new(state.path());
        assert_eq!(by_hand.reason(1), None);
        by_hand.fence(1, "smoke").expect("written");
        assert_eq!(by_hand.reason(1).as_deref(), Some("smoke"));
        assert_eq!(by_hand.reason(2), None);
        assert!(by_hand.unfence(1).expect("removed"));
        assert!(!by_hand.unfence(1).expect("nothing to remove"));
    }
}
