//! What the tests stand on: a network and a BPF file system of their own, cgroups that go when they end, a peer to talk to.
//! Namespaces have no names: they end with the test's threads, however it ends.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};
use wa_bpf::{Gate, UnitMap};

/// No condition takes longer to come true, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// For how long silence is listened to where nothing may arrive.
pub const SILENCE: Duration = Duration::from_millis(400);

/// Why nothing can be tested here.
pub fn unfit() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".into());
    }
    if hierarchy().is_none() {
        return Some("no cgroup2 hierarchy is mounted".into());
    }
    wa_bpf::available().err().map(|e| chain(&e))
}

/// An error with everything that it says about its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Where the cgroup2 hierarchy is: /sys/fs/cgroup, or beside the old ones.
fn hierarchy() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let found = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    found
        .and_then(|line| line.split(' ').nth(1))
        .map(PathBuf::from)
}

/// Nanoseconds of CLOCK_BOOTTIME.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("the clock is there");
    u64::try_from(Duration::from(now).as_nanos()).expect("some centuries are left")
}

/// A deadline that no test reaches.
pub fn in_a_while() -> u64 {
    now_ns() + 60_000_000_000
}

pub fn sh(command: &str) {
    let output = Command::new("sh")
        .args(["-c", command])
        .output()
        .expect("there is a shell");
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Waits for a condition; false when it did not come true.
pub fn wait(mut condition: impl FnMut() -> bool) -> bool {
    let end = now_ns() + u64::try_from(PATIENCE.as_nanos()).expect("short");
    while now_ns() < end {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    condition()
}

/// A slice with units, a gate, and a network that nobody else is in.
pub struct Rig {
    pub slice: PathBuf,
    pub pins: PathBuf,
    pub gate: Gate,
    units: Vec<PathBuf>,
    _folder: tempfile::TempDir,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Rig {
    /// With the shipped programs, attached. The calling thread moves into namespaces of its own for good.
    pub fn new() -> Rig {
        let mut rig = Rig::loaded(None);
        rig.gate
            .attach(&rig.slice)
            .expect("the gate can be attached");
        rig
    }

    /// With programs in which single guards are out.
    pub fn naive(defines: &[&str]) -> Rig {
        let mut rig = Rig::loaded(Some(&variant(defines)));
        rig.gate
            .attach(&rig.slice)
            .expect("the gate can be attached");
        rig
    }

    /// Loaded, not attached.
    pub fn loaded(object: Option<&[u8]>) -> Rig {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("own namespaces");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .expect("mounts stay here");
        let folder = tempfile::tempdir().expect("a folder");
        mount(
            Some("bpf"),
            folder.path(),
            Some("bpf"),
            MsFlags::empty(),
            none,
        )
        .expect("a BPF file system");
        sh("ip link set lo up");
        let pins = folder.path().join("wa");
        let mut gate = match object {
            Some(object) => Gate::open_or_load_object(&pins, object),
            None => Gate::open_or_load(&pins),
        }
        .unwrap_or_else(|e| panic!("{}", chain(&e)));
        gate.set_max_ttl(Duration::from_secs(120))
            .expect("a ceiling");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wa-gate-test-{}-{number}.slice", std::process::id());
        let slice = hierarchy().expect("checked before").join(name);
        std::fs::create_dir(&slice).expect("a slice");
        Rig {
            slice,
            pins,
            gate,
            units: Vec::new(),
            _folder: folder,
        }
    }

    /// A cgroup of the slice, without an entry.
    pub fn cgroup(&mut self, name: &str) -> PathBuf {
        let cgroup = self.slice.join(format!("{name}.service"));
        std::fs::create_dir(&cgroup).expect("a unit's cgroup");
        self.units.push(cgroup.clone());
        cgroup
    }

    /// A cgroup of the slice with an entry, its id, and its map; no tenure yet.
    pub fn unit(&mut self, name: &str) -> (PathBuf, u64, UnitMap) {
        let cgroup = self.cgroup(name);
        let id = wa_bpf::cgroup_id(&cgroup).expect("it was just made");
        let fd = self.gate.make_unit(id, 1).expect("an entry");
        (cgroup, id, UnitMap::map(fd).expect("a map"))
    }

    pub fn pin(&self, part: &str) -> PathBuf {
        self.pins.join("v1").join(part)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for cgroup in self.units.iter().rev().chain([&self.slice]) {
            let _ = std::fs::write(cgroup.join("cgroup.kill"), "1");
            wait(|| !cgroup.exists() || std::fs::remove_dir(cgroup).is_ok());
        }
    }
}

/// The programs with these macros defined.
pub fn variant(defines: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let object = folder.path().join("variant.o");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gate.bpf.c");
    crate::clang::compile(&source, &object, std::env::consts::ARCH, defines)
        .unwrap_or_else(|why| panic!("{defines:?}: {why}"));
    std::fs::read(&object).expect("it was just written")
}

/// The upstream: listens, in the namespace and cgroup of the test.
pub struct Upstream {
    pub listener: TcpListener,
    pub address: SocketAddr,
}

impl Upstream {
    pub fn at(address: &str) -> Upstream {
        let listener = TcpListener::bind(address).expect("an address to listen on");
        let address = listener.local_addr().expect("it listens");
        Upstream { listener, address }
    }

    pub fn new() -> Upstream {
        Upstream::at("127.0.0.1:0")
    }

    pub fn accept(&self) -> TcpStream {
        let (stream, _) = self.listener.accept().expect("somebody connected");
        stream
    }
}

/// What arrives within `SILENCE` of the last byte: the bytes, and whether the stream then ended, was reset or is open.
pub fn drain(stream: &mut TcpStream) -> (Vec<u8>, &'static str) {
    stream.set_read_timeout(Some(SILENCE)).expect("a deadline");
    let mut got = Vec::new();
    let mut block = vec![0u8; 1 << 16];
    loop {
        match stream.read(&mut block) {
            Ok(0) => return (got, "ended"),
            Ok(n) => got.extend_from_slice(&block[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return (got, "reset"),
            Err(_) => return (got, "open"),
        }
    }
}

/// A unit's entry, written by whoever has no respect for epochs.
pub struct Raw {
    words: std::ptr::NonNull<[std::sync::atomic::AtomicU64; 2]>,
}

// SAFETY: everything behind the pointer is atomic, and it is never unmapped.
unsafe impl Send for Raw {}

impl Raw {
    pub fn map(fd: &std::os::fd::OwnedFd) -> Raw {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap};
        let length = std::num::NonZeroUsize::new(4096).expect("not zero");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice, for the rest of this process.
        let page = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, fd, 0) };
        Raw {
            words: page.expect("a unit's map").cast(),
        }
    }

    /// In the order in which a coreapp writes.
    pub fn write(&self, epoch: u64, deadline_ns: u64) {
        // SAFETY: mapped for good, aligned, and atomic.
        let [deadline, own] = unsafe { self.words.as_ref() };
        deadline.store(0, Ordering::Release);
        own.store(epoch, Ordering::Release);
        deadline.store(deadline_ns, Ordering::Release);
    }
}
