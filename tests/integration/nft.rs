//! The fence by nftables on this kernel: real nft, real control groups, a network of the test's own (root).
//! Silence is listened to where nothing may arrive; each time something is then shown to arrive on the same way.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use wa_agent::host::fallback::Fallback;
use wa_agent::sys::cgroup::{self, Cgroup};
use wa_agent::sys::gate::GateError;
use wa_agent::sys::{clock, nft};
use wa_core::id::Epoch;

const PATIENCE: Duration = Duration::from_secs(30);
/// For how long silence is listened to: longer than TCP takes to send again.
const SILENCE: Duration = Duration::from_millis(600);
const UPSTREAM: &str = "10.99.0.1";

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = clock::now() + PATIENCE;
    while !condition() {
        assert!(clock::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A slice with one unit, in which a shell does what it is told.
struct Unit {
    slice: PathBuf,
    path: PathBuf,
    group: Cgroup,
    shell: Child,
    tell: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Unit {
    fn new() -> Self {
        let root = cgroup::root().expect("a hierarchy");
        let name = format!("wa-nft-test-{}", std::process::id());
        let slice = root.join(&name);
        let path = slice.join("wa-coreapp@1.service");
        std::fs::create_dir_all(&path).expect("a control group");
        let mut shell = Command::new("bash")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        std::fs::write(path.join("cgroup.procs"), shell.id().to_string()).expect("moved");
        Self {
            group: Cgroup::open(&root, &format!("{name}/wa-coreapp@1.service")).expect("opened"),
            slice,
            path,
            tell: shell.stdin.take().expect("piped"),
            said: BufReader::new(shell.stdout.take().expect("piped")),
            shell,
        }
    }

    /// Has a line done; what it says last. A connection is descriptor 3.
    fn told(&mut self, line: &str) -> String {
        writeln!(self.tell, "{line}; echo done $?").expect("told");
        let mut said = String::new();
        self.said.read_line(&mut said).expect("it answers");
        said.trim().to_owned()
    }

    fn reaches(&mut self, address: &str, port: u16) -> bool {
        let dial = format!("timeout 2 bash -c 'exec 3<>/dev/tcp/{address}/{port}'");
        self.told(&dial) == "done 0"
    }

    fn freeze(&self, on: bool) {
        let word = if on { "1" } else { "0" };
        std::fs::write(self.path.join("cgroup.freeze"), word).expect("written");
        until("frozen", || {
            let events = std::fs::read_to_string(self.path.join("cgroup.events"));
            events.expect("read").contains(&format!("frozen {word}"))
        });
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ = self.group.kill();
        let _ = self.shell.wait();
        until("nobody is left", || self.group.empty().unwrap_or(true));
        let _ = std::fs::remove_dir(&self.path);
        let _ = std::fs::remove_dir(&self.slice);
    }
}

fn impossible() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".into());
    }
    if cgroup::root().is_err() {
        return Some("no cgroup v2 hierarchy is mounted".into());
    }
    ["nft", "ip", "bash"].iter().find_map(|program| {
        let there = Command::new(program).arg("-V").output();
        there
            .is_err()
            .then(|| format!("{program} is not installed"))
    })
}

fn fallback(unit: &Unit, state: &Path) -> Result<Fallback, GateError> {
    let exempt = ["127.0.0.0/8".parse().expect("a network")];
    let program = Path::new(env!("CARGO_BIN_EXE_wa-agent"));
    let (slice, longest) = (unit.slice.clone(), Duration::from_secs(120));
    Fallback::put_before(program, slice, state.to_owned(), longest, &exempt)
}

/// Bytes that established connections of this network wait to send, or to see acknowledged.
fn queued() -> u64 {
    let table = std::fs::read_to_string("/proc/thread-self/net/tcp").expect("readable");
    let rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let established = rows.filter(|row| row.get(3) == Some(&"01"));
    let queues = established.filter_map(|row| row.get(4)?.split_once(':'));
    queues
        .map(|(sent, _)| u64::from_str_radix(sent, 16).unwrap_or(0))
        .sum()
}

/// Everything that can be read at once and within the silence after it.
fn drained(upstream: &mut TcpStream) -> usize {
    upstream.set_read_timeout(Some(SILENCE)).expect("set");
    let (mut all, mut buffer) = (0, vec![0; 1 << 20]);
    while let Ok(len @ 1..) = upstream.read(&mut buffer) {
        all += len;
    }
    all
}

fn admit(fence: &Fallback, unit: &Unit, epoch: u64, within: Duration) -> Result<(), GateError> {
    fence.admit(1, &unit.group, Some((Epoch(epoch), clock::now() + within)))
}

/// Some machines are so busy that an admission comes late and is taken back: it is asked for again, as a renewal would.
fn admitted(fence: &Fallback, unit: &Unit, epoch: u64, within: Duration) {
    until("admitted", || match admit(fence, unit, epoch, within) {
        Ok(()) => true,
        Err(error) => {
            assert!(error.to_string().contains("late"), "{error}");
            false
        }
    });
}

/// Without a tenure only exempt networks are reached; strangers to the slice are not touched.
fn shut_without_tenure(unit: &mut Unit, listener: &TcpListener) {
    let port = listener.local_addr().expect("bound").port();
    let exempt = TcpListener::bind("127.0.0.1:0").expect("bound");
    let exempt_port = exempt.local_addr().expect("bound").port();
    assert!(unit.reaches("127.0.0.1", exempt_port), "exempt");
    assert!(!unit.reaches(UPSTREAM, port), "no tenure");
    let stranger = TcpStream::connect((UPSTREAM, port)).expect("not of the slice");
    let (seen, _) = listener.accept().expect("the stranger");
    assert_eq!(
        seen.peer_addr().ok(),
        stranger.local_addr().ok(),
        "nobody else"
    );
}

/// A process that stands still with a full queue: at the deadline the kernel shuts by itself.
fn the_deadline_needs_nobody(
    fence: &Fallback,
    unit: &mut Unit,
    listener: &TcpListener,
) -> TcpStream {
    const QUEUED: usize = 64 << 20;
    let port = listener.local_addr().expect("bound").port();
    admitted(fence, unit, 5, PATIENCE);
    assert_eq!(
        unit.told(&format!("exec 3<>/dev/tcp/{UPSTREAM}/{port}")),
        "done 0"
    );
    let (mut upstream, _) = listener.accept().expect("connected");
    unit.told(&format!("head -c {QUEUED} /dev/zero >&3 & true"));
    // The window is shut and the queue behind it is full.
    until("it waits to send", || queued() > 1 << 20);
    unit.freeze(true);
    admitted(fence, unit, 5, Duration::from_millis(400));
    until("the element is gone", || {
        nft::open().expect("listed").is_empty()
    });
    // What came before is there to be read; what is queued must not follow, however wide the window is now.
    drained(&mut upstream);
    assert_eq!(drained(&mut upstream), 0, "sent after the deadline");
    // The hole that makes this weaker than the gate: the same bytes leave when the unit is admitted again.
    admitted(fence, unit, 5, PATIENCE);
    until("the queue leaves", || drained(&mut upstream) > 0);
    unit.freeze(false);
    upstream
}

/// A seal ends it at once, and for good; the next epoch begins with nothing of the old one.
fn a_seal_is_for_good(fence: &Fallback, unit: &mut Unit, listener: &TcpListener) {
    let port = listener.local_addr().expect("bound").port();
    let id = unit.group.id().expect("known");
    let sealed = fence.fence(id, Epoch(5)).expect("it can").expect("sealed");
    assert_eq!((sealed.seal, sealed.destroyed > 0), (6, true), "{sealed:?}");
    assert!(nft::open().expect("listed").is_empty());
    assert!(!unit.reaches(UPSTREAM, port), "sealed");
    let again = admit(fence, unit, 5, PATIENCE).expect_err("sealed");
    assert!(
        matches!(again, GateError::Over { epoch: 5, over: 6 }),
        "{again}"
    );
    admitted(fence, unit, 6, PATIENCE);
    assert!(unit.reaches(UPSTREAM, port), "a new grant");
    // A late fence of the old epoch does not hurt the new one.
    let late = fence.fence(id, Epoch(5)).expect("it can").expect("sealed");
    assert_eq!((late.seal, late.destroyed), (6, 0));
    assert!(unit.reaches(UPSTREAM, port), "the newer epoch lives");
    fence.admit(1, &unit.group, None).expect("given back");
    assert!(!unit.reaches(UPSTREAM, port), "given back");
}

/// Goal: where nftables is the fence, the kernel shuts at the deadline though nobody acts, a seal is read back and for
/// good, and without a tenure nothing leaves. Method: a shell in a unit's control group, frozen with a full queue.
#[test]
fn the_kernel_shuts_by_itself_and_a_seal_is_for_good() {
    const WHAT: &str = "the fence by nftables";
    if let Some(why) = impossible() {
        return crate::skipped(WHAT, &why);
    }
    let alone = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network of its own");
        let ip = format!("ip link set lo up && ip addr add {UPSTREAM}/24 dev lo");
        let done = Command::new("sh").args(["-c", &ip]).status();
        assert!(done.expect("a shell").success());
        let state = tempfile::tempdir().expect("a directory");
        let mut unit = Unit::new();
        let mut fence = match fallback(&unit, state.path()) {
            Ok(fence) => fence,
            Err(GateError::Nft(error)) => return Some(error.to_string()),
            Err(error) => panic!("{error}"),
        };
        let listener = TcpListener::bind((UPSTREAM, 0)).expect("bound");
        shut_without_tenure(&mut unit, &listener);
        let _upstream = the_deadline_needs_nobody(&fence, &mut unit, &listener);
        // A host agent that is started again knows what was admitted, and leaves it admitted.
        fence = fallback(&unit, state.path()).expect("put again");
        assert_eq!(nft::open().expect("listed").len(), 1);
        a_seal_is_for_good(&fence, &mut unit, &listener);
        let emptied = format!("nft flush chain inet {} judge", nft::TABLE);
        let done = Command::new("sh").args(["-c", &emptied]).status();
        assert!(done.expect("a shell").success());
        let port = listener.local_addr().expect("bound").port();
        assert!(unit.reaches(UPSTREAM, port), "somebody opened it by hand");
        fence.look().expect("put back");
        assert!(!unit.reaches(UPSTREAM, port), "and it is put back");
        None
    });
    if let Some(why) = alone.join().expect("it went well") {
        crate::skipped(WHAT, &why);
    }
}
