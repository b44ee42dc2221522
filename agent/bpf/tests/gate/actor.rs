//! A process of a unit: joins a cgroup and does with sockets what it is told over a Unix socket, so that a test can look
//! at every step from outside. Decides nothing.

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::unistd::Pid;
use socket2::{Domain, Protocol, Socket, Type};

/// No step takes longer, however busy the machine is.
const STEP: Duration = Duration::from_secs(20);
/// How long a connect may hang before it counts as unanswered.
const CONNECT: Duration = Duration::from_millis(700);
const MARK: &str = "WA_BPF_ACTOR";

/// The other end: what tests use.
pub struct Actor {
    child: Child,
    stream: UnixStream,
}

impl Actor {
    /// Starts one, in the caller's namespaces and cgroup.
    pub fn start() -> Actor {
        Actor::with(&[])
    }

    /// Starts one with no more rights than setpriv leaves it.
    pub fn humble(options: &[&str]) -> Actor {
        let words: Vec<&str> = std::iter::once("setpriv")
            .chain(options.iter().copied())
            .collect();
        Actor::with(&words)
    }

    fn with(before: &[&str]) -> Actor {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        ours.set_read_timeout(Some(STEP)).expect("a deadline");
        let own = std::env::current_exe().expect("this program has a path");
        let mut command = match before.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(own);
                command
            }
            None => Command::new(own),
        };
        let child = command
            .args(["--exact", "actor::act", "--ignored", "--nocapture"])
            .env(MARK, "1")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("this program starts again");
        Actor {
            child,
            stream: ours,
        }
    }

    /// Starts one and puts it into a cgroup before it does anything.
    pub fn inside(cgroup: &Path) -> Actor {
        let mut actor = Actor::start();
        actor.good(&format!("join {}", cgroup.display()));
        actor
    }

    /// One command; its answer, `ok…` or the name of an error.
    pub fn tell(&mut self, command: &str) -> String {
        writeln!(self.stream, "{command}").expect("the actor listens");
        let answer = line(&mut self.stream);
        answer.unwrap_or_else(|| panic!("{command}: no answer"))
    }

    /// One command that must work; what it answers after `ok`.
    pub fn good(&mut self, command: &str) -> String {
        let answer = self.tell(command);
        let rest = answer.strip_prefix("ok");
        rest.unwrap_or_else(|| panic!("{command}: {answer}"))
            .trim()
            .to_owned()
    }

    /// The actor's socket `name` moves to another actor, under the same name.
    pub fn pass(&mut self, name: &str, to: &mut Actor) {
        self.good(&format!("give {name}"));
        let fd = receive(&self.stream);
        assert_eq!(to.good(&format!("adopt {name}")), "ready");
        send(&to.stream, fd.as_raw_fd());
        assert_eq!(line(&mut to.stream).as_deref(), Some("ok"));
    }

    /// A command with a descriptor; nothing is answered.
    pub fn hand(&mut self, command: &str, fd: &OwnedFd) {
        writeln!(self.stream, "{command}").expect("the actor listens");
        send(&self.stream, fd.as_raw_fd());
    }

    /// A command with a descriptor, which answers.
    pub fn lend(&mut self, command: &str, fd: &OwnedFd) -> String {
        self.hand(command, fd);
        let answer = line(&mut self.stream).unwrap_or_else(|| panic!("{command}: no answer"));
        answer
            .strip_prefix("ok ")
            .map(str::to_owned)
            .unwrap_or(answer)
    }

    pub fn stream(&mut self) -> &mut UnixStream {
        &mut self.stream
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the actor is there");
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(mut self) {
        self.child.kill().expect("the actor is there");
        self.child.wait().expect("the actor is a child");
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(stream: &UnixStream, fd: RawFd) {
    let fds = [fd];
    let control = [ControlMessage::ScmRights(&fds)];
    let sent = sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(b"f")],
        &control,
        MsgFlags::empty(),
        None,
    );
    assert_eq!(sent, Ok(1));
}

fn receive(stream: &UnixStream) -> OwnedFd {
    let mut byte = [0u8; 1];
    let mut room = nix::cmsg_space!([RawFd; 1]);
    let mut slices = [IoSliceMut::new(&mut byte)];
    let message = recvmsg::<()>(
        stream.as_raw_fd(),
        &mut slices,
        Some(&mut room),
        MsgFlags::empty(),
    )
    .expect("a descriptor arrives");
    let fds = message
        .cmsgs()
        .expect("control messages")
        .find_map(|m| match m {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
    // SAFETY: the kernel made this descriptor for us just now.
    unsafe { OwnedFd::from_raw_fd(fds.expect("one descriptor")) }
}

/// Not a test: the actor's own process. Does nothing unless it is started as one.
#[test]
#[ignore = "started by other tests"]
fn act() {
    if std::env::var_os(MARK).is_none() {
        return;
    }
    let stdin = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .expect("a socket");
    let mut stream = UnixStream::from(stdin);
    let mut sockets = BTreeMap::new();
    while let Some(line) = line(&mut stream) {
        let words: Vec<&str> = line.split(' ').collect();
        // serve ADDRESS, and the map of the unit: from here on it is a sender.
        if words[0] == "serve" {
            let map = wa_bpf::UnitMap::map(receive(&stream)).expect("a map");
            return crate::sender::serve(stream, map, words[1].parse().expect("an address"));
        }
        // unit EPOCH, and a map: opens it and tells what the kernel will read.
        if words[0] == "unit" {
            let mut map = wa_bpf::UnitMap::map(receive(&stream)).expect("a map");
            let epoch = words[1].parse().expect("a number");
            map.open(epoch, crate::rig::in_a_while())
                .expect("a new epoch");
            let _ = writeln!(stream, "ok {}", map.read().0);
            std::mem::forget(map);
            continue;
        }
        let answer = match perform(&words, &mut sockets, &mut stream) {
            Ok(text) => format!("ok {text}").trim_end().to_owned(),
            Err(e) => name_of(&e),
        };
        if writeln!(stream, "{answer}").is_err() {
            return;
        }
        if words[0] == "give" {
            send(&stream, sockets[words[1]].as_raw_fd());
        }
    }
}

/// Byte by byte: a reader with a buffer would swallow the byte that carries a descriptor.
fn line(stream: &mut UnixStream) -> Option<String> {
    let mut line = Vec::new();
    let mut byte = [0u8];
    while stream.read_exact(&mut byte).is_ok() {
        if byte[0] == b'\n' {
            return String::from_utf8(line).ok();
        }
        line.push(byte[0]);
    }
    None
}

fn name_of(e: &std::io::Error) -> String {
    match e.raw_os_error() {
        Some(number) => format!("{:?}", nix::errno::Errno::from_raw(number)),
        None => format!("{:?}", e.kind()),
    }
}

fn perform(
    words: &[&str],
    sockets: &mut BTreeMap<String, Socket>,
    stream: &mut UnixStream,
) -> std::io::Result<String> {
    let address = |at: usize| words[at].parse::<SocketAddr>().expect("an address");
    let empty = String::new();
    match words[0] {
        "join" => std::fs::write(Path::new(words[1]).join("cgroup.procs"), "0").map(|()| empty),
        // socket NAME FAMILY KIND
        "socket" => {
            let domain = if words[2] == "6" {
                Domain::IPV6
            } else {
                Domain::IPV4
            };
            let (kind, protocol) = match words[3] {
                "tcp" => (Type::STREAM, Protocol::TCP),
                "udp" => (Type::DGRAM, Protocol::UDP),
                "raw" => (Type::RAW, Protocol::UDP),
                "ping" => (Type::DGRAM, Protocol::ICMPV4),
                other => panic!("{other}"),
            };
            let socket = Socket::new(domain, kind, Some(protocol))?;
            sockets.insert(words[1].to_owned(), socket);
            Ok(empty)
        }
        "connect" => {
            let socket = &sockets[words[1]];
            socket.connect_timeout(&address(2).into(), CONNECT)?;
            Ok(empty)
        }
        "send" => sockets[words[1]]
            .send(words[2].as_bytes())
            .map(|n| n.to_string()),
        "sendto" => sockets[words[1]]
            .send_to(words[3].as_bytes(), &address(2).into())
            .map(|n| n.to_string()),
        // fill NAME BYTES: as much as the send buffer takes.
        "fill" => fill(&sockets[words[1]], words[2].parse().expect("a number")),
        // blast NAME MILLISECONDS SIZE: as much as goes, in writes of this size; answers how many bytes went.
        "blast" => blast(&sockets[words[1]], words[2], words[3]),
        // host PINS SLICE: everything that the host agent does with the gate.
        "host" => {
            let done = crate::stand::host(Path::new(words[1]), Path::new(words[2]));
            Ok(done.unwrap_or_else(|e| panic!("{}", crate::rig::chain(&e))))
        }
        "close" => {
            sockets.remove(words[1]);
            Ok(empty)
        }
        "give" => Ok(empty),
        "adopt" => {
            writeln!(stream, "ok ready")?;
            sockets.insert(words[1].to_owned(), Socket::from(receive(stream)));
            Ok(empty)
        }
        // run PROGRAM REPEAT HEXADECIMAL: the pinned program on a frame.
        "run" => {
            let program = wa_bpf::syscall::get(&PathBuf::from(words[1]))?;
            let repeat = words[2].parse().expect("a number");
            let bytes: Vec<u8> = (0..words[3].len() / 2)
                .map(|i| u8::from_str_radix(&words[3][2 * i..2 * i + 2], 16).expect("hexadecimal"))
                .collect();
            let (verdict, ns) = wa_bpf::syscall::test_run(program.as_fd(), &bytes, repeat)?;
            Ok(format!("{verdict} {ns}"))
        }
        other => panic!("{other}"),
    }
}

fn fill(socket: &Socket, wanted: usize) -> std::io::Result<String> {
    socket.set_nonblocking(true)?;
    let block = vec![b'q'; 4096];
    let mut queued = 0;
    while queued < wanted {
        match socket.send(&block) {
            Ok(n) => queued += n,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
    }
    socket.set_nonblocking(false)?;
    Ok(queued.to_string())
}

fn blast(socket: &Socket, milliseconds: &str, size: &str) -> std::io::Result<String> {
    let span: u64 = milliseconds.parse().expect("a number");
    let block = vec![b'b'; size.parse().expect("a number")];
    let end = crate::rig::now_ns() + span * 1_000_000;
    let mut sent = 0;
    while crate::rig::now_ns() < end {
        sent += socket.send(&block)?;
    }
    Ok(sent.to_string())
}
