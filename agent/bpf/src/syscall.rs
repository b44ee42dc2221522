//! The few calls of bpf(2) for which aya has no safe and public wrapper: links of cgroups, what is effective, test runs.
//! Knows the layouts of the kernel's user API and nothing of the gate.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc;

// enum bpf_cmd of linux/bpf.h.
const MAP_LOOKUP_ELEM: u32 = 1;
const OBJ_PIN: u32 = 6;
const OBJ_GET: u32 = 7;
const PROG_TEST_RUN: u32 = 10;
const OBJ_GET_INFO_BY_FD: u32 = 15;
const PROG_QUERY: u32 = 16;
const LINK_CREATE: u32 = 28;
const LINK_UPDATE: u32 = 29;
const ENABLE_STATS: u32 = 32;
const LINK_DETACH: u32 = 34;

const QUERY_EFFECTIVE: u32 = 1;
const LINK_TYPE_CGROUP: u32 = 3;
const LINK_TYPE_TCX: u32 = 11;
/// `BPF_F_BEFORE`, of nothing: before all others.
const BEFORE: u32 = 8;
/// More programs than any cgroup has: the kernel allows 64 for each hook.
const PROGRAMS_MAX: usize = 256;

/// Calls bpf(2). `attribute` is the part of `union bpf_attr` that the command reads.
///
/// # Safety
/// Every pointer that `attribute` holds as a number must be valid for what the command does with it.
unsafe fn bpf<T>(command: u32, attribute: &mut T) -> io::Result<i32> {
    let pointer: *mut T = attribute;
    // SAFETY: the kernel reads and writes `size_of::<T>()` bytes at `pointer`, which this borrow covers; the pointers
    // inside are the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(i32::try_from(result).unwrap_or(i32::MAX))
}

/// A command that answers with a new descriptor.
///
/// # Safety
/// As [`bpf`], and `command` must return a descriptor.
unsafe fn bpf_fd<T>(command: u32, attribute: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: passed on.
    let fd = unsafe { bpf(command, attribute)? };
    // SAFETY: the kernel made this descriptor for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX)
}

fn address<T>(of: *const T) -> u64 {
    of as usize as u64
}

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Pins a program, map or link. The path must be on a bpffs and free.
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut object = Object {
        path: address(path.as_ptr()),
        fd: number(fd),
        flags: 0,
    };
    // SAFETY: `path` is a C string that outlives the call.
    unsafe { bpf(OBJ_PIN, &mut object) }.map(|_| ())
}

/// Opens what is pinned there.
pub fn get(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut object = Object {
        path: address(path.as_ptr()),
        fd: 0,
        flags: 0,
    };
    // SAFETY: `path` is a C string that outlives the call; OBJ_GET returns a descriptor.
    unsafe { bpf_fd(OBJ_GET, &mut object) }
}

#[repr(C)]
struct Create {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches a program to a cgroup, beside whatever is attached there.
pub fn link_create(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let mut create = Create {
        program: number(program),
        target: number(cgroup),
        attach_type,
        flags: 0,
    };
    // SAFETY: no pointers; LINK_CREATE returns a descriptor.
    unsafe { bpf_fd(LINK_CREATE, &mut create) }
}

/// Attaches a program to a device of the calling thread's network namespace, before whatever is attached there. EINVAL
/// before Linux 6.6.
pub fn link_create_first(
    program: BorrowedFd<'_>,
    device: u32,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let mut create = Create {
        program: number(program),
        target: device,
        attach_type,
        flags: BEFORE,
    };
    // SAFETY: no pointers; LINK_CREATE returns a descriptor.
    unsafe { bpf_fd(LINK_CREATE, &mut create) }
}

#[repr(C)]
struct Update {
    link: u32,
    program: u32,
    flags: u32,
    old: u32,
}

/// Puts another program in the place of the link's: there is no moment without one.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut update = Update {
        link: number(link),
        program: number(program),
        flags: 0,
        old: 0,
    };
    // SAFETY: no pointers.
    unsafe { bpf(LINK_UPDATE, &mut update) }.map(|_| ())
}

#[repr(C)]
struct Detach {
    link: u32,
}

/// Ends what a link does, now and for whoever holds it.
pub fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut detach = Detach { link: number(link) };
    // SAFETY: no pointers.
    unsafe { bpf(LINK_DETACH, &mut detach) }.map(|_| ())
}

#[repr(C)]
struct Info {
    fd: u32,
    len: u32,
    info: u64,
}

fn info<T: Default>(fd: BorrowedFd<'_>) -> io::Result<T> {
    let mut found = T::default();
    let mut info = Info {
        fd: number(fd),
        len: u32::try_from(size_of::<T>()).unwrap_or(0),
        info: address(&raw mut found),
    };
    // SAFETY: `found` is as long as `len` says, outlives the call, and any bytes make a valid T: only integers.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut info)? };
    Ok(found)
}

/// The head of `struct bpf_link_info`, with the part for links of cgroups.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub struct LinkInfo {
    kind: u32,
    pub id: u32,
    pub program: u32,
    padding: u32,
    /// 0: the cgroup is gone, the link does nothing any more.
    pub cgroup: u64,
    pub attach_type: u32,
    tail: u32,
}

/// What the kernel says of a link.
///
/// # Errors
/// The descriptor is no link of a cgroup.
pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let found: LinkInfo = info(link)?;
    if found.kind == LINK_TYPE_CGROUP {
        Ok(found)
    } else {
        Err(io::Error::other("not a link of a cgroup"))
    }
}

/// The head of `struct bpf_link_info`, with the part for links of devices.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub struct DeviceLink {
    kind: u32,
    pub id: u32,
    pub program: u32,
    padding: u32,
    /// Index of the device; 0: it is gone, or the link was detached.
    pub device: u32,
    pub attach_type: u32,
}

/// What the kernel says of a link to a device.
///
/// # Errors
/// The descriptor is no link of a device.
pub fn device_link_info(link: BorrowedFd<'_>) -> io::Result<DeviceLink> {
    let found: DeviceLink = info(link)?;
    if found.kind == LINK_TYPE_TCX {
        Ok(found)
    } else {
        Err(io::Error::other("not a link of a device"))
    }
}

/// The head of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub struct ProgramInfo {
    kind: u32,
    pub id: u32,
    /// Digest of the instructions.
    pub tag: [u8; 8],
}

/// What the kernel says of a program.
pub fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    info(program)
}

/// The head of `struct bpf_map_info`.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct MapInfo {
    pub kind: u32,
    pub id: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub entries_max: u32,
    pub flags: u32,
}

/// What the kernel says of a map.
pub fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    info(map)
}

#[repr(C)]
struct Query {
    target: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
    /// Not asked for: pointers to lists that the kernel would fill.
    lists: [u64; 3],
    /// Written by the kernel for devices.
    revision: u64,
}

/// Ids of the programs that run for this cgroup at this hook, those of its ancestors included.
pub fn effective(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<Vec<u32>> {
    query(number(cgroup), attach_type, QUERY_EFFECTIVE)
}

/// Ids of the programs that have a link to this device at this hook, in the order in which they run.
pub fn at_device(device: u32, attach_type: u32) -> io::Result<Vec<u32>> {
    query(device, attach_type, 0)
}

fn query(target: u32, attach_type: u32, flags: u32) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; PROGRAMS_MAX];
    let mut query = Query {
        target,
        attach_type,
        flags,
        attach_flags: 0,
        ids: address(ids.as_mut_ptr()),
        count: u32::try_from(PROGRAMS_MAX).unwrap_or(0),
        padding: 0,
        lists: [0; 3],
        revision: 0,
    };
    // SAFETY: `ids` has room for `count` numbers and outlives the call.
    unsafe { bpf(PROG_QUERY, &mut query)? };
    ids.truncate(query.count as usize);
    Ok(ids)
}

/// Lets the kernel count runs of programs and the time they take, as long as the descriptor is open. Needs root.
pub fn count_time() -> io::Result<OwnedFd> {
    // BPF_STATS_RUN_TIME, which is 0.
    let mut kind = 0u32;
    // SAFETY: no pointers; ENABLE_STATS returns a descriptor.
    unsafe { bpf_fd(ENABLE_STATS, &mut kind) }
}

#[repr(C)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Id of the map that a map of maps holds under `key`.
pub fn inner_id(map: BorrowedFd<'_>, key: u64) -> io::Result<Option<u32>> {
    let mut id = 0u32;
    let mut element = Element {
        map: number(map),
        padding: 0,
        key: address(&raw const key),
        value: address(&raw mut id),
        flags: 0,
    };
    // SAFETY: key and value are as long as every map of maps with 64-bit keys has them, and outlive the call. The only
    // caller passes such a map.
    match unsafe { bpf(MAP_LOOKUP_ELEM, &mut element) } {
        Ok(_) => Ok(Some(id)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

#[repr(C)]
struct Run {
    program: u32,
    retval: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

/// Runs a program `repeat` times on a packet that starts with an Ethernet header; its socket belongs to the caller's
/// cgroup and carries nothing. Answers its last verdict and the mean time of a run in nanoseconds.
pub fn test_run(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> io::Result<(u32, u32)> {
    let mut run = Run {
        program: number(program),
        retval: 0,
        size_in: u32::try_from(frame.len()).unwrap_or(u32::MAX),
        size_out: 0,
        data_in: address(frame.as_ptr()),
        data_out: 0,
        repeat,
        duration: 0,
    };
    // SAFETY: `frame` is as long as `size_in` says and outlives the call; nothing is written back.
    unsafe { bpf(PROG_TEST_RUN, &mut run)? };
    Ok((run.retval, run.duration))
}

/// `struct bpf_prog_info` up to the ids of maps.
#[repr(C)]
#[derive(Default)]
struct ProgramMaps {
    head: ProgramInfo,
    jited_len: u32,
    translated_len: u32,
    jited: u64,
    translated: u64,
    load_time: u64,
    owner: u32,
    maps_len: u32,
    maps: u64,
}

/// Ids of the maps that a program uses, in order of number.
pub fn program_maps(program: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    const MAPS_MAX: u32 = 64;
    let mut ids = vec![0u32; MAPS_MAX as usize];
    let mut found = ProgramMaps {
        maps_len: MAPS_MAX,
        maps: address(ids.as_mut_ptr()),
        ..ProgramMaps::default()
    };
    let mut info = Info {
        fd: number(program),
        len: u32::try_from(size_of::<ProgramMaps>()).unwrap_or(0),
        info: address(&raw mut found),
    };
    // SAFETY: `found` is as long as `len` says; `ids` has room for `maps_len` numbers; both outlive the call; the other
    // lengths in it are zero, so the kernel writes through no other pointer.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut info)? };
    ids.truncate(found.maps_len.min(MAPS_MAX) as usize);
    ids.sort_unstable();
    Ok(ids)
}
