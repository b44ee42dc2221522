//! The host agent's side of the gate: loads, pins and attaches the programs, makes and seals the units' entries.
//! Keeps nothing in memory that is not in the kernel; the next process opens the same pins and goes on.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aya::maps::lpm_trie::Key;
use aya::maps::of_maps::HashOfMaps;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray};
use aya::programs::Program;
use aya::{Ebpf, EbpfLoader};

use crate::layout::{ARRAY, At, HOOKS, Hook, LAYOUT, MAPS, MMAPABLE, PlaceWords, UnitWords};
use crate::place::{lock, make_pins, open_cgroup, root_of};
use crate::syscall::{self, LinkInfo, ProgramInfo};
use crate::wire::{self, Wires};
use crate::{Counters, Error, Network, OBJECT, Unjudged};

/// What an entry says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitState {
    /// Written by the coreapp. 0: none yet.
    pub epoch: u64,
    /// On CLOCK_BOOTTIME; 0: no tenure. Written by the coreapp.
    pub deadline_ns: u64,
    /// Lowest epoch that may still live. Written by the host agent.
    pub seal: u64,
}

type Units = HashOfMaps<MapData, u64, Array<MapData, UnitWords>>;

/// The loaded gate. One process writes through it at a time; that is the host agent.
pub struct Gate {
    folder: PathBuf,
    /// As pinned, in the order of `HOOKS`, each with what the kernel says of it.
    pub(crate) programs: Vec<(OwnedFd, ProgramInfo)>,
    /// Tags of the programs in this build.
    pub(crate) tags: Vec<[u8; 8]>,
    units: Units,
    units_fd: OwnedFd,
    seals: Mutex<HashMap<MapData, u64, u64>>,
    place: Array<MapData, PlaceWords>,
    pub(crate) wires: Wires,
    /// As on a kernel without links at devices.
    pub(crate) filters_only: bool,
    exempt4: LpmTrie<MapData, [u8; 4], u8>,
    exempt6: LpmTrie<MapData, [u8; 16], u8>,
    counts: PerCpuArray<MapData, u64>,
}

type Loaded = (Ebpf, Vec<(OwnedFd, ProgramInfo)>);

/// Loads the object; maps come from `pins` where they are there.
fn load(object: &[u8], pins: Option<&Path>) -> Result<Loaded, Error> {
    if object.is_empty() {
        return Err(Error::NotCompiled);
    }
    let mut loader = EbpfLoader::new();
    if let Some(folder) = pins {
        for map in MAPS {
            loader.map_pin_path(map, folder.join(map));
        }
    }
    let mut ebpf = loader
        .load(object)
        .map_err(|e| Error::load("maps")(e.into()))?;
    let mut programs = Vec::new();
    for hook in &HOOKS {
        let program = ebpf
            .program_mut(hook.name)
            .ok_or_else(|| Error::load(hook.name)("not in the object".into()))?;
        let fd = load_one(program).map_err(Error::load(hook.name))?;
        let info = syscall::program_info(fd.as_fd())
            .map_err(Error::io(format!("ask about program {}", hook.name)))?;
        programs.push((fd, info));
    }
    Ok((ebpf, programs))
}

fn load_one(program: &mut Program) -> Result<OwnedFd, Box<dyn std::error::Error + Send + Sync>> {
    match program {
        Program::CgroupSkb(p) => p.load()?,
        Program::CgroupSock(p) => p.load()?,
        Program::CgroupSockAddr(p) => p.load()?,
        Program::SchedClassifier(p) => p.load()?,
        _ => return Err("of another kind than expected".into()),
    }
    Ok(program.fd()?.as_fd().try_clone_to_owned()?)
}

/// Whether this build and this kernel can have a gate: loads everything and lets go of it again.
///
/// # Errors
/// Why not, in words for an operator.
pub fn available() -> Result<(), Error> {
    load(OBJECT, None).map(|_| ())
}

/// Pins under a name that may be taken: the new one is there before the old one goes.
pub(crate) fn pin_over(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push("_new");
    let fresh = PathBuf::from(fresh);
    match fs::remove_file(&fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    syscall::pin(fd, &fresh)?;
    fs::rename(&fresh, path)
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// Opens what is pinned below `pins`, a folder on a BPF file system, and loads and pins what is missing or of another
    /// build. Attaches nothing.
    ///
    /// # Errors
    /// No object in this build, no BPF file system, or the kernel refuses.
    pub fn open_or_load(pins: &Path) -> Result<Gate, Error> {
        Gate::open_or_load_object(pins, OBJECT)
    }

    /// With another object: what tests do, and nobody else.
    #[doc(hidden)]
    pub fn open_or_load_object(pins: &Path, object: &[u8]) -> Result<Gate, Error> {
        let folder = pins.join(LAYOUT);
        let parts = ["map", "prog", "link", "unit"].map(|part| folder.join(part));
        make_pins(pins, &parts)?;
        let _lock = lock(&folder)?;
        let (mut ebpf, fresh) = load(object, Some(&folder.join("map")))?;
        let tags = fresh.iter().map(|(_, info)| info.tag).collect();
        let mut programs = Vec::new();
        for (hook, program) in HOOKS.iter().zip(fresh) {
            programs.push(keep_or_pin(&folder.join("prog").join(hook.name), program)?);
        }
        let units_pin = folder.join("map").join("wa_units");
        let units_fd = syscall::get(&units_pin).map_err(Error::io("open the map of units"))?;
        let mut map = |name: &str| ebpf.take_map(name).ok_or(MapError::KeyNotFound);
        let maps = || -> Result<_, MapError> {
            Ok(Gate {
                folder,
                programs,
                tags,
                units: map("wa_units")?.try_into()?,
                units_fd,
                seals: Mutex::new(map("wa_seals")?.try_into()?),
                place: map("wa_place")?.try_into()?,
                wires: map("wa_wires")?.try_into()?,
                filters_only: false,
                exempt4: map("wa_exempt4")?.try_into()?,
                exempt6: map("wa_exempt6")?.try_into()?,
                counts: map("wa_counts")?.try_into()?,
            })
        };
        maps().map_err(Error::map("open the maps of the gate"))
    }

    /// The longest time from now to a deadline that is believed. Zero, as it is at first, lets no tenure live.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_max_ttl(&mut self, max_ttl: Duration) -> Result<(), Error> {
        let [slice, _] = self.place()?;
        let nanoseconds = u64::try_from(max_ttl.as_nanos()).unwrap_or(u64::MAX);
        self.set_place([slice, nanoseconds])
    }

    pub(crate) fn place(&self) -> Result<PlaceWords, Error> {
        self.place
            .get(&0, 0)
            .map_err(Error::map("read the gate's place"))
    }

    fn set_place(&mut self, words: PlaceWords) -> Result<(), Error> {
        self.place
            .set(0, words, 0)
            .map_err(Error::map("write the gate's place"))
    }

    /// Attaches everything: to the slice, and to the root of its hierarchy what asks for tasks instead of sockets. What is
    /// attached already stays, with this build's programs in it; a slice that was made anew gets new links before the old
    /// ones go. Answers the devices at which no judge can be put ([`Gate::judge_devices`]).
    ///
    /// # Errors
    /// The folder is no cgroup, or the kernel refuses. Then some hooks may be attached: that only closes more.
    pub fn attach(&mut self, slice: &Path) -> Result<Vec<Unjudged>, Error> {
        let _lock = self.lock()?;
        let (slice_file, slice_id) = open_cgroup(slice)?;
        let (root_file, root_id) = open_cgroup(&root_of(slice)?)?;
        let [_, max_ttl_ns] = self.place()?;
        self.set_place([slice_id, max_ttl_ns])?;
        // Before the hook that lets nothing go to a device without one.
        let unjudged = self.judge(true)?;
        for (hook, (program, info)) in HOOKS.iter().zip(&self.programs) {
            let (cgroup, id) = match hook.at {
                At::Slice => (&slice_file, slice_id),
                At::Root => (&root_file, root_id),
                At::Devices => continue,
            };
            let pin = self.link_pin(hook);
            let attached = |e| Error::io(format!("attach {}", hook.name))(e);
            if let Some((link, found)) = link_at(&pin)
                && found.cgroup == id
                && found.attach_type == hook.attach_type
            {
                if found.program != info.id {
                    syscall::link_update(link.as_fd(), program.as_fd()).map_err(attached)?;
                }
                continue;
            }
            let link = syscall::link_create(program.as_fd(), cgroup.as_fd(), hook.attach_type)
                .map_err(attached)?;
            pin_over(link.as_fd(), &pin)
                .map_err(Error::io(format!("pin the link of {}", hook.name)))?;
        }
        Ok(unjudged)
    }

    /// Held while pins change.
    pub(crate) fn lock(&self) -> Result<impl Drop + use<>, Error> {
        lock(&self.folder)
    }

    pub(crate) fn program_pin(&self, hook: &Hook) -> PathBuf {
        self.folder.join("prog").join(hook.name)
    }

    pub(crate) fn link_pin(&self, hook: &Hook) -> PathBuf {
        self.folder.join("link").join(hook.name)
    }

    pub(crate) fn programs(&self) -> impl Iterator<Item = &(OwnedFd, ProgramInfo)> {
        self.programs.iter()
    }

    /// For tests and the bench: the program that judges packets.
    #[doc(hidden)]
    pub fn egress(&self) -> BorrowedFd<'_> {
        let at = HOOKS.iter().position(|hook| hook.name == "wa_egress");
        self.programs[at.expect("it is in the list")].0.as_fd()
    }

    fn unit_pin(&self, cgroup: u64) -> PathBuf {
        self.folder.join("unit").join(cgroup.to_string())
    }

    /// Makes a unit's entry, or opens the one that is there, and raises its seal to `seal`: the highest epoch that was ever
    /// obeyed in this cgroup, plus one. The descriptor is for the coreapp ([`crate::UnitMap`]). A new entry has no tenure;
    /// one that was there keeps its contents.
    ///
    /// # Errors
    /// The kernel refuses, or has no room for more units.
    pub fn make_unit(&mut self, cgroup: u64, seal: u64) -> Result<OwnedFd, Error> {
        let pin = self.unit_pin(cgroup);
        let fd = match syscall::get(&pin) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let made: Array<MapData, UnitWords> =
                    Array::create(1, MMAPABLE).map_err(Error::map("make a unit's map"))?;
                made.pin(&pin)
                    .map_err(|e| Error::io("pin a unit's map")(io::Error::other(e)))?;
                syscall::get(&pin)
            }
            opened => opened,
        };
        let fd = fd.map_err(Error::io("open a unit's map"))?;
        is_unit(fd.as_fd())?;
        let own = fd
            .try_clone()
            .map_err(Error::io("copy a descriptor"))
            .and_then(array)?;
        // Sealed before it can be found: there is no moment in which an old epoch lives.
        self.raise(cgroup, seal)?;
        self.units
            .insert(cgroup, &own, 0)
            .map_err(Error::map("enter a unit"))?;
        Ok(fd)
    }

    /// The unit's map, for the coreapp.
    ///
    /// # Errors
    /// `NoUnit`: the cgroup has no entry, or the entry is another map than the pinned one.
    pub fn unit(&self, cgroup: u64) -> Result<OwnedFd, Error> {
        let fd = match syscall::get(&self.unit_pin(cgroup)) {
            Ok(fd) => fd,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::NoUnit(cgroup)),
            Err(e) => return Err(Error::io("open a unit's map")(e)),
        };
        is_unit(fd.as_fd())?;
        let pinned = syscall::map_info(fd.as_fd()).map_err(Error::io("ask about a unit's map"))?;
        let entered = syscall::inner_id(self.units_fd.as_fd(), cgroup)
            .map_err(Error::io("look up a unit"))?;
        if entered == Some(pinned.id) {
            Ok(fd)
        } else {
            Err(Error::NoUnit(cgroup))
        }
    }

    /// Cgroup ids of all entries.
    ///
    /// # Errors
    /// The pins cannot be read.
    pub fn units(&self) -> Result<Vec<u64>, Error> {
        let folder = self.folder.join("unit");
        let read = || -> io::Result<Vec<u64>> {
            let mut found = Vec::new();
            for entry in fs::read_dir(&folder)? {
                let name = entry?.file_name();
                found.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
            }
            found.sort_unstable();
            Ok(found)
        };
        read().map_err(Error::io(format!("list {}", folder.display())))
    }

    /// What the entry says now.
    ///
    /// # Errors
    /// `NoUnit`.
    pub fn read_unit(&self, cgroup: u64) -> Result<UnitState, Error> {
        let entry = array(self.unit(cgroup)?)?;
        let [deadline_ns, epoch] = entry.get(&0, 0).map_err(Error::map("read a unit's map"))?;
        let seal = self.sealed(cgroup)?.ok_or(Error::NoUnit(cgroup))?;
        Ok(UnitState {
            epoch,
            deadline_ns,
            seal,
        })
    }

    /// Takes the entry away: nothing of this cgroup passes any more, not even what a dead process has queued.
    ///
    /// # Errors
    /// The kernel refuses. A cgroup without an entry is no error.
    pub fn remove_unit(&mut self, cgroup: u64) -> Result<(), Error> {
        absent(self.units.remove(&cgroup)).map_err(Error::map("take a unit's entry away"))?;
        match fs::remove_file(self.unit_pin(cgroup)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("take a unit's pin away")(e));
            }
            _ => {}
        }
        let mut seals = self.seals.lock().unwrap_or_else(PoisonError::into_inner);
        absent(seals.remove(&cgroup)).map_err(Error::map("take a unit's seal away"))
    }

    fn sealed(&self, cgroup: u64) -> Result<Option<u64>, Error> {
        let seals = self.seals.lock().unwrap_or_else(PoisonError::into_inner);
        found(seals.get(&cgroup, 0)).map_err(Error::map("read a seal"))
    }

    /// Writes where the seal is lower or missing; answers what the kernel says afterwards.
    fn raise(&self, cgroup: u64, at: u64) -> Result<u64, Error> {
        let mut seals = self.seals.lock().unwrap_or_else(PoisonError::into_inner);
        let held = found(seals.get(&cgroup, 0)).map_err(Error::map("read a seal"))?;
        if held.is_none_or(|held| held < at) {
            seals
                .insert(cgroup, at, 0)
                .map_err(Error::map("write a seal"))?;
        }
        let now = found(seals.get(&cgroup, 0)).map_err(Error::map("read a seal"))?;
        let found = now.unwrap_or(0);
        if found >= at {
            Ok(found)
        } else {
            Err(Error::NotSealed {
                cgroup,
                wanted: at,
                found,
            })
        }
    }

    /// From now on every epoch below `at` is dead in this unit: the seal of epoch n is `n + 1`. A seal never goes down.
    /// Answers what the kernel holds after it was written. A packet that was judged a moment earlier may still be on its
    /// way to the device: wait `margin` before relying on silence.
    ///
    /// # Errors
    /// `NoUnit`; `NotSealed`: something else stands there.
    pub fn seal(&self, cgroup: u64, at: u64) -> Result<u64, Error> {
        if self.sealed(cgroup)?.is_none() {
            return Err(Error::NoUnit(cgroup));
        }
        self.raise(cgroup, at)
    }

    /// Seals every unit for good: nothing gated leaves these cgroups any more, whatever is granted. Answers how many.
    ///
    /// # Errors
    /// The first that did not work, after all were tried.
    pub fn seal_all(&self) -> Result<usize, Error> {
        let outcomes: Vec<Result<u64, Error>> = self
            .units()?
            .into_iter()
            .map(|cgroup| self.seal(cgroup, u64::MAX))
            .filter(|outcome| !matches!(outcome, Err(Error::NoUnit(_))))
            .collect();
        let count = outcomes.len();
        outcomes.into_iter().collect::<Result<Vec<u64>, Error>>()?;
        Ok(count)
    }

    /// Makes these networks the exempt ones, all of them and no others. New ones are there before old ones go.
    ///
    /// # Errors
    /// The kernel refuses, or has no room for so many.
    pub fn set_exempt(&mut self, networks: &[Network]) -> Result<(), Error> {
        let change = Error::map("write the exempt networks");
        let mut apply = || -> Result<(), MapError> {
            let (mut keep4, mut keep6) = (Vec::new(), Vec::new());
            for network in networks {
                let prefix = u32::from(network.prefix());
                match network.address() {
                    IpAddr::V4(a) => {
                        self.exempt4.insert(&Key::new(prefix, a.octets()), 1, 0)?;
                        keep4.push((prefix, a.octets()));
                    }
                    IpAddr::V6(a) => {
                        self.exempt6.insert(&Key::new(prefix, a.octets()), 1, 0)?;
                        keep6.push((prefix, a.octets()));
                    }
                }
            }
            keep_only(&mut self.exempt4, &keep4)?;
            keep_only(&mut self.exempt6, &keep6)
        };
        apply().map_err(change)
    }

    /// The exempt networks as the kernel has them, in order.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn exempt(&self) -> Result<Vec<Network>, Error> {
        let read = || -> Result<Vec<Network>, MapError> {
            let mut networks = Vec::new();
            for key in self.exempt4.keys() {
                let key = key?;
                networks.extend(network(key.prefix_len(), IpAddr::from(key.data())));
            }
            for key in self.exempt6.keys() {
                let key = key?;
                networks.extend(network(key.prefix_len(), IpAddr::from(key.data())));
            }
            networks.sort_unstable();
            Ok(networks)
        };
        read().map_err(Error::map("read the exempt networks"))
    }

    /// What was counted since the maps were made.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counters(&self) -> Result<Counters, Error> {
        let mut counts = [0; Counters::LEN];
        for (at, count) in (0u32..).zip(counts.iter_mut()) {
            let each = self
                .counts
                .get(&at, 0)
                .map_err(Error::map("read the gate's counters"))?;
            *count = each.iter().sum();
        }
        Ok(Counters::new(counts))
    }

    /// Opens the gate for good: what removing the package does. Links, programs and maps go with their pins. Destroy the
    /// slice's sockets before: what dead processes have left in their send queues leaves as soon as nothing judges it.
    ///
    /// # Errors
    /// A pin cannot be removed, or the devices cannot be listed.
    pub fn remove(pins: &Path) -> Result<(), Error> {
        wire::remove_filters()?;
        match fs::remove_dir_all(pins) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format!("remove {}", pins.display()))(e))
            }
            _ => Ok(()),
        }
    }
}

/// The pinned program, where it is the same one over the same maps; else pins this one.
fn keep_or_pin(
    pin: &Path,
    (fresh, info): (OwnedFd, ProgramInfo),
) -> Result<(OwnedFd, ProgramInfo), Error> {
    if let Ok(pinned) = syscall::get(pin)
        && let Ok(found) = syscall::program_info(pinned.as_fd())
        && found.tag == info.tag
        && maps_of(pinned.as_fd()) == maps_of(fresh.as_fd())
    {
        return Ok((pinned, found));
    }
    pin_over(fresh.as_fd(), pin).map_err(Error::io(format!("pin {}", pin.display())))?;
    Ok((fresh, info))
}

fn maps_of(program: BorrowedFd<'_>) -> Option<Vec<u32>> {
    syscall::program_maps(program).ok()
}

/// What is pinned there, if it is a link.
pub(crate) fn link_at(pin: &Path) -> Option<(OwnedFd, LinkInfo)> {
    let link = syscall::get(pin).ok()?;
    let info = syscall::link_info(link.as_fd()).ok()?;
    Some((link, info))
}

fn array(fd: OwnedFd) -> Result<Array<MapData, UnitWords>, Error> {
    MapData::from_fd(fd)
        .and_then(|data| Array::try_from(Map::Array(data)))
        .map_err(Error::map("open a unit's map"))
}

fn is_unit(fd: BorrowedFd<'_>) -> Result<(), Error> {
    let info = syscall::map_info(fd).map_err(Error::NotAUnit)?;
    let size = u32::try_from(size_of::<UnitWords>()).unwrap_or(0);
    if (info.kind, info.value_size, info.flags & MMAPABLE) == (ARRAY, size, MMAPABLE) {
        Ok(())
    } else {
        Err(Error::NotAUnit(io::Error::other("a map of another form")))
    }
}

fn found<T>(looked_up: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match looked_up {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Removing what is not there is no error.
pub(crate) fn absent(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(e)) if e.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn network(prefix: u32, address: IpAddr) -> Option<Network> {
    Network::new(address, u8::try_from(prefix).ok()?)
}

fn keep_only<const N: usize>(
    trie: &mut LpmTrie<MapData, [u8; N], u8>,
    keep: &[(u32, [u8; N])],
) -> Result<(), MapError>
where
    [u8; N]: aya::Pod,
{
    let keys: Vec<Key<[u8; N]>> = trie.keys().collect::<Result<_, _>>()?;
    for key in keys {
        if !keep.contains(&(key.prefix_len(), key.data())) {
            absent(trie.remove(&key))?;
        }
    }
    Ok(())
}
